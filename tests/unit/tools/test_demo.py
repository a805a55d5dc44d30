"""What the demo says before and after: of the cluster that is meant, by commands that work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import demo
from tools.kube import Cluster

LAB = Cluster("/cache/bin/1/kubectl", "/cache/bin/1/helm", Path("/cache/lab/kubeconfig"), namespace=demo.DEMO)
OWN = Cluster("kubectl", "helm", context="team a", namespace=demo.DEMO)


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTBOAT_CACHE", str(tmp_path))
    monkeypatch.delenv("LAB", raising=False)


def test_in_the_lab_kubernetes_is_built() -> None:
    said = demo.plan(None, None)
    assert "builds Kubernetes" in said
    assert "`make demo-down`" in said


def test_in_a_cluster_of_the_users_own_images_are_pushed() -> None:
    said = demo.plan("team a", "registry/team")
    assert "Kubernetes," not in said
    assert "registry/team" in said
    assert "`CONTEXT='team a' make demo-down`" in said


def test_the_hint_names_the_kubectl_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    said = demo.farewell(LAB)
    assert f"KUBECONFIG=/cache/lab/kubeconfig /cache/bin/1/kubectl --namespace={demo.DEMO} get mdep,ftj,pods" in said
    assert "End it: make demo-down" in said
    monkeypatch.setenv("LAB", "other")
    assert "End it: LAB=other make demo-down" in demo.farewell(LAB)


def test_the_hint_names_the_users_cluster() -> None:
    said = demo.farewell(OWN)
    assert f"Try it: kubectl '--context=team a' --namespace={demo.DEMO} get mdep,ftj,pods" in said
    assert "End it: CONTEXT='team a' make demo-down" in said
