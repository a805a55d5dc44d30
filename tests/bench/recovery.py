"""DESIGN §10's table, row by row: what callers see of faults on the lab, ours and a plain Deployment + Service in the
same run; an operator that is killed; a zone that flaps; a region that is lost.

Owns: what is deployed, the rehearsal, and the goals. Must not know: how faults are made or measured: `pilotboat
rehearse` does that, as any user would run it, and for the other rows unsteady.py, killed.py and regions.py. Load comes
from the first node; faults hit the other two.

    python3 -m tools.bench recovery                          what `make bench-recovery` runs: 45 minutes
    python3 -m tools.bench recovery --only faults            processes, pods, nodes and zones: 13 minutes
    python3 -m tools.bench recovery --seconds 20 --minutes 4 a shorter look
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from bench import killed, regions, unsteady
from bench.figures import NEVER, Figure, tell
from lab import faults, plane, procs
from lab.layout import current
from tests.e2e.caller import Caller
from tests.integration.cluster import control_plane
from tests.standins import tiny
from tools import demo, hubpod, place
from tools.host import ROOT, need
from tools.kube import Cluster
from tools.steps import StepFailed, step

SPACE, NAME, BARE, FLAPPING = "bench-recovery", "served", "bare", "flapping"
ROWS = ("faults", "operator", "flapping", "dns")
SECONDS = 40.0
MINUTES = 20.0
ROUNDS = 2
"""Of each loss of a region."""
UNHEARD = 100.0
"""Seconds that a node is cut: Kubernetes misses it after 40 to 50."""
CALLER, CUT = "n1", "n2"
"""The node that calls, and the one that is cut off."""
ZONE = "zone-3"
"""The zone that is cut off: another node's, for replacements of the first are on it by then."""
FAKE = {"type": "Fake", "fake": {"tokens": 20, "delay": 0.05}}
SPEC: dict[str, Any] = {
    "model": {"source": {"huggingFace": {"repo": "demo/tiny", "files": ["config.json"]}}},
    "engine": FAKE,
    "inference": {"batchSize": 16},
    "service": {"workers": 1},
    "replicas": 3,
    # A stand-in is surplus soon after a node's return, not five minutes: the next fault waits for a whole deployment.
    "zones": {"spread": "Required", "failback": {"after": "20s", "stepHold": "5s"}},
}
LOAD = {"requestsPerSecond": 4, "streams": 6, "maxTokens": 20, "before": 15, "timeout": 60, "via": "Service"}


def rehearsal(seconds: float, victim: str) -> dict[str, Any]:
    """The file: four faults, none of them on the node that calls."""
    lab = [sys.executable, "-m", "lab"]
    return {
        "deployment": {"namespace": SPACE, "name": NAME},
        # Two replicas: the zone that is cut may still have the stand-in of the node that was cut before.
        "limit": {"replicas": 2, "nodes": 1, "zones": 1, "seconds": max(seconds, UNHEARD)},
        "wait": 240,
        "load": LOAD,
        "control": {"deployment": BARE, "service": BARE, "model": NAME},
        "faults": [
            {"name": "killProcess", "kind": "killProcess", "pod": victim, "for": seconds},
            {"name": "deletePod", "kind": "deletePod", "for": seconds},
            {
                "name": "cutNode",
                "kind": "cutNode",
                "node": CUT,
                "for": max(seconds, UNHEARD),
                "cut": [*lab, "cut", "{node}"],
                "heal": [*lab, "heal", "{node}"],
            },
            {
                "name": "cutZone",
                "kind": "cutZone",
                "zone": ZONE,
                "for": seconds,
                "cut": [*lab, "cut", "{zone}"],
                "heal": [*lab, "heal", "{zone}"],
            },
        ],
    }


def bare(deployment: Mapping[str, Any], configuration: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same pods with nothing of ours round them: Kubernetes' own Deployment and Service."""
    labels = {"app": BARE}
    pod = json.loads(json.dumps(deployment["spec"]["template"]["spec"]))
    for volume in pod["volumes"]:
        if volume["name"] == "config":
            volume["configMap"] = {"name": BARE}
    for constraint in pod.get("topologySpreadConstraints", ()):
        constraint["labelSelector"] = {"matchLabels": labels}
    port = {"name": "http", "port": 8080, "targetPort": "http"}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 3, "selector": {"matchLabels": labels}, "template": template}
    meta = {"name": BARE, "namespace": SPACE}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": configuration["data"]},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": labels, "ports": [port]}},
    ]


