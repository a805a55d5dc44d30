"""One region at one name server: it looks, beats, and does what was decided.

Owns: the order of these, and what was seen last. Must not know: what is decided (plan), custom resources, keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from pilotboat.plan import dns
from pilotboat.plan.dns import Act, Decision, Me, Memory
from pilotboat.plan.dns_records import Reading, State, beat_of, beats_of, of_region, reading

from .nameserver import Answer


class Zone(Protocol):
    """What of a NameServer is needed here."""

    async def look(self) -> Reading: ...
    async def beat(self, gone: list[str], new: str | None) -> None: ...
    async def answer(self, before: Reading, new: Answer) -> None: ...


class Region:
    """`clock` counts seconds and never jumps; `wall` may, and is only compared with what we wrote by it."""

    def __init__(self, me: Me, zone: Zone, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self.me = me
        self.zone = zone
        self._clock = clock
        self._wall = wall
        self._looked: float | None = None
        self.memory = Memory()
        self.seen = Reading()
        self.why: str | None = None
        """Why the answer moved, where it was we who moved it last."""

    @property
    def started(self) -> bool:
        """Whether there has been a look."""
        return self._looked is not None

    async def turn(self, healthy: bool) -> Decision:
        """Look, beat, decide, act. Raises DnsFailure, and then this turn does not count as a look."""
        seen, memory, now = await self._look(healthy)
        if dns.may_beat(self.me, memory, seen):
            await self._beat(seen, memory, healthy)
        if seen.told != self.seen.told:
            self.why = None
        self.memory, self._looked, self.seen = memory, now, seen
        decision = dns.decide(self.me, memory, seen, healthy)
        if decision.act is Act.WRITE and decision.state:
            await self.zone.answer(seen, Answer(decision.state.text(), self.me.targets, self.me.ttl))
            self._moved(decision.state, decision.why or None)
        return decision

    async def leave(self) -> bool:
        """Take away what is ours; the answer goes to whom we hear of. False: look again first. Raises DnsFailure."""
        seen, memory, now = await self._look(healthy=False)
        self.memory, self._looked, self.seen = memory, now, seen
        heir, mine = dns.heir(self.me, memory, seen), dns.answers(self.me, seen)
        if mine and heir is None and memory.regions and memory.watched < dns.SETTLE:
            return False
        ttl = seen.ttl or self.me.ttl
        if heir:
            await self.zone.answer(seen, Answer(heir[0].text(), heir[1].targets, ttl))
        elif mine:
            await self.zone.answer(seen, Answer(None, (), ttl))
        if gone := self._own(seen):
            await self.zone.beat(gone, None)
        return True

    async def _look(self, healthy: bool) -> tuple[Reading, Memory, float]:
        seen = await self.zone.look()
        now = self._clock()
        if self._looked is None:
            return seen, dns.begin(self.me, seen, self._wall()), now
        return seen, dns.look(self.me, self.memory, seen, healthy, now - self._looked), now

    async def _beat(self, seen: Reading, memory: Memory, healthy: bool) -> None:
        own = beats_of(seen.beats, self.me.region)
        count = max((beat.count for beat in own), default=0) + 1
        beat = dns.beat(self.me, memory, healthy, count, self._wall())
        await self.zone.beat(list(of_region(seen.beats, self.me.region)), beat.text())

    def _own(self, seen: Reading) -> list[str]:
        """As they are there: an operator of another version may have written them in other words."""
        texts = of_region(seen.beats, self.me.region)
        return [text for text in texts if (beat := beat_of(text)) and beat.owner == self.me.owner]

    def _moved(self, state: State, why: str | None) -> None:
        """What the name server has taken is so, before it is read again."""
        if self.seen.told is None or state != self.seen.told:
            self.why = why
        told = reading(self.seen.beats, state.text(), self.me.targets, self.me.ttl)
        self.seen = replace(told)
