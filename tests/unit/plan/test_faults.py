"""Which losses are told, and when their traffic had moved, straight from what is observed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from pilotboat.api.recovery import Fault, LostNode, RecoveryStatus
from pilotboat.api.routing import Evidence, Sighting
from pilotboat.plan import faults, timeline
from pilotboat.plan.build import timestamp
from pilotboat.plan.losses import Losses
from pilotboat.plan.types import GatewayState, Observed
from tests.unit.plan.world import NOW, Pod, deployment_spec, ended, parent

OPEN = Fault(fault="PodLost", subject="pod gone", detected_at=timestamp(NOW))


def at(seconds: float) -> str:
    return timestamp(NOW + timedelta(seconds=seconds))


def look(*pods: Pod, ready: int = 3, want: int = 3, known: RecoveryStatus | None = None, **more: Any) -> list[Fault]:
    status = {"readyReplicas": ready}
    observed = Observed(
        parent("ModelDeployment", "chat", deployment_spec(), status=status), pods=tuple(pod.raw for pod in pods)
    )
    lost = more.pop("lost", Losses())
    return faults.going_on(
        lost, (), known or RecoveryStatus(), (), observed, want, more.pop("rolling", False), NOW, **more
    )


def subjects(found: list[Fault]) -> list[tuple[str, str]]:
    return [(fault.fault, fault.subject) for fault in found]


def dead(pod: Pod, since: float, restarts: int = 0) -> Pod:
    """Its process ended then, after it had served."""
    pod.died(137, restarts=restarts).condition("Ready", "False", since=at(since))
    return pod.container("server", {"terminated": ended(137, "Error", at=at(since - 1))}, restartCount=restarts)


def test_who_fell_is_told_and_nobody_else() -> None:
    """Not who failed long ago and is kept as a record, and not who dies as it starts."""
    record = Pod("a").unready(since=at(-900)).failed("Evicted", "The node was low on resource: memory.")
    starting, served = Pod("b").looping(1), Pod("c").unready(since=at(-3))
    found = look(record, starting, served, Pod("d").serving(), Pod("e").serving())
    assert subjects(found) == [("PodUnready", "pod c")]
    assert found[0].detected_at == at(-3)
    assert subjects(look(record, starting, dead(Pod("c"), -3), Pod("d").serving(), Pod("e").serving())) == [
        ("ProcessDied", "pod c")
    ]


@pytest.mark.parametrize(
    ("since", "known", "told"),
    [
        (-10, None, [-10]),
        (-10, LostNode(name="n", fault="GPUFault", since=at(-10)), [-10]),
        (-86400, LostNode(name="n", fault="GPUFault", since=at(-86400)), [0]),
        (-300, LostNode(name="n", fault="GPUFault", since=at(-300), counted=True, pods=["a"], serving=["a"]), [0]),
        (-300, LostNode(name="n", fault="GPUFault", since=at(-300), counted=True, pods=["a"]), []),
    ],
)
def test_a_nodes_replicas_are_lost_when_they_cease_however_long_it_has_been_suspect(
    since: float, known: LostNode | None, told: list[float]
) -> None:
    node = LostNode(name="n", fault="GPUFault", since=at(since), counted=True, pods=["a"])
    before = RecoveryStatus(nodes=[known] if known else [])
    found = look(Pod("a").unready(), Pod("b").serving(), want=2, ready=1, known=before, lost=Losses((node,)))
    assert [(each.subject, each.detected_at) for each in found] == [("node n", at(each)) for each in told]


def test_of_several_that_fell_each_is_told_and_those_that_nobody_saw_go_together() -> None:
    found = look(Pod("a").unready(since=at(-1)), dead(Pod("b"), -2), ready=5, want=5)
    assert sorted(subjects(found)) == [("PodLost", faults.NAMELESS), ("PodUnready", "pod a"), ("ProcessDied", "pod b")]
    assert {fault.subject: fault.replicas for fault in found}[faults.NAMELESS] == 3


@pytest.mark.parametrize(("ready", "known"), [(2, RecoveryStatus()), (2, RecoveryStatus(last=OPEN))])
def test_before_all_serve_for_the_first_time_nothing_is_lost(ready: int, known: RecoveryStatus) -> None:
    """Once a loss is told of, one more is one more."""
    found = look(Pod("a").serving(), Pod("b").unready(since=at(-1)), ready=ready, known=known)
    assert subjects(found[len(known.open) :]) == ([("PodUnready", "pod b")] if known.open else [])


def test_a_change_of_the_spec_is_no_loss() -> None:
    assert look(Pod("a").leaving(), rolling=True) == []


def test_who_ends_for_long_does_not_stand_for_another() -> None:
    told = RecoveryStatus(last=OPEN.model_copy(update={"subject": "pod a"}))
    found = look(Pod("a").serving().leaving(), dead(Pod("b"), -2), Pod("c").serving(), ready=2, known=told)
    assert subjects(found) == [("PodLost", "pod a"), ("ProcessDied", "pod b")]


def test_who_has_been_ending_for_a_while_is_not_who_fell_now() -> None:
    """As a replica of the revision before, or one too many."""
    surplus = Pod("a").serving()
    surplus.raw["metadata"] |= {"deletionTimestamp": at(50), "deletionGracePeriodSeconds": 90}
    assert subjects(look(surplus, dead(Pod("b"), -2), Pod("c").serving(), Pod("d").serving())) == [
        ("ProcessDied", "pod b")
    ]


def test_who_fell_with_a_node_is_the_nodes() -> None:
    node = LostNode(name="n", zone="z", fault="NodeLost", since=at(-1), counted=True, pods=["a"])
    pods = (Pod("a").unready(since=at(-1)), Pod("b").serving(), Pod("c").serving())
    assert subjects(look(*pods, lost=Losses((node,)))) == [("NodeLost", "node n")]
    both = (pods[0], Pod("b").unready(since=at(-1)), pods[2])
    assert subjects(look(*both, lost=Losses((node,)))) == [("NodeLost", "node n"), ("PodUnready", "pod b")]


def heard(*answers: tuple[dict[str, Sighting], dict[str, float]], after: float = 1, gateways: int = 0) -> Observed:
    told = tuple(Evidence(gateway=str(n), now=0, replicas=up, left=left) for n, (up, left) in enumerate(answers))
    when: datetime = NOW + timedelta(seconds=after)
    gateway = GatewayState(available=True, replicas=gateways)
    return Observed({}, evidence=told, evidence_at=(when,) * len(told), gateway=gateway)


def moved(fault: Fault, observed: Observed, *nodes: LostNode) -> str | None:
    (told,) = timeline.followed([fault], nodes, observed, 3, NOW)
    return told.traffic_moved_at


DOWN = {"gone": Sighting(up=False, since=NOW.timestamp() - 5)}
LEFT = {"gone": NOW.timestamp() + 2}


def test_the_last_gateways_word_is_when_traffic_had_moved() -> None:
    assert moved(OPEN, heard((DOWN, {}), ({}, LEFT))) == at(2)
    assert moved(OPEN, heard((DOWN, {}))) == at(-5), "gateways may be faster than Kubernetes"


@pytest.mark.parametrize(
    "observed",
    [
        heard(),
        heard((DOWN, {}), after=-1),
        heard((DOWN, {}), gateways=2),
        heard((DOWN, {}), ({}, {}), gateways=2),
        heard((DOWN, {}), ({"gone": Sighting(up=True, since=0)}, {})),
        heard(({}, {"another": 1.0})),
    ],
    ids=["nobody", "from before", "one of two", "one says nothing", "one sends to it", "of another"],
)
def test_where_not_all_tell_no_time_is_made_up(observed: Observed) -> None:
    assert moved(OPEN, observed) is None


def test_of_a_nodes_replicas_all_must_be_out_and_a_gateway_may_be_lost_with_it() -> None:
    node = LostNode(name="n", zone="z", fault="NodeLost", since=at(0), counted=True, pods=["gone", "other"])
    for subject in ("node n", "zone z"):
        fault = OPEN.model_copy(update={"subject": subject})
        assert moved(fault, heard((DOWN, {}), gateways=2), node) is None
        both = DOWN | {"other": Sighting(up=False, since=NOW.timestamp() + 1)}
        assert moved(fault, heard((both, {}), gateways=2), node) == at(1)
    assert moved(OPEN.model_copy(update={"subject": faults.NAMELESS}), heard((DOWN, LEFT))) is None


def replaced(*pods: Pod, fault: str = "NodeLost", well_since: str | None = None) -> str | None:
    node = LostNode(name="node-1", fault=fault, since=at(0), well_since=well_since)
    (told,) = timeline.followed([OPEN], [node], Observed({}, pods=tuple(pod.raw for pod in pods)), 3, NOW)
    return told.replaced_at


def test_a_new_pod_replaces_once_it_has_a_place_where_it_can_start() -> None:
    """Kubernetes gives new pods to a node until it knows that it is silent."""
    astray, elsewhere = Pod("a").placed().made(at(1)), Pod("b").placed().made(at(2))
    elsewhere.raw["spec"]["nodeName"] = "node-2"
    assert replaced(astray, Pod("c").made(at(3))) is None
    assert replaced(astray, elsewhere) == at(2)
    assert replaced(astray, well_since=at(4)) == at(1)
    assert replaced(astray, fault="GPUFault") == at(1), "it has other devices"
