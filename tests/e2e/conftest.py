"""The lab with the operator installed from the chart, a hub inside it, and a namespace for each test.

Owns: what every end-to-end test starts from. The lab is started where it is not up.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import uuid
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lab import faults, procs
from lab.cluster import GPUS, settled
from lab.kube import Client
from lab.layout import Lab, current
from pilotboat.api import labels
from tests.e2e.caller import Caller
from tests.standins import tiny
from tools import demo, host, hubpod, model, place
from tools.kube import Cluster
from tools.steps import step

PATIENCE = "300s"
"""How long a condition is waited for: no promise, for other tests run beside it on the same cores."""
GATED, TOKEN = "demo/gated", "hf_test_token_which_must_never_be_shown"
"""A repository of the hub's that wants a token, and the only one that it takes."""
MDEP, FTJ = "modeldeployments.pilotboat.dev", "finetunejobs.pilotboat.dev"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest side by side first, so that no worker still has them when all others are done."""
    items.sort(key=lambda item: (item.path.name != "test_fine_tune_job.py", item.path.name != "test_rollout.py"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a failed test, what its namespace and the nodes had to say: they are gone when somebody reads of it."""
    report = yield
    space = getattr(item, "funcargs", {}).get("space")
    if report.failed and space:
        report.sections.append(("What the cluster said", story(space)))
    return report


