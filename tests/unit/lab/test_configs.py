"""What the programs are told, where being wrong would be found out only by a cluster that half works."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lab import configs, nodes
from lab.configs import Endpoints
from lab.layout import Lab

NODE = Lab().nodes[0]
PKI = Path("/pki")


def kubelet(*, cgroup_v2: bool) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(configs.kubelet(NODE, PKI, cgroup_v2=cgroup_v2))
    return found


def containerd(*, cri: bool, restrict: bool = True) -> dict[str, Any]:
    paths = (Path("/root"), Path("/state"), Path("/socket"))
    node = NODE if cri else None
    return tomllib.loads(configs.containerd(*paths, cri=node, cni_bin=Path("/cni"), restrict_oom=restrict))


def test_kubelet_is_told_to_accept_cgroup_v1_only_where_it_is() -> None:
    assert kubelet(cgroup_v2=False)["failCgroupV1"] is False
    assert "failCgroupV1" not in kubelet(cgroup_v2=True)


def test_kubelet_keeps_everything_in_the_labs_state_and_never_deletes_images() -> None:
    config = kubelet(cgroup_v2=False)
    assert config["podLogsDir"].startswith(str(NODE.dir))
    assert config["cgroupRoot"] == f"/{NODE.cgroup}"
    assert config["imageGCHighThresholdPercent"] == 100


@pytest.mark.parametrize("restrict", [True, False])
def test_a_nodes_containerd_mounts_only_under_its_state(restrict: bool) -> None:
    cri = containerd(cri=True, restrict=restrict)["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["netns_mounts_under_state_dir"] is True
    assert cri["restrict_oom_score_adj"] is restrict
    assert cri["cni"]["bin_dir"] == "/cni"


def test_the_templates_containerd_runs_no_pods() -> None:
    config = containerd(cri=False)
    assert config["disabled_plugins"] == ["io.containerd.grpc.v1.cri"]
    assert "io.containerd.grpc.v1.cri" not in config["plugins"]


def test_no_store_collects_garbage_by_itself() -> None:
    for cri in (True, False):
        scheduler = containerd(cri=cri)["plugins"]["io.containerd.gc.v1.scheduler"]
        assert scheduler == {"startup_delay": "0s", "mutation_threshold": 0, "deletion_threshold": 0}


def test_on_loopback_the_server_listens_nowhere_else() -> None:
    flags = configs.apiserver(Endpoints("127.0.0.1", 1, 2, 3), PKI)
    assert "--bind-address=127.0.0.1" in flags
    assert "--endpoint-reconciler-type=none" in flags
    inside = configs.apiserver(Endpoints("10.89.0.1", 6443, 2379, 2380), PKI)
    assert "--endpoint-reconciler-type=lease" in inside


def test_every_address_etcd_listens_on_is_loopback() -> None:
    urls = [flag for flag in configs.etcd(Endpoints("10.89.0.1", 1, 2, 3), Path("/data")) if "://" in flag]
    assert urls
    assert all("://127.0.0.1:" in url for url in urls)


def test_a_nodes_labels_tell_its_zone_and_its_gpus() -> None:
    labels = dict(pair.split("=") for pair in configs.node_labels(NODE).split(","))
    assert labels["topology.kubernetes.io/zone"] == "zone-1"
    assert labels["nvidia.com/gpu.present"] == "true"


def test_pods_are_routed_so_that_services_work_within_a_node() -> None:
    plugins = json.loads(configs.cni(NODE))["plugins"]
    assert plugins[0]["type"] == "ptp"
    assert plugins[0]["ipam"]["ranges"] == [[{"subnet": NODE.pod_cidr}]]


def test_dns_forwards_nothing() -> None:
    assert "forward" not in configs.corefile("10.89.0.1", Path("/k"))


def test_mounts_are_found_innermost_first_and_only_ours() -> None:
    info = "\n".join(
        f"1 1 0:1 / {point} rw - tmpfs tmpfs rw" for point in ("/a/lab", "/a/lab/x", "/a/lab/x/y\\040z", "/a/lab2/x")
    )
    assert nodes.mounts_under(Path("/a/lab"), info) == ["/a/lab/x/y z", "/a/lab/x"]


def test_a_silent_node_is_missed_as_soon_as_is_asked_and_else_as_kubernetes_does() -> None:
    said = [" ".join(configs.controllers(Lab(), Path("/kubeconfig"), PKI, grace)) for grace in (None, 20)]
    assert ["--node-monitor-grace-period=20s" in words for words in said] == [False, True]
