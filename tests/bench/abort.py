"""How long after a canary is told to end the last request goes to it: on the lab, beside `kubectl rollout undo`.

Owns: what is deployed, what is asked, and the goal. Must not know: how a lab is made, or what a plain Deployment of
ours is (bench.recovery). Callers are on the first node's network, with a connection for every request.

    python3 -m tools.bench abort               what `make bench-abort` runs
    python3 -m tools.bench abort --rounds 2    a shorter look
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp

from bench.figures import Figure, quantile, tell
from bench.recovery import BARE, CALLER, NAME, SPEC, deployed
from lab import procs
from lab.layout import current
from tools.kube import Cluster
from tools.steps import StepFailed, step

ROUNDS = 10
BUDGET = 2.0
NEW, OLD = "new", "old"
"""What the two revisions answer."""
LIMIT = 300.0
GAP = 0.01
"""Seconds between two requests: the figure is no finer."""
QUIET = 5.0
"""Seconds without an answer of the canary after which none is to come."""
BODY = {"model": NAME, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}


@dataclass(frozen=True)
class Answer:
    """One request: when it was begun, by the clock of this machine, and which revision answered it."""

    began: float
    said: str


def speaking(text: str) -> dict[str, Any]:
    """Our deployment, of which every revision answers with its own words."""
    steps = [{"weight": 50, "hold": "1s", "approval": True}]
    return {**SPEC, "engine": {"type": "Fake", "fake": {"text": text}}, "rollout": {"steps": steps}}


def apply(cluster: Cluster, text: str) -> None:
    kind = {"apiVersion": "pilotboat.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": NAME}}
    cluster.apply(json.dumps({**kind, "spec": speaking(text)}), "--force-conflicts")


def until(cluster: Cluster, condition: str) -> None:
    cluster.run("wait", f"mdep/{NAME}", f"--for={condition}", f"--timeout={LIMIT:.0f}s")


def act(cluster: Cluster, verb: str, token: str) -> None:
    body = {"spec": {"rollout": {"action": {"verb": verb, "id": token}}}}
    cluster.run("patch", "mdep", NAME, "--type=merge", f"-p={json.dumps(body)}")


async def asked(address: str, until_quiet: Callable[[list[Answer]], bool]) -> list[Answer]:
    """One request after another, in the network that this process is in."""
    answers: list[Answer] = []
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:
        while not until_quiet(answers):
            began = time.time()
            async with session.post(f"{address}/v1/chat/completions", json=BODY) as response:
                text = await response.text()
            answers.append(Answer(began, NEW if NEW in text else OLD))
            await asyncio.sleep(GAP)
    return answers


def call(address: str, seconds: float) -> None:
    """What runs in the node's network: JSON of every answer, until the new revision has been silent for long enough."""
    began = time.time()

    def quiet(answers: list[Answer]) -> bool:
        last = max((each.began for each in answers if each.said == NEW), default=began)
        return time.time() - max(last, began) > QUIET or time.time() - began > seconds

    print(json.dumps([(each.began, each.said) for each in asyncio.run(asked(address, quiet))]))


async def last_of_new(address: str, ends: Callable[[], object]) -> float:
    """Seconds from the beginning of `ends` until the last request began that the new revision answered."""
    words = [sys.executable, "-m", "bench.abort", "--call", address]
    command = [*procs.in_netns(current().node(CALLER).netns), *words]
    caller = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    await asyncio.sleep(2)  # some requests of both before it: how long it lasts is no part of what is measured
    told = time.time()
    await asyncio.to_thread(ends)
    output, _ = await asyncio.wait_for(caller.communicate(), LIMIT)
    answers = [Answer(*each) for each in json.loads(output)]
    before = [each for each in answers if each.began < told and each.said == NEW]
    if not before:
        raise StepFailed("the new revision had no request before it was told to end")
    return max(0.0, max((each.began for each in answers if each.said == NEW), default=told) - told)


async def ours(cluster: Cluster, rounds: int) -> list[float]:
    """Aborts of a canary with half of the traffic."""
    apply(cluster, OLD)
    until(cluster, "jsonpath={.status.rollout.phase}=AwaitingApproval")
    act(cluster, "Promote", "p")
    until(cluster, "condition=Ready")
    address = _address(cluster, NAME)
    apply(cluster, NEW)
    times = []
    for number in range(rounds):
        until(cluster, "jsonpath={.status.rollout.phase}=AwaitingApproval")
        times.append(await last_of_new(address, partial(act, cluster, "Abort", f"a{number}")))
        until(cluster, "jsonpath={.status.rollout.phase}=Aborted")
        act(cluster, "Retry", f"r{number}")
    return times


async def control(cluster: Cluster) -> float:
    """`kubectl rollout undo` of a plain Deployment that has been rolled to new words."""
    config = cluster.get("configmap", BARE)
    server = json.loads(config["data"]["server.json"])
    for name, text in ((f"{BARE}-old", OLD), (f"{BARE}-new", NEW)):
        server["engine"]["fake"]["text"] = text
        data = {**config["data"], "server.json": json.dumps(server)}
        meta = {"name": name, "namespace": cluster.namespace}
        cluster.apply(json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}))
        patch = {"spec": {"template": {"spec": {"volumes": [{"name": "config", "configMap": {"name": name}}]}}}}
        cluster.run("patch", "deployment", BARE, "--type=strategic", f"-p={json.dumps(patch)}")
        cluster.run("rollout", "status", f"deployment/{BARE}", f"--timeout={LIMIT:.0f}s")
    return await last_of_new(_address(cluster, BARE), partial(cluster.run, "rollout", "undo", f"deployment/{BARE}"))


def _address(cluster: Cluster, service: str) -> str:
    spec = cluster.get("service", service)["spec"]
    return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}"


async def measured(cluster: Cluster, rounds: int) -> list[Figure]:
    """The figures; the slowest abort is held against the promise."""
    with step(f"{rounds} aborts"):
        times = await ours(cluster, rounds)
    with step("kubectl rollout undo, beside it"):
        beside = await control(cluster)
    return [
        Figure("abort-to-stable-p50", quantile(times, 0.5), "s", "budget", BUDGET, 1),
        Figure("abort-to-stable-max", max(times), "s", "budget", BUDGET, 1),
        Figure("abort-to-stable-beside", max(times), "s", "rollout-undo", beside, 1),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Deploy, abort again and again, tell."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.bench abort", description="How fast a canary is given up.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="aborts")
    parser.add_argument("--call", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.call:
        call(options.call, LIMIT)
        return 0
    try:
        with deployed() as cluster:
            figures = asyncio.run(measured(cluster, options.rounds))
    except (StepFailed, TimeoutError, OSError) as failure:
        print(f"could not measure: {type(failure).__name__} {failure}", file=sys.stderr)
        return 1
    tell(*figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
