from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api import labels
from pilotboat.engine.compare import digest, matches, quantity, same_status, stamped

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "a", "namespace": "ns", "labels": {"x": "y"}},
    "spec": {
        "replicas": 2,
        "paused": False,
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "server",
                        "image": "i:1",
                        "args": ["serve", "--port", "8080"],
                        "env": [{"name": "A", "value": "1"}, {"name": "EMPTY", "value": ""}],
                        "ports": [{"containerPort": 8080}],
                        "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"cpu": 0.5}},
                        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                    }
                ],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
                "tolerations": [],
            }
        },
    },
}


def live() -> dict[str, Any]:
    """As the API server returns it: defaults filled in, quantities written its way, falsy fields left out."""
    found = copy.deepcopy(DEPLOYMENT)
    del found["spec"]["paused"]
    found["spec"]["progressDeadlineSeconds"] = 600
    pod = found["spec"]["template"]["spec"]
    del pod["tolerations"]
    pod["restartPolicy"] = "Always"
    container = pod["containers"][0]
    container["resources"] = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "500m"}}
    container["ports"] = [{"containerPort": 8080, "protocol": "TCP"}]
    container["env"] = [{"name": "A", "value": "1"}, {"name": "EMPTY"}]
    container["terminationMessagePath"] = "/dev/termination-log"
    return found


def container(found: dict[str, Any]) -> dict[str, Any]:
    return found["spec"]["template"]["spec"]["containers"][0]  # type: ignore[no-any-return]


def test_defaults_and_spelling_of_quantities_are_no_difference() -> None:
    assert matches(DEPLOYMENT, live())


def add_sidecar(found: dict[str, Any]) -> None:
    found["spec"]["template"]["spec"]["containers"].insert(0, {"name": "proxy", "image": "p"})


def add_env(found: dict[str, Any]) -> None:
    container(found)["env"].append({"name": "INJECTED", "value": "1"})


def add_label(found: dict[str, Any]) -> None:
    found["metadata"]["labels"]["team"] = "ml"


@pytest.mark.parametrize("change", [add_sidecar, add_env, add_label])
def test_what_others_add_is_theirs(change: Any) -> None:
    found = live()
    change(found)
    assert matches(DEPLOYMENT, found)


def scale(found: dict[str, Any]) -> None:
    found["spec"]["replicas"] = 3


def change_image(found: dict[str, Any]) -> None:
    container(found)["image"] = "i:2"


def change_env(found: dict[str, Any]) -> None:
    container(found)["env"][0]["value"] = "2"


def change_empty_env(found: dict[str, Any]) -> None:
    container(found)["env"][1]["value"] = "now set"


def remove_env(found: dict[str, Any]) -> None:
    del container(found)["env"][0]


def remove_container(found: dict[str, Any]) -> None:
    del found["spec"]["template"]["spec"]["containers"][0]


def change_args(found: dict[str, Any]) -> None:
    container(found)["args"].append("--debug")


def change_cpu(found: dict[str, Any]) -> None:
    container(found)["resources"]["requests"]["cpu"] = "2"


def remove_limits(found: dict[str, Any]) -> None:
    del container(found)["resources"]["limits"]


def change_label(found: dict[str, Any]) -> None:
    found["metadata"]["labels"]["x"] = "z"


def pause(found: dict[str, Any]) -> None:
    found["spec"]["paused"] = True


def move_mount(found: dict[str, Any]) -> None:
    container(found)["volumeMounts"][0]["mountPath"] = "/elsewhere"


DRIFTS = [
    *(scale, pause, change_label, change_image, change_args, change_cpu, remove_limits, move_mount),
    *(change_env, change_empty_env, remove_env, remove_container),
]


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_of_what_we_own_is_seen(drift: Any) -> None:
    found = live()
    drift(found)
    assert not matches(DEPLOYMENT, found)


