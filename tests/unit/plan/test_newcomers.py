"""A replica that Kubernetes calls ready, and that not every gateway sends requests to yet."""

from __future__ import annotations

from tests.unit.plan.test_deployment import live, plan, revision, says
from tests.unit.plan.world import Pod


def test_it_is_not_ready_and_nothing_is_wrong_with_it() -> None:
    made = live()
    pods = [Pod(name, revision=revision(made)).serving() for name in ("a", "b")]
    whole = plan(*pods, children=[made])
    assert says(whole, "Ready")[0] == "True"
    new = plan(*pods, children=[made], newcomers=frozenset({"b"}))
    loading = plan(pods[0], Pod("b", revision=revision(made)).loading(), children=[made])
    assert new.status == loading.status, "as a moment before: nothing is written"
    assert new.status
    assert new.status["ready"] == "1/2"
    assert says(new, "Ready")[:2] == ("False", "Loading")
    assert says(new, "Available")[0] == "True"


def test_the_only_one_is_not_available_yet() -> None:
    made = live(replicas=1)
    found = plan(Pod("a", revision=revision(made)).serving(), children=[made], newcomers=frozenset({"a"}))
    assert says(found, "Available")[0] == "False"
