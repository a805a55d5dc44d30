"""What became of the traffic, by revision and minute, for a day: the canary's evidence.

Owns: the counts, and that they are bounded. Must not know: what they mean, how they come here or go out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pilotboat.api.routing import BOUNDS, Minute, PodMinute

from .requestlog import Copied, Seen

DAY = 24 * 3600
REVISIONS = 256
"""Most revisions, and most pods, that are remembered at once over all deployments."""
IDS = 100_000
"""Requests whose feedback is remembered, so that it counts once."""
OUTCOMES = 32
"""Different outcomes of one revision; whatever comes then is `other`."""

Key = tuple[str, str]


def bucket(milliseconds: float) -> int:
    """Index of the bound that a latency does not exceed."""
    return bisect_left(BOUNDS, milliseconds)


@dataclass
class _Minute:
    requests: int = 0
    errors: int = 0
    first_token: Counter[int] = field(default_factory=Counter)

    def add(self, seen: Seen) -> None:
        self.requests += 1
        self.errors += seen.error
        if seen.first_token is not None and not seen.error:
            self.first_token[bucket(seen.first_token)] += 1

    def wire(self, start: int) -> Minute:
        return Minute(start=start, requests=self.requests, errors=self.errors, first_token=_wire(self.first_token))


@dataclass
class Revision:
    """One revision of one deployment: its minutes, and all of it since it was first seen."""

    minutes: OrderedDict[int, _Minute] = field(default_factory=OrderedDict)
    whole: _Minute = field(default_factory=_Minute)
    statuses: Counter[int] = field(default_factory=Counter)
    retries: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)


class Recorder:
    """Counts in memory; a new one begins at nothing."""

    def __init__(self) -> None:
        self._revisions: OrderedDict[Key, Revision] = OrderedDict()
        self._pods: OrderedDict[tuple[str, str, str], OrderedDict[int, Counter[int]]] = OrderedDict()
        self._answered: OrderedDict[str, None] = OrderedDict()
        self.refused: Counter[tuple[str, int]] = Counter()
        """By deployment and status: requests that no replica had anything to do with."""
        self.copies: Counter[tuple[str, str]] = Counter()
        """By deployment and fate: copies are no evidence, for no caller saw their answers."""
        self.floods: Mapping[str, int] = {}
        """By deployment: feedback that HAProxy refused since it began, for too much came at once."""

    def meet(self, deployment: str, revision: str) -> None:
        """A revision is a lane: applications may post about it, whichever gateway served them."""
        _recent(self._revisions, (deployment, revision), Revision())

    def request(self, seen: Seen, now: float) -> None:
        """A request ended."""
        if seen.revision is None:
            self.refused[seen.deployment, seen.status] += 1
            return
        revision = _recent(self._revisions, (seen.deployment, seen.revision), Revision())
        minute = _minute(revision.minutes, now, _Minute())
        for counts in (minute, revision.whole):
            counts.add(seen)
        revision.statuses[seen.status] += 1
        revision.retries += seen.retries

    def copied(self, copy: Copied) -> None:
        """A copy ended."""
        self.copies[copy.deployment, copy.fate] += 1

    def per_token(self, deployment: str, revision: str, pod: str, counts: Counter[int], now: float) -> None:
        """A pod's own metrics grew by this."""
        minutes = _recent(self._pods, (deployment, revision, pod), OrderedDict())
        _minute(minutes, now, Counter()).update(counts)

    def feedback(self, deployment: str, request: str, outcome: str) -> bool:
        """An application's word on a request; False where the id is of no revision that was seen here."""
        revision = self._revision_of(deployment, request)
        if revision is None:
            return False
        if request not in self._answered:
            known = outcome in revision.outcomes or len(revision.outcomes) < OUTCOMES
            revision.outcomes[outcome if known else "other"] += 1
        self._answered[request] = None
        self._answered.move_to_end(request)
        while len(self._answered) > IDS:
            self._answered.popitem(last=False)
        return True

    def _revision_of(self, deployment: str, request: str) -> Revision | None:
        """The id begins with the revision, and what follows has hyphens too."""
        for (owner, name), revision in self._revisions.items():
            if owner == deployment and request.startswith(f"{name}-"):
                return revision
        return None

    def revisions(self) -> Iterator[tuple[Key, Revision]]:
        """All that are remembered."""
        return iter(self._revisions.items())

    def minutes(self, deployment: str, since: float) -> dict[str, list[Minute]]:
        """By revision; minutes without a request are left out."""
        return {
            name: [minute.wire(start) for start, minute in revision.minutes.items() if start >= since]
            for (owner, name), revision in self._revisions.items()
            if owner == deployment
        }

    def pods(self, deployment: str, since: float) -> list[PodMinute]:
        """Every pod's minutes."""
        return [
            PodMinute(pod=pod, revision=revision, start=start, per_token=_wire(counts))
            for (owner, revision, pod), minutes in self._pods.items()
            for start, counts in minutes.items()
            if owner == deployment and start >= since
        ]

    def outcomes(self, deployment: str) -> dict[str, dict[str, int]]:
        """By revision: outcome to how often it was posted."""
        return {
            name: dict(revision.outcomes)
            for (owner, name), revision in self._revisions.items()
            if owner == deployment and revision.outcomes
        }


K = TypeVar("K")
V = TypeVar("V")


def _recent(known: OrderedDict[K, V], key: K, new: V) -> V:
    """The entry, made the youngest; the oldest goes where there are too many."""
    found = known.setdefault(key, new)
    known.move_to_end(key)
    while len(known) > REVISIONS:
        known.popitem(last=False)
    return found


def _minute(minutes: OrderedDict[int, V], now: float, new: V) -> V:
    start = int(now // 60) * 60
    found = minutes.setdefault(start, new)
    while minutes and next(iter(minutes)) < start - DAY:
        minutes.popitem(last=False)
    return found


def _wire(counts: Counter[int]) -> dict[str, int]:
    return {str(at): count for at, count in sorted(counts.items())}
