"""Processes in a pod that hang or die: kubelet starts them anew in place, it is told which, and no caller notices."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.caller import Caller
from tests.e2e.conftest import MDEP, PATIENCE, Space, fake

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.long]
STALL = 5
"""Seconds for which running work may get nowhere; busy as this machine is, the fake engine needs none of them."""


def started_anew(space: Space, pod: dict[str, Any]) -> dict[str, Any]:
    """Until its container runs for the second time and all replicas serve; the loss that was told of."""
    name = pod["metadata"]["name"]
    awaited = (
        (f"pod/{name}", "{.status.containerStatuses[0].restartCount}=1"),
        (f"{MDEP}/chat", f"{{.status.recovery.last.subject}}=pod {name}"),
        (f"{MDEP}/chat", "{.status.recovery.last.readyAt}"),
    )
    for target, path in awaited:
        space.cluster.run("wait", target, f"--for=jsonpath={path}", f"--timeout={PATIENCE}")
    space.wait(MDEP, "chat", "Ready")
    return dict(space.status(MDEP, "chat")["recovery"]["last"])


def test_an_engine_that_hangs_behind_an_open_port_is_started_anew_and_so_is_one_that_dies(
    space: Space, caller: Caller
) -> None:
    """It takes one request at a time, and the one at hand gets no token: those behind it are answered elsewhere."""
    template = {**fake()["podTemplate"], "env": [{"name": "PILOTBOAT_STALL_SECONDS", "value": str(STALL)}]}
    space.apply("ModelDeployment", "chat", fake(replicas=3, inference={"batchSize": 1}, podTemplate=template))
    space.wait(MDEP, "chat", "Ready")
    hung, killed, _ = space.pods("chat")
    with caller.load("chat", threads=4, pause=0.1) as load:
        stuck = caller.ask("chat", 1, threads=1, host=hung["status"]["podIP"], prompt="fake:first=3600")
        first = started_anew(space, hung)
        space.signal(killed["metadata"]["name"], "KILL")
        second = started_anew(space, killed)
    assert load.failed == {}, load.wrong
    assert stuck.whole == 0
    assert (first["fault"], second["fault"]) == ("PodUnready", "ProcessDied")
    assert all(told["detectedAt"] <= told["readyAt"] for told in (first, second))
    said = {message for reason, message in space.events(hung["metadata"]["name"]) if reason == "Unhealthy"}
    assert any(each.startswith("Liveness probe failed: HTTP probe failed with statuscode: 503") for each in said), said
