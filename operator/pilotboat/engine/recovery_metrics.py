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
        for fault in _read(after).ended_since(_read(before)):
            self._tell(fault)

    def _tell(self, fault: Fault) -> None:
        for until, at in (
            ("moved", fault.traffic_moved_at),
            ("replaced", fault.replaced_at),
            ("ready", fault.ready_at),
        ):
            if at:
                took = datetime.fromisoformat(at) - datetime.fromisoformat(fault.detected_at)
                self._seconds.labels(fault.fault, until).observe(max(0.0, took.total_seconds()))
        for part, seconds in (fault.seconds or Split()).model_dump(exclude_none=True).items():
            self._parts.labels(fault.fault, part).observe(seconds)


def _read(status: Mapping[str, Any]) -> RecoveryStatus:
    try:
        return RecoveryStatus.model_validate(status.get("recovery") or {})
    except ValidationError:  # of another version, or somebody else's
        return RecoveryStatus()
