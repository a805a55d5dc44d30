"""HAProxy's configuration as text: one frontend a deployment, its lanes as backends that any revision may sit in.

Owns: HAProxy's language, for the file and for the map. Must not know: the runtime socket, files' whereabouts on disk
beyond their names. The same text minus the seats is the signature: where it changes, HAProxy must be reloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path

from pilotboat.api.base import seconds
from pilotboat.api.routing import MAX_LANES, WHOLE, Route, authority
from pilotboat.api.traffic import Sticky

from .settings import Settings
from .table import Board, Seat, Slot, Table
from .template import (
    COPIED,
    COPIES,
    COPY_HOP,
    FEEDBACK,
    GLOBAL,
    MOST_COPIES,
    MOST_HELD,
    NEXT,
    ROOM,
    RULES,
    SPILL,
    error,
)

STEP = 367
"""Coprime to WHOLE: multiples of it meet every remainder once in WHOLE, far apart, so that lanes take turns evenly.

Of all such steps the one with which any stretch of requests is nearest to its shares: within three of each."""
HOLD, COPY, LEAST = (Path(__file__).with_name(name) for name in ("hold.lua", "copy.lua", "least.lua"))
CHOSEN = 16
"""Servers of a lane up to which those that are idle are chosen by weight: 25 µs a request, where 64 would take 140 and
256 more than a millisecond. A gateway whose lane is wider has little that it could put on one of them."""
SPILL_SERVER = "spill"
SPILL_LIMIT = 100_000
"""More than can come: a server without a limit is never asked to take from a queue."""
VACANT = "127.0.0.1:1"
LONGEST = 24 * 3600
"""Seconds: no time is longer. Of one of 25 days or more HAProxy would take nothing, whatever else the file says."""
SILENT = "5s"
"""How long a replica's host may owe an acknowledgement. More than two probes of keep-alive take (template.py), or one
lost probe would end a wait for a first token."""
TRIES = 4
"""Replicas that one request may be given to: a caller is waited for as long as all of them may take."""


def render(routes: Mapping[str, Route], table: Table, settings: Settings) -> str:
    """The whole file."""
    return _text(routes, table, settings, signature(routes, table, settings))


def signature(routes: Mapping[str, Route], table: Table, settings: Settings) -> str:
    """What a running HAProxy cannot change of itself, as a hash: it bears it as its description."""
    vacant = {
        name: Board(tuple(Slot(None, (None,) * board.size) for _ in board.slots), board.epoch)
        for name, board in table.items()
    }
    epochs = " ".join(f"{name}={board.epoch}" for name, board in sorted(table.items()))
    return hashlib.sha256((epochs + _text(routes, vacant, settings, "")).encode()).hexdigest()[:16]


def lanes_map(routes: Mapping[str, Route], table: Table) -> dict[str, str]:
    """What changes without a reload: each deployment's split, its testers' lane, and the revision in each lane."""
    entries: dict[str, str] = {}
    for name, route in routes.items():
        board = table[name]
        entries |= {f"split/{name}": split(route, board)} if route.lanes else {}
        entries |= {f"lane/{backend(name, at)}": slot.revision for at, slot in enumerate(board.slots) if slot.revision}
        if route.testers and (lane := _lane(route, board, route.testers.revision)):
            entries[f"testers/{name}"] = lane
        if route.copies and route.copies.room and (lane := _lane(route, board, route.copies.revision)):
            entries[f"copies/{name}"] = f"{route.copies.percent}|{lane}|{route.copies.room}"
    return entries


def _lane(route: Route, board: Board, revision: str | None) -> str | None:
    """Where a revision of the route sits."""
    at = board.slot_of(revision) if revision in {lane.revision for lane in route.lanes} and revision else None
    return None if at is None else backend(route.deployment, at)


LEAVING = {"leaving": "yes"}
"""Entry of the map by which callers are asked to come no more on their connection."""
REPLACED = LEAVING | {"replaced": "yes"}
"""Entries of the map of a worker that is about to be replaced."""


def split(route: Route, board: Board) -> str:
    """`950|chat:0|1000|chat:1`: a number below 950 goes to the first lane, and so on. One entry, so changed at once."""
    with_share = [lane for lane in route.lanes if lane.share]
    bounds = accumulate(lane.share for lane in with_share)
    parts = [
        f"{bound}|{backend(route.deployment, board.slot_of(lane.revision) or 0)}"
        for bound, lane in zip(bounds, with_share, strict=True)
    ]
    return "|".join(parts)


def shifted(running: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """The entries of a running worker with the wanted splits that it can obey: whose lanes hold the same revisions."""

    def obeyed(key: str) -> bool:
        lanes = (f"lane/{lane}" for lane in wanted[key].split("|")[1::2])
        return key.startswith("split/") and key in running and all(running.get(at) == wanted[at] for at in lanes)

    return {**running, **{key: wanted[key] for key in wanted if obeyed(key)}}


def map_text(entries: Mapping[str, str]) -> str:
    """The map's file."""
    return "".join(f"{key} {value}\n" for key, value in sorted(entries.items()))


