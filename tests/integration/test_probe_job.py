"""A probe's Job on a real API server, in a namespace that enforces the restricted Pod Security level."""

from __future__ import annotations

from pilotboat.api import labels
from pilotboat.api.probing import ProbeConfig
from pilotboat.api.sources import SecretKey
from pilotboat.engine.kinds import POD
from pilotboat.plan.probe import Kind, Probe, State, children, job_name, read
from tests.integration.cluster import NAMESPACE, Cluster
from unit.plan.world import SETTINGS, deployment_spec

CONFIG = ProbeConfig.model_validate(
    {
        "model": "chat",
        "canary": {"revision": "bbbb2222", "url": "http://chat-bbbb2222:8080"},
        "loadTest": {"rate": 1, "duration": "1s"},
    }
)

KEYS = SecretKey(name="keys", key="api-keys")


async def test_its_pods_are_admitted_and_found(cluster: Cluster) -> None:
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    await cluster.api.merge(NAMESPACE, "", cluster.namespace, {"metadata": {"labels": level}})
    chat = {"apiVersion": labels.API_VERSION, "kind": "ModelDeployment", "metadata": {"name": "chat"}}
    parent = await cluster.apply(chat | {"spec": deployment_spec()})
    probe, name = Probe(Kind.LOAD, CONFIG), job_name("chat", "bbbb2222", Kind.LOAD)
    made = [await cluster.apply(manifest) for manifest in children(parent, probe, [], KEYS, SETTINGS)]
    pods = await cluster.until(POD, len)
    assert [raw["metadata"]["labels"][labels.COMPONENT] for raw in pods] == ["probe"]
    assert read(name, made, pods).state is State.RUNNING
