"""Where the server is in its life: loading, warming, serving, draining; and what the probes answer.

Owns the phases and their times. Pure: time is passed in. Must not know: HTTP, engines.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Phase = Literal["loading", "warming", "serving", "draining"]
Probe = Literal["startupz", "readyz", "livez"]


@dataclass(frozen=True)
class Health:
    """What a probe answers; `failing` names the probes that fail now."""

    phase: Phase
    elapsed_seconds: float
    """Since the process began."""
    phase_seconds: float
    """Since this phase began."""
    startup_seconds: dict[str, float]
    """Finished phases of the start and how long each took."""
    running: int
    waiting: int
    stalled: bool = False
    """Running work has shown no sign of life for too long."""

    def passes(self, probe: Probe) -> bool:
        """Whether a probe succeeds."""
        match probe:
            case "startupz":
                return self.phase in ("serving", "draining")
            case "readyz":
                return self.phase == "serving" and not self.stalled
            case "livez":
                return not self.stalled

    def body(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass
class Life:
    """The phases one server goes through."""

    began: float
    phase: Phase = "loading"
    since: float = 0.0
    startup: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.since = self.began

    def enter(self, phase: Phase, now: float) -> float:
        """Go on to a phase; how long the one before took."""
        took = now - self.since
        if self.phase in ("loading", "warming"):
            self.startup[self.phase] = round(took, 3)
        self.phase, self.since = phase, now
        return took

    def health(self, now: float, running: int, waiting: int, stalled: bool) -> Health:
        """For the probes."""
        elapsed, inside = round(now - self.began, 3), round(now - self.since, 3)
        return Health(self.phase, elapsed, inside, dict(self.startup), running, waiting, stalled)