@contextmanager
def deployed() -> Iterator[Cluster]:
    """Both of them, ready, on a lab with the operator."""
    place.prepare_lab()
    whole, refs = place.the_lab(demo.DEMO)
    with step("The operator, and a hub inside the cluster") as shown, tempfile.TemporaryDirectory() as folder:
        demo.install(whole, refs)
        hubpod.start(whole, refs["fetch"], {"demo/tiny": [tiny.make(Path(folder))]}, shown, node=CALLER)
    cluster = replace(whole, namespace=SPACE)
    cluster.run("delete", "namespace", SPACE, "--ignore-not-found")
    cluster.run("create", "namespace", SPACE)
    try:
        with step("Ours, and a plain Deployment beside it"):
            serve(cluster, NAME, SPEC)
            revision = f"{NAME}-{cluster.get('mdep', NAME)['status']['currentRevision']}"
            made = bare(cluster.get("deployment", revision), cluster.get("configmap", revision))
            cluster.apply("\n---\n".join(json.dumps(each) for each in made))
            cluster.run("wait", f"deployment/{BARE}", "--for=condition=Available", "--timeout=180s")
        yield cluster
    finally:
        lab = current()
        for node in lab.nodes:
            faults.mend(node)
        subprocess.run(cluster.command("delete", "namespace", SPACE, "--wait=false"), env=cluster.env, check=False)


def serve(cluster: Cluster, name: str, spec: Mapping[str, Any]) -> None:
    """A ModelDeployment, ready."""
    kind = {"apiVersion": "pilotboat.dev/v1alpha1", "kind": "ModelDeployment"}
    cluster.apply(json.dumps({**kind, "metadata": {"name": name}, "spec": spec}))
    cluster.run("wait", f"mdep/{name}", "--for=condition=Ready", "--timeout=180s")


def victim(cluster: Cluster) -> str:
    """A replica of ours on the node that will be cut; the caller's own node is left alone."""
    found = json.loads(cluster.run("get", "pods", f"-lapp.kubernetes.io/instance={NAME}", "--output=json"))
    return str(next(pod["metadata"]["name"] for pod in found["items"] if pod["spec"]["nodeName"] == CUT))


def rehearsed(cluster: Cluster, seconds: float) -> list[dict[str, Any]]:
    """The rehearsal's own record. StepFailed where it could not measure."""
    lab = current()
    with tempfile.TemporaryDirectory() as folder:
        path, record = Path(folder, "recovery.yaml"), Path(folder, "figures.json")
        path.write_text(yaml.safe_dump(rehearsal(seconds, victim(cluster))))
        asked = ["rehearse", str(path), f"--json={record}", "--allow-commands"]
        inside = f"--kubeconfig={plane.in_namespace(lab).conf('admin')}"
        command = [*procs.in_netns(lab.node(CALLER).netns), sys.executable, "-m", "pilotboat", *asked, inside]
        done = subprocess.run(command, cwd=ROOT, check=False)
        if done.returncode == 2 or not record.exists():
            raise StepFailed("the rehearsal did not measure every fault; its own words are above")
        rows: list[dict[str, Any]] = json.loads(record.read_text())
        return rows


@dataclass(frozen=True)
class Goal:
    """One figure of every fault: where it is in the record, and its promise."""

    figure: str
    part: str
    key: str
    unit: str
    most: Mapping[str, float]


GOALS = (
    Goal("lost", "seen", "lost", "", {"killProcess": 0, "deletePod": 0, "cutNode": 0, "cutZone": 0}),
    Goal("traffic-moved", "seen", "moved", "s", {"killProcess": 6, "deletePod": 6, "cutNode": 6, "cutZone": 20}),
    Goal("replacement", "restored", "replaced", "s", {"deletePod": 15, "cutNode": 15 + 6}),
    Goal("ready", "restored", "ready", "s", {"killProcess": 5}),
)
"""A replacement is counted from the fault here, for the control detects nothing: 6 s to detect, 15 s to replace."""


