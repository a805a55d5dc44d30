"""kubectl and helm against one cluster, for tools: the lab's, or the context a user names.

Owns: how commands find the cluster. Must not know: what they do there. Standard library only.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tools.steps import StepFailed

OLDEST = {
    "kubectl": (("version", "--client"), (1, 20)),  # delete --cascade=foreground
    "helm": (("version", "--short"), (3, 13)),  # uninstall --ignore-not-found
}
"""How each program tells its version, and the first one that knows all that it is asked."""


@dataclass(frozen=True)
class Cluster:
    """Where kubectl and helm go; `context` None takes the kubeconfig's current one."""

    kubectl: str
    helm: str
    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str = "default"
    environment: dict[str, str] = field(default_factory=dict)

    def within(self, namespace: str) -> Cluster:
        """The same cluster, another namespace."""
        return replace(self, namespace=namespace)

    @property
    def title(self) -> str:
        """What a sentence calls it."""
        return f"The cluster {self.context}" if self.context else "The cluster"

    @property
    def env(self) -> dict[str, str]:
        """The environment of both commands."""
        known = {"KUBECONFIG": str(self.kubeconfig)} if self.kubeconfig else {}
        return {**os.environ, **known, **self.environment}

    def command(self, *args: str) -> list[str]:
        """A kubectl command line in the cluster's namespace."""
        chosen = [f"--context={self.context}"] if self.context else []
        return [self.kubectl, *chosen, f"--namespace={self.namespace}", *args]

    def run(self, *args: str, stdin: str | None = None) -> str:
        """kubectl's output; StepFailed with its words where it fails."""
        return _output(self.command(*args), self.env, stdin)

    def helm_run(self, *args: str) -> str:
        """helm's output; StepFailed with its words where it fails."""
        chosen = [f"--kube-context={self.context}"] if self.context else []
        return _output([self.helm, *chosen, *args], self.env, None)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object."""
        found: dict[str, Any] = json.loads(self.run("get", kind, name, "--output=json"))
        return found

    def apply(self, manifest: str, *options: str) -> None:
        """Server-side apply of YAML or JSON text: no size limit of an annotation, and conflicts are told."""
        self.run("apply", "--server-side", "--filename=-", *options, stdin=manifest)

    @contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[int]:
        """A loopback port that reaches `target` (such as svc/chat) while the block runs."""
        command = self.command("port-forward", target, f":{port}", "--address=127.0.0.1")
        process = subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if "Forwarding from" not in line:
                raise StepFailed(f"kubectl port-forward {target} said: {line.strip() or 'nothing'}")
            yield int(line.split("127.0.0.1:")[1].split()[0])
        finally:
            process.terminate()
            process.wait()


def too_old() -> Iterator[str]:
    """A sentence for each program on the PATH that does not know the options that are used here."""
    for name, (asked, oldest) in OLDEST.items():
        said = subprocess.run([name, *asked], capture_output=True, text=True, check=False).stdout
        found = re.search(r"v(\d+)\.(\d+)", said)
        if found and tuple(map(int, found.groups())) < oldest:
            wanted = ".".join(map(str, oldest))
            yield f"{name} on the PATH is {found[0]}, and v{wanted} or newer is needed: put one before it on the PATH."


def unknown(context: str) -> Iterator[str]:
    """A sentence where the kubeconfig has no such context."""
    asked = ["kubectl", "config", "get-contexts", "--output=name"]
    there = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split("\n")[:-1]
    if context not in there:
        known = ", ".join(there[:10]) or "none"
        yield f"CONTEXT={context} is no context of your kubeconfig, which has {known}: take another, or set KUBECONFIG."


def condition(raw: dict[str, Any], kind: str) -> dict[str, Any]:
    """A condition of an object; an empty one where it is not there."""
    found = (c for c in raw.get("status", {}).get("conditions", ()) if c["type"] == kind)
    return next(found, {})


def _output(command: Sequence[str], env: dict[str, str], stdin: str | None) -> str:
    done = subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StepFailed(f"`{' '.join(command[:6])} …` failed: {done.stderr.strip()[-2000:]}")
    return done.stdout
