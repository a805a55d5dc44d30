"""What `lab down` takes away where others keep things for it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import cluster
from lab.layout import Lab
from tools.steps import StepFailed


def result(folder: Path, pod: str, addresses: Path) -> None:
    """What the plug-ins leave of a pod: one file for its own network, one for loopback."""
    config = base64.b64encode(json.dumps({"name": "lab", "ipam": {"dataDir": str(addresses)}}).encode()).decode()
    (folder / f"lab-{pod}-eth0").write_text(json.dumps({"containerId": pod, "config": config}))
    loopback = base64.b64encode(b'{"name": "cni-loopback"}').decode()
    (folder / f"cni-loopback-{pod}-lo").write_text(json.dumps({"containerId": pod, "config": loopback}))


def test_of_the_networks_of_pods_only_those_of_this_lab_are_forgotten(tmp_path: Path) -> None:
    lab = Lab("mine")
    result(tmp_path, "a1", lab.dir / "n1" / "ipam")
    result(tmp_path, "b2", Lab("mine-too").dir / "n1" / "ipam")
    cluster.remove_network_results(lab, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cni-loopback-b2-lo", "lab-b2-eth0"]


def test_a_machine_without_such_a_folder_is_none_the_worse(tmp_path: Path) -> None:
    cluster.remove_network_results(Lab("mine"), tmp_path / "none")


@contextmanager
def running_from(cache: Path, name: str) -> Iterator[None]:
    """A lab's program that works in that cache."""
    data = cache / "lab" / name / "etcd"
    data.mkdir(parents=True)
    program = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, f"--data-dir={data}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline()
        yield
        process.kill()


def test_a_lab_of_another_cache_is_not_ended_for_its_name(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sudo make lab-down` after `sudo -E make lab`: another home, and so another cache."""
    lab, theirs = Lab(f"old-{os.getpid()}"), short / "theirs"
    monkeypatch.setenv("PILOTBOAT_CACHE", str(short / "ours"))
    with running_from(theirs, lab.name):
        for refused in (cluster.down, cluster.check):
            with pytest.raises(StepFailed, match=f"`PILOTBOAT_CACHE={theirs} LAB={lab.name} make lab-down`"):
                refused(lab)
        cluster.check_elsewhere(Lab(f"{lab.name}-not"))
        monkeypatch.setenv("PILOTBOAT_CACHE", str(theirs))
        cluster.check_elsewhere(lab)


def test_a_lab_whose_folder_is_gone_is_ended_by_its_name(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab, theirs = Lab(f"old-{os.getpid()}"), short / "theirs"
    monkeypatch.setenv("PILOTBOAT_CACHE", str(short / "ours"))
    with running_from(theirs, lab.name):
        (theirs / "lab" / lab.name / "etcd").rmdir()
        (theirs / "lab" / lab.name).rmdir()
        cluster.check_elsewhere(lab)
