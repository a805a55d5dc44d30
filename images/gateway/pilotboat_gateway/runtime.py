"""HAProxy's sockets: questions to the worker that accepts, and to the master that replaces it.

Owns: the sockets' language. Must not know: what ought to be, or files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from .table import Seat

PATIENCE = 5.0
PIECE = 64 * 1024
"""Characters of a map that HAProxy is given at once. They must fit its buffer: it says nothing where they do not."""
AGENT_ASKED = 0x04
"""Bit of a server's agent check: the replica's own word sets its weight."""
FIELDS = 24
"""Of each row of the statistics, up to `lastchg`. What follows is most of it, and a hundred deployments have thousands
of rows."""
STOPPED = "0"
"""Operational state of a server that its probes do not reach."""
MAINTENANCE, DRAIN = 0x01, 0x08
"""Bits of a server's administrative state: set by us, or (drain) by the replica's own agent."""


class Unreachable(Exception):
    """No HAProxy answers, or not to the end."""


class Gone(Unreachable):
    """Nobody listens there."""


class Rejected(Exception):
    """HAProxy did not do what it was told; the message is its own."""


@dataclass(frozen=True)
class Placed:
    """A server's slot as HAProxy has it."""

    address: str
    port: int
    maintenance: bool
    draining: bool
    weight: int | None
    """Per cent, where we have set it; None where the replica's own word does."""
    up: bool
    """Whether its probes reach it, or none has been made yet."""


@dataclass(frozen=True)
class Running:
    """The worker that accepts. One that was started anew knows nothing of what was set while another ran."""

    signature: str
    """What the configuration that is running was given as its description."""
    pid: str
    began: str
    """Unix time: a container that begins anew has the same numbers of processes."""


async def ask(path: Path, command: str) -> str:
    """One line of commands, all that is answered. Raises Unreachable also where the answer was cut: an empty line ends
    it, and half of one must not be taken for all there is."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(str(path))
            try:
                writer.write(f"{command}\n".encode())
                writer.write_eof()  # the master would wait for more
                answer = (await reader.read()).decode(errors="replace")
            finally:
                writer.close()
    except (ConnectionRefusedError, FileNotFoundError) as error:
        raise Gone(f"{path.name}: {type(error).__name__}") from error
    except (OSError, TimeoutError) as error:
        raise Unreachable(f"{path.name}: {type(error).__name__}") from error
    if answer != "\n" and not answer.endswith("\n\n"):
        raise Unreachable(f"{path.name}: an answer without its end")
    return answer


async def running(path: Path) -> Running:
    """Which worker accepts, and with what."""
    told = dict(line.split(": ", 1) for line in (await ask(path, "show info")).splitlines() if ": " in line)
    if "description" not in told:
        raise Unreachable(f"{path.name}: no description")
    return Running(told["description"].strip(), told.get("Pid", ""), told.get("Start_time_sec", ""))


async def servers(path: Path) -> dict[tuple[str, str], Placed]:
    """Every server by backend and name."""
    found = {}
    for line in (await ask(path, "show servers state")).splitlines():
        fields = line.split()
        if len(fields) > 18 and not line.startswith("#"):
            admin = int(fields[6])
            weight = None if int(fields[14]) & AGENT_ASKED else int(fields[7])
            found[fields[1], fields[3]] = Placed(
                fields[4], int(fields[18]), bool(admin & MAINTENANCE), bool(admin & DRAIN), weight, fields[5] != STOPPED
            )
    return found


async def tell(path: Path, commands: Iterable[str]) -> None:
    """Commands whose answer is nothing where they worked."""
    wanted = list(commands)
    for start in range(0, len(wanted), 64):  # a line of commands must fit HAProxy's buffer
        answer = await ask(path, ";".join(wanted[start : start + 64]))
        if problems := [line for line in answer.splitlines() if line and not _harmless(line)]:
            raise Rejected("; ".join(problems))


def _harmless(line: str) -> bool:
    return line.startswith(("IP changed", "port changed", "no need to change", "nothing changed"))


async def replace_map(path: Path, name: Path, entries: Mapping[str, str]) -> None:
    """All entries at once: a request sees those before or those after."""
    prepared = await ask(path, f"prepare map {name}")
    version = prepared.strip().rpartition(" ")[2]
    if not version.isdigit():
        raise Rejected(prepared.strip())
    for lines in _pieces(f"{key} {value}\n" for key, value in sorted(entries.items())):
        if answer := (await ask(path, f"add map @{version} {name} <<\n{lines}")).strip():
            raise Rejected(answer)
    if answer := (await ask(path, f"commit map @{version} {name}")).strip():
        raise Rejected(answer)


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    """Joined, as many as HAProxy's buffer has room for."""
    piece = ""
    for line in lines:
        if piece and len(piece) + len(line) > PIECE:
            yield piece
            piece = ""
        piece += line
    if piece:
        yield piece


