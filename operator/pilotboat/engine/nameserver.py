"""The port to a name server: a look at what regions have written there, and changes of it by RFC 2136.

Owns: DNS messages over TCP, their signatures (TSIG), and what each kind of refusal means. Must not know: what any
record is for, nor when to try again.

All goes to the one authoritative server, with the authoritative-answer bit checked: what a resolver remembers is
no ground for a decision. A key never gets into a message.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update
from dns.rdtypes.txtbase import TXTBase

from pilotboat.api.dns import Rfc2136
from pilotboat.plan.dns_records import Names, Reading, reading

from .errors import DnsFailure, DnsOutpaced, DnsRefused, DnsUnreachable

TIMEOUT = 4.0
"""Seconds for a look or a change: two of them are less than what makes a region old."""
MAX_STRING = 255
"""Bytes of one string of a TXT record."""
_OUTPACED = {dns.rcode.YXDOMAIN, dns.rcode.YXRRSET, dns.rcode.NXRRSET, dns.rcode.NXDOMAIN}
_REFUSED = {dns.rcode.REFUSED, dns.rcode.NOTAUTH, dns.rcode.NOTZONE, dns.rcode.NOTIMP, dns.rcode.FORMERR}
_TYPES = {4: "A", 6: "AAAA"}


_Ask = Callable[[dns.message.Message], Awaitable[dns.message.Message]]


@dataclass(frozen=True)
class Answer:
    """Addresses of the host name and the state beside them; both empty: neither is to be there."""

    state: str | None
    addresses: tuple[str, ...]
    ttl: int


@dataclass(frozen=True)
class NameServer:
    """One zone's primary, and the records of one host name in it."""

    where: Rfc2136
    names: Names
    key: dns.tsig.Key = field(repr=False)

    async def look(self) -> Reading:
        """What is there now. Raises DnsFailure."""
        async with self._connected() as ask:
            beats = await self._texts(ask, self.names.beats)
            states = await self._texts(ask, self.names.state)
            found = [await self._answer(ask, self.names.hostname, kind, "CNAME") for kind in _TYPES.values()]
        aliases = [str(item.target) for rrset in found if _is_alias(rrset) for item in rrset or ()]
        records = [rrset for rrset in found if rrset and not _is_alias(rrset)]
        addresses = [item.address for rrset in records for item in rrset]
        ttl = min((rrset.ttl for rrset in records), default=None)
        state = "\n".join(sorted(states)) if states else None
        return reading(beats, state, addresses, ttl, min(aliases, default=None))

    async def beat(self, gone: Iterable[str], new: str | None) -> None:
        """One's own beat in place of those before; None: without a new one. Raises DnsFailure."""
        update = self._update()
        for text in gone:
            update.delete(_absolute(self.names.beats), _txt(text))
        if new is not None:
            update.add(_absolute(self.names.beats), 0, _txt(new))
        await self._send(update)

    async def answer(self, before: Reading, new: Answer) -> None:
        """Another answer, where all is still as it was read. Raises DnsOutpaced, or another DnsFailure."""
        update = self._update()
        host, state = _absolute(self.names.hostname), _absolute(self.names.state)
        for kind in _TYPES.values():
            _require(update, host, kind, _of(kind, before.addresses))
            update.delete(host, kind)
            for address in _of(kind, new.addresses):
                update.add(host, new.ttl, kind, address)
        _require(update, state, "TXT", [_quoted(before.state)] if before.state else [])
        update.delete(state, "TXT")
        if new.state is not None:
            update.add(state, 0, _txt(new.state))
        await self._send(update)

    def _update(self) -> dns.update.UpdateMessage:
        return dns.update.UpdateMessage(_absolute(self.where.zone))

    async def _send(self, update: dns.update.UpdateMessage) -> None:
        async with self._connected() as ask:
            await ask(update)

    async def _texts(self, ask: _Ask, name: str) -> list[str]:
        found = await self._answer(ask, name, "TXT")
        return [b"".join(item.strings).decode(errors="replace") for item in found or ()]

    async def _answer(self, ask: _Ask, name: str, *kinds: str) -> dns.rrset.RRset | None:
        """The records of the first kind, or what a name server gives in their place."""
        query = dns.message.make_query(_absolute(name), kinds[0])
        query.flags &= ~dns.flags.RD
        response = await ask(query)
        if not response.flags & dns.flags.AA:
            raise DnsRefused(f"{self._name} does not answer for zone {self.where.zone} itself: it is no primary of it")
        wanted = [(_absolute(name), dns.rdataclass.IN, dns.rdatatype.from_text(kind)) for kind in kinds]
        return next((rrset for rrset in response.answer if (rrset.name, rrset.rdclass, rrset.rdtype) in wanted), None)

    @property
    def _name(self) -> str:
        return f"name server {self.where.server} port {self.where.port}"

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[_Ask]:
        """One connection, and a way to ask over it; whatever goes wrong is told as a DnsFailure."""
        try:
            async with asyncio.timeout(TIMEOUT):
                reader, writer = await asyncio.open_connection(self.where.server, self.where.port)
                try:
                    yield lambda message: self._ask(reader, writer, message)
                finally:
                    writer.close()
        except DnsFailure:
            raise
        except (OSError, EOFError, TimeoutError, UnicodeError) as failure:  # the last: no name that can be looked up
            why = str(failure) or f"no answer within {TIMEOUT:.0f} s"
            raise DnsUnreachable(f"{self._name}: {why}") from None
        except dns.exception.DNSException as failure:
            raise self._refusal(failure) from None

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: dns.message.Message
    ) -> dns.message.Message:
        message.use_tsig(self.key)
        wire = message.to_wire()
        writer.write(len(wire).to_bytes(2, "big") + wire)
        length = int.from_bytes(await reader.readexactly(2), "big")
        answer = await reader.readexactly(length)
        try:
            response = dns.message.from_wire(answer, keyring=message.keyring, request_mac=message.mac)
        except dns.exception.FormError:  # not signed: good for no more than to say why not
            response = dns.message.from_wire(answer)
        self._check(message, response)
        return response

    def _check(self, asked: dns.message.Message, response: dns.message.Message) -> None:
        update, code = isinstance(asked, dns.update.UpdateMessage), response.rcode()
        said = f"{self._name} answers {dns.rcode.to_text(code)}"
        if update and code in _OUTPACED:
            raise DnsOutpaced(f"{said}: it was changed by somebody else")
        if code in _REFUSED:
            what = "changes" if update else "questions"
            raise DnsRefused(f"{said} to {what} about zone {self.where.zone} with key {self.where.tsig.name}")
        if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) or not asked.is_response(response):
            raise DnsUnreachable(said)
        if not response.had_tsig:
            raise DnsRefused(f"{self._name} does not sign its answers: anybody could have given them")

    def _refusal(self, failure: dns.exception.DNSException) -> DnsFailure:
        key = f"key {self.where.tsig.name} ({self.where.tsig.algorithm})"
        match failure:
            case dns.tsig.PeerBadTime() | dns.tsig.BadTime():
                return DnsRefused(f"{self._name}: its clock and ours differ by more than five minutes; set them right")
            case dns.tsig.PeerBadKey():
                return DnsRefused(f"{self._name} does not let {key} do that, or does not know it")
            case dns.tsig.PeerError() | dns.tsig.BadSignature() | dns.tsig.BadKey():
                return DnsRefused(f"{self._name} has another secret for {key}")
            case dns.exception.Timeout():
                return DnsUnreachable(f"{self._name}: no answer within {TIMEOUT:.0f} s")
        return DnsUnreachable(f"{self._name}: {type(failure).__name__}")


