"""What `lab down` takes away where others keep things for it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from lab import cluster
from lab.layout import Lab


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
