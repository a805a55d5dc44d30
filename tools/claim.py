"""What in a cluster is the demo's and what is a user's: nothing is overwritten or removed that the demo did not make.

Owns: the mark, and the decisions by it. Must not know: what the demo does in between. Standard library only.

The demo begins only where neither its namespaces nor the CRDs are there, and its first write is a namespace with the
mark: so where SYSTEM has it, the release and the CRDs are the demo's too. It is taken away last.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tools.kube import Cluster
from tools.steps import StepFailed, step

SYSTEM, DEMO = "pilotboat-system", "pilotboat-demo"
MARK = "pilotboat.dev/demo"
CRDS = ("modeldeployments.pilotboat.dev", "finetunejobs.pilotboat.dev")
RESOURCES = {
    f"ModelDeployment {DEMO}/assistant",
    f"ModelDeployment {DEMO}/assistant-tuned",
    f"FineTuneJob {DEMO}/kubernetes-fields",
}
"""The demo's own custom resources, as `Found` names them."""


@dataclass(frozen=True)
class Found:
    """What a cluster has of all that the demo makes, and every custom resource of ours, as `Kind namespace/name`."""

    namespaces: frozenset[str] = frozenset()
    crds: frozenset[str] = frozenset()
    marked: frozenset[str] = frozenset()
    """Namespaces that the demo made."""
    resources: frozenset[str] = frozenset()

    @property
    def foreign(self) -> list[str]:
        """What is there and not the demo's."""
        crds = () if SYSTEM in self.marked else self.crds
        return sorted([*(f"namespace {name}" for name in self.namespaces - self.marked), *(f"CRD {it}" for it in crds)])

    @property
    def others(self) -> list[str]:
        """Custom resources that go with the CRDs and are not the demo's."""
        return sorted(self.resources - RESOURCES)


def namespace(name: str) -> dict[str, Any]:
    """A namespace's manifest, with the mark."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {MARK: "made"}}}


def look(cluster: Cluster) -> Found:
    """What is there now; changes nothing."""
    crds = _names(cluster, "customresourcedefinitions", *CRDS, "--ignore-not-found")
    listed = cluster.run("get", ",".join(sorted(crds)), "--all-namespaces", "--output=json") if crds else "{}"
    return Found(
        namespaces=_names(cluster, "namespaces", SYSTEM, DEMO, "--ignore-not-found"),
        crds=crds,
        marked=_names(cluster, "namespaces", f"--selector={MARK}"),
        resources=frozenset(
            f"{item['kind']} {item['metadata']['namespace']}/{item['metadata']['name']}"
            for item in json.loads(listed).get("items", ())
        ),
    )


def _names(cluster: Cluster, kind: str, *chosen: str) -> frozenset[str]:
    found = cluster.run("get", kind, *chosen, "--output=name").split()
    return frozenset(line.partition("/")[2] for line in found)


def check(cluster: Cluster) -> None:
    """StepFailed where the demo would overwrite what it did not make."""
    if foreign := look(cluster).foreign:
        raise StepFailed(
            f"{cluster.title} has {_few(foreign)}, which the demo did not make and would overwrite: nothing was done; "
            "take another cluster (CONTEXT) or lab (LAB), or apply examples/ to the Pilotboat that is there."
        )


def check_endable(cluster: Cluster, end: str) -> None:
    """StepFailed where a cluster that ends with the demo has what the demo did not make. `end`: what ends it all."""
    found = look(cluster)
    if lost := found.foreign + found.others:
        raise StepFailed(
            f"{cluster.title} has {_few(lost)}, which the demo did not make and which would be lost: nothing was done; "
            f"delete it and run this again, or end the lab with all that is in it by `{end}`."
        )


def remove(cluster: Cluster) -> None:
    """All that the demo made and nothing else; may be run again, also after one that was broken off."""
    found = look(cluster)
    if not found.marked:
        print(f"{cluster.title} has nothing that the demo made.")
        return
    if others := found.others:
        raise StepFailed(
            f"{cluster.title} has {_few(others)}, which the demo did not make and which would go with its CRDs: "
            "nothing was done; delete what is not needed any more, and run this again."
        )
    with step(f"Removing the demo: {cluster.title}"):
        if DEMO in found.marked:
            if found.crds:
                cluster.run("delete", ",".join(sorted(found.crds)), "--all", "--ignore-not-found")
            cluster.run("delete", "namespace", DEMO, "--ignore-not-found")
        if SYSTEM in found.marked:
            cluster.helm_run("uninstall", "pilotboat", f"--namespace={SYSTEM}", "--ignore-not-found", "--wait")
            cluster.run("delete", "customresourcedefinitions", *CRDS, "--ignore-not-found")
            cluster.run("delete", "namespace", SYSTEM, "--ignore-not-found")


def _few(things: list[str]) -> str:
    more = f" and {len(things) - 3} more" if len(things) > 3 else ""
    return ", ".join(things[:3]) + more
