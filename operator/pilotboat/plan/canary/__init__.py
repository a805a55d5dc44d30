"""The canary's judgement: from what gateways counted to abort, promote or hold.

A rollout calls `begin` once, `advance` and `judge` at every look, and keeps the AnalysisState in status between them.
docs/canary-statistics.md explains the method; tests/bench/canary.py proves its risks on this very code.
"""

from __future__ import annotations

from .counts import Bounds, Count, Stratum, Tally
from .gate import judge
from .memory import absorb, advance, begin
from .settings import Settings

__all__ = [
    "Bounds",
    "Count",
    "Settings",
    "Stratum",
    "Tally",
    "absorb",
    "advance",
    "begin",
    "judge",
]
