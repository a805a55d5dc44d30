"""What is told of a host name that regions share: status, condition, events.

Owns: the words. Must not know: what is decided (dns.py, external_dns.py), name servers.
"""

from __future__ import annotations

from datetime import datetime

from ..api import conditions as kinds
from ..api.conditions import Condition
from ..api.dns import MAX_REGIONS, Dns, DnsRegion, DnsStatus
from ..api.reasons import Reason
from . import build, outcome
from .dns import Memory
from .dns_records import Reading
from .outcome import Cause
from .types import Event


def made(
    wanted: Dns, seen: Reading, memory: Memory, why: str | None, known: DnsStatus | None, now: datetime
) -> DnsStatus:
    """The status after a look; `known` is the one that stands."""
    state = seen.told
    told = DnsStatus(
        hostname=wanted.hostname,
        region=wanted.region,
        answer=state.region if state else None,
        targets=list(seen.addresses),
        moves=state.moves if state else None,
        hold_down=f"{state.hold}s" if state else None,
        regions=_regions(wanted, seen, memory),
        records=wanted.rfc2136,
    )
    same = known is not None and (known.answer, known.moves) == (told.answer, told.moves)
    if known and same:
        return told.model_copy(update={"since": known.since, "why": known.why or why})
    since = build.timestamp(now) if state else None
    return told.model_copy(update={"since": since, "why": why})


def condition(told: DnsStatus | None, trouble: tuple[str, str] | None, generation: int) -> Condition:
    """DnsReady: whether this region does its part, whoever is answered."""
    if trouble:
        return outcome.condition(kinds.DNS_READY, False, Reason(trouble[0]), trouble[1], generation)
    if told is None or told.answer is None:
        words = "nobody is answered yet" if told else "the name server has not been asked yet"
        return outcome.condition(kinds.DNS_READY, False, Reason.DNS_STARTING, words, generation)
    here = "this region" if told.answer == told.region else f"region {told.answer}; {told.region} stands by"
    words = f"{told.hostname} answers with {here}"
    if told.source:
        words = f"external-dns is told that {told.hostname} answers with this region; whether it does is not known here"
    return outcome.condition(kinds.DNS_READY, True, Reason.DNS_ANSWERED, words, generation)


def moved(before: DnsStatus | None, after: DnsStatus | None) -> tuple[Event, ...]:
    """The move, where there was one that is news to this region."""
    if before is None or after is None or before.answer is None or after.answer is None:
        return ()
    if before.hostname != after.hostname or before.answer == after.answer:
        return ()
    words = f"{after.hostname} answers with region {after.answer} ({', '.join(after.targets)}), not {before.answer}"
    cause = Cause(Reason.DNS_MOVED, f"{words}: {after.why}" if after.why else words)
    return (Event("Normal", cause.reason, outcome.shortened(cause.message)),)


def _regions(wanted: Dns, seen: Reading, memory: Memory) -> list[DnsRegion]:
    """All that are known of, this one by its own word."""
    own = seen.known.get(wanted.region)
    found = [DnsRegion(name=wanted.region, healthy=own.healthy, targets=list(own.targets))] if own else []
    found += [
        DnsRegion(name=name, healthy=watched.serves, targets=list(watched.beat.targets))
        for name, watched in memory.regions.items()
        if watched.beat and name != wanted.region
    ]
    return sorted(found, key=lambda region: region.name)[:MAX_REGIONS]
