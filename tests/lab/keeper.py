"""Keeps what hardware and a cloud would: simulated GPUs on the nodes, and a directory for every volume claim.

`python3 -m lab.keeper KUBECONFIG VOLUMES GPUS`. Level-triggered: a pass looks at all there is; watches only wake it.
It must not know how the lab was started.
"""

from __future__ import annotations

import http.client
import shutil
import sys
import threading
import time
from pathlib import Path

from lab.addons import PROVISIONER, STORAGE_CLASS
from lab.kube import ApiError, Client, Object

GPU = "nvidia.com/gpu"
PASS_EVERY = 2.0  # seconds; a restarted kubelet forgets the GPUs, and nothing waits long for them to come back
CLAIMS = "/api/v1/persistentvolumeclaims"
VOLUMES = "/api/v1/persistentvolumes"


def volume_of(claim: Object, directory: Path) -> Object:
    """The volume for a claim, already bound to it. All nodes share this machine's disk, so any node may mount it."""
    meta, spec = claim["metadata"], claim["spec"]
    reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": meta["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": volume_name(claim),
            "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
        },
        "spec": {
            "storageClassName": STORAGE_CLASS,
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "volumeMode": spec.get("volumeMode", "Filesystem"),
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": {**reference, "name": meta["name"], "namespace": meta["namespace"]},
            "hostPath": {"path": str(directory / volume_name(claim)), "type": "Directory"},
        },
    }


def volume_name(claim: Object) -> str:
    return f"pvc-{claim['metadata']['uid']}"


def wants_volume(claim: Object) -> bool:
    spec, phase = claim["spec"], claim.get("status", {}).get("phase")
    return spec.get("storageClassName") == STORAGE_CLASS and phase == "Pending" and not spec.get("volumeName")


def is_finished(volume: Object) -> bool:
    ours = volume["spec"].get("storageClassName") == STORAGE_CLASS and "hostPath" in volume["spec"]
    return ours and volume.get("status", {}).get("phase") in ("Released", "Failed")


def gpu_patch(node: Object, count: int) -> Object | None:
    """What the node's status lacks, if anything."""
    wanted = {GPU: str(count)}
    status = node.get("status", {})
    if all(status.get(part, {}).get(GPU) == str(count) for part in ("capacity", "allocatable")):
        return None
    return {"status": {"capacity": wanted, "allocatable": wanted}}


class Keeper:
    """One pass after another, at once after a change and otherwise every two seconds."""

    def __init__(self, client: Client, directory: Path, gpus: int) -> None:
        self.client, self.directory, self.gpus = client, directory, gpus
        self.woken = threading.Event()

    def provide(self, claim: Object) -> None:
        path = self.directory / volume_name(claim)
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)  # pods run as anybody but root
        self.client.apply(f"{VOLUMES}/{volume_name(claim)}", volume_of(claim, self.directory))

    def take_back(self, volume: Object) -> None:
        """The directory first: a volume whose object is gone would never be looked at again."""
        path = Path(volume["spec"]["hostPath"]["path"])
        if path.parent == self.directory:
            shutil.rmtree(path, ignore_errors=True)
        self.client.delete(f"{VOLUMES}/{volume['metadata']['name']}")

    def one_pass(self) -> None:
        for claim in self.client.get(CLAIMS)["items"]:
            if wants_volume(claim):
                self.provide(claim)
        for volume in self.client.get(VOLUMES)["items"]:
            if is_finished(volume):
                self.take_back(volume)
        for node in self.client.get("/api/v1/nodes")["items"]:
            if patch := gpu_patch(node, self.gpus):
                self.client.merge(f"/api/v1/nodes/{node['metadata']['name']}/status", patch)

    def watch(self, path: str) -> None:
        """Wakes the loop on every change; what changed is for the loop to see."""
        while True:
            try:
                since = self.client.get(f"{path}?limit=1")["metadata"]["resourceVersion"]
                for _ in self.client.watch(path, since, 300):
                    self.woken.set()
            except (OSError, ApiError, ValueError, http.client.HTTPException):
                time.sleep(1)

    def run(self) -> None:
        for path in (CLAIMS, VOLUMES, "/api/v1/nodes"):
            threading.Thread(target=self.watch, args=(path,), daemon=True).start()
        while True:
            self.woken.wait(PASS_EVERY)
            self.woken.clear()
            try:
                self.one_pass()
            except (OSError, ApiError, ValueError, http.client.HTTPException) as error:
                print(f"{type(error).__name__}: {error}", flush=True)
            time.sleep(0.2)


if __name__ == "__main__":
    Keeper(Client.load(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])).run()
