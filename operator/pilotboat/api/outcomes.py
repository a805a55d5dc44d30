"""What applications say of a canary's answers and of stable's: the result of an A/B test, in status.

Owns: Outcomes (totals, and as much of each gateway's counters as keeps anything from being added twice), Effect, and
Refused.
Must not know: how they are added up (plan/feedback.py), or how sure an interval is (plan/canary/effects.py).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import Status, Time

MOST_OUTCOMES = 16
"""Different outcomes that are kept; whatever comes then counts as OTHER."""
OTHER = "other"
MOST_GATEWAYS = 8
"""Gateways whose counters are remembered."""

Posts = Annotated[dict[str, Annotated[int, Field(ge=0)]], Field(max_length=MOST_OUTCOMES + 1)]
"""Outcome to how often applications posted it."""


class Side(Status):
    """One revision."""

    requests: int = 0
    """It answered, in the whole minutes that are over."""
    posts: Posts = Field(default_factory=dict)

    @property
    def posted(self) -> int:
        """All outcomes together."""
        return sum(self.posts.values())


class Refused(Status):
    """Outcomes that gateways refused, because too many were posted at once. Written once a minute at most."""

    posts: Annotated[int, Field(ge=1)]
    """In the minute before `time`, over all gateways."""
    time: Time


class Effect(Status):
    """One outcome as a share of all that was posted of a revision; the canary's share less stable's."""

    outcome: str
    stable: float
    canary: float
    effect: float
    low: float
    """Ends of the 95 % interval of `effect`."""
    high: float
    settled: bool = False
    """The interval leaves out zero."""


class Result(Status):
    """What is known of both revisions; what stays of a rollout that is over."""

    stable: Side = Field(default_factory=Side)
    canary: Side = Field(default_factory=Side)
    effects: Annotated[list[Effect], Field(max_length=MOST_OUTCOMES + 1)] = Field(default_factory=list)


class Counter(Status):
    """What of one gateway's evidence has been added already."""

    gateway: str
    now: float
    """Time of that evidence, by the gateway's clock."""
    minute: int
    """The beginning of its last minute of which requests were added."""
    stable: Posts = Field(default_factory=dict)
    canary: Posts = Field(default_factory=dict)


class Outcomes(Result):
    """The result so far, and all that a restarted operator needs to go on adding."""

    since: Time
    """When the canary first had traffic: nothing from before counts."""
    time: Time
    """When this was last brought up to date."""
    counters: Annotated[list[Counter], Field(max_length=MOST_GATEWAYS)] = Field(default_factory=list)
    forgotten: float = 0
    """The newest evidence of a gateway whose counter was dropped: what is no newer was added."""

    @property
    def result(self) -> Result:
        """What is kept of it."""
        return Result(stable=self.stable, canary=self.canary, effects=self.effects)
