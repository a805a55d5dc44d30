"""`make demo`: from a bare machine to a served, fine-tuned and served-again model, every long step shown.

Owns: the order of the demo and what it prints. Must not know: how clusters, images or models are made.

    make demo                  in the lab on this machine
    CONTEXT=name REGISTRY=registry.example/team make demo    in a cluster of your own, which pulls from that registry
        (a registry that wants a login: REGISTRY_AUTH_FILE names the file that has it)
    make demo-down             takes away again what the demo made
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from tools import claim, corpus, hubpod, model, place, pods, pullsecret, venv
from tools.endings import spoken
from tools.host import ROOT, cache
from tools.kube import Cluster, condition
from tools.steps import WHOLE, Step, StepFailed, Timing, save_times, step, timings

SYSTEM, DEMO = claim.SYSTEM, claim.DEMO
OPERATORS = "-lapp.kubernetes.io/name=pilotboat,app.kubernetes.io/component=operator"
"""Selects the operator's pods."""
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
QUESTION = "What does the field spec.replicas of a Deployment mean?"

PLAN = """\
make demo does this; the times are from another machine with 2 cores, the first run and any later one:
{first}
  3. installs the operator with helm; a hub inside the cluster        1 min    40 s
  4. serves the model and asks it a question                          1 min    20 s
  5. fine-tunes it with LoRA on texts from the API server itself      4 min     3 min
  6. serves the tuned model and asks it the same question             1 min    40 s
What is built is kept under {cache}; `{down}` ends the demo.
"""
IN_THE_LAB = """\
  1. builds Kubernetes, kubectl and helm from Go modules             12 min     0 s
     and, beside it, the images (PyTorch with its CUDA: 6 GB)         6 min     1 s
     and the model: Gemma 3 270M, 4-bit, and as safetensors           2 min     0 s
  2. starts three nodes in three zones, loads images                  4 min    20 s"""
IN_A_CLUSTER = """\
  1. builds the images (PyTorch with its CUDA: 6 GB)                  6 min     1 s
     and, beside it, the model: Gemma 3 270M, as GGUF and safetensors 2 min     0 s
  2. pushes the images to {registry}
     (to a registry on the same machine)                              2 min"""


def main(argv: Sequence[str]) -> int:
    """Run the demo, or with `down` take it away."""
    return spoken(down if "down" in argv else up)


def up() -> int:
    """The demo, from its plan to its farewell."""
    context = os.environ.get("CONTEXT")
    print(plan(context, os.environ.get("REGISTRY")), flush=True)
    if found := place.there(context, DEMO):
        claim.check(found)
    started = time.monotonic()
    cluster = prepared()
    show(cluster)
    record(time.monotonic() - started)
    print(farewell(cluster))
    return 0


def plan(context: str | None, registry: str | None) -> str:
    """What will be done, told before it is."""
    first = IN_A_CLUSTER.format(registry=registry or "REGISTRY") if context else IN_THE_LAB
    return PLAN.format(first=first, cache=cache(), down=f"{chosen(context)}make demo-down")


def chosen(context: str | None) -> str:
    """What stands before a `make` that is to find the same cluster."""
    lab = os.environ.get("LAB")
    return f"CONTEXT={shlex.quote(context)} " if context else f"LAB={shlex.quote(lab)} " if lab else ""


def farewell(cluster: Cluster) -> str:
    """How to go on, by commands that work in any shell: a bare machine has no kubectl on its PATH."""
    where = f"KUBECONFIG={shlex.quote(str(cluster.kubeconfig))} " if cluster.kubeconfig else ""
    command = shlex.join(cluster.command("get", "mdep,ftj,pods"))
    return f"\nTry it: {where}{command}\nEnd it: {chosen(cluster.context)}make demo-down"


