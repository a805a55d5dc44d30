"""What the demo says before and after: of the cluster that is meant, by commands that work."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tools import claim, demo, pullsecret
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


@pytest.mark.parametrize(
    ("pending", "verbs"), [("pilotboat", ["list", "uninstall", "upgrade"]), ("", ["list", "upgrade"])]
)
def test_a_release_that_was_left_half_way_is_begun_anew(tmp_path: Path, pending: str, verbs: list[str]) -> None:
    """helm refuses it: another operation is in progress."""
    asked = tmp_path / "asked"
    (tmp_path / "kubectl").write_text('#!/bin/sh\ncase "$*" in *--filename=-*) cat >/dev/null;; esac\n')
    (tmp_path / "helm").write_text(f"#!/bin/sh\necho $1 >>{asked}\n[ $1 = list ] && echo '{pending}' || true\n")
    for name in ("kubectl", "helm"):
        (tmp_path / name).chmod(0o755)
    refs = dict.fromkeys(("operator", "server", "trainer", "fetch", "gateway"), "registry.test/team/it:1")
    demo.install(Cluster(str(tmp_path / "kubectl"), str(tmp_path / "helm"), namespace=claim.DEMO), refs)
    assert asked.read_text().split() == verbs


def test_the_login_is_put_where_pods_pull_and_nowhere_else(tmp_path: Path) -> None:
    """kubectl refuses an object whose namespace is not the one of its command line."""
    asked = tmp_path / "asked"
    for name in ("kubectl", "helm"):
        (tmp_path / name).write_text(
            f'#!/bin/sh\necho "{name} $*" >> {asked}\ncase "$*" in *--filename=-*) cat >> {asked};; esac\n'
        )
        (tmp_path / name).chmod(0o755)
    cluster = Cluster(str(tmp_path / "kubectl"), str(tmp_path / "helm"), namespace=claim.DEMO)
    refs = dict.fromkeys(("operator", "server", "trainer", "fetch", "gateway"), "registry.test/team/it:1")
    demo.install(cluster, refs, logins={"registry.test": {"auth": "c2VjcmV0"}})
    lines = asked.read_text().splitlines()
    put = [before for before, line in itertools.pairwise(lines) if pullsecret.NAME in line and '"Secret"' in line]
    assert [claim.SYSTEM in line for line in put] == [True, False]
    assert [claim.DEMO in line for line in put] == [False, True]
    assert f"--set=images.pullSecrets={{{pullsecret.NAME}}}" in lines[-1]
    assert "c2VjcmV0" not in asked.read_text(), "it stands on no command line"
