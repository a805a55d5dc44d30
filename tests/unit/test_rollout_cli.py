"""What `pilotboat rollout status` and `pilotboat ab` print, and what the verbs would write."""

from __future__ import annotations

from typing import Any

import pytest

from pilotboat import ab_cli, rollout_cli
from pilotboat.plan.feedback import Base

CANARY: dict[str, Any] = {
    "phase": "Progressing",
    "stable": "aaaaaaaa",
    "canary": "bbbbbbbb",
    "weight": 25,
    "message": "25 % for 10m",
    "decision": {"metrics": [{"metric": "errors", "verdict": "Continue", "message": "1 of 100, stable 1 of 300"}]},
}
ABORTED = {"phase": "Aborted", "stable": "aaaaaaaa", "canary": "bbbbbbbb"}
RECORD = {"revision": "99999999", "stable": "88888888", "outcome": "Promoted", "finished": "2026-05-01T12:00:00Z"}
POSTS = {
    "stable": {"requests": 900, "posts": {"up": 30, "down": 70}},
    "canary": {"requests": 300, "posts": {"up": 60, "down": 40}},
}
TIMES = {"since": "2026-05-01T12:00:00Z", "time": "2026-05-01T12:30:00Z"}


def found(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "chat"}, "status": status}


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        ({"metadata": {"name": "chat"}}, ["serving   nothing yet   earlier: none"]),
        (
            found(currentRevision="aaaaaaaa", revisions=["99999999", "aaaaaaaa"], rollout=CANARY, rollouts=[RECORD]),
            [
                "serving   aaaaaaaa   earlier: 99999999, aaaaaaaa",
                "canary    bbbbbbbb   Progressing, 25 % of the traffic",
                "          25 % for 10m",
                "  errors       Continue: 1 of 100, stable 1 of 300",
                "earlier   99999999 Promoted 2026-05-01T12:00:00Z ",
            ],
        ),
        (
            found(currentRevision="aaaaaaaa", rollout=ABORTED),
            ["serving   aaaaaaaa   earlier: none", "canary    bbbbbbbb   Aborted, 0 % of the traffic", "          "],
        ),
    ],
    ids=["nothing", "under way", "given up"],
)
def test_a_rollout_in_lines(raw: dict[str, Any], lines: list[str]) -> None:
    assert list(rollout_cli.told(raw)) == lines


def record(revision: str, outcome: str) -> dict[str, Any]:
    return {"revision": revision, "stable": "99999999", "outcome": outcome}


KEPT = ["99999999", "aaaaaaaa", "bbbbbbbb"]
FIXED = {
    "currentRevision": "bbbbbbbb",
    "revisions": KEPT,
    "rollouts": [record("bbbbbbbb", "Promoted"), record("aaaaaaaa", "Aborted")],
}


@pytest.mark.parametrize(
    ("status", "to"),
    [
        ({"currentRevision": "bbbbbbbb", "revisions": KEPT}, "aaaaaaaa"),
        ({"currentRevision": "aaaaaaaa", "revisions": KEPT, "rollout": ABORTED}, "99999999"),
        ({"currentRevision": "aaaaaaaa", "updateRevision": "bbbbbbbb", "revisions": KEPT}, "aaaaaaaa"),
        ({"currentRevision": "bbbbbbbb", "updateRevision": "bbbbbbbb", "revisions": KEPT}, "aaaaaaaa"),
        ({"updateRevision": "bbbbbbbb", "revisions": KEPT}, "aaaaaaaa"),
        (FIXED, "99999999"),
        (FIXED | {"rollouts": [record("bbbbbbbb", "Promoted"), record("aaaaaaaa", "Superseded")]}, "99999999"),
        (FIXED | {"rollouts": [record("aaaaaaaa", "Promoted"), record("aaaaaaaa", "Aborted")]}, "aaaaaaaa"),
    ],
    ids=[
        *("the one before", "never the canary that was given up", "what a broken one is about to replace"),
        *("the one before the one that serves whole", "never the one that is asked for"),
        *("never one that was given up before the fix came", "nor one that was overtaken", "the newest record counts"),
    ],
)
def test_undo_takes_the_revision_before(status: dict[str, Any], to: str) -> None:
    assert rollout_cli.patch(found(**status), "undo") == {"rollbackTo": to}
    assert rollout_cli.patch(found(**status), "undo", "cccccccc") == {"rollbackTo": "cccccccc"}