def tsig(where: Rfc2136, secret: bytes) -> dns.tsig.Key:
    """The key, from what the Secret holds. Raises DnsRefused."""
    try:
        decoded = base64.b64decode(secret.strip(), validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not decoded:
        ref = where.tsig.secret_ref
        raise DnsRefused(f"key {ref.key} of Secret {ref.name} is not a TSIG key in base64, as key files have it")
    return dns.tsig.Key(_absolute(where.tsig.name), decoded, where.tsig.algorithm)


def _absolute(name: str) -> dns.name.Name:
    return dns.name.from_text(f"{name}.")


def _is_alias(rrset: dns.rrset.RRset | None) -> bool:
    return rrset is not None and rrset.rdtype == dns.rdatatype.CNAME


def _of(kind: str, addresses: Iterable[str]) -> list[str]:
    return [address for address in addresses if _TYPES[ip_address(address).version] == kind]


def _require(update: dns.update.UpdateMessage, name: dns.name.Name, kind: str, values: list[str]) -> None:
    """That exactly these values are there, or none."""
    if values:
        update.present(name, kind, *values)
    else:
        update.absent(name, kind)


def _strings(text: str) -> list[bytes]:
    whole = text.encode()
    return [whole[at : at + MAX_STRING] for at in range(0, len(whole), MAX_STRING)]


def _txt(text: str) -> TXTBase:
    record = dns.rdata.from_text("IN", "TXT", _quoted(text))
    assert isinstance(record, TXTBase)
    return record


def _quoted(text: str) -> str:
    """As a zone file has it; what we write has neither quotes nor backslashes."""
    return " ".join(f'"{part.decode()}"' for part in _strings(text.replace("\\", "").replace('"', "")))
