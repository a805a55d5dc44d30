"""One reason's words. Owns: Runbook. Must not know: any reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Runbook:
    """What a reason means, and what to do next."""

    means: str
    do: str