def figures(rows: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    """One line a promise, with the control's figure of the same run. Held against the promise itself."""
    for row in rows:
        for goal in GOALS:
            if row["kind"] not in goal.most:
                continue
            ours, other = (_value(row[side], goal) for side in ("ours", "control"))
            most = goal.most[row["kind"]] + (row["ours"]["load_seconds"] if goal.figure == "ready" else 0)
            yield from promised(f"recovery-{row['kind']}-{goal.figure}", ours, goal.unit, most, other)


def promised(name: str, ours: float, unit: str, most: float, other: float) -> Iterator[Figure]:
    """Held against the promise, and against the plain Deployment."""
    yield Figure(name, ours, unit, "promise", most, 1 if most else 0)
    yield Figure(f"{name}-beside", ours, unit, "deployment", other, 1 if other else 0)


def _value(side: Mapping[str, Any] | None, goal: Goal) -> float:
    """What was never seen is beyond every promise."""
    found = (side or {}).get(goal.part)
    if found is None:
        raise StepFailed(f"no figures: {(side or {}).get('trouble') or 'the control was not measured'}")
    value = found[goal.key]
    return NEVER if value is None else float(value)


def on_the_lab(rows: Collection[str], seconds: float, minutes: float) -> Iterator[Figure]:
    """The rows that need nodes. The zone that flaps has a deployment of its own, with all of failback's defaults."""
    if not {"faults", "operator", "flapping"}.intersection(rows):
        return
    with deployed() as cluster:
        if "faults" in rows:
            yield from figures(rehearsed(cluster, seconds))
        caller = Caller(cluster)
        caller.start(unsteady.image(cluster), CALLER)
        if "operator" in rows:
            ours, other = unsteady.operators_killed(unsteady.Pair(cluster, caller, NAME, BARE, NAME))
            yield from promised("recovery-operator-lost", ours, "", 0, other)
        if "flapping" in rows:
            cluster.run("delete", "mdep", NAME)
            serve(cluster, FLAPPING, {**SPEC, "zones": {"spread": "Required"}})
            told = unsteady.flapping(unsteady.Pair(cluster, caller, FLAPPING, BARE, NAME), ZONE, minutes)
            yield from promised("recovery-flapping-moves", told.moves[0], "", 2, told.moves[1])
            yield from promised("recovery-flapping-lost", told.lost[0], "", 0, told.lost[1])
            yield Figure(
                "recovery-flapping-seconds-a-thousand", told.thousand[0], "s", "deployment", told.thousand[1], 1
            )


def off_the_lab(rows: Collection[str]) -> Iterator[Figure]:
    """The rows that need an API server, or a name server."""
    if "operator" in rows:
        with control_plane("bench-killed") as kubeconfig:
            told = asyncio.run(killed.told(kubeconfig))
        yield Figure("recovery-operator-ends-apart", told.apart, "", "promise", 0, 0)
        yield Figure("recovery-operator-changes", told.changes, "", "undisturbed", told.undisturbed, 1)
    if "dns" in rows:
        need("knotd", "knot")
        with tempfile.TemporaryDirectory() as folder:
            yield from regions.figures(*asyncio.run(regions.measure(Path(folder), ROUNDS)))


def main(argv: Sequence[str] | None = None) -> int:
    """Deploy, break, tell."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.bench recovery", description="Recovery as callers see it.")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that each fault stands, or is watched")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="that a zone flaps")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=ROWS, help="these rows of the table")
    options = parser.parse_args(argv)
    found: list[Figure] = []
    try:
        for rows in (off_the_lab(options.only), on_the_lab(options.only, options.seconds, options.minutes)):
            for figure in rows:
                found.append(figure)
    except (StepFailed, AssertionError, TimeoutError, OSError) as failure:
        print(f"could not measure: {type(failure).__name__} {failure}", file=sys.stderr)
        return 1
    finally:
        tell(*found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
