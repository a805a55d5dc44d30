"""A pod that calls deployments from inside the cluster, as an application would: counted requests, load, long streams.

Owns: the calls and how they are counted. Must not know: what they are to show.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tools.kube import Cluster

SCRIPT = """
import collections, http.client, json, os, sys, threading, time

wish = json.loads(sys.argv[1])
body = json.dumps({"model": wish["name"], "messages": [{"role": "user", "content": wish["prompt"]}],
                   "max_tokens": wish["tokens"], "stream": wish["stream"]})
counts, lock, left = collections.Counter(), threading.Lock(), iter(range(wish["count"]))
end = time.monotonic() + wish["seconds"]

def call(connection):
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json", **wish["headers"]})
    answer = connection.getresponse()
    text = answer.read()
    whole = answer.status == 200 and (not wish["stream"] or b"data: [DONE]" in text)
    return (answer.getheader("X-Pilotboat-Revision") or "none") if whole else "failed " + str(answer.status)

def work():
    connection = http.client.HTTPConnection(wish["host"], 8080, timeout=120)
    while time.monotonic() < end and not os.path.exists(wish["stop"]):
        with lock:
            if next(left, None) is None:
                return
        for attempt in range(1 + wish["again"]):
            try:
                told = call(connection)
                break
            except Exception as error:
                told = "failed " + type(error).__name__
                connection.close()
        with lock:
            counts[told] += 1
            if attempt:
                counts["asked again"] += attempt
        time.sleep(wish["pause"])

threads = [threading.Thread(target=work) for _ in range(wish["threads"])]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps(counts))
"""


FEEDBACK = """
import http.client, json, sys

wish = json.loads(sys.argv[1])
told = {}
for number in range(wish["count"]):
    connection = http.client.HTTPConnection(wish["name"], 8080, timeout=60)
    body = json.dumps({"model": wish["name"], "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2})
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    revision = answer.getheader("X-Pilotboat-Revision")
    outcome = wish["outcomes"].get(revision, "other")
    posted = json.dumps({"request_id": answer.getheader("x-request-id"), "outcome": outcome})
    connection.request("POST", "/v1/feedback", posted, {"Content-Type": "application/json"})
    told[revision] = told.get(revision, 0) + (connection.getresponse().status == 204)
    connection.close()
print(json.dumps(told))
"""


@dataclass
class Counted:
    """How many requests each revision answered whole, and how many failed."""

    by: dict[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> dict[str, int]:
        """What went wrong, by how."""
        return {told: count for told, count in self.by.items() if told.startswith("failed")}

    @property
    def again(self) -> int:
        """How often a request was repeated because its connection broke before any answer."""
        return self.by.get("asked again", 0)

    @property
    def whole(self) -> int:
        """Requests answered whole."""
        return sum(count for told, count in self.by.items() if told not in self.failed) - self.again


@dataclass(frozen=True)
class Caller:
    """The pod `caller` in a namespace."""

    cluster: Cluster

    def start(self, image: str, node: str) -> None:
        """Make the pod on that node; `image` is any with Python."""
        container = {
            "name": "caller",
            "image": image,
            "command": ["python3", "-c", "import signal; signal.pause()"],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        }
        spec = {
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": {"kubernetes.io/hostname": node},
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        }
        self.cluster.apply(
            json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "caller"}, "spec": spec})
        )
        self.cluster.run("wait", "pod/caller", "--for=condition=Ready", "--timeout=60s")

    def ask(self, name: str, count: int, **more: Any) -> Counted:
        """So many requests, eight at a time."""
        return Counted(json.loads(self.cluster.run(*self._command(name, count=count, **more))))

    def feedback(self, name: str, count: int, outcomes: Mapping[str, str]) -> dict[str, int]:
        """So many requests, each followed by the outcome of its revision; how many were taken, by revision."""
        wish = json.dumps({"name": name, "count": count, "outcomes": outcomes})
        taken: dict[str, int] = json.loads(self.cluster.run("exec", "caller", "--", "python3", "-c", FEEDBACK, wish))
        return taken

    @contextmanager
    def load(self, name: str, **more: Any) -> Iterator[Counted]:
        """Requests without end while the block runs; the counts are there after it."""
        stop, counted = f"/tmp/stop-{time.monotonic_ns()}", Counted()
        command = self.cluster.command(*self._command(name, stop=stop, **{"count": 10**9, "seconds": 600, **more}))
        process = subprocess.Popen(command, env=self.cluster.env, stdout=subprocess.PIPE, text=True)
        try:
            yield counted
        finally:
            self.cluster.run("exec", "caller", "--", "python3", "-c", f"open({stop!r}, 'w')")
            output, _ = process.communicate(timeout=180)
        counted.by.update(json.loads(output))

    def _command(self, name: str, **wishes: Any) -> list[str]:
        headers: Mapping[str, str] = wishes.pop("headers", {})
        defaults = {"prompt": "hi", "tokens": 4, "stream": False, "threads": 8, "pause": 0, "seconds": 300, "again": 0}
        wish = {"name": name, "host": name, "stop": "/tmp/never", "headers": headers, **defaults, **wishes}
        return ["exec", "caller", "--", "python3", "-c", SCRIPT, json.dumps(wish)]