@pytest.mark.parametrize(
    ("status", "verb", "words"),
    [
        ({}, "undo", "no earlier revision is kept"),
        ({"currentRevision": "aaaaaaaa", "revisions": ["aaaaaaaa"]}, "undo", "no earlier revision is kept"),
        ({"currentRevision": "aaaaaaaa", "revisions": KEPT, "rollout": CANARY}, "undo", "a canary is under way"),
        (
            FIXED | {"revisions": ["aaaaaaaa", "bbbbbbbb"]},
            "undo",
            r"no earlier .* was promoted: aaaaaaaa \(Aborted\); `--to REVISION`",
        ),
        *(({}, verb, "no rollout with steps is under way") for verb in rollout_cli.ACTIONS),
    ],
)
def test_what_could_have_no_effect_is_refused(status: dict[str, Any], verb: str, words: str) -> None:
    with pytest.raises(rollout_cli.Refused, match=words):
        rollout_cli.patch(found(**status), verb)


STEPS = [{"weight": 10}, {"weight": 25}, {"weight": 50, "approval": True}]


@pytest.mark.parametrize(
    ("at", "verbs", "words"),
    [
        ({"phase": "Aborted"}, "approve skip promote abort", "bbbbbbbb was given up: `retry` begins anew"),
        ({"phase": "Progressing", "goal": 25}, "retry", "bbbbbbbb was not given up"),
        ({"phase": "Draining"}, "retry", "bbbbbbbb was not given up"),
        ({"phase": "Promoting"}, "approve skip promote", "bbbbbbbb is being promoted already"),
        ({"phase": "Progressing", "goal": 10}, "approve", "the step at 10 % waits for no approval; `skip` goes"),
        ({"phase": "Holding", "goal": 20}, "approve", "the step at 25 % waits for no approval"),
        ({"phase": "Progressing", "goal": None}, "approve", "the step at 10 % waits for no approval"),
    ],
    ids=["given up", "under way", "on its way out", "promoted", "another step", "an edited step", "before the first"],
)
def test_a_verb_that_would_change_nothing_is_refused(at: dict[str, Any], verbs: str, words: str) -> None:
    raw = found(rollout=CANARY | at) | {"spec": {"rollout": {"steps": STEPS}}}
    for verb in verbs.split():
        with pytest.raises(rollout_cli.Refused, match=words):
            rollout_cli.patch(raw, verb)


@pytest.mark.parametrize(
    ("at", "verbs"),
    [
        ({"phase": "Aborted"}, "retry"),
        ({"phase": "Progressing", "goal": 50}, "approve skip promote abort"),
        ({"phase": "AwaitingApproval", "goal": 50}, "approve skip promote abort"),
        ({"phase": "Progressing", "goal": 90, "weight": 0}, "approve skip promote abort"),
        ({"phase": "Paused", "goal": 10}, "skip promote abort"),
        ({"phase": "Promoting"}, "abort"),
        ({"phase": "Draining"}, "abort"),
    ],
)
def test_a_verb_that_may_change_something_is_written_with_the_canary_that_was_read(
    at: dict[str, Any], verbs: str
) -> None:
    raw = found(rollout=CANARY | at) | {"spec": {"rollout": {"steps": STEPS}}}
    for verb in verbs.split():
        for looked_at in (None, "bbbbbbbb"):
            action = rollout_cli.patch(raw, verb, looked_at)["action"]
            assert (action["verb"], action["revision"]) == (verb.capitalize(), "bbbbbbbb")


@pytest.mark.parametrize("phase", ["Progressing", "AwaitingApproval", "Promoting", "Draining", "Aborted"])
@pytest.mark.parametrize("verb", rollout_cli.ACTIONS)
def test_who_looked_at_another_canary_is_refused(verb: str, phase: str) -> None:
    raw = found(rollout=CANARY | {"phase": phase}, updateRevision="cccccccc")
    for looked_at in ("aaaaaaaa", "99999999"):
        with pytest.raises(rollout_cli.Refused) as refused:
            rollout_cli.patch(raw, verb, looked_at)
        assert "bbbbbbbb" in str(refused.value)
        assert (looked_at in str(refused.value)) or "for cccccccc was pushed" in str(refused.value)


@pytest.mark.parametrize("verb", ["approve", "skip", "promote"])
def test_one_that_waits_for_another_to_go_is_asked_by_its_name_alone(verb: str) -> None:
    leaving = CANARY | {"phase": "Draining"}
    raw = found(rollout=leaving, updateRevision="cccccccc")
    for looked_at in (None, "bbbbbbbb"):
        with pytest.raises(rollout_cli.Refused, match="for cccccccc was pushed: `--revision cccccccc` asks that one"):
            rollout_cli.patch(raw, verb, looked_at)
    assert rollout_cli.patch(raw, verb, "cccccccc")["action"]["revision"] == "cccccccc"
    for last in ("aaaaaaaa", "bbbbbbbb", None):  # back to stable; a spec that nobody can read
        with pytest.raises(rollout_cli.Refused, match="bbbbbbbb is on its way out, and nothing comes after it"):
            rollout_cli.patch(found(rollout=leaving, updateRevision=last), verb)


