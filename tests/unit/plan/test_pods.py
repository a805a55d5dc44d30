"""What of the user's pod template reaches which container."""

from __future__ import annotations

import pytest

from pilotboat.api.pods import Gpu, PodTemplate
from pilotboat.plan.pods import Main, spread, template
from pilotboat.plan.sources import Needs
from unit.plan.world import SETTINGS, Raw

MAIN = Main("server", "registry.example/server:1", "server.json")
TOKEN = {"name": "HF_TOKEN_MODEL", "value": "x"}


def env(container: Raw) -> list[str]:
    return [entry["name"] for entry in container.get("env", [])]


@pytest.mark.parametrize(
    ("name", "fetched"),
    [
        *((name, True) for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE")),
        *((name, True) for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")),
        *((name, False) for name in ("HF_TOKEN", "HF_ENDPOINT", "OMP_NUM_THREADS", "MY_HTTP_PROXY")),
    ],
)
def test_fetch_gets_out_of_the_cluster_as_the_main_container_does(name: str, fetched: bool) -> None:
    user = PodTemplate.model_validate({"env": [{"name": name, "value": "x"}]})
    spec = template(MAIN, Needs(env=(TOKEN,)), "config", user, None, SETTINGS)
    assert env(spec["containers"][0]) == [name]
    assert env(spec["initContainers"][0]) == ["HF_TOKEN_MODEL", *([name] if fetched else [])]


def test_a_proxy_may_come_from_a_secret() -> None:
    entry = {"name": "HTTPS_PROXY", "valueFrom": {"secretKeyRef": {"name": "proxy", "key": "url"}}}
    spec = template(MAIN, Needs(), "config", PodTemplate.model_validate({"env": [entry]}), None, SETTINGS)
    assert spec["initContainers"][0]["env"] == [entry]


def test_where_a_pod_may_run_is_handed_on_as_it_is_written() -> None:
    """An empty selector means all, and one that is left out none; a default that we wrote would be a new revision."""
    term = {"topologyKey": "kubernetes.io/hostname", "namespaceSelector": {}}
    written = {
        "tolerations": [{"operator": "Exists"}, {"key": "gpu", "effect": "NoExecute", "tolerationSeconds": 0}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}},
    }
    spec = template(MAIN, Needs(), "config", PodTemplate.model_validate(written), None, SETTINGS)
    assert {key: spec[key] for key in written} == written


def test_gpus_are_asked_for_by_the_name_that_the_cluster_has_for_them() -> None:
    gpu = Gpu.model_validate({"count": 2, "resourceName": "amd.com/gpu"})
    spec = template(MAIN, Needs(), "config", PodTemplate(), gpu, SETTINGS)
    assert spec["containers"][0]["resources"] == {"limits": {"amd.com/gpu": "2"}}
    assert "resources" not in spec["initContainers"][0], "a GPU is not needed to fetch"


def test_where_zones_must_have_as_many_as_each_other_one_that_can_take_nobody_does_not_count() -> None:
    """On the lab: tests/e2e/test_sick_nodes.py."""
    required, preferred = (spread({"app": "x"}, strict)[0] for strict in (True, False))
    assert (required["whenUnsatisfiable"], required.get("nodeTaintsPolicy")) == ("DoNotSchedule", "Honor")
    assert preferred["whenUnsatisfiable"] == "ScheduleAnyway"
