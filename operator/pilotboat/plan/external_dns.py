"""This region's record by way of external-dns: an object that says what it answers, or none while nothing serves.

Owns: the DNSEndpoint, and when a record is withdrawn and returns. Must not know: how a Service says the same
(dns_annotations.py); other regions: who of them is answered is the DNS provider's affair.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any

from ..api import conditions as kinds
from ..api.base import seconds
from ..api.conditions import Condition
from ..api.dns import Dns, DnsStatus, ExternalDnsSource
from ..api.reasons import Reason
from . import build
from .build import Raw, dig
from .dns import CALM, next_hold
from .outcome import Cause, read
from .types import Manifest, Observed, Ref, Unread

API_VERSION = "externaldns.k8s.io/v1alpha1"
WITHDRAW = 15.0
"""Seconds without a replica that serves until the record is withdrawn."""
POLICIES = tuple(
    f"aws/{each}" for each in ("failover", "geolocation-", "geoproximity-", "multi-value-answer", "region", "weight")
)
"""How the fields of Route 53's routing policies begin."""


def ref(parent: Raw) -> Ref:
    """The DNSEndpoint of a ModelDeployment."""
    return Ref(API_VERSION, "DNSEndpoint", parent["metadata"]["namespace"], parent["metadata"]["name"])


def references(parent: Raw) -> tuple[Ref, ...]:
    """The DNSEndpoint, while it is asked for or may be there."""
    told = read(DnsStatus, dig(parent, "status", "dns"))
    asked = dig(parent, "spec", "zones", "dns", "externalDNS")
    wanted = asked is not None and dig(asked, "source") != ExternalDnsSource.SERVICE
    left = told is not None and told.records is None and told.source is not ExternalDnsSource.SERVICE
    return (ref(parent),) if wanted or left else ()


def trouble(observed: Observed, where: Ref) -> Cause | None:
    """Why the record cannot be written there: into the DNSEndpoint, or onto the Service."""
    why = observed.unread.get(where)
    if why is Unread.NO_SUCH_KIND:
        said = f"the API server does not know DNSEndpoint of {API_VERSION}: external-dns's CRD is not installed"
        return Cause(Reason.EXTERNAL_DNS_MISSING, said)
    if why is Unread.FORBIDDEN:
        return Cause(Reason.DNS_NOT_PERMITTED, f"the operator may not read DNSEndpoints of {API_VERSION}")
    refused = observed.rejected.get(where)
    return Cause(Reason.DNS_NOT_PERMITTED, f"{where.kind} {where.name}: {refused.message}") if refused else None


def step(
    wanted: Dns, known: DnsStatus | None, available: Condition | None, now: datetime
) -> tuple[DnsStatus, timedelta | None]:
    """The status that is to be true now, and when time alone changes it."""
    serves = available is not None and available.status == "True"
    since = available.last_transition_time if available else None
    lasts = build.elapsed(since, now) if since else 0.0
    if known is None or known.hostname != wanted.hostname or known.region != wanted.region or known.records:
        return _told(wanted, serves, DnsStatus(hostname="", region="", moves=0, hold_down="0s"), now), None
    answered, hold = known.answer is not None, seconds(known.hold_down or "0s")
    if answered == serves:
        return _told(wanted, answered, known, now), None
    # The very first record waits for nothing.
    wait = WITHDRAW if answered else float(max(hold, seconds(wanted.failback.after)) if known.moves else 0)
    if lasts < wait:
        return _told(wanted, answered, known, now), timedelta(seconds=wait - lasts)
    if answered:
        calm = build.elapsed(known.since, now) >= CALM if known.since else False
        hold = next_hold(0 if calm else hold, seconds(wanted.failback.after))
    moves = (known.moves or 0) + (1 if known.moves or answered else 0)
    changed = known.model_copy(update={"since": None, "moves": moves, "hold_down": f"{hold}s"})
    return _told(wanted, serves, changed, now), None


def identifier(wanted: Dns) -> str | None:
    """What tells this region's record from others of the same name, where the provider has several of one name.

    That is Route 53 with a routing policy. Others do not give the identifier back; external-dns then takes the record
    that it made for another, and makes and removes it by turns.
    """
    assert wanted.external_dns is not None
    several = any(name.startswith(POLICIES) for name in wanted.external_dns.provider_specific)
    return wanted.region if several else None


def manifest(parent: Raw, wanted: Dns) -> Manifest:
    """One endpoint for each kind of address."""
    assert wanted.external_dns is not None
    region = identifier(wanted)
    by_type: dict[str, list[str]] = {}
    for target in wanted.targets:
        by_type.setdefault("AAAA" if ip_address(target).version == 6 else "A", []).append(target)
    extra = [{"name": name, "value": value} for name, value in sorted(wanted.external_dns.provider_specific.items())]
    endpoints: list[dict[str, Any]] = [
        {
            "dnsName": wanted.hostname,
            "recordTTL": wanted.ttl,
            "recordType": kind,
            "targets": targets,
            **({"setIdentifier": region} if region else {}),
            **({"providerSpecific": extra} if extra else {}),
        }
        for kind, targets in sorted(by_type.items())
    ]
    body = {"spec": {"endpoints": endpoints}}
    return build.child(parent, "dns", API_VERSION, "DNSEndpoint", parent["metadata"]["name"], body)


def words(wanted: Dns, told: DnsStatus, wait: timedelta | None) -> Cause | None:
    """Why there is no record, where there is none."""
    if told.answer:
        return None
    if not told.moves:
        return Cause(Reason.DNS_STARTING, f"{wanted.hostname}: the record comes with the first replica that serves")
    returns = f"it returns in {wait.total_seconds():.0f} s" if wait else "it returns when this region has served again"
    return Cause(Reason.DNS_WITHDRAWN, f"{wanted.hostname}: this region's record is withdrawn; {returns}")


def _told(wanted: Dns, answered: bool, known: DnsStatus, now: datetime) -> DnsStatus:
    return DnsStatus(
        hostname=wanted.hostname,
        region=wanted.region,
        answer=wanted.region if answered else None,
        targets=list(wanted.targets) if answered else [],
        since=known.since or build.timestamp(now),
        moves=known.moves,
        hold_down=known.hold_down,
        why=known.why,
        source=wanted.external_dns.source if wanted.external_dns else None,
    )


def available(conditions: list[Condition]) -> Condition | None:
    """What says whether this region serves."""
    return kinds.find(conditions, kinds.AVAILABLE)
