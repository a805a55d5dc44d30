"""Who sits in which slot: revisions in the lanes that HAProxy was started with, pods in the servers of each.

Owns: the seating, so that a change needs a reload only where slots run out. Must not know: HAProxy's language, I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import asdict, dataclass, replace

from pydantic import TypeAdapter

from pilotboat.api.routing import MAX_LANES, Lane, Route

from .world import Endpoint

LEAST = 8
"""Servers a lane has at least: room for a Deployment's surge without a reload."""

LEFT = 256
"""Pods of which it is remembered when they lost their seat."""


@dataclass(frozen=True)
class Seat:
    """A pod in a server's slot. One that drains gets nothing new, and leaves with its last stream."""

    address: str
    port: int
    pod: str
    draining: bool = False
    weight: int = 100
    """Per cent of what it would get; 0: nothing new."""

    @property
    def key(self) -> tuple[str, int, str]:
        """What an endpoint is known by: an address may be another pod's soon after, which is none of this one's."""
        return self.address, self.port, self.pod


@dataclass(frozen=True)
class Slot:
    """A lane as HAProxy has it: a backend that any revision may sit in."""

    revision: str | None
    seats: tuple[Seat | None, ...]


@dataclass(frozen=True)
class Board:
    """One deployment's slots. `epoch` rises when they are laid out anew, which takes a reload."""

    slots: tuple[Slot, ...]
    epoch: int = 0

    @property
    def size(self) -> int:
        """Servers in each lane."""
        return len(self.slots[0].seats)

    def slot_of(self, revision: str) -> int | None:
        """Where a revision sits."""
        return next((at for at, slot in enumerate(self.slots) if slot.revision == revision), None)


Table = Mapping[str, Board]
Pods = Set[tuple[str, str]]
"""Deployment and pod."""
Places = Mapping[str, Mapping[str, Endpoint]]


class _NoRoom(Exception):
    """More lanes or servers than slots."""


def arrange(routes: Mapping[str, Route], places: Places, before: Table) -> dict[str, Board]:
    """Everybody's seat now; whoever sits stays where he is."""
    return {name: _board(route, places, before.get(name)) for name, route in routes.items()}


def release(table: Table, idle: Iterable[tuple[str, int, int]]) -> dict[str, Board]:
    """Without those who drained and have no stream left, each named by deployment, lane and server."""
    gone = set(idle)
    return {
        name: replace(
            board,
            slots=tuple(
                _without(slot, {server for owner, at, server in gone if (owner, at) == (name, lane)})
                for lane, slot in enumerate(board.slots)
            ),
        )
        for name, board in table.items()
    }


def seats(table: Table) -> Iterator[tuple[tuple[str, int], int, Seat | None]]:
    """Every slot of a server: deployment and lane, its number, who sits there."""
    for name, board in table.items():
        for lane, slot in enumerate(board.slots):
            for at, seat in enumerate(slot.seats):
                yield (name, lane), at, seat


def sitting(table: Table) -> Iterator[tuple[tuple[str, int], int, Seat]]:
    """Of these, where somebody sits and does not leave."""
    for lane, at, seat in seats(table):
        if seat is not None and not seat.draining:
            yield lane, at, seat


def seated(table: Table) -> frozenset[tuple[str, str]]:
    """Deployment and pod of each of these."""
    return frozenset((name, seat.pod) for (name, _), _, seat in sitting(table))


def left(known: Mapping[tuple[str, str], float], before: Pods, now: Pods, at: float) -> dict[tuple[str, str], float]:
    """When those lost their seat who have none now, the latest of them last: `known`, and who sat before."""
    told = {pod: since for pod, since in known.items() if pod not in now} | dict.fromkeys(sorted(before - now), at)
    return dict(list(told.items())[-LEFT:])


def draining(table: Table) -> list[tuple[str, int, int]]:
    """Deployment, lane and server of everybody who waits for his last stream."""
    return [(*lane, at) for lane, at, seat in seats(table) if seat is not None and seat.draining]


def _without(slot: Slot, servers: set[int]) -> Slot:
    kept = (None if at in servers and seat and seat.draining else seat for at, seat in enumerate(slot.seats))
    return replace(slot, seats=tuple(kept))


def _board(route: Route, places: Places, before: Board | None) -> Board:
    if before is not None:
        try:
            return replace(before, slots=_seated(route, places, before.slots))
        except _NoRoom:
            pass
    return _anew(route, places, before)


def _anew(route: Route, places: Places, before: Board | None) -> Board:
    """Laid out afresh: whoever drains does so in the worker that the reload leaves behind."""
    old = {slot.revision: slot for slot in before.slots} if before else {}
    active = [_active(route, lane, places, old.get(lane.revision)) for lane in route.lanes]
    size = LEAST
    while size < max((len(found) for found in active), default=0):
        size *= 2
    slots = [
        Slot(lane.revision, tuple(found) + (None,) * (size - len(found)))
        for lane, found in zip(route.lanes, active, strict=True)
    ]
    slots += [Slot(None, (None,) * size)] * (MAX_LANES - len(slots))
    return Board(tuple(slots), before.epoch + 1 if before else 0)


def _active(route: Route, lane: Lane, places: Places, slot: Slot | None) -> list[Seat]:
    """Who takes new requests: pods once ready and not ending, because HAProxy's own probes know better than the node's.

    A node whose heartbeat is lost makes all its pods unready, while they serve as before.
    """
    sitting = {seat.key for seat in slot.seats if seat and not seat.draining} if slot else set()
    found = places.get(lane.service, {})
    seats = (
        (Seat(each.address, each.port, each.pod, weight=route.zones.get(each.zone, 100)), each.ready)
        for _, each in sorted(found.items())
    )
    return [seat for seat, ready in seats if ready or seat.key in sitting]


def _seated(route: Route, places: Places, before: tuple[Slot, ...]) -> tuple[Slot, ...]:
    wanted = {lane.revision: lane for lane in route.lanes}
    slots: list[Slot] = []
    for slot in before:
        lane = wanted.pop(slot.revision, None) if slot.revision is not None else None
        slots.append(_seat(slot, _active(route, lane, places, slot)) if lane else _leaving(slot))
    for revision, lane in wanted.items():
        free = next((at for at, slot in enumerate(slots) if slot.revision is None), None)
        if free is None:
            raise _NoRoom
        slots[free] = _seat(replace(slots[free], revision=revision), _active(route, lane, places, None))
    return tuple(slots)


def _leaving(slot: Slot) -> Slot:
    """A revision that is no lane any more keeps its slot until the last stream is over."""
    leaving = tuple(replace(seat, draining=True) if seat else None for seat in slot.seats)
    return Slot(slot.revision if any(leaving) else None, leaving)


def _seat(slot: Slot, active: list[Seat]) -> Slot:
    coming = {seat.key: seat for seat in active}
    sitting: list[Seat | None] = []
    for seat in slot.seats:
        stays = coming.pop(seat.key, None) if seat else None
        sitting.append(stays or (replace(seat, draining=True) if seat else None))
    for seat in coming.values():
        if None not in sitting:
            raise _NoRoom
        sitting[sitting.index(None)] = seat
    return replace(slot, seats=tuple(sitting))


def dump(table: Table) -> str:
    """For the file that a restarted agent reads."""
    return json.dumps({name: asdict(board) for name, board in table.items()}, sort_keys=True)


def load(text: str) -> dict[str, Board]:
    """What `dump` wrote. Raises ValueError where it is nothing of the kind."""
    return _BOARDS.validate_json(text)


_BOARDS = TypeAdapter(dict[str, Board])
