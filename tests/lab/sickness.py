"""A node that lives and is not well, as the API server has it: a device out of order, a full disk, an eviction.

Owns: admission policies that insist on it, for the kubelet would have its own word there again within two seconds; of
a condition that is not its own it says nothing. Must not know: what is tested. Undone by `cure`, which `faults.undo`
calls.
"""

from __future__ import annotations

from lab.keeper import GPU
from lab.kube import Client, Object
from lab.layout import Lab, Node

API = "/apis/admissionregistration.k8s.io/v1"
POLICIES, BINDINGS = "mutatingadmissionpolicies", "mutatingadmissionpolicybindings"
LABEL = "lab-sickness"


def devices(node: Node, offered: int) -> None:
    """Of the node's GPUs so many are offered from now on, as where a device plugin has taken the others out."""
    _insist(node.lab, "nodes", node.name, {f'"/status/allocatable/{GPU.replace("/", "~1")}"': str(offered)})


def xid(node: Node) -> None:
    """The driver has told an error of a GPU, as a node problem detector writes it down: nothing else changes."""
    words = {"reason": "Xid79", "message": "GPU has fallen off the bus"}
    _conditions(node, {"type": "GpuXidError", "status": "True", **words})


def full_disk(node: Node) -> None:
    """DiskPressure, for which Kubernetes gives it nothing new. What is there already a kubelet evicts: see `evict`."""
    place = 'string(object.status.conditions.map(c, c.type).indexOf("DiskPressure"))'
    says = {"status": "True", "reason": "KubeletHasDiskPressure", "message": "kubelet has disk pressure"}
    _insist(node.lab, "nodes", node.name, {f'"/status/conditions/" + {place} + "/{k}"': v for k, v in says.items()})


def evict(lab: Lab, namespace: str, pod: str) -> None:
    """As a kubelet does it for want of room on its disk. Its containers go on, and nobody hears of them."""
    says = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."}
    _insist(lab, "pods", pod, {f'"/status/{field}"': value for field, value in says.items()})
    told: Object = {"status": says | {"conditions": []}}
    Client.load(lab.kubeconfig).merge(f"/api/v1/namespaces/{namespace}/pods/{pod}/status", told)


def cure(lab: Lab) -> None:
    """Kubelets have their own word again."""
    client = Client.load(lab.kubeconfig)
    for plural in (BINDINGS, POLICIES):
        client.delete(f"{API}/{plural}?labelSelector={LABEL}")
    for node in lab.nodes:
        _conditions(node)


def _conditions(node: Node, *each: dict[str, str]) -> None:
    """These and no others of ours; kubelets have theirs."""
    told: Object = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name}, "status": {"conditions": each}}
    Client.load(node.lab.kubeconfig).apply(f"/api/v1/nodes/{node.name}/status", told)


def _insist(lab: Lab, resource: str, name: str, values: dict[str, str]) -> None:
    """From now on these parts of the object's status have these values; each key is an expression that gives a path."""
    client, policy = Client.load(lab.kubeconfig), f"lab-{name}"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": [f"{resource}/status"]}
    patches = (f'JSONPatch{{op: "add", path: {path}, value: "{value}"}}' for path, value in values.items())
    says: Object = {
        "matchConstraints": {"resourceRules": [rule | {"resourceNames": [name]}]},
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": f"[{', '.join(patches)}]"}}],
        "failurePolicy": "Ignore",
        "reinvocationPolicy": "Never",
    }
    made = (
        (POLICIES, "MutatingAdmissionPolicy", says),
        (BINDINGS, "MutatingAdmissionPolicyBinding", {"policyName": policy}),
    )
    for plural, kind, spec in made:
        meta = {"name": policy, "labels": {LABEL: ""}}
        manifest = {"apiVersion": API.removeprefix("/apis/"), "kind": kind, "metadata": meta, "spec": spec}
        client.apply(f"{API}/{plural}/{policy}", manifest)
