"""A flood of outcomes is told while it lasts and for a while after, once a minute at most, and as one event."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pilotboat.api.crd import MODEL_DEPLOYMENT
from pilotboat.plan import PLANNERS
from pilotboat.plan.flood import CALM, EVERY, FORGET
from pilotboat.plan.types import Plan
from tests.unit.plan.test_deployment import live, plan, says, serving
from tests.unit.plan.world import NOW, SETTINGS, check_schema, deployment_spec, observed, parent, types

KIND = "FeedbackAccepted"


class Story:
    """A deployment that is whole, looked at again and again."""

    def __init__(self) -> None:
        self._made = live()
        self.status = plan(*serving(self._made), children=[self._made]).status
        self.events: list[str] = []

    def after(self, seconds: float, refused: int = 0) -> Plan:
        """The look that many seconds from the beginning."""
        made = parent("ModelDeployment", "chat", deployment_spec(), 1, self.status)
        seen = observed(made, serving(self._made), [self._made], refused=refused)
        found = PLANNERS["modeldeployments"].plan(seen, SETTINGS, NOW + timedelta(seconds=seconds))
        check_schema(MODEL_DEPLOYMENT, found.status or {})
        self.events += [event.reason for event in found.events]
        self.status = found.status
        return found


def test_who_posts_within_the_limits_is_told_nothing() -> None:
    assert KIND not in types(Story().after(0).status)


def test_it_says_how_many_and_what_to_do_and_one_event_says_that_it_began() -> None:
    story = Story()
    status, reason, message = says(story.after(0, refused=1234), KIND)
    assert (status, reason) == ("False", "FeedbackFlooded")
    assert message.startswith("1234 posts to /v1/feedback were refused")
    assert "Post each request's outcome once" in message
    assert says(story.after(1, refused=1300), "Ready")[0] == "True", "requests are served as ever"
    assert story.events == ["FeedbackFlooded"]


def test_while_it_lasts_status_is_written_once_a_minute() -> None:
    story, written = Story(), []
    for second in range(5 * EVERY):
        before = story.status
        written += [second] if story.after(second, refused=100 + second).status != before else []
    assert written == [EVERY * number for number in range(5)]
    assert story.events == ["FeedbackFlooded"]


def test_bursts_are_one_flood_and_it_is_over_when_none_came_for_a_while() -> None:
    story = Story()
    for second in range(0, 3 * CALM, CALM - 1):
        assert says(story.after(second, refused=5), KIND)[0] == "False"
        assert says(story.after(second + 70), KIND)[0] == "False"
    last = max(range(0, 3 * CALM, CALM - 1))
    assert says(story.after(last + CALM - 1), KIND)[0] == "False"
    assert says(story.after(last + CALM), KIND)[:2] == ("True", "FeedbackTaken")
    assert story.events == ["FeedbackFlooded", "FeedbackTaken"]
    assert KIND not in types(story.after(last + FORGET).status), "and a day later there is nothing to tell"
    assert "feedbackRefused" not in (story.status or {})


def test_it_is_looked_at_again_when_time_alone_changes_it() -> None:
    story: Story = Story()
    now, seen = 0.0, []
    wait: Any = story.after(0, refused=1).requeue_after
    while wait is not None and now < 2 * FORGET:
        now += wait.total_seconds()
        wait = story.after(now).requeue_after
        seen.append(round(now))
    assert seen == [EVERY, CALM, FORGET]


def test_of_what_others_have_written_there_nothing_is_believed() -> None:
    story = Story()
    story.status = {**(story.status or {}), "feedbackRefused": {"posts": "many", "time": "soon"}}
    assert KIND not in types(story.after(0).status)