async def show_map(path: Path, name: Path, prefix: str = "") -> dict[str, str]:
    """A map's entries; none where nothing uses the map, which is then not known."""
    rows = (line.split(" ", 2) for line in (await ask(path, f"{prefix}show map {name}")).splitlines())
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0].startswith("0x")}


async def stats(path: Path, prefix: str = "") -> list[dict[str, str]]:
    """`show stat` of backends and servers. Raises Unreachable where there are none."""
    if not (rows := await _stats(path, f"{prefix}show stat -1 6 -1")):
        raise Unreachable(f"{path.name}: no statistics")
    return rows


async def _stats(path: Path, command: str) -> list[dict[str, str]]:
    """The first fields of each row. Raises Unreachable where a row has not every one of them."""
    lines = (await ask(path, command)).removeprefix("# ").splitlines()
    rows = [line.split(",", FIELDS)[:FIELDS] for line in lines if line]
    if any(len(row) < FIELDS for row in rows):
        raise Unreachable(f"{path.name}: a row of the statistics that was cut")
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


async def at_rest(path: Path, prefix: str) -> bool:
    """Whether a worker accepts nothing more, and no caller is left with it. Raises Unreachable where it has ended."""
    told = dict(line.split(": ", 1) for line in (await ask(path, f"{prefix}show info")).splitlines() if ": " in line)
    if told.get("Stopping") != "1":
        return False
    return not any(int(row["scur"] or 0) for row in await _stats(path, f"{prefix}show stat -1 1 -1"))


async def old_workers(master: Path) -> list[str]:
    """Process ids of workers that accept nothing more and end their streams."""
    found, old = [], False
    for line in (await ask(master, "show proc")).splitlines():
        old = line.startswith("# old workers") or (old and not line.startswith("#"))
        fields = line.split()
        if old and len(fields) > 1 and fields[1] == "worker":
            found.append(fields[0])
    return found


async def hand_on_no_more(master: Path, name: Path) -> None:
    """Old workers answer themselves what still comes to them, as before they were replaced; `name` is the map's."""
    for worker in await old_workers(master):
        with suppress(Unreachable):  # it has ended since
            await ask(master, f"@!{worker} del map {name} replaced")


async def reload(master: Path) -> None:
    """Begin a new worker with the file on disk; the old one ends with its last stream."""
    await ask(master, "reload")


def occupy(name: str, seat: Seat, there: Placed) -> list[str]:
    """A pod takes a server's slot, with nothing left of what the one before said or was given."""
    anew = replace(there, weight=None if there.weight is None else 100)
    return [
        f"set server {name} addr {seat.address} port {seat.port}",
        f"set server {name} weight 100%",
        *weigh(name, seat.weight, anew),
        f"set server {name} state ready",
    ]


def trust(name: str) -> str:
    """A replica gets the whole credit that its probes may use up.

    HAProxy gives a server none that it begins to probe: one answer that comes late, and a healthy replica is out."""
    return f"set server {name} health up"


def weigh(name: str, weight: int, there: Placed) -> list[str]:
    """A replica gets this much of its share: below all of it, its own word on its load is not asked for."""
    if weight == 100:
        return [] if there.weight is None else [f"set server {name} weight 100%", f"enable agent {name}"]
    return [] if there.weight == weight else [f"disable agent {name}", f"set server {name} weight {weight}%"]