def backend(deployment: str, lane: int) -> str:
    """Name of a lane."""
    return f"{deployment}:{lane}"


def flood(deployment: str) -> str:
    """Name of the backend that refuses feedback."""
    return f"{deployment}:flood"


def server(at: int) -> str:
    """Name of a server's slot within its lane."""
    return f"s{at}"


def _text(routes: Mapping[str, Route], table: Table, settings: Settings, description: str) -> str:
    longest = max((_time(route.request_timeout) for route in routes.values()), default=60)
    parts = [
        GLOBAL.format(
            description=description or "none",
            runtime=settings.runtime,
            log=settings.log,
            threads=settings.threads,
            lua="".join(f"  lua-load-per-thread {path}\n" for path in _lua(routes)),
            # What comes to a worker while it ends its last stream may take as long again.
            longest=min(LONGEST, 2 * longest + 60),
            unavailable=error(503, "No replica serves this model now.", "service_unavailable", "not_serving"),
            bad=error(502, "The replica broke before it answered.", "server_error", "bad_gateway"),
            late=error(504, "The replica did not answer in time.", "timeout_error", "deadline_exceeded"),
            slow=error(408, "The request did not arrive in time.", "invalid_request_error", "request_timeout"),
            wrong=error(400, "The request is not HTTP.", "invalid_request_error", "bad_request"),
        ),
        FEEDBACK.format(port=settings.agent_port),
        NEXT.format(timeout=min(LONGEST, TRIES * longest)),
    ]
    for name, route in sorted(routes.items()):
        parts += [_frontend(route, settings), _spill(route, settings), *_copies(route, settings)]
        parts += [_backend(route, table[name], at, settings) for at in range(len(table[name].slots))]
    return "\n".join(parts)


def _time(duration: str, times: int = 1) -> int:
    return min(LONGEST, times * seconds(duration))


def _lua(routes: Mapping[str, Route]) -> list[Path]:
    return [HOLD, LEAST, *([COPY] if any(route.copies for route in routes.values()) else [])]


def _frontend(route: Route, settings: Settings) -> str:
    choices = "\n".join(
        f"  http-request set-var(txn.be) var(txn.split),field({2 * at + 2},|)"
        f" if !{{ var(txn.be) -m found }} {{ var(txn.split),field({2 * at + 1},|),sub(txn.n) -m int gt 0 }}"
        for at in range(MAX_LANES)
    )
    return RULES.format(
        name=route.deployment,
        flood=flood(route.deployment),
        port=route.port,
        map=settings.map,
        number="\n".join(_number(route.sticky)),
        testers=_testers(route, settings),
        choices=choices,
        copies=_copied(route, settings),
        timeout=_time(route.request_timeout, TRIES),
        too_many=error(429, "Too much feedback at once.", "rate_limit_error", "rate_limited"),
        unavailable=error(503, "No replica serves this model now.", "service_unavailable", "not_serving"),
    )


def _number(sticky: Sticky | None) -> list[str]:
    """A number below WHOLE for each request: by turns, or the caller's own."""
    turns = f"  http-request set-var(txn.n) sc0_inc_gpc0,mul({STEP}),mod({WHOLE})"
    if sticky is None:
        return [turns]
    if sticky.header is not None:
        known = f"{{ req.hdr({sticky.header}) -m len gt 0 }}"
        own = f"  http-request set-var(txn.n) req.hdr({sticky.header}),xxh32,mod({WHOLE}) if {known}"
        return [own, f"{turns} if !{known}"]
    # Who is handed on gets his cookie from the worker that takes him.
    found = f"{{ req.cook({sticky.cookie}) -m len gt 0 }}"
    return [
        f"  http-request set-var(txn.caller) req.cook({sticky.cookie}) if {found}",
        f"  http-request set-var(txn.new) uuid() if !{found} !next",
        f"  http-request set-var(txn.caller) var(txn.new) if !{found}",
        f"  http-request set-var(txn.n) var(txn.caller),xxh32,mod({WHOLE})",
        f'  http-response add-header set-cookie "{sticky.cookie}=%[var(txn.new)]; Path=/; Max-Age=31536000; HttpOnly; '
        'SameSite=Lax" if { var(txn.new) -m found }',
    ]


