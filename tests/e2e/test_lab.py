"""The lab is a real cluster: what a user of Kubernetes may expect of three nodes works in it. No Pilotboat here."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import build, cluster, faults, images, layout, oci, procs
from lab.images import PROBE_IMAGE

pytestmark = [pytest.mark.e2e, pytest.mark.alone]
SPACE = "lab-test"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


class Kubectl:
    """kubectl in the test's namespace; an error is the command's own words."""

    def __init__(self, kubeconfig: Path) -> None:
        self.env = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self.base = [str(build.ensure() / "kubectl"), "--namespace", SPACE]

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run([*self.base, *arguments], capture_output=True, text=True, env=self.env, input=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        self("apply", "-f", "-", stdin="\n---\n".join(json.dumps(each) for each in objects))

    def json(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(*arguments, "-o", "json"))
        return found

    def until(self, condition: str, *what: str, timeout: str = "300s") -> None:
        self("wait", f"--for={condition}", f"--timeout={timeout}", *what)


@pytest.fixture(scope="module")
def lab() -> layout.Lab:
    found = layout.current()
    cluster.up(found)
    return found


@pytest.fixture(scope="module")
def kubectl(lab: layout.Lab) -> Iterator[Kubectl]:
    client = Kubectl(lab.kubeconfig)
    client("delete", "namespace", SPACE, "--ignore-not-found")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE, "labels": labels}})
    client.until("create", "serviceaccount/default")
    yield client
    client("delete", "namespace", SPACE)


def pod(name: str, *arguments: str, **more: Any) -> dict[str, Any]:
    """A pod of the probe image that the namespace's `restricted` level admits."""
    container = {"name": "probe", "image": PROBE_IMAGE, "args": list(arguments), "securityContext": RESTRICTED}
    container |= more.pop("container", {})
    meta = {"name": name, "labels": {"app": name}}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1, **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def on(node: str) -> dict[str, str]:
    return {"kubernetes.io/hostname": node}


SERVES = {"readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}}


@pytest.fixture(scope="module")
def servers(kubectl: Kubectl, lab: layout.Lab) -> list[str]:
    """One serving pod on every node, behind one Service."""
    names = [f"server-{node.name}" for node in lab.nodes]
    for node, name in zip(lab.nodes, names, strict=True):
        made = pod(name, "serve", ":8080", nodeSelector=on(node.name), container=SERVES)
        made["metadata"]["labels"] = {"app": "server"}
        kubectl.apply(made)
    port = {"port": 80, "targetPort": 8080}
    service = {"selector": {"app": "server"}, "ports": [port]}
    kubectl.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "server"}, "spec": service})
    kubectl.until("condition=Ready", *[f"pod/{name}" for name in names])
    return names


def test_three_nodes_lie_in_three_zones_of_one_region(kubectl: Kubectl, lab: layout.Lab) -> None:
    labels = [node["metadata"]["labels"] for node in kubectl.json("get", "nodes")["items"]]
    assert sorted(each["topology.kubernetes.io/zone"] for each in labels) == ["zone-1", "zone-2", "zone-3"]
    assert len({each["topology.kubernetes.io/region"] for each in labels}) == 1
    assert all(each["nvidia.com/gpu.present"] == "true" for each in labels)


def test_the_server_is_of_the_version_that_was_built(kubectl: Kubectl) -> None:
    versions = kubectl.json("version")
    assert versions["serverVersion"]["gitVersion"] == versions["clientVersion"]["gitVersion"] == build.KUBERNETES


def test_pods_of_every_node_reach_pods_of_every_other(kubectl: Kubectl, servers: list[str]) -> None:
    addresses = {name: kubectl.json("get", "pod", name)["status"]["podIP"] for name in servers}
    for source in servers:
        for target, address in addresses.items():
            assert kubectl("exec", source, "--", "/probe", "get", f"http://{address}:8080/").strip() == target


def test_a_service_is_found_by_name_from_every_node_and_spreads(kubectl: Kubectl, servers: list[str]) -> None:
    url = f"http://server.{SPACE}.svc.cluster.local/"
    for source in servers:
        answered = {kubectl("exec", source, "--", "/probe", "get", url).strip() for _ in range(12)}
        assert answered <= set(servers)
        assert len(answered) > 1


def test_names_outside_the_cluster_have_no_answer(kubectl: Kubectl, servers: list[str]) -> None:
    asked = [*kubectl.base, "exec", servers[0], "--", "/probe", "lookup", "example.com."]
    assert subprocess.run(asked, capture_output=True, env=kubectl.env).returncode != 0


def test_logs_show_what_the_container_wrote(kubectl: Kubectl, servers: list[str]) -> None:
    assert all("serving on :8080" in kubectl("logs", name) for name in servers)


