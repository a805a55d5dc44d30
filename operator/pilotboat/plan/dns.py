"""Which region is to be answered: the decision that every region takes for itself.

Owns: when a region takes the answer, keeps it, gives it away. Must not know: name servers (engine), texts of records
(dns_records.py), what is told of it (dns_status.py).

A region only ever points the answer at itself, and only from the state that it has read: the name server refuses
whoever comes second. Age is counted here, in seconds of looking while a beat did not change. No clock is compared with
another, and time in which we could not look makes nobody old: a region that was cut off, stopped or asleep begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from .dns_records import Beat, Reading, State, beats_of

EVERY = 2.0
"""Seconds between two beats, and between two looks."""
GAP = 5 * EVERY
"""Seconds between two looks that are still one watch: a slow name server takes eight for a look and a beat."""
STALE = 20.0
"""Seconds without a new beat until a region is lost: longer than a new leader needs when the old one dies (15 s)."""
SICK = 5.0
"""Seconds that a region says it does not serve until it is lost."""
SETTLE = 2 * EVERY + 1
"""Seconds to look before the first decision: whoever lives has beaten meanwhile."""
GRACE = 2 * EVERY
"""Seconds that the next best region waits for each better one."""
UNSETTLED = 60.0
"""Seconds that the fault, and the health of whoever takes over, must last while the hold-down runs."""
CALM = 6 * 3600.0
"""Seconds of one answer after which earlier failures count no more."""
LONGEST_HOLD = 3600


@dataclass(frozen=True)
class Me:
    """This region, as its user describes it."""

    region: str
    owner: str
    targets: tuple[str, ...]
    priority: int = 0
    ttl: int = 5
    after: int = 300
    automatic: bool = True


@dataclass(frozen=True)
class Watched:
    """A region, as we have seen it."""

    beat: Beat | None
    age: float = 0.0
    """Seconds of looking since its beat changed."""
    alive: bool = False
    """Whether it has changed while we looked."""
    sick: float = 0.0
    """Seconds it has said that it does not serve."""

    @property
    def serves(self) -> bool:
        """Whether callers can be sent there, for all we know."""
        return self.beat is not None and self.beat.healthy and self.alive and self.age <= STALE

    @property
    def fault(self) -> float:
        """Seconds since it was lost; below 0: it is not."""
        return max(self.age - STALE, self.sick - SICK if self.sick else -SICK)


@dataclass(frozen=True)
class Memory:
    """What a region remembers from one look to the next."""

    watched: float = 0.0
    regions: Mapping[str, Watched] = field(default_factory=dict)
    up: float = 0.0
    held: float = 0.0


class Act(StrEnum):
    """What is to be done about the answer."""

    NOTHING = "Nothing"
    WRITE = "Write"
    """Put our addresses there."""
    REFUSED = "Refused"
    """It belongs to somebody else."""
    TWICE = "Twice"
    """Somebody else beats for our region."""


@dataclass(frozen=True)
class Decision:
    """What to do now, and why."""

    act: Act = Act.NOTHING
    state: State | None = None
    """To be written with our addresses."""
    why: str = ""


def begin(me: Me, seen: Reading, clock: float) -> Memory:
    """The first look after a start, which goes on counting where our own last beat stopped, unless we were lost since.

    `clock` is compared with nothing but what we wrote by it ourselves."""
    own = next((beat for beat in beats_of(seen.beats, me.region) if beat.owner == me.owner), None)
    if own is None or not own.healthy or abs(clock - own.at) > STALE:
        return Memory(regions=_watch({}, me, seen, 0.0))
    return Memory(regions=_watch({}, me, seen, 0.0), up=own.up, held=own.held)


def look(me: Me, before: Memory, seen: Reading, healthy: bool, elapsed: float) -> Memory:
    """What is known after a look, `elapsed` seconds after the one before."""
    regions, watched = before.regions, before.watched + elapsed
    if elapsed > GAP:
        regions, watched = {}, 0.0
    lost = elapsed > STALE
    mine = seen.told is not None and seen.told.region == me.region
    step = min(elapsed, GAP)
    return Memory(
        watched=watched,
        regions=_watch(regions, me, seen, step),
        up=0.0 if lost or not healthy else before.up + step,
        held=0.0 if lost or not mine else before.held + step,
    )


def decide(me: Me, memory: Memory, seen: Reading, healthy: bool) -> Decision:
    """What is to be done about the answer after this look."""
    if _twice(me, memory, seen):
        return Decision(Act.TWICE, why=f"another cluster calls itself {me.region} as well")
    if seen.alias:
        return Decision(Act.REFUSED, why=f"it is another name of {seen.alias}, which no region has written")
    state = seen.told
    if state is None:
        return _first(me, memory, seen, healthy)
    if state.region == me.region:
        kept = set(seen.addresses) == set(me.targets) and seen.ttl == me.ttl
        # Not before it is known that nobody else has our name: they may be those of another cluster, which serves.
        return Decision() if kept or not may_beat(me, memory, seen) else Decision(Act.WRITE, state)
    if not healthy or memory.watched < SETTLE:
        return Decision()
    return _failover(me, memory, state) or _failback(me, memory, state) or Decision()


def may_beat(me: Me, memory: Memory, seen: Reading) -> bool:
    """Whether the region's name is ours: it has a beat of ours, or nobody has used it while we looked."""
    return not _twice(me, memory, seen) and (_ours(me, seen) or memory.watched >= SETTLE)


