"""A real name server (Knot DNS) that takes signed updates, ways to it that can be cut, and a resolver; on loopback,
unless an address is given.

Owns: the processes and sockets. Must not know: what is written there.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode
import dns.rrset

from pilotboat.api.dns import Rfc2136
from pilotboat.engine.nameserver import NameServer, tsig
from pilotboat.plan.dns_records import Names

ZONE, KEY = "example.org", "regions"
HOST = "127.0.0.1"
PATIENCE = 180.0

CONFIG = """
server:
  rundir: {folder}
  listen: {host}@{port}
  tcp-workers: 1
  udp-workers: 1
  background-workers: 1
database:
  storage: {folder}/db
  journal-db-max-size: 64M
key:
- id: {key}
  algorithm: hmac-sha256
  secret: {secret}
- id: reader
  algorithm: hmac-sha256
  secret: {secret}
acl:
- id: writers
  key: {key}
  action: [{actions}]
- id: readers
  key: reader
  action: query
zone:
- domain: {zone}
  storage: {folder}
  file: zone
  acl: [writers, readers]
  zonefile-sync: -1
log:
- target: stderr
  any: info
"""
BEGINNING = """$ORIGIN example.org.
@ 60 SOA ns hostmaster 1 60 60 3600 1
@ 60 NS ns
ns 60 A 127.0.0.1
alias 60 CNAME lb.elsewhere.net.
static 5 A 127.1.0.1
"""
STATIC = "static.example.org"
"""A name of the first region, which was written once."""


class Primary:
    """The process, and what a client needs to know of it."""

    def __init__(self, folder: Path, host: str = HOST, actions: str = "update, query") -> None:
        self.host = host
        self.port = free_port(host)
        self.secret = base64.b64encode(secrets.token_bytes(32)).decode()
        self._folder = folder
        (folder / "db").mkdir()
        (folder / "zone").write_text(BEGINNING)
        fields = {"folder": folder, "host": host, "port": self.port, "key": KEY, "secret": self.secret, "zone": ZONE}
        (folder / "knot.conf").write_text(CONFIG.format(**fields, actions=actions))
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Until it answers."""
        command = [shutil.which("knotd") or "/usr/sbin/knotd", "--config", str(self._folder / "knot.conf")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220 -- returns at once
        async with asyncio.timeout(PATIENCE):
            while await self.ask(ZONE, "SOA") is None:  # noqa: ASYNC110 -- another process, which tells nobody here
                await asyncio.sleep(0.05)

    def stop(self) -> None:
        """End it; the zone stays in its journal."""
        if self._process:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It takes connections and says nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def where(self, port: int | None = None, **more: Any) -> Rfc2136:
        """As a spec names it; `port` is that of a relay before it."""
        key = {"name": KEY, "secretRef": {"name": "dns-key", "key": "tsig"}}
        whole = {"server": self.host, "port": port or self.port, "zone": ZONE, "tsig": key}
        return Rfc2136.model_validate(whole | more)

    def client(self, hostname: str, port: int | None = None) -> NameServer:
        """The operator's port to it."""
        where = self.where(port)
        return NameServer(where, Names(hostname), tsig(where, self.secret.encode()))

    async def ask(self, name: str, kind: str = "A") -> list[str] | None:
        """What any resolver gets, without a key, by UDP; None: no answer."""
        found = await self._asked(name, kind)
        return None if found is None else _texts(found)

    async def ttl(self, name: str, kind: str = "A") -> int | None:
        """How many seconds a resolver may keep what it gets."""
        found = await self._answered(name, kind)
        return found[0].ttl if found else None

    async def _answered(self, name: str, kind: str) -> list[dns.rrset.RRset]:
        async with asyncio.timeout(PATIENCE):
            while (found := await self._asked(name, kind)) is None:  # which waits itself
                pass
        return found

    async def _asked(self, name: str, kind: str) -> list[dns.rrset.RRset] | None:
        query = dns.message.make_query(name, kind)
        try:
            answer = await dns.asyncquery.udp(query, self.host, timeout=0.5, port=self.port)
        except (dns.exception.DNSException, OSError):
            return None
        return answer.answer if answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) else None

    async def answer(self, name: str, kind: str = "A") -> list[str]:
        """As `ask`, and again where there is none: a busy machine is late."""
        return _texts(await self._answered(name, kind))

    async def until(self, name: str, *addresses: str, limit: float = PATIENCE) -> float:
        """Seconds until the name has exactly these addresses."""
        began, found = time.monotonic(), None
        while time.monotonic() - began < limit:
            found = await self.ask(name)
            if found == sorted(addresses):
                return time.monotonic() - began
            await asyncio.sleep(0.05)
        raise AssertionError(f"{name} is {found} and not {addresses} after {limit:.0f} s")


def _texts(found: list[dns.rrset.RRset]) -> list[str]:
    return sorted(str(item) for rrset in found for item in rrset)


@asynccontextmanager
async def primary(folder: Path, actions: str = "update, query") -> AsyncIterator[Primary]:
    """Runs while the block does; `actions` are what the key may do."""
    running = Primary(folder, actions=actions)
    try:
        await running.start()
        yield running
    finally:
        running.stop()


class Relay:
    """A way to the name server by TCP that can be cut and joined again."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = free_port()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def join(self) -> None:
        """The way is there."""
        self._server = await asyncio.start_server(self._serve, HOST, self.port)

    async def cut(self) -> None:
        """No connection any more, old or new."""
        if self._server:
            self._server.close()
            for writer in self._open:
                writer.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other = await asyncio.open_connection(HOST, self._to)
        except OSError:
            writer.close()
            return
        self._open |= {writer, other}
        await asyncio.gather(_pump(reader, other), _pump(other_reader, writer))
        self._open -= {writer, other}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def relay(port: int) -> AsyncIterator[Relay]:
    """Joined while the block runs."""
    way = Relay(port)
    await way.join()
    try:
        yield way
    finally:
        await way.cut()


def free_port(host: str = HOST) -> int:
    """A port of that address that nobody has, by TCP and UDP."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
