"""Progress posts with tokens that the API server itself made, over TLS."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from lab.plane import free_ports
from pilotboat.api import labels
from pilotboat.engine import tls
from pilotboat.engine.api import Api
from pilotboat.engine.engine import utc
from pilotboat.engine.kinds import CONFIG_MAP, FINE_TUNE_JOB, JOB, POD, SECRET, Kind
from pilotboat.engine.receiver import Receiver
from pilotboat.engine.web import serve
from pilotboat.plan.finetune import audience
from tests.integration.cluster import Cluster
from tests.integration.running import operator
from tests.integration.test_reconcile import fine_tune_job

Raw = dict[str, Any]
TIME = "2026-01-31T12:00:00Z"
BODY = {"trainerStatus": {"progressPercentage": 10, "lastUpdatedTime": TIME}, "progress": {"step": 5, "loss": "NaN"}}


class Trainer:
    """Posts as a job's pod would."""

    def __init__(self, cluster: Cluster, url: str, ca: bytes) -> None:
        self._cluster = cluster
        self._url = url
        self._ca = ssl.create_default_context(cadata=ca.decode())

    async def token(self, pod: str | None, job: str = "qa", namespace: str | None = None) -> str:
        """By the TokenRequest API, bound to a pod as kubelet does it."""
        spec: Raw = {"audiences": [audience(namespace or self._cluster.namespace, job)]}
        if pod:
            uid = (await self._cluster.get(POD, pod))["metadata"]["uid"]
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}
        requests = Kind("v1", "TokenRequest", "serviceaccounts/default/token")
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = await self._cluster.api.create(requests, self._cluster.namespace, body)
        return str(answer["status"]["token"])

    async def post(self, token: str | None, body: Any = BODY, job: str = "qa") -> tuple[int, str]:
        path = f"/apis/{labels.API_VERSION}/namespaces/{self._cluster.namespace}/finetunejobs/{job}/status"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with (
            aiohttp.ClientSession() as session,
            session.post(self._url + path, data=data, headers=headers, ssl=self._ca) as response,
        ):
            return response.status, (await response.json())["message"]


@pytest.fixture
async def trainer(cluster: Cluster) -> AsyncIterator[Trainer]:
    async with receiving(cluster, cluster.api) as found:
        yield found


@asynccontextmanager
async def receiving(cluster: Cluster, api: Api) -> AsyncIterator[Trainer]:
    """A receiver that asks the API server by this one, and who posts to it."""
    identity = await tls.ensure(cluster.api, cluster.namespace, "progress-tls", ("localhost",), utc())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    identity.load_into(context)
    (port,) = free_ports(1)
    runner = await serve(Receiver(api).app(), "127.0.0.1", port, context)
    try:
        yield Trainer(cluster, f"https://localhost:{port}", identity.ca)
    finally:
        await runner.cleanup()


@pytest.fixture
async def pod(cluster: Cluster) -> str:
    """The pod of a job, made by the operator and the Job controller."""
    async with operator(cluster.configuration, cluster.namespace):
        await cluster.apply(fine_tune_job("qa"))
        found = await cluster.until(POD, bool)
    return str(found[0]["metadata"]["name"])


async def test_a_pod_of_the_job_may_post(cluster: Cluster, trainer: Trainer, pod: str) -> None:
    token = await trainer.token(pod)
    assert await trainer.post(token) == (200, "ok")
    job = await cluster.get(FINE_TUNE_JOB, "qa")
    assert job["status"]["trainerStatus"] == {**BODY["trainerStatus"], "metrics": []}
    assert job["status"]["progress"] == BODY["progress"]
    owners = {entry["manager"] for entry in job["metadata"]["managedFields"] if "f:progress" in str(entry)}
    assert owners == {labels.PROGRESS_MANAGER}


async def test_progress_and_status_leave_each_other_alone(cluster: Cluster, trainer: Trainer, pod: str) -> None:
    await trainer.post(await trainer.token(pod))
    async with operator(cluster.configuration, cluster.namespace) as running:
        await cluster.merge(FINE_TUNE_JOB, "qa", {"spec": {"activeDeadlineSeconds": 3600}})
        (job,) = await cluster.until(
            FINE_TUNE_JOB,
            lambda found: found[0]["status"].get("observedGeneration") == found[0]["metadata"]["generation"],
        )
        await running.idle()
        assert job["status"]["progress"] == BODY["progress"]
        assert await trainer.post(await trainer.token(pod), {"progress": {"step": 6}}) == (200, "ok")
        (job,) = await cluster.until(FINE_TUNE_JOB, lambda found: found[0]["status"]["progress"]["step"] == 6)
        assert job["status"]["conditions"]


async def test_who_may_not_post(cluster: Cluster, trainer: Trainer, pod: str) -> None:
    stranger = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger", "labels": labels.child_labels("trainer", "qa")},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    await cluster.apply(stranger)
    await cluster.apply(fine_tune_job("other"))
    assert (await trainer.post(None))[0] == 401
    assert (await trainer.post("nonsense"))[0] == 401
    assert (await trainer.post(await trainer.token(pod, job="other")))[0] == 401
    assert (await trainer.post(await trainer.token(None)))[0] == 403
    assert (await trainer.post(await trainer.token("stranger")))[0] == 403
    assert (await trainer.post(await trainer.token(pod, job="other"), job="other"))[0] == 403
    for job in ("qa", "other"):
        assert "progress" not in (await cluster.get(FINE_TUNE_JOB, job)).get("status", {})


async def test_what_may_not_be_posted(cluster: Cluster, trainer: Trainer, pod: str) -> None:
    token = await trainer.token(pod)
    code, text = await trainer.post(token, {"trainerStatus": {"progressPercentage": 101}})
    assert (code, text) == (400, "trainerStatus.progressPercentage: must be from 0 to 100")
    assert (await trainer.post(token, b"{"))[0] == 400
    assert (await trainer.post(token, b" " * (64 * 1024 + 1)))[0] == 413


async def test_a_job_that_is_gone(cluster: Cluster, trainer: Trainer, pod: str) -> None:
    token = await trainer.token(pod)
    assert await trainer.post(token) == (200, "ok")
    await cluster.delete(await cluster.get(FINE_TUNE_JOB, "qa"))
    assert (await trainer.post(token))[0] == 404
    await cluster.until(JOB, lambda found: not found)


async def test_replicas_that_start_together_share_one_certificate(cluster: Cluster) -> None:
    found = await asyncio.gather(
        *(tls.ensure(cluster.api, cluster.namespace, "shared", ("localhost",), utc()) for _ in range(5))
    )
    assert len(set(found)) == 1
    spoiled = {"data": dict.fromkeys(("tls.crt", "tls.key"), "bm9uc2Vuc2U=")}
    await cluster.merge(SECRET, "shared", spoiled)
    mended = await tls.ensure(cluster.api, cluster.namespace, "shared", ("localhost",), utc(), found[0])
    assert mended == found[0]
    await cluster.until(CONFIG_MAP, bool)
