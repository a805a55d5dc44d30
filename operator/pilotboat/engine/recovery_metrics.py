"""How long recoveries took, as a histogram, told once each: when the status that says so has been written.

Owns: the names and labels of these series. Must not know: what a loss is, or how its times are found.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Histogram
from pydantic import ValidationError

from pilotboat.api.recovery import Fault, RecoveryStatus, Split

SECONDS = (1, 2, 4, 6, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200)


class Recoveries:
    """Seconds from detection until traffic had moved, a replacement was made, and all was whole; and the replacement's
    own, part by part."""

    def __init__(self, registry: CollectorRegistry) -> None:
        text = "From a loss's detection until its traffic had moved, its replacement was created, all was ready"
        self._seconds = Histogram(
            "pilotboat_recovery_seconds", text, ("fault", "until"), registry=registry, buckets=SECONDS
        )
        self._parts = Histogram(
            "pilotboat_recovery_part_seconds",
            "Of a replacement's start: until it was scheduled, its images pulled, its model fetched, loaded, warmed up",
            ("fault", "part"),
            registry=registry,
            buckets=SECONDS,
        )

    def see(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """The status of a parent before and after it was written."""
        old, new = _last(before), _last(after)
        if new is None or not new.ended_since(old):
            return
        for until, at in (
            ("moved", new.traffic_moved_at),
            ("replaced", new.replaced_at),
            ("ready", new.ready_at),
        ):
            if at:
                took = datetime.fromisoformat(at) - datetime.fromisoformat(new.detected_at)
                self._seconds.labels(new.fault, until).observe(max(0.0, took.total_seconds()))
        for part, seconds in (new.seconds or Split()).model_dump(exclude_none=True).items():
            self._parts.labels(new.fault, part).observe(seconds)


def _last(status: Mapping[str, Any]) -> Fault | None:
    try:
        return RecoveryStatus.model_validate(status.get("recovery") or {}).last
    except ValidationError:  # of another version, or somebody else's
        return None
