"""What regions tell each other in DNS: the text of their TXT records, and under what names these are.

Owns: the format, written and read. Must not know: name servers, nor what a region does about what it reads.

Two names beside the host name. `_pilotboat.<hostname>` has a record of each region, its beat, which that region alone
replaces: so one question tells of them all. `_answer._pilotboat.<hostname>` has one record, the state of the answer,
which changes only together with the answer and only from the value that was read before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

VERSION = "1"
_REGION = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
MAX_TEXT = 1000
"""Characters of a record that is read at all."""
MOST = 2**31
"""Above any number of seconds or moves that a region may tell."""


@dataclass(frozen=True)
class Names:
    """Where the records of one host name are, without a dot at the end."""

    hostname: str

    @property
    def beats(self) -> str:
        """One TXT record of each region."""
        return f"_pilotboat.{self.hostname}"

    @property
    def state(self) -> str:
        """One TXT record: who is answered."""
        return f"_answer.{self.beats}"


@dataclass(frozen=True)
class Beat:
    """A region's word on itself, new with each beat. All times are seconds it has counted, none is a clock's."""

    region: str
    owner: str
    """Who writes it: two writers of one region are a mistake that must show."""
    count: int
    """Another number each time; what it is says nothing."""
    healthy: bool
    priority: int
    up: int
    """Seconds it has been healthy and has reached the name server."""
    held: int
    """Seconds it has been the answer."""
    targets: tuple[str, ...]
    at: int = 0
    """When it was written, by the writer's own clock: for nobody but the writer itself, after a restart."""

    def text(self) -> str:
        """The record."""
        told = {"region": self.region, "owner": self.owner, "count": self.count, "healthy": int(self.healthy)}
        told |= {"priority": self.priority, "up": self.up, "held": self.held, "targets": ",".join(self.targets)}
        return _text({**told, "at": self.at})


@dataclass(frozen=True)
class State:
    """Who is answered, and what the moves until now ask of the next."""

    region: str
    moves: int = 0
    hold: int = 0
    """Seconds a region must have been healthy to be preferred again; 0 before the first failure."""

    def text(self) -> str:
        """The record."""
        return _text({"region": self.region, "moves": self.moves, "hold": self.hold})


@dataclass(frozen=True)
class Reading:
    """What the name server answered, in one look."""

    beats: tuple[str, ...] = ()
    """Texts, as they are."""
    state: str | None = None
    addresses: tuple[str, ...] = ()
    """Of the host name, sorted."""
    ttl: int | None = None
    """Of these."""
    alias: str | None = None
    """What the host name is another name of, where somebody has made it that: it can have no address of its own."""
    known: Mapping[str, Beat] = field(default_factory=dict, compare=False)
    """The beats that could be read, by region; of two of one region the one that has counted further."""
    told: State | None = field(default=None, compare=False)
    """The state, where it could be read."""


def reading(
    beats: Iterable[str], state: str | None, addresses: Iterable[str], ttl: int | None, alias: str | None = None
) -> Reading:
    """Texts as they came, understood as far as they can be."""
    texts = tuple(sorted(beats))
    known: dict[str, Beat] = {}
    for beat in filter(None, map(beat_of, texts)):
        if beat.region not in known or known[beat.region].count < beat.count:
            known[beat.region] = beat
    ordered = tuple(sorted(str(ip_address(each)) for each in addresses))
    return Reading(texts, state, ordered, ttl, alias, known, state_of(state) if state else None)


def of_region(texts: Iterable[str], region: str) -> tuple[str, ...]:
    """The texts that are beats of that region."""
    return tuple(text for text in texts if _fields(text).get("region") == region)


def beats_of(texts: Iterable[str], region: str) -> list[Beat]:
    """All beats of one region: more than one where it has two writers."""
    return [beat for text in of_region(texts, region) if (beat := beat_of(text))]


def beat_of(text: str) -> Beat | None:
    """A beat, or None for what is none."""
    told = _fields(text)
    try:
        return Beat(
            region=_region(told["region"]),
            owner=told["owner"],
            count=int(told["count"]),
            healthy=told["healthy"] == "1",
            priority=_number(told["priority"]),
            up=_number(told["up"]),
            held=_number(told["held"]),
            targets=tuple(str(ip_address(each)) for each in told["targets"].split(",")),
            at=_number(told["at"], 2**62),
        )
    except (KeyError, ValueError):
        return None


def state_of(text: str) -> State | None:
    """A state, or None for what is none."""
    told = _fields(text)
    try:
        return State(_region(told["region"]), _number(told["moves"]), _number(told["hold"]))
    except (KeyError, ValueError):
        return None


def _text(told: Mapping[str, object]) -> str:
    return " ".join([f"v={VERSION}", *(f"{name}={value}" for name, value in told.items())])


def _fields(text: str) -> dict[str, str]:
    if len(text) > MAX_TEXT:
        return {}
    pairs = (part.partition("=") for part in text.split(" "))
    told = {name: value for name, sign, value in pairs if sign}
    return told if told.get("v") == VERSION else {}


def _region(text: str) -> str:
    if not _REGION.fullmatch(text):
        raise ValueError(f"{text!r} is no region")
    return text


def _number(text: str, most: int = MOST) -> int:
    number = int(text)
    if not 0 <= number <= most:
        raise ValueError(f"{text} is out of range")
    return number