def test_port_forward_reaches_the_pod(kubectl: Kubectl, servers: list[str]) -> None:
    command = [*kubectl.base, "port-forward", f"pod/{servers[2]}", ":8080"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=kubectl.env) as forward:
        try:
            assert forward.stdout is not None
            address = forward.stdout.readline().split()[2]
            with urllib.request.urlopen(f"http://{address}/", timeout=10) as response:
                assert response.read().decode().strip() == servers[2]
        finally:
            forward.terminate()


def test_a_volume_is_written_on_one_node_and_read_on_another(kubectl: Kubectl, lab: layout.Lab) -> None:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    meta = {"name": "shared"}
    kubectl.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec})
    kubectl.until("jsonpath={.status.phase}=Bound", "pvc/shared")
    volume = kubectl.json("get", "pvc", "shared")["spec"]["volumeName"]
    more = {
        "restartPolicy": "Never",
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "shared"}}],
        "container": {"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
    }
    kubectl.apply(pod("writer", "write", "/data/word", "ahoy", nodeSelector=on("n1"), **more))
    kubectl.until("jsonpath={.status.phase}=Succeeded", "pod/writer")
    more["container"] = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    kubectl.apply(pod("reader", "read", "/data/word", nodeSelector=on("n3"), **more))
    kubectl.until("jsonpath={.status.phase}=Succeeded", "pod/reader")
    assert kubectl("logs", "reader").strip() == "ahoy"
    kubectl("delete", "pod/writer", "pod/reader", "pvc/shared")
    kubectl.until("delete", f"pv/{volume}")
    assert not (lab.volumes / volume).exists()


def test_gpus_are_counted_and_a_pod_too_many_waits(kubectl: Kubectl) -> None:
    limits = {"resources": {"limits": {"nvidia.com/gpu": "2"}}}
    names = [f"gpu-{number}" for number in range(4)]
    for name in names:
        kubectl.apply(pod(name, "serve", ":8080", container=limits))
    kubectl.until("jsonpath={.status.phase}=Running", *[f"pod/{name}" for name in names[:3]])
    kubectl.until("jsonpath={.status.conditions[?(@.type=='PodScheduled')].reason}=Unschedulable", f"pod/{names[3]}")
    assert "Insufficient nvidia.com/gpu" in kubectl("describe", "pod", names[3])
    kubectl("delete", "pod", *names)


def test_a_pod_that_asks_for_more_than_restricted_is_refused(kubectl: Kubectl) -> None:
    greedy = pod("greedy", "serve", ":8080", hostNetwork=True)
    done = subprocess.run(
        [*kubectl.base, "apply", "-f", "-"], capture_output=True, text=True, env=kubectl.env, input=json.dumps(greedy)
    )
    assert done.returncode != 0
    assert "violates PodSecurity" in done.stderr


def test_a_killed_kubelet_comes_back_and_its_gpus_too(kubectl: Kubectl, lab: layout.Lab) -> None:
    node = lab.nodes[1]
    faults.stop_kubelet(node)
    faults.start_kubelet(node)
    kubectl.until("jsonpath={.status.allocatable.nvidia\\.com/gpu}=2", f"node/{node.name}")
    kubectl.until("condition=Ready", f"node/{node.name}")


def test_a_cut_node_cannot_be_reached_until_its_link_is_back(
    kubectl: Kubectl, lab: layout.Lab, servers: list[str]
) -> None:
    address = kubectl.json("get", "pod", servers[2])["status"]["podIP"]

    def reached() -> bool:
        asked = [*kubectl.base, "exec", servers[0], "--", "/probe", "get", f"http://{address}:8080/"]
        return subprocess.run(asked, capture_output=True, env=kubectl.env).returncode == 0

    with contextlib.ExitStack() as undo:
        undo.callback(faults.heal, lab, "zone-3")
        faults.partition(lab, "zone-3")
        assert not reached()
    procs.wait_until(reached, what="The healed node's answer", timeout=30)


def test_an_image_that_is_made_anew_takes_no_layer_from_nodes_that_run(lab: layout.Lab, tmp_path: Path) -> None:
    """Nodes point at the template's layers, so those of an image that comes again under its name are still needed."""
    marks = [uuid.uuid4().hex for _ in range(3)]  # what is garbage is collected at the store's next start
    for mark in marks:
        (tmp_path / "mark").write_text(mark)
        made = oci.write_image(tmp_path / mark, {"mark": tmp_path / "mark"}, ["/mark"])
        images.load({"localhost/lab-anew:1": made}, lab)
    layers = images.template().root.glob("io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs/mark")
    assert set(marks) <= {path.read_text() for path in layers}
