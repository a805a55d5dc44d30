"""Bad input of a FineTuneJob, from the API server to its status: what each says, and that nothing is tried in vain.

API server, Job controller and operator are real, and so are fetch and the trainer, which run on the very files that the
operator wrote. What kubelet and the scheduler say is ours. What the API server itself refuses is in test_crds.py.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilotboat.engine.kinds import CONFIG_MAP, FINE_TUNE_JOB, JOB, POD, PVC
from pilotboat.plan.build import dig
from tests.integration.cluster import PATIENCE, Cluster
from tests.integration.running import operator
from tests.integration.test_lost_node import job
from tests.unit.plan.world import ended

Raw = dict[str, Any]
ROOT = Path(__file__).parents[2]
GOOD_LINE = '{"prompt": "2+2", "completion": "4"}'
ROWS = {"dataset": {"source": {"configMap": {"name": "rows", "key": "train.jsonl"}}}}
ON_CLAIM = {"base": {"source": {"pvc": {"claimName": "weights"}}}}
IN_POD = re.compile(r'"(?=/(?:models|data|sources|output|checkpoints)/)')
"""Where a path of the pod begins in a configuration file."""


def conditions(found: list[Raw]) -> dict[str, Raw]:
    return {c["type"]: c for c in (dig(found[0], "status", "conditions") if found else None) or ()}


async def told(cluster: Cluster, kind: str, reason: str) -> str:
    """The message with which it is told."""
    found = await cluster.until(FINE_TUNE_JOB, lambda found: conditions(found).get(kind, {}).get("reason") == reason)
    return str(conditions(found)[kind]["message"])


async def given(cluster: Cluster, text: str = GOOD_LINE, **changes: Any) -> None:
    """A job, its data set, and a claim with a base model."""
    rows = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rows"}, "data": {"train.jsonl": text}}
    await cluster.apply(rows)
    storage = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"apiVersion": PVC.api_version, "kind": PVC.kind, "metadata": {"name": "weights"}, "spec": storage}
    await cluster.apply(claim)
    made = job("qa")
    await cluster.apply(made | {"spec": made["spec"] | ON_CLAIM | ROWS | changes})


# --- before there is a pod

MISSING: dict[str, tuple[Raw, str, str]] = {
    "no ConfigMap": (
        {"dataset": {"source": {"configMap": {"name": "none", "key": "train.jsonl"}}}},
        *("ConfigMapNotFound", "ConfigMap none does not exist"),
    ),
    "no such key": (
        {"dataset": {"source": {"configMap": {"name": "rows", "key": "test.jsonl"}}}},
        *("ConfigMapNotFound", "ConfigMap rows has no key test.jsonl"),
    ),
    "no claim for the base": (
        {"base": {"source": {"pvc": {"claimName": "none"}}}},
        *("PersistentVolumeClaimNotFound", "PersistentVolumeClaim none does not exist"),
    ),
    "no claim for the result": (
        {"output": {"pvc": {"claimName": "none"}}},
        *("PersistentVolumeClaimNotFound", "PersistentVolumeClaim none does not exist"),
    ),
}


@pytest.mark.parametrize("case", MISSING, ids=str)
async def test_what_is_missing_is_named_before_a_pod_is_made(cluster: Cluster, case: str) -> None:
    changes, reason, words = MISSING[case]
    async with operator(cluster.configuration, cluster.namespace):
        await given(cluster, **changes)
        assert words in await told(cluster, "DataReady", reason)
        assert await cluster.list(JOB) == []


async def test_a_request_above_its_limit_is_refused_in_the_api_servers_words(cluster: Cluster) -> None:
    resources = {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}
    async with operator(cluster.configuration, cluster.namespace):
        await given(cluster, podTemplate={"resources": resources})
        message = await told(cluster, "Running", "PodRejected")
        assert "must be less than or equal to memory limit of 1Gi" in message
        assert await cluster.list(JOB) == []


# --- what kubelet and the scheduler say of the pod


def waits(container: str, reason: str, message: str) -> Raw:
    state = {"ready": False, "restartCount": 0, "image": "i", "imageID": "", "name": container}
    return {
        "phase": "Pending",
        "containerStatuses": [state | {"state": {"waiting": {"reason": reason, "message": message}}}],
    }


def no_image(pod: Raw) -> Raw:
    image = pod["spec"]["containers"][0]["image"]
    return waits("trainer", "ErrImagePull", f'failed to pull and unpack image "{image}": not found')


def no_secret(pod: Raw) -> Raw:
    (named,) = [
        env["valueFrom"]["secretKeyRef"] for env in pod["spec"]["initContainers"][0]["env"] if "valueFrom" in env
    ]
    found = waits("fetch", "CreateContainerConfigError", f'secret "{named["name"]}" not found')
    return {"phase": "Pending", "initContainerStatuses": found["containerStatuses"]}


def no_node(pod: Raw) -> Raw:
    asked = pod["spec"]["containers"][0]["resources"]["requests"]["memory"]
    told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    message = f"0/3 nodes are available: 3 Insufficient memory ({asked})."
    return {"phase": "Pending", "conditions": [told | {"message": message}]}


KEPT_OUT: dict[str, tuple[Raw, Callable[[Raw], Raw], str, str]] = {
    "no image": ({"trainer": {"image": "nowhere.example/trainer:none"}}, no_image, "ImagePullError", "nowhere.example"),
    "no Secret": (
        {"base": {"source": {"huggingFace": {"repo": "org/base", "tokenSecretRef": {"name": "hub-token"}}}}},
        *(no_secret, "SecretNotFound", 'secret "hub-token" not found'),
    ),
    "more than any node has": (
        {"podTemplate": {"resources": {"requests": {"memory": "900Ti"}}}},
        *(no_node, "Unschedulable", "Insufficient memory (900Ti)"),
    ),
}


@pytest.mark.parametrize("case", KEPT_OUT, ids=str)
async def test_what_keeps_a_pod_from_running_is_told_in_its_own_words(cluster: Cluster, case: str) -> None:
    changes, kubelet, reason, words = KEPT_OUT[case]
    async with operator(cluster.configuration, cluster.namespace):
        await given(cluster, **changes)
        (pod,) = await cluster.until(POD, lambda found: len(found) == 1)
        await report(cluster, pod, kubelet(pod))
        assert words in await told(cluster, "Running", reason)


async def report(cluster: Cluster, pod: Raw, status: Raw) -> None:
    """As kubelet does it."""
    raw = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod["metadata"]["name"]}, "status": status}
    await cluster.apply(raw, "kubelet", subresource="status")


# --- what fetch and the trainer say


WRONG = "0" * 64
REFUSED: dict[str, tuple[Raw, str, str, str]] = {
    "a data set of another digest": (
        {"dataset": ROWS["dataset"] | {"sha256": WRONG}},
        GOOD_LINE,
        "ChecksumMismatch",
        "train.jsonl",
    ),
    "a base of another digest": (
        {"base": ON_CLAIM["base"] | {"digests": {"model.gguf": WRONG}}},
        *(GOOD_LINE, "ChecksumMismatch", "model.gguf"),
    ),
    "a base that is not there": (
        {"base": {"source": {"pvc": {"claimName": "weights", "path": "nowhere"}}}},
        *(GOOD_LINE, "SourceNotFound", "nowhere"),
    ),
    "a line that is broken": ({}, f"{GOOD_LINE}\n{GOOD_LINE}\n{{\n", "InvalidDataset", "line 3"),
    "a line of no known format": ({}, '{"question": "2+2"}', "InvalidDataset", "line 1"),
    "a model file that is no model": ({}, GOOD_LINE, "InvalidModel", "model.gguf"),
}


@pytest.mark.parametrize("case", REFUSED, ids=str)
async def test_what_the_pods_programs_refuse_ends_the_job_at_once(cluster: Cluster, tmp_path: Path, case: str) -> None:
    changes, text, reason, words = REFUSED[case]
    async with operator(cluster.configuration, cluster.namespace):
        await given(cluster, text, **changes)
        (pod,) = await cluster.until(POD, lambda found: len(found) == 1)
        await report(cluster, pod, await Node(cluster, tmp_path).runs(pod))
        assert words in await told(cluster, "Failed", reason)
        (found,) = await cluster.list(FINE_TUNE_JOB)
        assert (found["status"]["phase"], len(found["status"]["attempts"])) == ("Failed", 1)
        (made,) = await cluster.list(JOB)
        assert made["status"]["failed"] == 1, "what no retry mends is not tried again"


class Node:
    """Runs a job's pod as kubelet would, in a folder that stands for the pod's file system."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster, self._folder = cluster, folder

    async def runs(self, pod: Raw) -> Raw:
        """Its status when a container has failed."""
        await self._mounted(pod)
        state = {"ready": False, "restartCount": 0, "image": "i", "imageID": ""}
        code, message = await self._run("fetch")
        over = {"terminated": ended(code, "Error" if code else "Completed", message)}
        status: Raw = {"phase": "Failed", "initContainerStatuses": [{"name": "fetch", **state, "state": over}]}
        if code == 0:
            code, message = await self._run("trainer")
            assert code, "it trained"
            over = {"terminated": ended(code, "Error", message)}
            status["containerStatuses"] = [{"name": "trainer", **state, "state": over}]
        return status

    async def _mounted(self, pod: Raw) -> None:
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for mount in pod["spec"]["initContainers"][0]["volumeMounts"]:
            place = self._folder / mount["mountPath"].lstrip("/")
            place.mkdir(parents=True)
            volume = volumes[mount["name"]]
            if named := dig(volume, "configMap", "name"):
                for key, text in (await self._cluster.get(CONFIG_MAP, named))["data"].items():
                    (place / key).write_text(IN_POD.sub(f'"{self._folder}', text))
            if "persistentVolumeClaim" in volume:
                (place / "model.gguf").write_bytes(b"no model" * 16)
        (self._folder / "output").mkdir()

    async def _run(self, program: str) -> tuple[int, str]:
        config, log = self._folder / "etc" / "pilotboat" / f"{program}.json", self._folder / f"{program}-said"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"pilotboat_{program}", f"--config={config}"),
            env=os.environ | {"PILOTBOAT_TERMINATION_LOG": str(log), "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        async with asyncio.timeout(5 * PATIENCE):  # PyTorch may be loaded
            code = await process.wait()
        return code, log.read_text()
