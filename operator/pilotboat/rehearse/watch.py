"""What the deployment did while a fault stood: looked at four times a second, and what follows from that.

Owns: sightings, and the times of replacement, readiness and detection in them. Must not know: requests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Any

from .aim import Target
from .cluster import Subject
from .errors import Refused
from .world import Pod, World


@dataclass(frozen=True)
class Sighting:
    """The deployment at one moment, on the event loop's clock."""

    at: float
    world: World


@dataclass(frozen=True)
class Restored:
    """When what was lost was there again, in seconds from the fault; None: not seen."""

    replaced: float | None = None
    """The first pod that was not there before and has a place, on a node that was not hit."""
    ready: float | None = None
    """As many ready replicas as asked for, those that were hit counted only as far as they recovered."""
    detected: float | None = None
    """From detection to replacement, as `status.recovery` has it; None: it does not say."""
    recovery: Mapping[str, Any] | None = None
    """`status.recovery.last`, where the fault made a new one."""
    blind: float | None = None
    """Longest time between two looks; None: nothing was seen at all."""


@dataclass
class Watch:
    """Looks while the block of `running` runs."""

    subject: Subject
    seen: list[Sighting] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Looking."""
        task = asyncio.create_task(self._look())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})  # and not `await task`: who cancels us meanwhile has to be heard
        if not task.cancelled():
            task.result()

    async def _look(self) -> None:
        clock = asyncio.get_running_loop().time
        with contextlib.suppress(Refused):  # it is gone, as whoever waits for it is told
            async for found in self.subject.worlds():
                if isinstance(found, World):
                    self.seen.append(Sighting(clock(), found))


class Back(StrEnum):
    """When a replica that was hit counts as ready again."""

    TOLD = "told"
    """When the API says so."""
    RESTARTED = "restarted"
    """When its container was started anew: until kubelet notices, the API calls the dead one ready."""
    NEVER = "never"
    """It is gone, or cut off: then the API's word is an old one, and another has to take its place."""


def restored(before: World, hit: Target, seen: Sequence[Sighting], fault: float, end: float, back: Back) -> Restored:
    """What the sightings from the fault until the end say."""
    known = {pod.uid for pod in before.pods}

    def replaces(pod: Pod) -> bool:
        return pod.uid not in known and pod.node not in ("", *hit.nodes)

    since = [each for each in seen if each.at >= fault]
    replaced = next((each.at - fault for each in since if any(map(replaces, each.world.pods))), None)
    last = _newest(before, since)
    looks = [fault, *(each.at for each in since), end]
    blind = max(later - earlier for earlier, later in pairwise(looks)) if since else None
    return Restored(replaced, _ready(before, hit, since, fault, back), _between(last), last, blind)


def _ready(before: World, hit: Target, since: Sequence[Sighting], fault: float, back: Back) -> float | None:
    """The first moment with all replicas, after the last without. Where none was ever missed: 0."""
    restarts = {pod.uid: pod.restarts for pod in hit.pods}
    short = False
    found: float | None = None
    for each in since:
        if sum(_serves(pod, restarts, back) for pod in each.world.serving) < before.want:
            short, found = True, None
        elif found is None:
            found = each.at - fault
    return found if short or found is None else 0.0


def _serves(pod: Pod, restarts: Mapping[str, int], back: Back) -> bool:
    if pod.uid not in restarts or back is Back.TOLD:
        return True
    return back is Back.RESTARTED and pod.restarts > restarts[pod.uid]


def _newest(before: World, since: Sequence[Sighting]) -> Mapping[str, Any] | None:
    """The operator's own record, where it is another than before the fault."""
    for each in reversed(since):
        now = each.world.recovery
        if now is not None:
            old = before.recovery
            return now if old is None or old.get("detectedAt") != now.get("detectedAt") else None
    return None


def _between(last: Mapping[str, Any] | None) -> float | None:
    """Seconds from detection to replacement, which has whole seconds and may come before anybody has noticed."""
    try:
        times = [datetime.fromisoformat(str((last or {})[name])) for name in ("detectedAt", "replacedAt")]
    except (KeyError, ValueError):
        return None
    try:
        return max(0.0, (times[1] - times[0]).total_seconds())
    except TypeError:  # one of them without a zone
        return None
