"""A source that goes away under a ModelDeployment: what runs is kept, and status says what is true of it."""

from __future__ import annotations

from typing import Any

import pytest

from pilotboat.api import labels
from pilotboat.api.routing import ROUTE, Route
from pilotboat.plan import build
from pilotboat.plan.types import Plan
from unit.plan.test_deployment import applied, plan, revision, says
from unit.plan.world import NAMESPACE, PENDING_SINCE, Pod, Raw, deployment_spec, types

JOB = build.fine_tune_job(NAMESPACE, "qa")
COMPLETE: Raw = {
    "metadata": {"name": "qa"},
    "spec": {"base": {"source": {"huggingFace": {"repo": "org/base"}}}},
    "status": {
        "conditions": [{"type": "Complete", "status": "True"}],
        "output": {"type": "Adapter", "claimName": "qa-output", "path": "qa/adapter", "digests": {}},
    },
}
TUNED = deployment_spec(model={"source": {"fineTuneJob": {"name": "qa"}}})


def tuned(*pods: Pod, source: Raw | None = COMPLETE, **more: Any) -> Plan:
    return plan(*pods, references={JOB: source}, **{"spec": TUNED, **more})


ROUTED = ["Service", "ConfigMap", "Service"]
"""Of the revision's own pods, the route, and the Service that callers know."""


def kinds(found: Plan) -> list[str]:
    return [manifest["kind"] for manifest in found.apply]


def live() -> Raw:
    made = applied(tuned(), "Deployment")
    meta = {**made["metadata"], "uid": "uid-d", "generation": 1, "creationTimestamp": PENDING_SINCE}
    counts = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "observedGeneration": 1}
    return {**made, "metadata": meta, "status": counts}


def serving(deployment: Raw, count: int = 2) -> list[Pod]:
    return [Pod(f"chat-{n}", revision=revision(deployment)).serving() for n in range(count)]


@pytest.fixture
def deployment() -> Raw:
    return live()


@pytest.fixture
def whole(deployment: Raw) -> Raw:
    """The status while all was well."""
    status = tuned(*serving(deployment), children=[deployment]).status
    assert status is not None
    assert types(status)["Ready"] == "True"
    return status


def test_what_is_rolled_out_stays_ready_and_says_that_its_source_is_gone(deployment: Raw, whole: Raw) -> None:
    gone = tuned(*serving(deployment), source=None, children=[deployment], status=whole)
    status, reason, message = says(gone, "Ready")
    assert (status, reason) == ("True", "RolledOut")
    assert "no new pod could start: FineTuneJob qa does not exist" in message
    assert types(gone.status) == types(whole)
    assert gone.requeue_after
    assert gone.status is not None
    again = tuned(*serving(deployment), source=None, children=[deployment], status=gone.status)
    assert again.status == gone.status
    assert again.events == ()
    back = tuned(*serving(deployment), children=[deployment], status=gone.status)
    assert says(back, "Ready") == says(tuned(*serving(deployment), children=[deployment]), "Ready")


def test_a_pod_that_is_lost_then_is_told_and_comes_back_when_it_serves(deployment: Raw, whole: Raw) -> None:
    good, bad = serving(deployment)
    lost = tuned(good, bad.unready(), source=None, children=[deployment], status=whole)
    assert says(lost, "Ready")[:2] == ("False", "NotReady")
    one = tuned(good, source=None, children=[deployment], status=lost.status)
    assert says(one, "Ready")[:2] == ("False", "FineTuneJobNotFound")
    healed = tuned(*serving(deployment), source=None, children=[deployment], status=one.status)
    assert says(healed, "Ready")[0] == "True"


def test_a_changed_spec_is_not_rolled_out_by_what_ran_before(deployment: Raw, whole: Raw) -> None:
    changed = TUNED | {"inference": {"batchSize": 9}}
    status = whole
    for _ in range(2):
        found = tuned(
            *serving(deployment), source=None, spec=changed, children=[deployment], status=status, generation=2
        )
        assert found.status is not None
        status = found.status
        assert says(found, "Ready")[:2] == ("False", "FineTuneJobNotFound")
        assert types(status)["Available"] == "True"


@pytest.mark.parametrize("replicas", [0, 1, 2, 5])
def test_service_budget_and_replicas_are_kept_as_asked(deployment: Raw, whole: Raw, replicas: int) -> None:
    children = [deployment, {**applied(tuned(), "PodDisruptionBudget")}]
    spec = TUNED | {"replicas": replicas}
    found = tuned(*serving(deployment), source=None, spec=spec, children=children, status=whole, generation=2)
    before = ["Deployment"] if replicas != 2 else []
    assert kinds(found) == [*before, *ROUTED, *(["PodDisruptionBudget"] if replicas > 1 else [])]
    assert [ref.kind for ref in found.delete] == ([] if replicas > 1 else ["PodDisruptionBudget"])
    if replicas != 2:
        scaled = applied(found, "Deployment")
        assert scaled["spec"] == {**deployment["spec"], "replicas": replicas}
        assert scaled["metadata"]["name"] == deployment["metadata"]["name"]


def test_a_revision_that_was_never_whole_is_left_as_it_is(deployment: Raw) -> None:
    begun = tuned(children=[deployment]).status
    spec = TUNED | {"replicas": 5}
    found = tuned(*serving(deployment, 1), source=None, spec=spec, children=[deployment], status=begun)
    assert found.apply == ()
    assert says(found, "Ready")[:2] == ("False", "FineTuneJobNotFound")


@pytest.mark.parametrize(("old_serves", "lanes"), [(True, 1), (False, 2)])
def test_in_the_middle_of_a_rollout_nothing_is_scaled_and_what_serves_has_the_traffic(
    deployment: Raw, whole: Raw, old_serves: bool, lanes: int
) -> None:
    name = {"name": "chat-abcdef01", "labels": deployment["metadata"]["labels"] | {labels.REVISION: "abcdef01"}}
    newer = {**deployment, "metadata": {**deployment["metadata"], **name}}
    pods = [*(serving(deployment) if old_serves else []), Pod("chat-new", revision="abcdef01").serving()]
    spec = TUNED | {"replicas": 3}
    found = tuned(*pods, source=None, spec=spec, children=[deployment, newer], status=whole, generation=2)
    assert "Deployment" not in kinds(found)
    route = Route.load(applied(found, "ConfigMap")["data"][ROUTE])
    assert len(route.lanes) == lanes
    assert [lane.share for lane in route.lanes if lane.revision == "abcdef01"] == ([] if old_serves else [1000])


def test_a_failed_job_is_no_missing_one(deployment: Raw, whole: Raw) -> None:
    failed = {"metadata": {"name": "qa"}, "status": {"conditions": [{"type": "Failed", "status": "True"}]}}
    found = tuned(*serving(deployment), source=failed, children=[deployment], status=whole)
    assert says(found, "Ready")[:2] == ("False", "FineTuneJobFailed")