def prepared() -> Cluster:
    """A cluster with our images in reach: the user's own, or the lab."""
    context, logins = os.environ.get("CONTEXT"), pullsecret.Logins()
    if context:
        logins = pullsecret.logins(registry := os.environ.get("REGISTRY", ""))
        if registry and not logins:
            print(pullsecret.without(registry), flush=True)
        cluster, refs = place.own(context, DEMO)
    else:
        place.prepare_lab()
        cluster, refs = place.the_lab(DEMO)
    claim.check(cluster)  # again: minutes have passed
    with step("Installing the operator with helm", usual="30 s"), pods.told(cluster, SYSTEM):
        install(cluster, refs, logins=logins)
    with step("A hub inside the cluster, with the model", usual="30 s") as shown, pods.told(cluster, DEMO):
        repos = {"demo/gemma-3-270m": [model.gguf(), model.safetensors()]}
        hubpod.start(cluster, refs["fetch"], repos, shown, secret=pullsecret.NAME if logins else None)
    return cluster


def install(cluster: Cluster, refs: dict[str, str], *more: str, logins: pullsecret.Logins | None = None) -> None:
    """The chart, in a namespace where only restricted pods may run; waits until the operator is ready.

    `more`: further options of helm's. `logins`: to the registry that the images are pulled from."""
    for namespace in (SYSTEM, DEMO):
        cluster.apply(json.dumps(claim.namespace(namespace)))
        cluster.run("label", "namespace", namespace, RESTRICTED, "--overwrite")
        if logins:
            cluster.within(namespace).apply(json.dumps(pullsecret.secret(logins, namespace)))
    more += (f"--set=images.pullSecrets={{{pullsecret.NAME}}}",) if logins else ()
    values = [f"--set=images.{name}={refs[name]}" for name in ("operator", "server", "trainer", "fetch", "gateway")]
    endpoint = f"--set=hub.endpoint=http://hub.{DEMO}.svc:8000"
    forget_pending(cluster)
    chart = str(ROOT / "charts" / "pilotboat")
    cluster.helm_run(
        "upgrade",
        "--install",
        "pilotboat",
        chart,
        f"--namespace={SYSTEM}",
        *values,
        endpoint,
        *more,
        "--wait",
        "--timeout=3m",
    )


def forget_pending(cluster: Cluster) -> None:
    """A helm that was killed half way, as with its terminal, leaves a release that no other can take up."""
    if cluster.helm_run("list", f"--namespace={SYSTEM}", "--pending", "--short").split():
        cluster.helm_run("uninstall", "pilotboat", f"--namespace={SYSTEM}", "--ignore-not-found", "--wait")


def show(cluster: Cluster) -> None:
    """The three things the demo is for, in order."""
    say("1. A ModelDeployment: a 4-bit GGUF, served")
    serve(cluster, "modeldeployment.yaml", "assistant")
    base = ask(cluster, "assistant")
    say("2. A FineTuneJob: LoRA on questions and answers about Kubernetes fields")
    tune(cluster)
    say("3. A ModelDeployment that names the job: base and adapter by reference")
    serve(cluster, "modeldeployment-tuned.yaml", "assistant-tuned")
    tuned = ask(cluster, "assistant-tuned")
    say("The same question to both")
    print(f"  question: {QUESTION}\n\n  base:  {shortened(base)}\n\n  tuned: {shortened(tuned)}\n")


def serve(cluster: Cluster, example: str, name: str) -> None:
    """Apply an example and wait until it is Ready, showing its reason all the while."""
    path = ROOT / "examples" / example
    print(f"$ kubectl apply -f examples/{example}\n{path.read_text()}", flush=True)
    cluster.run("apply", f"--filename={path}")
    with step(f"{name}: waiting for Ready", usual="30 s to 1 min") as shown:
        wait(cluster, "modeldeployments.pilotboat.dev", name, "Ready", shown)
    print(cluster.run("get", "modeldeployments.pilotboat.dev,pods"))


def wait(cluster: Cluster, kind: str, name: str, wanted: str, shown: Step, limit: float = 900) -> None:
    """Until the condition holds; a fault that stands when the time is over is told in the status's own words."""
    deadline = time.monotonic() + limit
    while True:
        raw = cluster.get(kind, name)
        now = condition(raw, wanted)
        if now.get("status") == "True" and now.get("observedGeneration") == raw["metadata"]["generation"]:
            return
        if failed := condition(raw, "Failed"):
            raise StepFailed(f"{name} failed: {failed['reason']}: {failed['message']}")
        shown.detail(happening(raw, now)[:100])
        if time.monotonic() > deadline:
            raise StepFailed(f"{name} is not {wanted} after {limit:.0f} s: {now.get('reason')}: {now.get('message')}")
        time.sleep(1)