def beat(me: Me, memory: Memory, healthy: bool, count: int, clock: float) -> Beat:
    """Our own next beat."""
    up, held = int(memory.up), int(memory.held)
    return Beat(me.region, me.owner, count, healthy, me.priority, up, held, me.targets, int(clock))


def answers(me: Me, seen: Reading) -> bool:
    """Whether the answer is ours to give away: our region has it, and not by way of another cluster of its name."""
    held = seen.told is not None and seen.told.region == me.region
    return held and (_ours(me, seen) or not beats_of(seen.beats, me.region))


def heir(me: Me, memory: Memory, seen: Reading) -> tuple[State, Beat] | None:
    """Who has the answer when we leave: nobody where it is not ours to give, or nobody else is heard of."""
    state = seen.told
    if state is None or not answers(me, seen):
        return None
    heard = [seen for seen in memory.regions.values() if seen.beat and seen.alive and seen.age <= STALE]
    found = min(
        (seen for seen in heard if seen.beat),
        key=lambda seen: (not seen.serves, *_order(seen.beat, state.hold)),
        default=None,
    )
    if found is None or found.beat is None:
        return None
    return replace(state, region=found.beat.region, moves=state.moves + 1), found.beat


def _ours(me: Me, seen: Reading) -> bool:
    return any(beat.owner == me.owner for beat in beats_of(seen.beats, me.region))


def _twice(me: Me, memory: Memory, seen: Reading) -> bool:
    """Whether somebody else beats for our region and was first, or began with us and comes before us."""
    other = memory.regions.get(me.region)
    if other is None or other.beat is None or not other.alive or other.age > STALE:
        return False
    return not _ours(me, seen) or me.owner > other.beat.owner


def _watch(before: Mapping[str, Watched], me: Me, seen: Reading, step: float) -> dict[str, Watched]:
    names = set(seen.known) | ({seen.told.region} if seen.told else set())
    regions = {name: _seen(before.get(name), seen.known.get(name), step) for name in names if name != me.region}
    for foreign in beats_of(seen.beats, me.region):
        if foreign.owner != me.owner:
            regions[me.region] = _seen(before.get(me.region), foreign, step)
    return regions


def _seen(before: Watched | None, beat: Beat | None, step: float) -> Watched:
    if before is None:
        return Watched(beat)
    changed = beat is not None and beat != before.beat and before.beat is not None
    appeared = beat is not None and before.beat is None
    age = 0.0 if changed or appeared else before.age + step
    sick = before.sick + step if beat is not None and not beat.healthy else 0.0
    return Watched(beat, age, before.alive or changed or appeared, sick)


def _first(me: Me, memory: Memory, seen: Reading, healthy: bool) -> Decision:
    """Nobody has the answer: the best region takes it, unless somebody else's addresses are there."""
    ours = {target for each in seen.known.values() for target in each.targets} | set(me.targets)
    if seen.state is not None or not ours.issuperset(seen.addresses):
        return Decision(Act.REFUSED, why="there are addresses or records that no region has written")
    waited = memory.watched - 2 * SETTLE  # a new region beats after the first, and is heard of within the second
    if not healthy or waited < _rank(me, memory, 0, _serving(memory)) * GRACE:
        return Decision()
    return Decision(Act.WRITE, State(me.region), "nobody was answered")


def _failover(me: Me, memory: Memory, state: State) -> Decision | None:
    active = memory.regions[state.region]
    others = [seen for seen in _serving(memory) if seen.region != state.region]
    fault = active.fault - _rank(me, memory, state.hold, others) * GRACE
    if fault < 0:
        return None
    if memory.up < state.hold and (fault < UNSETTLED or memory.up < UNSETTLED):
        return None
    gone = "is not heard of" if active.age > STALE else "says that it does not serve"
    why = f"{state.region} {gone}, for {max(active.age, active.sick):.0f} s"
    return Decision(Act.WRITE, _moved(me, state, active.beat, lost=True), why)


def _failback(me: Me, memory: Memory, state: State) -> Decision | None:
    active = memory.regions[state.region].beat
    if active is None or not me.automatic or me.priority >= active.priority:
        return None
    if memory.up < max(state.hold, me.after):
        return None
    others = [seen for seen in _serving(memory) if seen.region != state.region and seen.up >= state.hold]
    if _rank(me, memory, state.hold, others):
        return None
    why = f"{me.region} is preferred to {state.region} and has been healthy for {memory.up:.0f} s"
    return Decision(Act.WRITE, _moved(me, state, active, lost=False), why)


def _moved(me: Me, state: State, left: Beat | None, *, lost: bool) -> State:
    """The state after a move: the hold-down doubles where the region before was lost, unless it had long been well."""
    calm = left is not None and left.held >= CALM
    before = 0 if calm else state.hold
    hold = next_hold(before, me.after) if lost else before or me.after
    return State(me.region, state.moves + 1, hold)


def next_hold(before: int, after: int) -> int:
    """The hold-down after a loss, in seconds; `before`: that of the loss before, 0 where there is none that counts."""
    return min(2 * before, max(LONGEST_HOLD, after)) if before else after


def _serving(memory: Memory) -> list[Beat]:
    return [seen.beat for seen in memory.regions.values() if seen.serves and seen.beat]


def _rank(me: Me, memory: Memory, hold: int, others: Iterable[Beat]) -> int:
    """How many of the others come before us."""
    mine = _order(beat(me, memory, True, 0, 0), hold)
    return sum(_order(other, hold) < mine for other in others if other.region != me.region)


def _order(told: Beat | None, hold: int) -> tuple[bool, int, str]:
    assert told is not None
    return (told.up < hold, told.priority, told.region)
