"""What became of the traffic, by revision and minute, for a day: the canary's evidence.

Owns: the counts, and that they are bounded. Must not know: what they mean, how they come here or go out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

from pilotboat.api.routing import BOUNDS, POD_MINUTES, Minute, PodMinute

from .requestlog import Copied, Seen

DAY = 24 * 3600
MINUTES = 400_000
"""Minutes of revisions, and as many of pods, that are kept over all deployments: of 280 a day, of 1,100 six hours."""
REVISIONS = 4096
"""Most revisions whose totals are remembered at once over all deployments."""
IDS = 100_000
"""Requests whose feedback is remembered, so that it counts once."""
OUTCOMES = 32
"""Different outcomes of one revision; whatever comes then is `other`."""

Key = tuple[str, str]
K = TypeVar("K")
V = TypeVar("V")


def bucket(milliseconds: float) -> int:
    """Index of the bound that a latency does not exceed."""
    return bisect_left(BOUNDS, milliseconds)


@dataclass(slots=True)
class _Minute:
    requests: int = 0
    errors: int = 0
    first_token: Counter[int] = field(default_factory=Counter)
    given_up: Counter[int] = field(default_factory=Counter)

    def add(self, seen: Seen) -> None:
        self.requests += 1
        self.errors += seen.error
        if seen.first_token is not None and not seen.error:
            self.first_token[bucket(seen.first_token)] += 1
        if seen.given_up is not None:
            self.given_up[bucket(seen.given_up)] += 1

    def wire(self, start: int) -> Minute:
        times = {"first_token": _wire(self.first_token), "given_up": _wire(self.given_up)}
        return Minute(start=start, requests=self.requests, errors=self.errors, **times)


@dataclass
class Revision:
    """One revision of one deployment: all of it since it was first seen."""

    whole: _Minute = field(default_factory=_Minute)
    statuses: Counter[int] = field(default_factory=Counter)
    retries: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)


class _Minutes(Generic[K, V]):
    """What was seen in each minute, by deployment. Who is many, or was there before, drives out nobody: the oldest
    minute goes, of all at once."""

    def __init__(self) -> None:
        self._starts: dict[int, dict[str, dict[K, V]]] = {}
        self._count = 0

    def now(self, now: float, deployment: str, key: K, new: Callable[[], V]) -> V:
        """The minute that is under way."""
        start = int(now // 60) * 60
        known = self._starts.setdefault(start, {}).setdefault(deployment, {})
        if key not in known:
            known[key] = new()
            self._count += 1
            self._forget(start - DAY)
        return known[key]

    def of(self, deployment: str, since: float) -> Iterator[tuple[int, K, V]]:
        """The newest first."""
        for start, seen in reversed(self._starts.items()):
            if start >= since:
                for key, value in seen.get(deployment, {}).items():
                    yield start, key, value

    def _forget(self, before: int) -> None:
        while (oldest := next(iter(self._starts))) < before or (self._count > MINUTES and len(self._starts) > 1):
            self._count -= sum(map(len, self._starts.pop(oldest).values()))


class Recorder:
    """Counts in memory; a new one begins at nothing."""

    def __init__(self) -> None:
        self._revisions: OrderedDict[Key, Revision] = OrderedDict()
        self._minutes: _Minutes[str, _Minute] = _Minutes()
        self._pods: _Minutes[Key, Counter[int]] = _Minutes()
        self._answered: OrderedDict[str, None] = OrderedDict()
        self.refused: Counter[tuple[str, int]] = Counter()
        """By deployment and status: requests that no replica had anything to do with."""
        self.copies: Counter[tuple[str, str]] = Counter()
        """By deployment and fate: copies are no evidence, for no caller saw their answers."""
        self.floods: Mapping[str, int] = {}
        """By deployment: feedback that HAProxy refused since it began, for too much came at once."""

    def meet(self, deployment: str, revision: str) -> None:
        """A revision is a lane: applications may post about it, whichever gateway served them."""
        self._met((deployment, revision))

    def request(self, seen: Seen, now: float) -> None:
        """A request ended."""
        if seen.revision is None:
            self.refused[seen.deployment, seen.status] += 1
            return
        revision = self._met((seen.deployment, seen.revision))
        revision.whole.add(seen)
        if seen.judged:
            self._minutes.now(now, seen.deployment, seen.revision, _Minute).add(seen)
        revision.statuses[seen.status] += 1
        revision.retries += seen.retries

    def copied(self, copy: Copied) -> None:
        """A copy ended."""
        self.copies[copy.deployment, copy.fate] += 1

    def per_token(self, deployment: str, revision: str, pod: str, counts: Counter[int], now: float) -> None:
        """A pod's own metrics grew by this."""
        self._pods.now(now, deployment, (revision, pod), Counter).update(counts)

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
        beginnings = (request[:at] for at, letter in enumerate(request) if letter == "-")
        return next((found for each in beginnings if (found := self._revisions.get((deployment, each)))), None)

    def _met(self, key: Key) -> Revision:
        """The revision, made the youngest; the oldest goes where there are too many."""
        found = self._revisions.setdefault(key, Revision())
        self._revisions.move_to_end(key)
        while len(self._revisions) > REVISIONS:
            self._revisions.popitem(last=False)
        return found

    def revisions(self) -> Iterator[tuple[Key, Revision]]:
        """All that are remembered."""
        return iter(self._revisions.items())

    def minutes(self, deployment: str, since: float) -> dict[str, list[Minute]]:
        """By revision, in order of time; minutes without a request are left out."""
        told: dict[str, list[Minute]] = {name: [] for owner, name in self._revisions if owner == deployment}
        for start, name, minute in self._minutes.of(deployment, since):
            told.setdefault(name, []).append(minute.wire(start))
        return {name: minutes[::-1] for name, minutes in told.items()}

    def pods(self, deployment: str, since: float) -> list[PodMinute]:
        """Every pod's minutes, the newest first, and POD_MINUTES of them at most."""
        return [
            PodMinute(pod=pod, revision=revision, start=start, per_token=_wire(counts))
            for start, (revision, pod), counts in islice(self._pods.of(deployment, since), POD_MINUTES)
        ]

    def outcomes(self, deployment: str) -> dict[str, dict[str, int]]:
        """By revision: outcome to how often it was posted."""
        return {
            name: dict(revision.outcomes)
            for (owner, name), revision in self._revisions.items()
            if owner == deployment and revision.outcomes
        }


def _wire(counts: Counter[int]) -> dict[str, int]:
    return {str(at): count for at, count in sorted(counts.items())}