def happening(raw: dict[str, Any], now: dict[str, Any]) -> str:
    """What goes on, in a few words: a job's step and loss, or the reason of the condition that is waited for."""
    status = raw.get("status", {})
    if progress := status.get("progress"):
        return f"step {progress.get('step')} of {progress.get('totalSteps')}, loss {progress.get('loss')}"
    return f"{now.get('reason') or status.get('phase', 'waiting')}: {now.get('message') or status.get('message', '')}"


def ask(cluster: Cluster, name: str) -> str:
    """The question to a deployment's Service, streamed by the official client."""
    print(f"$ chat with {name}: {QUESTION}", flush=True)
    with cluster.forwarded(f"service/{name}", 8080) as port:
        command = [str(venv.VENV / "bin" / "python"), "-m", "tools.chat", f"http://127.0.0.1:{port}/v1", name, QUESTION]
        asked = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert asked.stdout is not None
        heard = []
        while text := asked.stdout.read(1):
            heard.append(text)
            print(text, end="", flush=True)
        if asked.wait():
            raise StepFailed(f"the endpoint of {name} did not answer")
    return "".join(heard).rpartition("\n  (")[0].strip()


def tune(cluster: Cluster) -> None:
    """Data from the API server, the job, and its progress as kubectl shows it."""
    with step("Questions and answers from the API server's OpenAPI document", usual="5 s") as shown:
        folder = cache("demo", "dataset")
        count = corpus.write(json.loads(cluster.run("get", "--raw", "/openapi/v2")), folder)
        shown.detail(f"{count} pairs")
        made = cluster.run(
            *("create", "configmap", "kubernetes-fields", f"--from-file={folder / 'train.jsonl'}"),
            *("--dry-run=client", "--output=yaml"),
        )
        cluster.apply(made)
    forget(cluster)
    path = ROOT / "examples" / "finetunejob.yaml"
    print(f"$ kubectl apply -f examples/finetunejob.yaml\n{path.read_text()}", flush=True)
    cluster.run("apply", f"--filename={path}")
    print("$ kubectl get ftj -w", flush=True)
    watch = subprocess.Popen(cluster.command("get", "finetunejobs.pilotboat.dev", "--watch"), env=cluster.env)
    try:
        with step("kubernetes-fields: waiting for Complete", usual="3 min") as shown:
            wait(cluster, "finetunejobs.pilotboat.dev", "kubernetes-fields", "Complete", shown)
    finally:
        watch.terminate()
        watch.wait()
    print(cluster.run("get", "finetunejobs.pilotboat.dev"))


def forget(cluster: Cluster) -> None:
    """Take away what an earlier run trained. What serves it goes first: a volume is not deleted while it is mounted."""
    if not cluster.run("get", "finetunejobs.pilotboat.dev", "kubernetes-fields", "--ignore-not-found", "--output=name"):
        return
    with step("An earlier run's job, and what serves it: deleting", usual="15 s"):
        for target in (
            "modeldeployments.pilotboat.dev/assistant-tuned",
            "finetunejobs.pilotboat.dev/kubernetes-fields",
        ):
            cluster.run("delete", target, "--ignore-not-found", "--cascade=foreground", "--timeout=300s")


def record(seconds: float) -> None:
    """Step times as a table and, for `make bench`, as JSON."""
    say("How long it took")
    whole = Timing(WHOLE, round(seconds, 1), True, 0)
    print("\n".join(timing.row for timing in (*timings(), whole)))
    path = cache("demo") / "times.json"
    path.unlink(missing_ok=True)
    save_times(path, whole)


def down() -> int:
    """Take the demo away: the whole lab, or from the user's cluster what the demo put there."""
    context = os.environ.get("CONTEXT")
    if not context:
        place.check_place()
    found = place.there(context, DEMO)
    if context and found:
        claim.remove(found)
        return 0
    if found:
        claim.check_endable(found, place.command("lab-down"))
    place.end_lab()
    return 0


def say(text: str) -> None:
    """A heading."""
    print(f"\n=== {text}\n", flush=True)


def shortened(text: str) -> str:
    """An answer on one line."""
    return " ".join(text.split())[:300]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
