"""Evidence from the server pods themselves, where no gateway of ours sees the requests.

Owns: what of a pod's /metrics is read, and how its counters become minutes. Must not know: who asks the pods, or what
evidence means.

A counter says how much since its process began. So the first reading of a pod only tells where it stands, and one that
is lower than the one before tells that the process began anew. What a pod counted is booked to the minute in which it
is read. What it counted after its last reading is lost with it: that a pod dies is told by its status.
"""

from __future__ import annotations

import math
import uuid
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

from pilotboat.api.routing import BOUNDS, Evidence, Minute, PodMinute

PERIOD = 60
KEPT = 24 * 3600
"""Seconds of which minutes are kept, as a gateway keeps them."""

REQUESTS, ERRORS, FIRST, PER_TOKEN = "requests", "errors", "first", "per_token"
_COUNTED = {
    "vllm:request_success_total": (REQUESTS,),
    "pilotboat:request_failures_total": (REQUESTS, ERRORS),
}
_REFUSED = "vllm:admission_rejections_total", "not_serving"
"""The one refusal that is the server's own fault: a 503. The others answer 400 or 429."""
_MEASURED = {
    "vllm:time_to_first_token_seconds_bucket": FIRST,
    "vllm:request_time_per_output_token_seconds_bucket": PER_TOKEN,
}

COUNTS = 2.0**53
"""Where a float no longer counts one by one."""

Reading = Counter[tuple[str, str]]
"""By series, and for a histogram by the index into BOUNDS: how many so far, each request in one bucket only."""


def read(text: str) -> Reading:
    """What a pod has counted so far. Raises ValueError for what is not the text of /metrics."""
    found: Reading = Counter()
    buckets: dict[tuple[str, str], list[tuple[float, float]]] = {}
    wanted = [line for line in text.splitlines() if line.startswith((*_COUNTED, *_MEASURED, _REFUSED[0]))]
    for sample in (s for family in text_string_to_metric_families("\n".join((*wanted, ""))) for s in family.samples):
        if sample.name in _MEASURED:
            points = buckets.setdefault((sample.name, sample.labels.get("model_name", "")), [(-math.inf, 0.0)])
            points.append((float(sample.labels["le"]), sample.value))
        refused = (sample.name, sample.labels.get("reason")) == _REFUSED
        for series in (REQUESTS, ERRORS) if refused else _COUNTED.get(sample.name, ()):
            found[series, ""] += _count(sample.value)
    for (name, _), points in buckets.items():
        for (_, before), (bound, count) in pairwise(sorted(points)):
            found[_MEASURED[name], _index(bound)] += _count(count - before)
    return +found


def _count(value: float) -> int:
    if not abs(value) < COUNTS:
        raise ValueError(f"{value} is no count")
    return int(value)


def _index(seconds: float) -> str:
    return str(bisect_left(BOUNDS, round(seconds * 1000, 3)) if math.isfinite(seconds) else len(BOUNDS))


class Ledger:
    """What is known of one ModelDeployment's pods since it was first asked for."""

    def __init__(self) -> None:
        self._name = f"pods-{uuid.uuid4().hex[:8]}"
        self._last: dict[str, Reading] = {}
        self._minutes: dict[tuple[int, str, str], Reading] = {}
        """By the minute's beginning, revision and pod."""

    def book(self, pod: str, revision: str, reading: Reading, now: float) -> None:
        """What a pod, known by its uid, has counted so far."""
        before, self._last[pod] = self._last.get(pod), reading
        if before is None:
            return
        since = reading - before if all(reading[each] >= count for each, count in before.items()) else reading
        if since:
            start = int(now) // PERIOD * PERIOD
            self._minutes.setdefault((start, revision, pod), Counter()).update(since)

    def keep(self, pods: Iterable[str], now: float) -> None:
        """Forget pods other than these, and minutes too old for anybody."""
        there = set(pods)
        self._last = {pod: reading for pod, reading in self._last.items() if pod in there}
        self._minutes = {key: counts for key, counts in self._minutes.items() if key[0] > now - KEPT}

    def evidence(self, now: float) -> Evidence:
        """The same as a gateway would say."""
        return Evidence(gateway=self._name, now=now, minutes=self._by_revision(), pods=list(self._by_pod()))

    def _by_revision(self) -> dict[str, list[Minute]]:
        sums: dict[tuple[str, int], Reading] = {}
        for (start, revision, _), counts in sorted(self._minutes.items()):
            sums.setdefault((revision, start), Counter()).update(counts)
        made: dict[str, list[Minute]] = {}
        for (revision, start), counts in sorted(sums.items()):
            told = Minute(
                start=start,
                requests=counts[REQUESTS, ""],
                errors=counts[ERRORS, ""],
                first_token=_histogram(counts, FIRST),
            )
            made.setdefault(revision, []).append(told)
        return made

    def _by_pod(self) -> Iterator[PodMinute]:
        for (start, revision, pod), counts in sorted(self._minutes.items()):
            if told := _histogram(counts, PER_TOKEN):
                yield PodMinute(pod=pod, revision=revision, start=start, per_token=told)


def _histogram(counts: Mapping[tuple[str, str], int], series: str) -> dict[str, int]:
    return {index: count for (name, index), count in counts.items() if name == series}
