"""A fault a minute, chosen by a fixed seed, with a caller that never stops: nothing is lost, nothing is left over.

A request under way through a gateway whose node is cut off or dies is lost with it: it is asked again, as OpenAI's
client does, twice at most. No other fault may cost that, and whatever fails for good fails the test.

`make test` runs a minute of it and `make soak` thirty: SOAK_MINUTES, and SOAK_SEED for another order.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import faults
from lab.layout import Lab, Node, current
from lab.procs import wait_until
from pilotboat.api import labels
from pilotboat.plan.diagnose import ready
from tests.e2e.caller import Caller
from tests.e2e.conftest import MDEP, Space, fake
from tests.e2e.growth import grown
from tools import demo

pytestmark = [pytest.mark.e2e, pytest.mark.alone]
MINUTES = int(os.environ.get("SOAK_MINUTES", "1"))
SEED = int(os.environ.get("SOAK_SEED", "7"))
REPLICAS, THREADS = 3, 3
OPERATOR = "pilotboat operator"
FLOORS = {OPERATOR: 100, "pilotboat_gateway": 50, "haproxy": 10, "pilotboat_server": 50}
"""Programs by a part of their command line, and MiB of each that are no sign of a growth: less than it holds at rest.
"""


class Faults:
    """What may go wrong; each is undone before the next."""

    def __init__(self, space: Space, lab: Lab, spared: str) -> None:
        self.space = space
        self.nodes = [node for node in lab.nodes if node.name != spared]
        self.lab = lab
        self.chance = random.Random(SEED)
        self.cut = 0
        """Faults that end what is under way through a gateway."""

    def one(self) -> str:
        """A fault begun and undone; what it was."""
        kinds: list[Callable[[Node], None]] = [self.pod_deleted, self.gateway_deleted, self.agent_stopped, self.cable]
        kinds += [self.process_killed, self.operator_deleted, self.runtime_stopped, self.lossy, self.control_plane]
        kinds += [self.power] if self.chance.random() < 0.3 else []
        kind, node = self.chance.choice(kinds), self.chance.choice(self.nodes)
        kind(node)
        self.cut += kind in (self.cable, self.power)
        return f"{kind.__name__} {node.name}"

    def pod_deleted(self, node: Node) -> None:
        self._delete(self.chance.choice(self.space.pods("chat")))

    def gateway_deleted(self, node: Node) -> None:
        self._delete(self.chance.choice(self.space.pods("pilotboat-gateway")))

    def process_killed(self, node: Node) -> None:
        """As the kernel does for want of memory: every process of a replica but the first. One that serves: a stand-in
        may just begin."""
        self.space.signal(self.chance.choice([*filter(ready, self.space.pods("chat"))])["metadata"]["name"], "KILL")

    def operator_deleted(self, node: Node) -> None:
        raw = self.space.cluster.run("get", "pods", f"-n{demo.SYSTEM}", demo.OPERATORS, "-oname")
        pod = self.chance.choice(sorted(raw.split()))
        self.space.cluster.run("delete", pod, f"-n{demo.SYSTEM}", "--wait=false")

    def runtime_stopped(self, node: Node) -> None:
        """containerd is gone until kubelet has noticed."""
        faults.stop_containerd(node)
        self.space.cluster.run("wait", f"node/{node.name}", "--for=condition=Ready=False", "--timeout=300s")
        faults.start_containerd(node)
        self._back(node)

    def lossy(self, node: Node) -> None:
        """Of a hundred packets five are lost, for as long as a change of the deployment's lasts."""
        faults.lose(node, 5)
        pod = self.chance.choice(self.space.pods("chat"))
        self._delete(pod)
        self.space.gone(f"pod/{pod['metadata']['name']}")
        self.space.wait(MDEP, "chat", "Ready")
        faults.mend(node)

    def control_plane(self, node: Node) -> None:
        """The API server is killed, and started at once."""
        faults.stop_central(self.lab, "kube-apiserver")
        faults.start_central(self.lab, "kube-apiserver")

    def agent_stopped(self, node: Node) -> None:
        faults.stop_kubelet(node)
        self._silent(node)
        faults.start_kubelet(node)
        self._back(node)

    def cable(self, node: Node) -> None:
        faults.cut(node)
        self._silent(node)
        faults.restore(node)
        self._back(node)

    def power(self, node: Node) -> None:
        faults.power_off(node)
        self._silent(node)
        faults.power_on(node)
        self._back(node)

    def _delete(self, pod: dict[str, dict[str, str]]) -> None:
        self.space.cluster.run("delete", "pod", pod["metadata"]["name"], "--ignore-not-found", "--wait=false")

    def _silent(self, node: Node) -> None:
        self.space.cluster.run("wait", f"node/{node.name}", "--for=condition=Ready=Unknown", "--timeout=300s")

    def _back(self, node: Node) -> None:
        self.space.cluster.run("wait", f"node/{node.name}", "--for=condition=Ready", "--timeout=300s")


