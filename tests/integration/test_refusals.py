"""What a cluster's own rules refuse: told in the status in the cluster's words, and gone on with when they let us."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from kubernetes.aio import client

from lab.pki import Authority
from pilotboat.engine.api import load_configuration
from pilotboat.engine.kinds import DEPLOYMENT, MODEL_DEPLOYMENT, POD, Kind
from pilotboat.plan.build import condition
from tests.integration.cluster import Cluster, namespace_of
from tests.integration.running import operator
from tests.integration.test_reconcile import model_deployment, reported

Raw = dict[str, Any]

QUOTA = Kind("v1", "ResourceQuota", "resourcequotas")
ROLE = Kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles")
BINDING = Kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings")
BOUND = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
WEBHOOK = Kind("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations")

ALL = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}


def because(reason: str, *words: str) -> Callable[[list[Raw]], bool]:
    """Whether the one ModelDeployment is not Ready for that reason, in these words."""

    def true(found: list[Raw]) -> bool:
        ready = condition(found[0], "Ready") or {}
        return ready.get("reason") == reason and all(word in ready["message"] for word in words)

    return true


async def test_a_quota_of_nothing_is_named_and_more_of_it_is_used(cluster: Cluster) -> None:
    quota = {"metadata": {"name": "nothing"}, "spec": {"hard": {"pods": "0"}}}
    await cluster.api.create(QUOTA, cluster.namespace, quota | {"apiVersion": "v1", "kind": "ResourceQuota"})
    await cluster.until(QUOTA, lambda found: bool(found[0].get("status", {}).get("hard")))
    async with operator(cluster.configuration, cluster.namespace):
        await cluster.apply(model_deployment())
        await cluster.until(MODEL_DEPLOYMENT, because("PodRejected", "exceeded quota: nothing", "pods=1"))
        await cluster.merge(QUOTA, "nothing", {"spec": {"hard": {"pods": "2"}}})
        await cluster.until(POD, lambda found: len(found) == 2)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: not because("PodRejected")(found))


async def test_a_right_that_is_taken_away_is_named_and_what_runs_stays(
    cluster: Cluster, plane: Path, tmp_path: Path
) -> None:
    may = {"apiGroups": ["apps"], "resources": ["*"], "verbs": ["*"]}
    looks = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}
    others = ["", "pilotboat.dev", "policy", "rbac.authorization.k8s.io", "coordination.k8s.io"]
    await allow(cluster, f"{cluster.namespace}-other", [looks, {**may, "apiGroups": others}])
    await allow(cluster, f"{cluster.namespace}-apps", [may])
    async with operator(await limited(cluster, plane, tmp_path), cluster.namespace):
        await cluster.apply(model_deployment())
        (before,) = await cluster.until(DEPLOYMENT, lambda found: len(found) == 1)
        await cluster.api.merge(ROLE, "", f"{cluster.namespace}-apps", {"rules": None})
        await cluster.apply(model_deployment(replicas=3))
        words = (f"Deployment {before['metadata']['name']}", f'User "{cluster.namespace}" cannot patch')
        await cluster.until(MODEL_DEPLOYMENT, because("PodRejected", *words))
        (after,) = await cluster.list(DEPLOYMENT)
        assert (after["metadata"]["uid"], after["spec"]["replicas"]) == (before["metadata"]["uid"], 2)
        await cluster.api.merge(ROLE, "", f"{cluster.namespace}-apps", {"rules": [may]})
        await cluster.until(DEPLOYMENT, lambda found: found[0]["spec"]["replicas"] == 3)


async def test_who_may_not_see_daemon_sets_serves_all_that_need_none(
    cluster: Cluster, plane: Path, tmp_path: Path
) -> None:
    """A new image with the ClusterRole of before."""
    groups = ["", "batch", "pilotboat.dev", "policy", "rbac.authorization.k8s.io", "coordination.k8s.io"]
    old = [{**ALL, "apiGroups": groups}, {**ALL, "apiGroups": ["apps"], "resources": ["deployments"]}]
    await allow(cluster, f"{cluster.namespace}-before", old)
    async with operator(await limited(cluster, plane, tmp_path), cluster.namespace) as running:
        await cluster.apply(model_deployment())
        await cluster.until(MODEL_DEPLOYMENT, reported)
        assert running.value("kinds_forbidden") == 1
        assert running.engine.health.complaints() == []
        await allow(cluster, f"{cluster.namespace}-now", [{**ALL, "apiGroups": ["apps"]}])
        await running.until(lambda: running.value("kinds_forbidden") == 0)


async def test_a_namespace_without_its_role_holds_up_no_other(cluster: Cluster, plane: Path, tmp_path: Path) -> None:
    """Such as one that was deleted: its Role went with it. It is served once all of it can be seen."""
    async with namespace_of(cluster.configuration, f"{cluster.namespace}-other") as other:
        await allow(cluster, f"{cluster.namespace}-nodes", [{**ALL, "apiGroups": [""], "resources": ["nodes"]}])
        await allow(cluster, f"{cluster.namespace}-all", [ALL], within=cluster.namespace)
        configuration = await limited(cluster, plane, tmp_path)
        async with operator(configuration, other.namespace, cluster.namespace, resync=2) as running:
            await other.apply(model_deployment("theirs"))
            await cluster.apply(model_deployment())
            await cluster.until(MODEL_DEPLOYMENT, reported)
            await running.until(lambda: not running.engine.health.complaints())  # see below
            (theirs,) = await other.list(MODEL_DEPLOYMENT)
            assert "status" not in theirs
            await allow(cluster, f"{cluster.namespace}-theirs", [ALL], within=other.namespace)
            await other.until(MODEL_DEPLOYMENT, reported)
            assert running.value("kinds_forbidden") == 0
            bound = await other.get(BOUND, f"{cluster.namespace}-theirs")
            await other.delete(bound)
            await running.until(lambda: running.engine.resync.closed(other.namespace))
            await cluster.apply(model_deployment("later"))
            await cluster.until(MODEL_DEPLOYMENT, lambda found: len(found) == 2 and reported(found))
            # With a round every 2 s a list may see a change before a watch that was quiet tells it: that one counts as
            # dead until it does, a moment later. One that is dead never does.
            await running.until(lambda: not running.engine.health.complaints())


async def limited(cluster: Cluster, plane: Path, folder: Path) -> client.Configuration:
    """That of the user who is called as the namespace."""
    authority = Authority(plane.parent / "pki")
    authority.issue(cluster.namespace, user=cluster.namespace, group="operators")
    where = {"server": cluster.configuration.host, "context": "limited"}
    kubeconfig = authority.kubeconfig(folder / "kubeconfig", user=cluster.namespace, **where)
    return await load_configuration(str(kubeconfig))


async def allow(cluster: Cluster, name: str, rules: list[Raw], within: str | None = None) -> None:
    """A ClusterRole for the user that is called as the namespace; within one only, where that is named."""
    group = "rbac.authorization.k8s.io"
    subject = {"kind": "User", "apiGroup": group, "name": cluster.namespace}
    bound = {"roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name}, "subjects": [subject]}
    for kind, body, where in ((ROLE, {"rules": rules}, None), (BOUND if within else BINDING, bound, within)):
        meta = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}}
        await cluster.api.create(kind, where, meta | body)


async def test_a_webhook_that_does_not_answer_is_named_and_harms_no_other(cluster: Cluster, tmp_path: Path) -> None:
    """It is asked about one deployment's objects only, and is away for as long as it likes."""
    async with silent_webhook(cluster, tmp_path), operator(cluster.configuration, cluster.namespace):
        await cluster.apply(model_deployment("chat"))
        words = ("Deployment chat-", "failed calling webhook", "silent.pilotboat.test")
        await cluster.until(MODEL_DEPLOYMENT, because("PodRejected", *words))
        await cluster.apply(model_deployment("other"))
        await cluster.until(
            DEPLOYMENT, lambda found: any(each["metadata"]["name"].startswith("other-") for each in found)
        )
        await cluster.api.merge(WEBHOOK, "", cluster.namespace, {"webhooks": None})
        await cluster.until(DEPLOYMENT, lambda found: len(found) == 2)


