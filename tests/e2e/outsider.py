"""Who calls a host name from outside the labs: clients that resolve it and ask, and a watch of what is answered.

Owns: how clients behave (they obey the TTL, and open a connection for each request), and what they saw. Must not know:
regions, labs, nor what is expected.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import dns.exception
import dns.message
import dns.query
import dns.rdatatype

from lab import procs
from lab.outside import Outside

CALLERS = 4
"""Each with a memory of its own: one that waits for an answer from the dead holds up no other."""
PAUSE = 0.2
CONNECTS, READS = 3.0, 30.0
"""Seconds that a client waits: for a connection, which needs no program's turn, and for an answer, which does."""
PATIENCE = 300.0
Addresses = tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """One request."""

    at: float
    address: str
    wrong: str | None
    """How it failed."""


Stretch = tuple[str, list[Asked]]


@dataclass
class Seen:
    """What all threads saw, in order; times are of the monotonic clock."""

    callers: list[list[Asked]] = field(default_factory=lambda: [[] for _ in range(CALLERS)])
    answers: list[tuple[float, Addresses]] = field(default_factory=list)
    """Each that differs from the one before, as the name server gave it."""

    def of(self, regions: Mapping[str, Addresses]) -> list[list[Stretch]]:
        """Each caller's requests by the region that they went to, in stretches; any other address is a KeyError."""
        where = {address: name for name, addresses in regions.items() for address in addresses}
        each = [itertools.groupby(asked, key=lambda one: where[one.address]) for asked in self.callers]
        return [[(name, list(asked)) for name, asked in stretches] for stretches in each]

    def answered(self, wanted: Addresses) -> float:
        """Until exactly these addresses are answered; when that was first seen."""
        procs.wait_until(
            lambda: bool(self.answers) and self.answers[-1][1] == wanted, what=f"The answer {wanted}", timeout=PATIENCE
        )
        return self.answers[-1][0]

    def served(self, addresses: Addresses, count: int = 6) -> tuple[float, float]:
        """Until every caller has so many more requests answered there; when the first and the last began with that."""
        known = [len(asked) for asked in self.callers]

        def there() -> list[list[Asked]]:
            later = [list(asked)[begun:] for asked, begun in zip(self.callers, known, strict=True)]
            return [[one for one in asked if one.address in addresses and one.wrong is None] for asked in later]

        procs.wait_until(
            lambda: all(len(asked) >= count for asked in there()), what=f"Answers of {addresses}", timeout=PATIENCE
        )
        first = [asked[0].at for asked in there()]
        return min(first), max(first)


@dataclass(frozen=True)
class Outsider:
    """Where it is, where it asks for which name, and what it wants of whom is answered."""

    place: Outside
    server: str
    server_port: int
    hostname: str
    port: int
    model: str
    patience: float = READS
    """Seconds for an answer."""

    @contextmanager
    def calling(self) -> Iterator[Seen]:
        """Calls, and watches, while the block runs."""
        seen, over = Seen(), threading.Event()
        threads = [threading.Thread(target=self._call, args=(asked, over)) for asked in seen.callers]
        threads += [threading.Thread(target=self._watch, args=(seen.answers, over))]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def _call(self, asked: list[Asked], over: threading.Event) -> None:
        self.place.enter()
        known, until, turn = tuple[str, ...](), 0.0, 0
        while not over.wait(PAUSE):
            if time.monotonic() >= until and (found := self._resolve()):
                known, until = found[0], time.monotonic() + found[1]
            if known and time.monotonic() < until:
                asked.append(self._ask(known[turn % len(known)]))
                turn += 1

    def _watch(self, answers: list[tuple[float, Addresses]], over: threading.Event) -> None:
        self.place.enter()
        while not over.wait(PAUSE):
            found = self._resolve()
            if found and (not answers or found[0] != answers[-1][1]):
                answers.append((time.monotonic(), found[0]))

    def _resolve(self) -> tuple[Addresses, int] | None:
        """The addresses, sorted, and how long they may be remembered; None: no answer."""
        try:
            query = dns.message.make_query(self.hostname, "A")
            answer = dns.query.udp(query, self.server, timeout=2, port=self.server_port)
        except (dns.exception.DNSException, OSError):
            return None
        found = [rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.A]
        return (tuple(sorted(str(each) for each in found[0])), found[0].ttl) if found else None

    def _ask(self, address: str) -> Asked:
        began = time.monotonic()
        connection = http.client.HTTPConnection(address, self.port, timeout=CONNECTS)
        said = {"model": self.model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        try:
            connection.connect()
            connection.sock.settimeout(self.patience)
            connection.request("POST", "/v1/chat/completions", json.dumps(said), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            return Asked(began, address, None if answer.status == 200 else f"{answer.status}: {text[:200]!r}")
        except (OSError, http.client.HTTPException) as error:
            return Asked(began, address, repr(error))
        finally:
            connection.close()
