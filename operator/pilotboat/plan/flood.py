"""Outcomes that the gateways refused, because too many were posted at once.

Owns: status.feedbackRefused and the condition FeedbackAccepted. Must not know: which posts are refused (the gateway's
limits), what outcomes mean (feedback.py): they move no traffic, and neither does a flood of them.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from ..api import conditions as kinds
from ..api.conditions import Condition
from ..api.outcomes import Refused
from ..api.reasons import Reason
from . import outcome
from .build import Raw, dig, elapsed, timestamp
from .types import Observed

EVERY = 60
"""Seconds between two updates of status: it is no log."""
CALM = 600
"""Seconds without a refusal until it is over: who floods in bursts floods all the time."""
FORGET = 24 * 3600
"""Seconds after which nothing is told of it any more."""


def look(observed: Observed, now: datetime) -> Refused | None:
    """What is remembered of refusals after this pass; None where there was none for a day."""
    known = _known(observed.parent)
    if observed.refused and (known is None or elapsed(known.time, now) >= EVERY):
        return Refused(posts=observed.refused, time=timestamp(now))
    return known if known and elapsed(known.time, now) < FORGET else None


def condition(refused: Refused | None, generation: int, now: datetime) -> list[Condition]:
    """Whether outcomes are taken; none where all of them always were."""
    if refused is None:
        return []
    if elapsed(refused.time, now) >= CALM:
        told = f"no post to /v1/feedback has been refused since {refused.time}"
        return [outcome.condition(kinds.FEEDBACK_ACCEPTED, True, Reason.FEEDBACK_TAKEN, told, generation)]
    told = (
        f"{refused.posts} posts to /v1/feedback were refused in the minute before {refused.time}: a gateway takes 200 "
        "of one address in 10 s, and 2,000 of all. Requests are served as ever. Post each request's outcome once, and "
        "let only your own applications reach the gateway"
    )
    return [outcome.condition(kinds.FEEDBACK_ACCEPTED, False, Reason.FEEDBACK_FLOODED, told, generation)]


def look_again(observed: Observed, now: datetime) -> timedelta | None:
    """When that changes by time alone, or there may be a newer figure."""
    refused = look(observed, now)
    if refused is None:
        return None
    since = elapsed(refused.time, now)
    return timedelta(seconds=next(after for after in (EVERY, CALM, FORGET) if since < after) - since + 0.5)


def _known(parent: Raw) -> Refused | None:
    return outcome.read(Refused, dig(parent, "status", "feedbackRefused"))