@asynccontextmanager
async def silent_webhook(cluster: Cluster, folder: Path) -> AsyncIterator[None]:
    """It must agree to Deployments of `chat`, has a second to, and never says a word."""
    over = asyncio.Event()

    async def silence(request: web.Request) -> web.Response:
        await over.wait()
        return web.Response(status=503)

    authority = Authority(folder / "pki")
    authority.create()
    authority.issue("webhook", user="webhook", group="test", names=["IP:127.0.0.1"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.cert("webhook"), authority.key("webhook"))
    app = web.Application()
    app.router.add_post("/", silence)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        port = runner.addresses[0][1]
        rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}
        hook = {
            "name": "silent.pilotboat.test",
            "clientConfig": {
                "url": f"https://127.0.0.1:{port}/",
                "caBundle": base64.b64encode(authority.cert("ca").read_bytes()).decode(),
            },
            "rules": [rule],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}},
            "objectSelector": {"matchLabels": {"app.kubernetes.io/instance": "chat"}},
            "failurePolicy": "Fail",
            "timeoutSeconds": 1,
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        meta = {"apiVersion": WEBHOOK.api_version, "kind": WEBHOOK.kind, "metadata": {"name": cluster.namespace}}
        await cluster.api.create(WEBHOOK, None, meta | {"webhooks": [hook]})
        yield
    finally:
        over.set()
        await cluster.api.merge(WEBHOOK, "", cluster.namespace, {"webhooks": None})
        await runner.cleanup()
