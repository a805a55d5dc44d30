"""What the HTTP front needs from behind it, whether that is in the same process or across a socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from pilotboat.api.engines import SamplingDefaults, SamplingLimits

from .phases import Health
from .types import Capabilities, Event, GenerateRequest


@dataclass(frozen=True)
class ServerInfo:
    """What never changes while the server runs: known before the model is loaded."""

    model: str
    created: int
    """Unix time in seconds at which the server began."""
    max_length: int
    capabilities: Capabilities
    defaults: SamplingDefaults
    limits: SamplingLimits
    room: int
    """Answers it can have under way and waiting at a time."""

    def to_wire(self) -> dict[str, Any]:
        """For the socket between processes."""
        capabilities = asdict(self.capabilities)
        capabilities |= {name: sorted(capabilities[name]) for name in ("parameters", "response_formats")}
        return {
            "model": self.model,
            "created": self.created,
            "max_length": self.max_length,
            "capabilities": capabilities,
            "defaults": self.defaults.wire(),
            "limits": self.limits.wire(),
            "room": self.room,
        }

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> ServerInfo:
        """The info that `to_wire` described."""
        capabilities = dict(data["capabilities"])
        for name in ("parameters", "response_formats"):
            capabilities[name] = frozenset(capabilities[name])
        return cls(
            data["model"],
            data["created"],
            data["max_length"],
            Capabilities(**capabilities),
            SamplingDefaults.model_validate(data["defaults"]),
            SamplingLimits.model_validate(data["limits"]),
            data["room"],
        )


class Backend(Protocol):
    """Generation, health and metrics."""

    @property
    def info(self) -> ServerInfo:
        """What never changes."""
        ...

    def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncGenerator[tuple[int, Event], None]:
        """Events, each with its request's place, up to each one's Done; raises ApiError, which ends all of them.

        Closing the generator cancels what still runs.
        """
        ...

    async def health(self) -> Health:
        """For the probes."""
        ...

    async def inference(self) -> str:
        """For the deep health check: why no token comes out of the engine; empty where one does."""
        ...

    async def metrics(self) -> bytes:
        """Prometheus text."""
        ...
