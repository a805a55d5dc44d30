"""Which commands bring HAProxy's servers to what they are to be.

Owns: the choice of commands for servers. Must not know: when they are told, and what becomes of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from . import runtime, table
from .config import SPILL_LIMIT, SPILL_SERVER, backend, server
from .runtime import Placed
from .table import Seat, Table

Servers = Mapping[tuple[str, str], Placed]
"""By backend and name, as HAProxy has them."""


def moves(boards: Table, placed: Servers, before: Set[str]) -> tuple[list[str], list[str], set[str]]:
    """Commands for those who come, those for who leaves, and who drains because we say so once HAProxy has been told
    both; `before`: who may have until then."""
    drained = set(before)
    coming: list[str] = []
    going: list[str] = []
    for lane, at, seat in table.seats(boards):
        there = placed.get((backend(*lane), server(at)))
        if there is not None:
            arrive, leave = _move(f"{backend(*lane)}/{server(at)}", seat, there, drained)
            coming += arrive
            going += leave
    return coming, going, drained


def trusted(boards: Table, placed: Servers, unreached: Set[str], steered: bool) -> list[str]:
    """A worker that has just begun is told who was well until now: it has not had the time to find out.

    `steered`: there was one before, so that we know."""
    return [
        runtime.trust(f"{backend(*lane)}/{server(at)}")
        for lane, at, seat in table.sitting(boards)
        if seat.pod not in unreached
        if (there := placed.get((backend(*lane), server(at)))) and (there.up or steered)
    ]


def misweighed(boards: Table, placed: Servers) -> bool:
    """Whether somebody who takes requests has another weight than his zone's."""
    return any(
        runtime.weigh(server(at), seat.weight, there)
        for lane, at, seat in table.sitting(boards)
        if (there := placed.get((backend(*lane), server(at)))) and not there.maintenance
    )


def requeue(rows: list[dict[str, str]]) -> list[str]:
    """Commands for what waits in the queue of a lane whose last replica has died.

    HAProxy looks at such a queue again when a server gets room: here it is the one that leads to the other lanes.
    What a dead replica was given already is no affair of ours: its kernel ends the connection, or the silence of its
    host does (`tcp-ut`, keep-alive), and HAProxy asks elsewhere. HAProxy's own cut (`shutdown sessions`) would end it:
    from version 3 on it leaves callers without an answer.
    """
    alive = {row["pxname"] for row in rows if row["svname"] not in ("BACKEND", SPILL_SERVER) and _up(row)}
    stuck = [row["pxname"] for row in rows if row["svname"] == SPILL_SERVER and row["pxname"] not in alive]
    queues = {row["pxname"]: int(row["qcur"] or 0) for row in rows if row["svname"] == "BACKEND"}
    return [f"set maxconn server {name}/{SPILL_SERVER} {SPILL_LIMIT}" for name in stuck if queues.get(name)]


def _up(row: Mapping[str, str]) -> bool:
    return row["status"].startswith("UP")


def _move(name: str, seat: Seat | None, there: Placed, drained: set[str]) -> tuple[list[str], list[str]]:
    """Commands for one server. A drain that is not ours is the replica's own wish, and stands."""
    ours = name in drained
    drained.discard(name)
    if seat is None:
        return [], [] if there.maintenance else [f"set server {name} state maint"]
    if seat.draining:
        drained.add(name)
        return [], [] if there.maintenance or (ours and there.draining) else [f"set server {name} state drain"]
    if there.maintenance or (there.address, there.port) != (seat.address, seat.port):
        return runtime.occupy(name, seat, there), []
    weighed = runtime.weigh(name, seat.weight, there)
    return [*weighed, *([f"set server {name} state ready"] if ours else [])], []
