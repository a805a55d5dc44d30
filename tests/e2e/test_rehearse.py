"""The rehearsals of examples/rehearsals on the lab, shortened: the command as users run it, real kubelets, real cuts.

What is promised is measured by `make bench-recovery`, on a machine with nothing else to do. Here a rehearsal has to
measure every fault, to leave nothing behind, and to lose no request to the end of one process or pod. It runs in the
network of the first node, which no fault hits: a port-forward could not tell its own failure from a gateway's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import faults, plane, procs
from lab.layout import current
from tests.e2e.conftest import MDEP, Space, fake
from tools.host import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.alone]
NAME = "assistant"
EXAMPLES = ROOT / "examples" / "rehearsals"
CALLER, VICTIM = "n1", "n2"
HIT = {"cutNode": {"node": VICTIM}, "cutZone": {"zone": "zone-2"}}
UNTIMED = {"trafficSeconds": None, "replacementSeconds": None, "readySeconds": None}
"""Of what is promised of a kind this leaves the requests: other work on this machine takes time from a rehearsal."""
PATHS = os.pathsep.join(str(ROOT / path) for path in ("tests", "operator", "."))


@pytest.fixture
def deployed(space: Space) -> Iterator[Space]:
    engine = {"type": "Fake", "fake": {"tokens": 20, "delay": 0.05}}
    space.apply("ModelDeployment", NAME, fake(replicas=3, engine=engine, zones={"spread": "Required"}))
    space.wait(MDEP, NAME, "Ready")
    yield space
    for node in current().nodes:
        faults.mend(node)


def shortened(example: str, space: Space, folder: Path, **more: Any) -> Path:
    """An example against this test's namespace: the same faults, for a shorter time."""
    raw = yaml.safe_load((EXAMPLES / example).read_text())
    raw["deployment"]["namespace"] = space.cluster.namespace
    raw["load"] |= {"before": 4, "after": 1, "requestsPerSecond": 3, "streams": 3, "maxTokens": 20}
    raw["load"]["via"] = "Service"
    raw["wait"] = 400
    for fault in raw["faults"]:
        fault["for"] = min(fault["for"], 10)
        fault["promise"] = dict(UNTIMED)
        fault |= HIT.get(fault["kind"], {})
    path = folder / example
    path.write_text(yaml.safe_dump(raw | more))
    return path


def command(path: Path, *options: str) -> list[str]:
    lab = current()
    program = [sys.executable, "-m", "pilotboat", "rehearse", str(path)]
    kubeconfig = f"--kubeconfig={plane.in_namespace(lab).conf('admin')}"
    return [*procs.in_netns(lab.node(CALLER).netns), *program, kubeconfig, *options]


def rehearse(space: Space, path: Path, *options: str) -> tuple[int, str]:
    env = {**space.cluster.env, "PYTHONPATH": PATHS}
    done = subprocess.run(command(path, *options), env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def trouble(rows: Iterable[dict[str, Any]]) -> list[str]:
    """All but that this machine was too busy to measure, which is not the deployment's."""
    told = (why for row in rows for why in (row["trouble"], row["unfinished"]) if why)
    return [why for why in told if "this machine is too busy" not in why and "failed on this side" not in why]


def test_one_replica(deployed: Space, tmp_path: Path) -> None:
    record = tmp_path / "figures.json"
    code, output = rehearse(deployed, shortened("replica.yaml", deployed, tmp_path), f"--json={record}")
    assert record.exists(), f"{code}: {output}"
    rows = {row["kind"]: row["ours"] for row in json.loads(record.read_text())}
    assert set(rows) == {"killProcess", "deletePod", "slowModel", "fullDisk"}, output
    assert trouble(rows.values()) == [], output
    assert {kind: row["seen"]["lost"] for kind, row in rows.items()} == dict.fromkeys(rows, 0), output
    measured = not any(row["trouble"] or row["unfinished"] for row in rows.values())
    assert code == (0 if measured else 2), output
    assert rows["killProcess"]["restored"]["ready"] is not None, output
    assert rows["deletePod"]["restored"]["replaced"] is not None, output
    for pod in deployed.pods(NAME):
        name = pod["metadata"]["name"]
        left = deployed.cluster.run("exec", name, "-cserver", "--", "sh", "-c", "ls /tmp; cat /proc/[0-9]*/stat")
        assert "pilotboat-rehearsal" not in left
        assert ") T " not in left


def test_a_node_and_a_zone(deployed: Space, tmp_path: Path) -> None:
    path = shortened("node.yaml", deployed, tmp_path)
    code, output = rehearse(deployed, path)
    assert code == 2
    assert "--allow-commands" in output
    code, output = rehearse(deployed, path, "--allow-commands", "--dry-run")
    assert code == 0, output
    assert "would hit" in output
    record = tmp_path / "figures.json"
    code, output = rehearse(deployed, path, "--allow-commands", f"--json={record}")
    assert code in (0, 1), output
    rows = [row["ours"] for row in json.loads(record.read_text())]
    assert len(rows) == 2
    assert trouble(rows) == [], output
    assert [row["seen"]["lost"] for row in rows if row["seen"]] == [0, 0], output


def test_beyond_its_limit_nothing_is_disturbed(deployed: Space, tmp_path: Path) -> None:
    before = {pod["metadata"]["uid"] for pod in deployed.pods(NAME)}
    limited = shortened("node.yaml", deployed, tmp_path, limit={"replicas": 1, "nodes": 0, "seconds": 60})
    code, output = rehearse(deployed, limited, "--allow-commands")
    assert code == 2
    assert "limit.nodes allows 0" in output
    assert {pod["metadata"]["uid"] for pod in deployed.pods(NAME)} == before


def test_ctrl_c_leaves_an_engine_that_answers(deployed: Space, tmp_path: Path) -> None:
    hang = {"name": "hang", "kind": "slowModel", "for": 100}
    path = shortened("replica.yaml", deployed, tmp_path, faults=[hang], limit={"seconds": 100})
    env = {**deployed.cluster.env, "PYTHONPATH": PATHS}
    process = subprocess.Popen(command(path), env=env, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    for line in process.stderr:
        if "for 100 s" in line:
            break
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "every fault is undone" in complaint
    for pod in deployed.pods(NAME):
        name = pod["metadata"]["name"]
        states = deployed.cluster.run("exec", name, "-cserver", "--", "sh", "-c", "cat /proc/[0-9]*/stat")
        assert ") T " not in states
