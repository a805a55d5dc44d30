"""What is promised of each kind of fault, and whether it was kept.

Owns: the promises (as the documentation has them) and the verdicts. Must not know: how anything was measured. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .file import CutNode, CutZone, DeletePod, Fault, FullDisk, KillProcess, Promise, SlowModel
from .measure import Seen
from .watch import Back, Restored

TRAFFIC, ZONE_TRAFFIC, REPLACEMENT, SERVING = 6.0, 20.0, 15.0, 5.0
"""Seconds."""
MOST_BLIND = 2.0
"""Seconds between two looks from which a replica that seems late may only have been seen late."""


@dataclass(frozen=True)
class Line:
    """One promise or figure of a fault; `kept` None: nothing was promised."""

    what: str
    promised: str
    measured: str
    kept: bool | None = None


def promise(fault: Fault) -> Promise:
    """Of its kind, with what the file says instead; null there takes a promise away."""
    return _default(fault).model_copy(update=fault.promise.model_dump(exclude_unset=True))


def _default(fault: Fault) -> Promise:
    match fault:
        case KillProcess(process="engine"):
            return Promise(lost=0, traffic_seconds=TRAFFIC, ready_seconds=SERVING)
        case DeletePod() | CutNode():
            return Promise(lost=0, traffic_seconds=TRAFFIC, replacement_seconds=REPLACEMENT)
        case CutZone():
            return Promise(lost=0, traffic_seconds=ZONE_TRAFFIC)
        case SlowModel() if fault.share == 1:
            return Promise(lost=0, traffic_seconds=TRAFFIC)
        case KillProcess() | SlowModel() | FullDisk():
            return Promise(lost=0)


def back(fault: Fault) -> Back:
    """When a replica that was hit counts as ready again."""
    match fault:
        case KillProcess(process="engine"):
            return Back.RESTARTED
        case DeletePod() | CutNode() | CutZone():
            return Back.NEVER
        case _:
            return Back.TOLD


def lines(
    promised: Promise, seen: Seen, restored: Restored, load_seconds: float, watched: float | None = None
) -> Iterator[Line]:
    """Promises and figures of one fault, in the table's order. `watched`: after how many seconds nobody waited any
    longer for the deployment to be whole; what was not seen by then is broken only where it was due before."""
    yield _count("lost before first token", promised.lost, seen.lost, seen.requests)
    yield _count("streams and answers cut", promised.cut, seen.cut, seen.requests)
    yield _seconds("traffic moved", promised.traffic_seconds, seen.moved)
    if promised.replacement_seconds is not None or restored.replaced is not None:
        since = "after detection" if restored.detected is not None else "after the fault"
        replaced = restored.detected if restored.detected is not None else restored.replaced
        yield _seconds(f"replacement created {since}", promised.replacement_seconds, replaced, watched)
    yield _seconds("all replicas ready", _ready_within(promised, load_seconds), restored.ready, watched)
    waits = [f"{_ms(wait.p50)}/{_ms(wait.p95)}" for wait in (seen.before, seen.during, seen.after)]
    yield Line("first token P50/P95 ms", "", f"before {waits[0]}, during {waits[1]}, after {waits[2]}")


def doubt(promised: Promise, restored: Restored, load_seconds: float) -> str | None:
    """Why a promise that seems broken may have been kept: nobody was looking. None: no such promise."""
    blind = restored.blind
    if blind is not None and blind <= MOST_BLIND:
        return None
    replacement = promised.replacement_seconds if restored.detected is None else None  # else the operator has seen it
    figures = ((replacement, restored.replaced), (_ready_within(promised, load_seconds), restored.ready))
    late = [(most, figure) for most, figure in figures if most is not None and not _kept(most, figure)]
    if all(blind is not None and figure is not None and figure - blind > most for most, figure in late):
        return None
    away = "all the while" if blind is None else f"for {blind:.1f} s"
    return f"the API server did not say what became of the replicas {away}"


def _ready_within(promised: Promise, load_seconds: float) -> float | None:
    return None if promised.ready_seconds is None else promised.ready_seconds + load_seconds


def _kept(most: float, measured: float | None) -> bool:
    return measured is not None and measured <= most


def _count(what: str, most: int | None, measured: int, of: int) -> Line:
    kept = None if most is None else measured <= most
    return Line(what, "" if most is None else f"<= {most}" if most else "0", f"{measured} of {of}", kept)


def _seconds(what: str, most: float | None, measured: float | None, watched: float | None = None) -> Line:
    told = "not seen" if measured is None else f"{measured:.1f} s"
    undecided = most is None or (measured is None and watched is not None and watched < most)
    kept = None if most is None or undecided else _kept(most, measured)
    return Line(what, "" if most is None else f"<= {most:.1f} s", told, kept)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f}"
