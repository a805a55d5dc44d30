"""A pod that calls deployments from inside the cluster, as an application would: counted requests, load, long streams.

Owns: the calls and how they are counted. Must not know: what they are to show.

A gateway may hear of replicas a moment after Ready is told (docs/status.md): calls begin when the first is answered.
Calls run detached in the pod and leave their counts in a file there, which is fetched when they are done: so the API
server and the pod's kubelet may fail meanwhile.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tools.kube import Cluster

CUT_OFF = "failed after the first token"
SCRIPT = """
import collections, http.client, json, os, select, sys, threading, time

wish = json.loads(sys.argv[1])
body = json.dumps({"model": wish["name"], "messages": [{"role": "user", "content": wish["prompt"]}],
                   "max_tokens": wish["tokens"], "stream": wish["stream"]})
counts, lock, left = collections.Counter(), threading.Lock(), iter(range(wish["count"]))
began, wrong = time.monotonic(), []
end = began + wish["seconds"]

def call(connection, asked):
    # an end that came while it rested, for which every client with a pool looks
    if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
        connection.close()
    if connection.sock is None:
        connection.connect()
    reached = time.monotonic()
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json", **wish["headers"]})
    answer = connection.getresponse()
    text = b""
    try:
        while wish["stream"] and (piece := answer.read1()):
            text += piece
        text += answer.read()
    except Exception as error:
        if b"data: " not in text:
            raise
        connection.close()
        wrong.append(f"broken at {time.monotonic() - began:.1f} s, after {len(text)} bytes: {error!r}")
        return "CUT_OFF"
    if answer.status == 200 and (not wish["stream"] or b"data: [DONE]" in text):
        return answer.getheader("X-Pilotboat-Revision") or "none"
    times = f"asked at {asked - began:.2f} s, connected at {reached - began:.2f} s"
    wrong.append(f"{times}, {answer.status} at {time.monotonic() - began:.2f} s: {text[:300]!r}")
    return "failed " + str(answer.status)

def work():
    connection = http.client.HTTPConnection(wish["host"], 8080, timeout=120)
    while time.monotonic() < end and not os.path.exists(wish["stop"]):
        with lock:
            if next(left, None) is None:
                return
        for attempt in range(1 + wish["again"]):
            asked = time.monotonic()
            try:
                told = call(connection, asked)
                break
            except Exception as error:
                told = "failed " + type(error).__name__
                connection.close()
                wrong.append(f"asked at {asked - began:.1f} s, broken at {time.monotonic() - began:.1f} s: {error!r}")
        if wish["fresh"]:
            connection.close()
        with lock:
            counts[told] += 1
            if attempt:
                counts["asked again"] += attempt
        time.sleep(wish["pause"])

def reached():
    # whether this node's proxy knows the Service, which may be younger than a second
    connection = http.client.HTTPConnection(wish["host"], 8080, timeout=10)
    try:
        connection.request("GET", "/v1/models", headers=wish["headers"])
        connection.getresponse()
        return True
    except OSError:
        return False
    finally:
        connection.close()

patience = time.monotonic() + 60
while time.monotonic() < patience and not reached():
    time.sleep(0.2)
open(wish["out"] + ".begun", "w")
threads = [threading.Thread(target=work) for _ in range(wish["threads"])]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
with open(wish["out"] + ".part", "w") as out:
    json.dump({"by": counts, "wrong": wrong[:100]}, out)
os.rename(wish["out"] + ".part", wish["out"])
""".replace("CUT_OFF", CUT_OFF)

DETACHED = """
import os, subprocess, sys, time

with open(sys.argv[3], "w") as said:
    command = [sys.executable, "-c", sys.argv[1], sys.argv[2]]
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
while running.poll() is None and not os.path.exists(sys.argv[4] + ".begun"):
    time.sleep(0.02)
"""

FETCHED = """
import os, sys, time

out, limit = sys.argv[1], time.monotonic() + float(sys.argv[2])
while not os.path.exists(out) and time.monotonic() < limit:
    time.sleep(0.1)
print(open(out).read() if os.path.exists(out) else "")
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
    wrong: list[str] = field(default_factory=list)
    """The first that failed, those that were asked again included: when, since the beginning, and how."""

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

    @property
    def node(self) -> str:
        """Where it runs, and what a fault had better spare."""
        return str(self.cluster.get("pod", "caller")["spec"]["nodeName"])

    def ask(self, name: str, count: int, **more: Any) -> Counted:
        """So many requests, eight at a time."""
        wish = _wish(name, count=count, **more)
        self._begin(wish)
        return self._end(wish)

    def page(self, url: str) -> str:
        """What is answered there, to one request from inside the cluster."""
        return self._python(
            "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())", url
        )

    def feedback(self, name: str, count: int, outcomes: Mapping[str, str]) -> dict[str, int]:
        """So many requests, each followed by the outcome of its revision; how many were taken, by revision."""
        wish = json.dumps({"name": name, "count": count, "outcomes": outcomes})
        taken: dict[str, int] = json.loads(self._python(FEEDBACK, wish))
        return taken

    @contextmanager
    def load(self, name: str, **more: Any) -> Iterator[Counted]:
        """Requests without end while the block runs; the counts are there after it."""
        wish, counted = _wish(name, **{"count": 10**9, "seconds": 600, **more}), Counted()
        self._begin(wish)
        try:
            yield counted
        finally:
            self._python("import sys; open(sys.argv[1], 'w')", wish["stop"])
            found = self._end(wish)
            counted.by.update(found.by)
            counted.wrong += found.wrong

    def _begin(self, wish: Mapping[str, Any]) -> None:
        """Returns when the first are about to be asked."""
        self._python(DETACHED, SCRIPT, json.dumps(wish), _log(wish), str(wish["out"]))

    def _end(self, wish: Mapping[str, Any]) -> Counted:
        """Waits for it, in stretches: a long exec is one more thing that can break."""
        deadline = time.monotonic() + wish["seconds"] + PATIENCE
        while time.monotonic() < deadline:
            if text := self._python(FETCHED, wish["out"], "20").strip():
                return Counted(**json.loads(text))
        said = self._python("import sys; print(open(sys.argv[1]).read())", _log(wish))
        raise AssertionError(f"the caller left no counts; it said: {said}")

    def _python(self, script: str, *arguments: str) -> str:
        return self.cluster.run("exec", "caller", "--", "python3", "-c", script, *arguments)


PATIENCE = 150
"""Seconds that requests under way may take after the last was begun."""


def _log(wish: Mapping[str, Any]) -> str:
    return f"{wish['out']}.log"


def _wish(name: str, **wishes: Any) -> dict[str, Any]:
    """What SCRIPT is told. `again`: tries after a broken connection; `fresh`: a connection for each request."""
    files = f"/tmp/{uuid.uuid4().hex}"
    answer = {"prompt": "hi", "tokens": 4, "stream": False, "headers": {}}
    how = {"threads": 8, "pause": 0, "seconds": 300, "again": 0, "fresh": False}
    return {"name": name, "host": name, "stop": f"{files}.stop", "out": files, **answer, **how, **wishes}