@dataclass(frozen=True)
class Space:
    """One test's namespace, and the few things tests do in it."""

    cluster: Cluster

    def apply(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        """A custom resource."""
        raw = {"apiVersion": "pilotboat.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.cluster.apply(json.dumps(raw), "--force-conflicts")

    def wait(self, kind: str, name: str, condition: str, timeout: str = PATIENCE) -> None:
        """Until a condition such as Ready or Ready=False holds."""
        self.cluster.run("wait", f"{kind}/{name}", f"--for=condition={condition}", f"--timeout={timeout}")

    def reason(self, kind: str, name: str, condition: str, reason: str, timeout: str = PATIENCE) -> str:
        """Until that condition shows that reason; its message."""
        path = f'{{.status.conditions[?(@.type=="{condition}")].reason}}'
        try:
            self.cluster.run("wait", f"{kind}/{name}", f"--for=jsonpath={path}={reason}", f"--timeout={timeout}")
        except Exception as error:
            shown = json.dumps(self.cluster.get(kind, name).get("status", {}), indent=1)
            raise AssertionError(f"{name} never showed {condition} {reason}:\n{shown}") from error
        found = self.cluster.get(kind, name)["status"]["conditions"]
        return str(next(c["message"] for c in found if c["type"] == condition))

    def status(self, kind: str, name: str) -> dict[str, Any]:
        """The status as it is now."""
        found: dict[str, Any] = self.cluster.get(kind, name).get("status", {})
        return found

    def gone(self, target: str, timeout: str = PATIENCE) -> None:
        """Until an object (or those of a selector) is deleted."""
        self.cluster.run("wait", *target.split(), "--for=delete", f"--timeout={timeout}")

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Pods of a custom resource that are not being deleted."""
        raw = json.loads(self.cluster.run("get", "pods", f"-lapp.kubernetes.io/instance={name}", "-ojson"))
        return [pod for pod in raw["items"] if not pod["metadata"].get("deletionTimestamp")]

    def has(self, name: str, count: int) -> None:
        """Until there are so many pods of it and no more: `status.replicas` leaves out what stands in for another."""
        procs.wait_until(lambda: len(self.pods(name)) == count, what=f"{count} pods of {name}", timeout=300)

    def leader(self) -> dict[str, Any]:
        """The pod of the operator that leads."""
        system = self.cluster.within(demo.SYSTEM)
        return system.get("pod", system.get("lease", "pilotboat")["spec"]["holderIdentity"])

    def signal(self, pod: str, name: str) -> None:
        """Send it to every process of a replica's server but the first, which no signal from inside ends or stops."""
        each = f"grep -q pilotboat_serve[r] $pid/cmdline && kill -{name} ${{pid#/proc/}}"
        self.cluster.run("exec", pod, "-cserver", "--", "sh", "-c", f"for pid in /proc/[0-9]*; do {each}; done; true")

    def children(self, name: str) -> list[str]:
        """Names of everything that carries a custom resource's instance label."""
        kinds = "deployments,daemonsets,services,configmaps,poddisruptionbudgets,jobs,persistentvolumeclaims"
        found = self.cluster.run("get", kinds, f"-lapp.kubernetes.io/instance={name}", "-oname")
        return sorted(found.split())

    def events(self, name: str) -> list[tuple[str, str]]:
        """(reason, message) of the events about an object, in the order in which they were first told."""
        raw = json.loads(self.cluster.run("get", "events", f"--field-selector=involvedObject.name={name}", "-ojson"))
        return [(item["reason"], item["message"]) for item in sorted(raw["items"], key=made)]

    def told(self, name: str, *reasons: str) -> None:
        """Until there are events of these reasons, in this order: they follow the status that they are about."""
        seen = f"Events {', '.join(reasons)} about {name}"
        procs.wait_until(lambda: in_order(reasons, self.events(name)), what=seen, timeout=120)

    @contextlib.contextmanager
    def url(self, name: str) -> Iterator[str]:
        """A deployment's endpoint, from this process."""
        with self.cluster.forwarded(f"service/{name}", 8080) as port:
            yield f"http://127.0.0.1:{port}/v1"


def story(space: Space) -> str:
    """Nodes' conditions, the status of all custom resources, pods and events of a test's namespace."""
    nodes = '-ojsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")]}{"\\n"}{end}'
    status = "-ojsonpath={range .items[*]}{.kind} {.metadata.name} {.status}{end}"
    looks = (
        ("nodes", nodes),
        (f"{MDEP},{FTJ}", status),
        ("pods", "-owide"),
        ("events", "--sort-by=.metadata.creationTimestamp"),
    )
    asked = [space.cluster.command("get", *look) for look in looks]
    told = [subprocess.run(each, env=space.cluster.env, capture_output=True, text=True, check=False) for each in asked]
    return "\n".join(each.stdout + each.stderr for each in told)


def made(raw: dict[str, Any]) -> tuple[str, int]:
    """When an object was made, to sort by: of those of one second, who has been written later comes later."""
    return raw["metadata"]["creationTimestamp"], int(raw["metadata"]["resourceVersion"])


def in_order(reasons: Sequence[str], events: Sequence[tuple[str, str]]) -> bool:
    """Whether these were told one after the other, whatever was told between them."""
    story = iter([reason for reason, _ in events])
    return all(reason in story for reason in reasons)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The lab, with the images of this tree in its nodes, the operator from the chart, and a hub with models."""
    worker = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    done = (base.parent if worker else base) / "installed"  # one folder for all workers of a run
    with host.locked("e2e"):
        cluster, refs = place.the_lab(demo.DEMO)
        if not done.exists():
            install(cluster, refs, tmp_path_factory)
            done.touch()
    return cluster


def install(cluster: Cluster, refs: dict[str, str], folders: pytest.TempPathFactory) -> None:
    """The operator and the hub."""
    demo.install(cluster, refs)
    letter = folders.mktemp("no-model") / "model.gguf"
    letter.write_text("Dear operator, this is no model.\n" * 100)
    model_of_bytes = tiny.make(folders.mktemp("tiny"))
    repos: dict[str, list[Path]] = {
        "demo/gemma-3-270m": [model.gguf(), model.safetensors()],
        "demo/tiny": [model_of_bytes],
        GATED: [model_of_bytes / "config.json"],
        "demo/no-model": [letter],
    }
    with step("A hub inside the cluster") as shown:
        hubpod.start(cluster, refs["fetch"], repos, shown, gated=(GATED, TOKEN))


@pytest.fixture(autouse=True)
def whole_lab(request: pytest.FixtureRequest) -> None:
    """Before a test that breaks nodes: what an earlier one left broken would be taken for its own work."""
    lab = current()
    if request.node.get_closest_marker("alone") and lab.kubeconfig.exists():
        faults.undo(lab)
        client = Client.load(lab.kubeconfig)
        procs.wait_until(lambda: settled(client, lab, GPUS), what="The lab, whole again", timeout=120)


@pytest.fixture
def space(installed: Cluster) -> Iterator[Space]:
    """A fresh namespace under the restricted Pod Security level, deleted afterwards, with gateways that would wait for
    minutes for streams that nobody has."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    cluster = replace(installed, namespace=name)
    cluster.run("create", "namespace", name)
    cluster.run("label", "namespace", name, demo.RESTRICTED)
    yield Space(cluster)
    for what in (("namespace", name), ("pods", "--all", "--grace-period=1")):
        subprocess.run(cluster.command("delete", *what, "--wait=false"), env=cluster.env, check=False)


@pytest.fixture
def gpus() -> Iterator[None]:
    """Nobody else's: of the tests that run side by side one has them at a time."""
    with host.locked("gpus"):
        yield


@pytest.fixture
def caller(space: Space) -> Caller:
    """A pod that calls: of the hub's image, which has Python, and on its node, which tests that lose one spare."""
    hub, caller = hub_pod(space), Caller(space.cluster)
    caller.start(hub["spec"]["containers"][0]["image"], hub["spec"]["nodeName"])
    return caller


def hub_pod(space: Space) -> dict[str, Any]:
    """The pod that models are fetched from: its node must not be lost, or nothing new could start."""
    selector = f"-l{','.join(f'{key}={value}' for key, value in hubpod.LABELS.items())}"
    found = json.loads(space.cluster.run("get", "pods", f"-n{demo.DEMO}", selector, "-ojson"))["items"]
    return dict(next(pod for pod in found if not pod["metadata"].get("deletionTimestamp")))


@pytest.fixture
def lab() -> Lab:
    """Where faults are made."""
    return current()


@pytest.fixture
def chat(space: Space) -> str:
    """Three replicas of the fake engine, one in each zone, behind a gateway in each: Ready asks for one of these."""
    space.apply("ModelDeployment", "chat", spread())
    space.wait(MDEP, "chat", "Ready")
    space.cluster.run("rollout", "status", f"deployment/{labels.GATEWAY}", f"--timeout={PATIENCE}")
    return "chat"


def spread(**more: Any) -> dict[str, Any]:
    """Three replicas, one in each zone; a node or zone must be well for 20 seconds until it is trusted again."""
    zones = {"spread": "Required", "failback": {"after": "20s", "stepHold": "5s"}}
    return fake(**{"replicas": 3, "zones": zones, **more})


def fake(**more: Any) -> dict[str, Any]:
    """A small ModelDeployment spec: the fake engine, one worker."""
    return {
        "model": {"source": {"huggingFace": {"repo": "demo/tiny", "files": ["config.json"]}}},
        "engine": {"type": "Fake"},
        "service": {"workers": 1},
        "podTemplate": {"resources": {"requests": {"cpu": "50m"}}},  # so that no model beside it starves it
        **more,
    }


def direct(**more: Any) -> dict[str, Any]:
    """The same without a gateway, whose three pods take as long to start as all the rest of a small test."""
    return fake(traffic="Direct", **more)
