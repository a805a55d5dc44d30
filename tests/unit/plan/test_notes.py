"""Settings without effect are told, defaults nobody gave are not claimed, fetch costs a pod nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilotboat.api.model_deployment import ModelDeploymentSpec
from pilotboat.plan import notes
from unit.plan.test_deployment import applied, plan, says
from unit.plan.world import deployment_spec

HALF = {"gpuMemoryFraction": 0.5}
GPU = {"podTemplate": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, False),
        ({"inference": {"cpuThreads": 4}, "gpu": {"count": 1}}, False),
        ({"inference": HALF}, True),
        ({"inference": HALF, "gpu": {"count": 1}}, False),
        ({"inference": HALF, **GPU}, False),
        ({"inference": HALF, "podTemplate": {"runtimeClassName": "nvidia"}}, False),
        ({"inference": HALF | {"device": "cpu"}, "gpu": {"count": 1}}, True),
    ],
)
def test_a_setting_without_effect_is_told(changes: dict[str, Any], told: bool) -> None:
    spec = deployment_spec(**changes)
    note = notes.unused(ModelDeploymentSpec.model_validate(spec))
    assert bool(note) is told
    assert says(plan(spec=spec), "SpecValid") == ("True", "Valid", note)


@pytest.mark.parametrize("given", [None, 2048, 512])
def test_a_length_is_passed_on_and_shown_only_where_it_was_given(given: int | None) -> None:
    found = plan(spec=deployment_spec(inference={"maxLength": given} if given else {}))
    server = json.loads(applied(found, "ConfigMap")["data"]["server.json"])
    assert server["inference"].get("maxLength") == given
    assert found.status is not None
    assert found.status["effective"]["inference"].get("maxLength") == given


@pytest.mark.parametrize(
    ("resources", "fetch"),
    [
        ({}, None),
        ({"limits": {"nvidia.com/gpu": 2}}, None),
        ({"requests": {"memory": "4Gi"}}, {"requests": {"memory": "4Gi"}}),
        (
            {
                "requests": {"cpu": 2},
                "limits": {"memory": "8Gi", "cpu": "4", "nvidia.com/gpu": 1, "hugepages-2Mi": "1Gi"},
            },
            {"requests": {"cpu": "2"}, "limits": {"memory": "8Gi", "cpu": "4"}},
        ),
    ],
)
def test_fetch_asks_for_what_the_main_container_asks_for_and_for_no_device(
    resources: dict[str, Any], fetch: dict[str, Any] | None
) -> None:
    found = plan(spec=deployment_spec(gpu={"count": 1}, podTemplate={"resources": resources}))
    (init,) = applied(found, "Deployment")["spec"]["template"]["spec"]["initContainers"]
    assert init.get("resources") == fetch
