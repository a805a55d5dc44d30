"""What the callers saw of a fault: from the records of their requests to the figures.

Owns: the arithmetic. Must not know: how requests are made, what was promised. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .load import Fate, Record

MOST_OWN = 0.02
"""Share of requests that may have failed by this client's own fault before nothing is said about the deployment."""
MOST_LATE = 1.0
"""Seconds by which requests may be begun too late before this client counts as the bottleneck."""
SLOWER = 1.0
"""Seconds above the P95 before the fault from which a first token counts as slow because of it."""


@dataclass(frozen=True)
class Times:
    """When things happened, on the event loop's clock."""

    tried: float
    """The fault was set out to be made: what ended earlier knows nothing of it."""
    fault: float
    """It stood."""
    healed: float
    whole: float
    """The deployment was itself again."""


@dataclass(frozen=True)
class Wait:
    """Seconds to the first token."""

    p50: float | None
    p95: float | None


@dataclass(frozen=True)
class Seen:
    """The figures of one fault, as callers have them."""

    requests: int
    """That were under way or begun while the fault or what followed it lasted."""
    lost: int
    cut: int
    slow: int
    own: int
    skipped: int
    late: float
    moved: float | None
    """Seconds from the fault to the beginning of the last request that failed or was slow because of it."""
    before: Wait
    during: Wait
    after: Wait
    errors: dict[str, int] = field(default_factory=dict)
    doubt: str | None = None
    """Why the figures say nothing about the deployment."""


def seen(records: Sequence[Record], times: Times, slow_after: float | None, skipped: int, late: float) -> Seen:
    """The figures. A request belongs to the fault when it ended after it and began before all was well again."""
    before = [each for each in records if each.ended < times.tried]
    after = [each for each in records if each.began >= times.whole]
    hit = [each for each in records if each.ended >= times.tried and each.began < times.whole]
    slow = [each for kind in (True, False) for each in _slow(before, hit, kind, slow_after)]
    fates = Counter(each.fate for each in hit)
    return Seen(
        requests=len(hit),
        lost=fates[Fate.LOST],
        cut=fates[Fate.CUT],
        slow=len(slow),
        own=fates[Fate.OWN],
        skipped=skipped,
        late=round(late, 3),
        moved=_moved([*slow, *(each for each in hit if each.fate in (Fate.LOST, Fate.CUT))], times),
        before=_waits(before),
        during=_waits(hit),
        after=_waits(after),
        errors=dict(Counter(each.error for each in hit if each.fate is not Fate.WHOLE)),
        doubt=_doubt(before, hit, fates, skipped, late),
    )


def _moved(affected: Iterable[Record], times: Times) -> float:
    """Those begun before it were there already; those begun after the heal meet another change."""
    begins = [each.began for each in affected if times.tried <= each.began < times.healed]
    return round(max(0.0, max(begins, default=times.fault) - times.fault), 3)


def _doubt(
    before: Sequence[Record], hit: Sequence[Record], fates: Counter[Fate], skipped: int, late: float
) -> str | None:
    bad = [each for each in before if each.fate in (Fate.LOST, Fate.CUT)]
    if not before:
        return "no request ended before the fault: give load.before more seconds"
    if bad:
        return f"{len(bad)} requests failed before the fault ({bad[0].error})"
    if not hit:
        return "no request was under way while the fault stood"
    if fates[Fate.OWN] + skipped > MOST_OWN * len(hit):
        return f"{fates[Fate.OWN]} of {len(hit)} requests failed on this side, {skipped} were not begun"
    if late > MOST_LATE:
        return f"requests were begun up to {late:.1f} s late: this machine is too busy to measure"
    return None


def _slow(before: Sequence[Record], hit: Sequence[Record], stream: bool, after: float | None) -> list[Record]:
    """Streams are held against streams, and whole answers, whose header comes with their end, against their like."""
    calm = _waits([each for each in before if each.stream is stream]).p95
    limit = after if after is not None else (calm or 0.0) + SLOWER
    return [each for each in hit if each.stream is stream and each.fate is Fate.WHOLE and (each.wait or 0.0) > limit]


def _waits(records: Sequence[Record]) -> Wait:
    """Of streams, where there are any: of a whole answer nobody sees the first token."""
    streams = any(each.stream for each in records)
    waits = sorted(each.wait for each in records if each.wait is not None and each.stream is streams)
    return Wait(_percentile(waits, 50), _percentile(waits, 95))


def _percentile(ordered: Sequence[float], part: int) -> float | None:
    """By nearest rank: a value that was measured."""
    return round(ordered[-(-len(ordered) * part // 100) - 1], 4) if ordered else None
