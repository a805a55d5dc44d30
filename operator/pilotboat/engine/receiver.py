"""Where trainers post their progress (KEP-2779): any replica answers.

Owns: who may post for which job, and the write. Must not know: how a trainer computes what it posts.

A post is believed when its token is one that the API server vouches for, made for this job's audience, and held by a
pod of this job: the token names its pod, the pod is controlled by a Job, and the Job by this FineTuneJob.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from pilotboat.api import labels
from pilotboat.plan.finetune import audience

from . import progress
from .api import Api
from .errors import EngineError, NotFound
from .kinds import FINE_TUNE_JOB, JOB, POD, Kind
from .owners import controller

Raw = dict[str, Any]
PATH = f"/apis/{labels.API_VERSION}/namespaces/{{namespace}}/finetunejobs/{{name}}/status"
MAX_BODY = 64 * 1024
BELIEVED = 60.0
"""Seconds that a token once checked is believed: a trainer posts every few seconds, and pods live longer."""
MOST = 256
"""Posts under way at once; more are turned away, and trainers post again."""
TOKENS = Kind("authentication.k8s.io/v1", "TokenReview", "tokenreviews")
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"


class Receiver:
    """Answers posts."""

    def __init__(self, api: Api, count: Callable[[str], None] = lambda code: None) -> None:
        self._api = api
        self._count = count
        self._believed: dict[str, tuple[float, str]] = {}
        self._under_way = 0

    def app(self) -> web.Application:
        """The HTTP side."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_post(PATH, self._post)
        return app

    async def _post(self, request: web.Request) -> web.Response:
        code, text = 200, "ok"
        self._under_way += 1
        try:
            if self._under_way > MOST:
                raise web.HTTPServiceUnavailable(text="too many posts at once")
            await self._accept(request)
        except web.HTTPException as refusal:
            code, text = refusal.status, refusal.text or refusal.reason
        except EngineError as failure:
            code, text = 503, f"the API server did not answer as hoped: {failure}"
        finally:
            self._under_way -= 1
        self._count(str(code))
        return web.json_response({"message": text}, status=code)

    async def _accept(self, request: web.Request) -> None:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        uid = await self._authenticate(request, namespace, name)
        body = await request.read()
        try:
            post = progress.parse(body)
        except progress.BadProgress as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        job = await self._api.get(FINE_TUNE_JOB, namespace, name)
        if job is None:
            raise web.HTTPNotFound(text="no such FineTuneJob")
        if job["metadata"]["uid"] != uid:
            raise web.HTTPForbidden(text="the pod belongs to an earlier FineTuneJob of this name")
        written = progress.merge(job.get("status") or {}, post)
        if written:
            await self._write(namespace, name, written)

    async def _write(self, namespace: str, name: str, status: Raw) -> None:
        identity = {"apiVersion": labels.API_VERSION, "kind": FINE_TUNE_JOB.kind}
        body = {**identity, "metadata": {"namespace": namespace, "name": name}, "status": status}
        try:
            await self._api.apply(body, labels.PROGRESS_MANAGER, subresource="status")
        except NotFound:
            raise web.HTTPNotFound(text="no such FineTuneJob") from None

    async def _authenticate(self, request: web.Request, namespace: str, name: str) -> str:
        """The uid of the FineTuneJob for which the caller may post."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token or not token.isascii():
            raise web.HTTPUnauthorized(text="a bearer token is needed")
        mark = hashlib.sha256(f"{namespace}/{name}/{token}".encode()).hexdigest()
        now = time.monotonic()
        since, uid = self._believed.get(mark, (float("-inf"), ""))
        if now - since > BELIEVED:
            uid = await self._authorize(await self._review(token, namespace, name), namespace, name)
            self._believed = {m: entry for m, entry in self._believed.items() if now - entry[0] <= BELIEVED}
            self._believed[mark] = (now, uid)
        return uid

    async def _review(self, token: str, namespace: str, name: str) -> Mapping[str, Any]:
        body = {
            "apiVersion": TOKENS.api_version,
            "kind": TOKENS.kind,
            "spec": {"token": token, "audiences": [audience(namespace, name)]},
        }
        status = (await self._api.create(TOKENS, None, body)).get("status", {})
        if not status.get("authenticated") or audience(namespace, name) not in status.get("audiences", ()):
            raise web.HTTPUnauthorized(text="the token is not valid for this FineTuneJob")
        user: Mapping[str, Any] = status["user"]
        return user

    async def _authorize(self, user: Mapping[str, Any], namespace: str, name: str) -> str:
        extra = user.get("extra") or {}
        pod_name, pod_uid = (next(iter(extra.get(field) or ()), "") for field in (_POD_NAME, _POD_UID))
        if not pod_name or not user["username"].startswith(f"system:serviceaccount:{namespace}:"):
            raise web.HTTPForbidden(text="the token is not that of a pod in this namespace")
        pod = await self._api.get(POD, namespace, pod_name)
        if pod is None or pod["metadata"]["uid"] != pod_uid:
            raise web.HTTPForbidden(text="the pod is gone")
        owner = await self._job_of(pod, namespace)
        if owner is None or (owner["kind"], owner["name"]) != (FINE_TUNE_JOB.kind, name):
            raise web.HTTPForbidden(text="the pod does not belong to this FineTuneJob")
        return str(owner["uid"])

    async def _job_of(self, pod: Mapping[str, Any], namespace: str) -> Mapping[str, Any] | None:
        """The controller of the pod's Job; None unless every link holds."""
        link = controller(pod)
        if link is None or link["kind"] != JOB.kind:
            return None
        job = await self._api.get(JOB, namespace, link["name"])
        return controller(job) if job and job["metadata"]["uid"] == link["uid"] else None