def _testers(route: Route, settings: Settings) -> str:
    """Who they are; where they go is the map's, so that a canary's beginning and end take no reload."""
    if route.testers is None:
        return ""
    asked = f"{{ req.hdr({route.testers.header}) -m str -- '{route.testers.value}' }}"
    return f"  http-request set-var(txn.be) str(testers/{route.deployment}),map_str({settings.map}) if {asked}"


def _copied(route: Route, settings: Settings) -> str:
    """Which requests are copied."""
    if route.copies is None:
        return ""
    return COPIED.format(name=route.deployment, map=settings.map, socket=settings.copies(route.port))


def _copies(route: Route, settings: Settings) -> list[str]:
    """What becomes of the copies."""
    if route.copies is None:
        return []
    place = {"map": settings.map, "socket": settings.copies(route.port)}
    timeout = _time(route.request_timeout, TRIES)
    return [COPIES.format(name=route.deployment, **place, timeout=timeout, most=MOST_COPIES, hop=COPY_HOP)]


def _spill(route: Route, settings: Settings) -> str:
    choices = "\n".join(
        f"  http-request set-var(txn.be) var(txn.split),field({2 * at},|) if {{ var(txn.hop) -m int {at} }}"
        for at in range(1, MAX_LANES + 1)
    )
    return SPILL.format(
        name=route.deployment,
        socket=settings.spill(route.port),
        map=settings.map,
        choices=choices,
        copy=COPY_HOP,
        most=MOST_HELD,
        timeout=_time(route.request_timeout, TRIES),
        unavailable=error(530, "No replica serves this model now.", "service_unavailable", "not_serving"),
    )


def _backend(route: Route, board: Board, lane: int, settings: Settings) -> str:
    name, waiting = backend(route.deployment, lane), "  http-request set-var(txn.waiting) queue({}){}"
    others = [backend(route.deployment, at) for at in range(len(board.slots))]
    full = error(429, "Too many requests wait already.", "rate_limit_error", "queue_full")
    busy = f"{{ be_conn_free({name}) le 0 }} " if route.max_queued == 0 else ""
    least = f"  use-server %[lua.least({name},{board.size},{route.server_limit})] if {{ nbsrv gt 1 }}"
    lines = [
        f"backend {name}",
        f"  timeout server {_time(route.request_timeout)}s",
        f"  timeout queue {_time(route.request_timeout)}s",
        f"  http-request set-var(txn.revision) str(lane/{name}),map_str({settings.map})",
        '  http-request set-var-fmt(txn.id) "%[var(txn.revision)]-%[uuid()]"',
        "  http-request set-header x-request-id %[var(txn.id)]",
        "  http-request disable-l7-retry if { req.hdr(x-pilotboat-hop) -m int gt 1 }",
        *([ROOM.format()] if route.copies else []),
        *(waiting.format(each, ",add(txn.waiting)" if at else "") for at, each in enumerate(others)),
        f"  http-request return {full} if {busy}{{ var(txn.waiting) -m int ge {route.max_queued} }}",
        f"  http-response set-header x-pilotboat-revision %[var(txn.revision)] if !{{ srv_name {SPILL_SERVER} }}",
        f"  http-response set-header x-request-id %[var(txn.id)] if !{{ srv_name {SPILL_SERVER} }}",
        *([least] if board.size <= CHOSEN else []),
        "  default-server inter 2s fastinter 500ms downinter 1s fall 3 rise 1 weight 100"
        " observe layer4 error-limit 1 on-error sudden-death agent-inter 2s"
        f" agent-port {route.agent_port} slowstart {_time(route.slow_start)}s",
        *(_server(at, seat, route.server_limit) for at, seat in enumerate(board.slots[lane].seats)),
        f"  server {SPILL_SERVER} unix@{settings.spill(route.port)} backup maxconn {SPILL_LIMIT}",
    ]
    return "\n".join(lines) + "\n"


def _server(at: int, seat: Seat | None, limit: int) -> str:
    """Who drains is left out: after a start there are no streams of his. Whose zone gets nothing gets nothing from a
    start on either, until the agent steers. Here a weight could not say so: a replica's own word is a part of it.

    `tcp-ut`: a request that a dead node never acknowledged fails after so long and is asked elsewhere, as keep-alive
    probes see to where it was acknowledged. HAProxy ignores it in a `default-server`."""
    sits = seat if seat and not seat.draining else None
    place = place_of(sits) if sits else VACANT
    line = f"  server {server(at)} {place} check agent-check maxconn {limit} tcp-ut {SILENT}"
    return line + ("" if sits and sits.weight else " disabled")


def place_of(seat: Seat) -> str:
    """Address and port as HAProxy reads them."""
    return authority(seat.address, seat.port)