@pytest.mark.parametrize("falsy", [None, "", 0, False, [], {}])
def test_a_falsy_value_may_be_left_out_by_the_api_server(falsy: object) -> None:
    assert matches({"a": falsy}, {})
    assert matches({"a": falsy}, {"a": falsy})


@pytest.mark.parametrize("falsy", ["", 0, False, []])
def test_a_falsy_value_does_not_match_another(falsy: object) -> None:
    assert not matches({"a": falsy}, {"a": "set"})
    assert not matches({"a": falsy}, {"a": ["set"]})


@pytest.mark.parametrize(("desired", "found"), [(True, 1), (1, True), ("1", 1), (0, False)])
def test_types_are_told_apart(desired: object, found: object) -> None:
    assert not matches({"a": desired}, {"a": found})


def test_a_field_we_stop_sending_changes_the_stamp() -> None:
    less = copy.deepcopy(DEPLOYMENT)
    del less["spec"]["replicas"]
    applied = {
        **live(),
        "metadata": {**live()["metadata"], "annotations": stamped(DEPLOYMENT)["metadata"]["annotations"]},
    }
    assert matches(stamped(DEPLOYMENT), applied)
    assert matches(less, applied)
    assert not matches(stamped(less), applied)


def test_stamping_changes_nothing_else_and_not_its_argument() -> None:
    before = copy.deepcopy(DEPLOYMENT)
    result = stamped(DEPLOYMENT)
    assert before == DEPLOYMENT
    assert result["metadata"].pop("annotations") == {labels.APPLIED: digest(DEPLOYMENT)}
    assert result == DEPLOYMENT


QUANTITIES = [
    *(("1", 1), ("500m", 0.5), ("1Gi", 2**30), ("1G", 10**9), ("0.5", 0.5), (2, 2), ("1e3", 1000), ("1k", 1000)),
    *(("128Ki", 131072), ("5E", 5 * 10**18), ("100n", 1e-7)),
]


@pytest.mark.parametrize(("text", "value"), QUANTITIES)
def test_quantities(text: object, value: float) -> None:
    assert float(quantity(text)) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "x", "1Q", "Gi", "1 Gi"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        quantity(text)


def test_status_is_compared_whole_but_for_nulls_and_the_order_of_conditions() -> None:
    a = {"type": "A", "status": "True"}
    b = {"type": "B", "status": "False"}
    assert same_status({"conditions": [a, b], "x": None}, {"conditions": [b, a]})
    assert not same_status({"conditions": [a]}, {"conditions": [a, b]})
    assert not same_status({}, {"x": 1})
    assert not same_status({"list": [1, 2]}, {"list": [2, 1]})


scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2)
manifests = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=12,
)


@given(manifests)
def test_everything_matches_itself(value: Any) -> None:
    assert matches(value, copy.deepcopy(value))


@given(st.dictionaries(st.sampled_from("abcd"), manifests), st.dictionaries(st.sampled_from("efgh"), manifests))
def test_fields_of_others_never_matter(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert matches(ours, {**theirs, **ours})


@given(st.dictionaries(st.sampled_from("abcd"), manifests, min_size=1), st.data())
def test_a_changed_value_is_always_seen(ours: dict[str, Any], data: Any) -> None:
    field = data.draw(st.sampled_from(sorted(ours)))
    other = data.draw(st.text("xyz", min_size=1).filter(lambda text: text != ours[field]))
    assert not matches(ours, {**ours, field: other})


@given(manifests, manifests)
def test_status_equality_is_symmetric(one: Any, other: Any) -> None:
    assert same_status({"s": one}, {"s": other}) == same_status({"s": other}, {"s": one})


@pytest.mark.parametrize("field", ["selector", "matchLabels", "nodeSelector"])
def test_a_key_added_to_a_map_with_one_owner_is_drift(field: str) -> None:
    """Service selectors are such maps: one label more, and the Service selects nothing."""
    assert matches({field: {"app": "a"}}, {field: {"app": "a"}})
    assert not matches({field: {"app": "a"}}, {field: {"app": "a", "nobody": "here"}})