def test_each_time_a_verb_has_an_id_of_its_own() -> None:
    patches = [rollout_cli.patch(found(rollout=CANARY), "skip")["action"] for _ in range(2)]
    assert [each["verb"] for each in patches] == ["Skip", "Skip"]
    assert patches[0]["id"] != patches[1]["id"]


TABLE = [
    "outcome  stable  canary  effect  95 % interval",
    "down     70.0 %  40.0 %  -30.0   -42.2 to -16.3  settled",
    "up       30.0 %  60.0 %  +30.0   +16.3 to +42.2  settled",
]


def test_an_a_b_test_as_a_table() -> None:
    lines = list(ab_cli.table(found(rollout=CANARY | {"outcomes": POSTS | TIMES}), Base.POSTS))
    assert lines == [
        "canary bbbbbbbb beside stable aaaaaaaa, 25 %, since 2026-05-01T12:00:00Z, as of 2026-05-01T12:30:00Z",
        "stable: 900 requests answered, 100 outcomes posted",
        "canary: 300 requests answered, 100 outcomes posted",
        "shares of posts:",
        *TABLE,
    ]


def test_the_last_result_is_shown_when_the_rollout_is_over() -> None:
    lines = list(ab_cli.table(found(rollouts=[RECORD, RECORD | {"outcomes": POSTS}]), Base.REQUESTS))
    assert lines[0] == "99999999 beside 88888888: Promoted 2026-05-01T12:00:00Z"
    assert lines[3] == "shares of requests:"
    assert lines[-2].split()[:5] == ["down", "7.8", "%", "13.3", "%"]


def test_a_difference_that_may_be_chance_is_not_settled() -> None:
    few = {"stable": {"posts": {"up": 3, "down": 7}}, "canary": {"posts": {"up": 6, "down": 4}}}
    lines = list(ab_cli.table(found(rollout=CANARY | {"outcomes": few | TIMES}), Base.POSTS))
    assert all(line.endswith("not yet") for line in lines[-2:])


EARLY = {"stable": {"posts": {"up": 30}}, "canary": {"posts": {"up": 3}}}
UNLIKE = {"stable": {"requests": 100}, "canary": {"requests": 100, "posts": {"up": 50}}}


def test_posts_before_the_first_whole_minute_of_requests() -> None:
    raw = found(rollout=CANARY | {"outcomes": EARLY | TIMES})
    assert list(ab_cli.table(raw, Base.REQUESTS))[-1].startswith("No whole minute of requests is counted yet")


def test_a_share_of_nothing_is_none() -> None:
    raw = found(rollout=CANARY | {"outcomes": UNLIKE | TIMES})
    assert list(ab_cli.table(raw, Base.POSTS))[-1].split() == ["up", "-", "100.0", "%", "-", "-", "not", "yet"]
    assert list(ab_cli.table(raw, Base.REQUESTS))[-1].split()[:3] == ["up", "0.0", "%"]


def test_what_was_posted_does_not_steer_a_terminal() -> None:
    posts = {"stable": {"posts": {"\x1b[2Jup\u202e": 5}}, "canary": {"posts": {"größer 👍": 5}}}
    shown = list(ab_cli.table(found(rollout=CANARY | {"outcomes": posts | TIMES}), Base.POSTS))[-2:]
    assert [line.split("  ")[0] for line in shown] == [r"\x1b[2Jup\u202e", "größer 👍"]


def test_nothing_posted_says_how_to_post() -> None:
    assert "POST /v1/feedback" in list(ab_cli.table(found(rollout=CANARY), Base.POSTS))[-1]


def test_where_nothing_can_be_posted_nobody_is_told_to() -> None:
    raw = found(rollout=CANARY) | {"spec": {"traffic": "HTTPRoute"}}
    assert list(ab_cli.table(raw, Base.POSTS))[-1].startswith("With traffic: HTTPRoute no outcome can be posted")


@pytest.mark.parametrize(
    ("status", "words"),
    [({}, "no rollout with steps"), ({"rollout": CANARY | {"outcomes": {"since": 7}}}, "not of a shape")],
)
def test_no_table(status: dict[str, Any], words: str) -> None:
    with pytest.raises(ab_cli.Nothing, match=words):
        list(ab_cli.table(found(**status), Base.POSTS))
