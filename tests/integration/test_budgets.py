"""DESIGN §3's budgets that are counts, on fifty ModelDeployments: what `make bench` measures on a thousand."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from pilotboat.api import labels
from pilotboat.engine.gateways import OWNERS
from pilotboat.engine.kinds import BY_PLURAL, GATEWAY_PARTS, MODEL_DEPLOYMENT, POD
from pilotboat.plan import ports
from pilotboat.plan.gateway import REPLICAS
from tests.integration.cluster import Cluster
from tests.integration.proxy import Call, Proxy
from tests.integration.running import Running, operator

Raw = dict[str, Any]
COUNT = 50
GATEWAY = {kind.plural for kind in GATEWAY_PARTS}


def names(namespace: str) -> list[str]:
    """Whose hashes come to different ports: of two at once that meet on one, the younger is written twice."""
    found: dict[int, str] = {}
    for number in itertools.count():
        name = f"m{number:02}"
        found.setdefault(ports.preferred(namespace, name), name)
        if len(found) == COUNT:
            return list(found.values())
    raise AssertionError("there are more ports than that")


def model_deployment(name: str) -> Raw:
    source = {"huggingFace": {"repo": "google/gemma-3-270m-it"}}
    return {
        "apiVersion": labels.API_VERSION,
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {"model": {"source": source}, "replicas": 1},
    }


def running_pod(pod: Raw) -> Raw:
    """The pod's status as kubelet reports it once the server answers its probe."""
    now = pod["metadata"]["creationTimestamp"]
    common = {"image": "any", "imageID": "any", "restartCount": 0, "ready": True}
    fetched = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}}
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
        "initContainerStatuses": [{"name": "fetch", "state": fetched, **common}],
        "containerStatuses": [{"name": "server", "state": {"running": {"startedAt": now}}, **common}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod["metadata"]["name"]}, "status": status}


def ready(found: list[Raw]) -> bool:
    conditions = [(raw.get("status") or {}).get("conditions") or () for raw in found]
    return sum(any(c["type"] == "Ready" and c["status"] == "True" for c in each) for each in conditions) == COUNT


def resource(call: Call) -> str:
    parts = call.path.split("/")
    return f"{parts[-3]}/status" if parts[-1] == "status" else parts[-2]


async def serve(cluster: Cluster, count: int) -> None:
    for pod in await cluster.until(POD, lambda pods: len(pods) == count):
        await cluster.apply(running_pod(pod), "kubelet", subresource="status")


async def brought_up(cluster: Cluster, running: Running) -> None:
    """The gateway first, as it is for all but the first of a namespace: whoever comes before it is up moves to it."""
    first, *others = names(cluster.namespace)
    await cluster.apply(model_deployment(first))
    await serve(cluster, 1 + REPLICAS)
    await cluster.until(MODEL_DEPLOYMENT, lambda found: "Routed" in str(found))
    for name in others:
        await cluster.apply(model_deployment(name))
    await serve(cluster, COUNT + REPLICAS)
    await cluster.until(MODEL_DEPLOYMENT, ready)
    await running.idle()
    await running.engine.recorder.flushed()


async def test_writes_are_children_and_a_status_a_transition_and_none_at_rest(cluster: Cluster, proxy: Proxy) -> None:
    async with operator(proxy.configuration, cluster.namespace) as running:
        await brought_up(cluster, running)
        made = Counter(map(resource, proxy.writes))
        shared = Counter(resource(call) for call in proxy.writes if call.path.endswith(f"/{labels.GATEWAY}"))
        assert set(shared) == GATEWAY
        assert max(shared.values()) <= OWNERS
        made -= shared
        # The first one's Service is written twice: it served before the gateway did.
        assert made.pop("services") == 2 * COUNT + 1
        assert (made.pop("configmaps"), made.pop("deployments")) == (2 * COUNT, COUNT)
        # Three transitions: created, its pod made, its pod ready; and the first one's to the gateway.
        assert made.pop("modeldeployments/status") <= 3 * COUNT + 3
        assert not made

        proxy.calls.clear()
        passes = running.value("reconciles_total")
        await running.engine.resync.first()
        await running.idle()
        assert running.value("reconciles_total") >= passes + COUNT
        collections = {call.path.rpartition("/")[2] for call in proxy.calls if not call.watch}
        assert collections == set(BY_PLURAL)
        assert not proxy.writes