def test_a_fault_a_minute_costs_no_request_and_leaves_nothing(space: Space, caller: Caller) -> None:
    lab = current()
    zones = {"spread": "Required", "failback": {"after": "20s", "steps": [50], "stepHold": "5s"}}
    space.apply("ModelDeployment", "chat", fake(replicas=REPLICAS, zones=zones))
    space.wait(MDEP, "chat", "Ready")
    before = parts(space)
    wrong = Faults(space, lab, caller.node)
    end, told, memory = time.monotonic() + 60 * MINUTES, list[str](), list[dict[str, int]]()
    complaints, leaked = set[str](), set[str]()
    with caller.load("chat", threads=THREADS, pause=0.1, seconds=60 * MINUTES + 600, again=2) as load:
        while time.monotonic() < end:
            told.append(wrong.one())
            space.wait(MDEP, "chat", "Ready")
            wait_until(lambda: not surplus(space), what="The end of those who stand in for nobody", timeout=120)
            memory.append({program: held(lab, program) for program in FLOORS})
            complaints |= failures(space)
            leaked |= parts(space) ^ before
            print(f"{len(told)} faults, the last {told[-1]}; {shown(memory[-1])}", flush=True)
    print(f"{load.whole} requests, {load.again} of them asked again", flush=True)
    assert load.failed == {}, "\n".join([*load.wrong, *sorted(complaints), *told])
    assert load.again <= THREADS * wrong.cut, told
    assert load.whole > 60 * MINUTES
    space.cluster.run("wait", f"{MDEP}/chat", f"--for=jsonpath={{.status.replicas}}={REPLICAS}", "--timeout=300s")
    assert leaked == set(), told
    assert parts(space) == before, told
    for program, floor in FLOORS.items():
        assert not grown([each[program] for each in memory], floor << 20), memory


def parts(space: Space) -> set[str]:
    """What the deployment and its namespace's gateways are made of, but for pods, which come and go."""
    return {*space.children("chat"), *space.children(labels.GATEWAY)}


def surplus(space: Space) -> int:
    """Pods above those asked for, and above those that are lost: others stand in for these for up to an hour where
    their node was lost again and again."""
    nodes = space.status(MDEP, "chat").get("recovery", {}).get("nodes", ())
    lost = {pod for node in nodes if node.get("counted") for pod in node["pods"]}
    there = {pod["metadata"]["name"] for pod in space.pods("chat") if pod["status"]["phase"] in ("Pending", "Running")}
    return max(0, len(there - lost) - REPLICAS)


def shown(memory: dict[str, int]) -> str:
    return "MiB held: " + ", ".join(f"{program} {size >> 20}" for program, size in memory.items())


def failures(space: Space) -> set[str]:
    """What gateways say of requests that failed there; one that just begins says nothing yet."""
    asked = space.cluster.command("logs", f"-l{labels.COMPONENT}=gateway", "-cagent", "--prefix", "--tail=-1")
    done = subprocess.run(asked, env=space.cluster.env, capture_output=True, text=True, check=False)
    return {line for line in done.stdout.splitlines() if "a request failed" in line}


def held(lab: Lab, program: str) -> int:
    """Bytes of memory that a program of this lab's pods holds: both operators, whoever they are; of the others, which
    come and go with their nodes, the largest process."""
    found, groups = [], [f"/{node.cgroup}/" for node in lab.nodes]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            ours = any(group in (process / "cgroup").read_text() for group in groups)
            if ours and program in " ".join(words) and words[0] != "tini":
                found.append(int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        except OSError:
            continue
    return sum(found) if program == OPERATOR else max(found)
