"""ModelDeployments on the lab: real pods, real model, real faults."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
import pytest
from openai import OpenAI

from tests.e2e.caller import Caller
from tests.e2e.conftest import MDEP, Space, direct, fake
from tools import demo
from tools.host import ROOT

pytestmark = pytest.mark.e2e

GGUF = {"huggingFace": {"repo": "demo/gemma-3-270m", "files": ["*.gguf"]}}


def test_a_gguf_model_is_served_to_the_official_client(space: Space) -> None:
    space.cluster.run("apply", f"--filename={ROOT}/examples/modeldeployment.yaml")
    space.wait(MDEP, "assistant", "Ready")
    with space.url("assistant") as url:
        client = OpenAI(base_url=url, api_key="none", max_retries=0)
        stream = client.chat.completions.create(
            model="assistant", messages=[{"role": "user", "content": "Say hello."}], max_tokens=8, stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text.strip()
    status = space.status(MDEP, "assistant")
    assert status["model"]["engine"] == "LlamaCpp"
    assert len(status["model"]["revision"]) == 40
    assert all(len(digest) == 64 for digest in status["model"]["digests"].values())
    shown = space.cluster.run("get", "mdep", "assistant").splitlines()
    assert shown[0].split() == ["NAME", "MODEL", "ENGINE", "READY", "REASON", "REPLICAS", "AGE"]
    assert "1/1" in shown[1]


def test_replicas_spread_over_zones_and_have_a_budget(space: Space) -> None:
    space.apply("ModelDeployment", "spread", fake(replicas=3))
    space.wait(MDEP, "spread", "Ready")
    assert len({pod["spec"]["nodeName"] for pod in space.pods("spread")}) == 3
    allowed = "--for=jsonpath={.status.disruptionsAllowed}=1"
    space.cluster.run("wait", "poddisruptionbudget/spread", allowed, "--timeout=300s")
    space.cluster.run("scale", MDEP, "spread", "--replicas=1")
    space.wait(MDEP, "spread", "Ready")
    space.gone("poddisruptionbudget/spread")
    assert len(space.pods("spread")) == 1


def test_a_changed_spec_rolls_without_losing_a_request(space: Space, caller: Caller) -> None:
    space.apply("ModelDeployment", "roll", fake(replicas=2))
    space.wait(MDEP, "roll", "Ready")
    before = space.status(MDEP, "roll")["currentRevision"]
    with caller.load("roll", threads=1, pause=0.05, fresh=True) as load:
        space.apply("ModelDeployment", "roll", fake(replicas=2, inference={"maxLength": 1024}))
        space.cluster.run("wait", f"{MDEP}/roll", "--for=jsonpath={.status.observedGeneration}=2", "--timeout=300s")
        space.wait(MDEP, "roll", "Ready")
        assert space.status(MDEP, "roll")["currentRevision"] != before
        space.cluster.run("wait", f"deployment/roll-{before}", "--for=jsonpath={.spec.replicas}=0", "--timeout=300s")
    assert load.failed == {}, load.wrong
    assert load.whole > 20


def test_a_broken_revision_leaves_the_old_one_serving_and_the_fix_goes_through(space: Space, caller: Caller) -> None:
    space.apply("ModelDeployment", "bad", fake())
    space.wait(MDEP, "bad", "Ready")
    old = space.status(MDEP, "bad")["currentRevision"]
    # A connection that rests may be closed by HAProxy's reload just as it is used: then once more, as clients do.
    with caller.load("bad", threads=2, pause=0.2, again=1) as load:
        space.apply("ModelDeployment", "bad", fake(engine={"type": "Fake", "image": "localhost/none:1"}))
        message = space.reason(MDEP, "bad", "Ready", "ImagePullError")
    assert "localhost/none:1" in message
    assert (load.failed, load.by[old]) == ({}, load.whole), "stable keeps all its traffic"
    status = {c["type"]: c["status"] for c in space.status(MDEP, "bad")["conditions"]}
    assert (status["Available"], status["Ready"], status["Progressing"]) == ("True", "False", "False")
    space.apply("ModelDeployment", "bad", fake(inference={"maxLength": 512}))
    space.wait(MDEP, "bad", "Ready")
    assert len(space.pods("bad")) == 1


def test_children_edited_or_deleted_by_hand_are_repaired(space: Space) -> None:
    space.apply("ModelDeployment", "drift", fake())
    space.wait(MDEP, "drift", "Ready")
    revision = space.status(MDEP, "drift")["currentRevision"]
    service = space.cluster.get("service", "drift")
    wrong = {"spec": {"selector": {"app.kubernetes.io/component": "nobody"}}}
    space.cluster.run("patch", "service", "drift", "--type=merge", f"-p={json.dumps(wrong)}")
    path = r"{.spec.selector.app\.kubernetes\.io/component}"
    space.cluster.run("wait", "service/drift", f"--for=jsonpath={path}=gateway", "--timeout=300s")
    space.cluster.run("delete", "service", "drift")
    space.cluster.run("wait", "service/drift", "--for=create", "--timeout=300s")
    assert space.cluster.get("service", "drift")["metadata"]["uid"] != service["metadata"]["uid"]
    space.cluster.run("scale", "deployment", f"drift-{revision}", "--replicas=3")
    space.cluster.run("wait", f"deployment/drift-{revision}", "--for=jsonpath={.spec.replicas}=1", "--timeout=300s")
    space.wait(MDEP, "drift", "Ready")


@pytest.mark.usefixtures("gpus")
def test_gpus_are_asked_for_and_given(space: Space) -> None:
    space.apply("ModelDeployment", "gpu", direct(gpu={"count": 2}))
    space.wait(MDEP, "gpu", "Ready")
    (pod,) = space.pods("gpu")
    assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"


@pytest.mark.parametrize(
    ("changes", "condition", "reason", "words"),
    [
        ({"gpu": {"count": 64}}, "Ready", "Unschedulable", "Insufficient nvidia.com/gpu"),
        ({"podTemplate": {"resources": {"requests": {"memory": "999Ti"}}}}, "Ready", "Unschedulable", "memory"),
        ({"service": {"apiKeySecretRef": {"name": "none", "key": "k"}}}, "Ready", "SecretNotFound", '"none"'),
        (
            {"model": {"source": {"pvc": {"claimName": "none"}}}},
            "ArtifactReady",
            "PersistentVolumeClaimNotFound",
            "none",
        ),
        ({"model": {"source": {"fineTuneJob": {"name": "none"}}}}, "ArtifactReady", "FineTuneJobNotFound", "none"),
        ({"model": {"source": {"huggingFace": {"repo": "demo/none"}}}}, "ArtifactReady", "SourceNotFound", "demo/none"),
        (
            {"model": {"source": GGUF, "digests": {"gemma-3-270m-q4_k_m.gguf": "0" * 64}}},
            *("ArtifactReady", "ChecksumMismatch", "gemma-3-270m-q4_k_m.gguf"),
        ),
        (
            {"engine": {"type": "Auto"}, "model": {"source": {"huggingFace": {"repo": "demo/no-model"}}}},
            *("Ready", "InvalidModel", "gguf"),
        ),
        (  # room for the fetch container, and none for PyTorch
            {
                "engine": {"type": "Transformers"},
                "model": {"source": {"huggingFace": {"repo": "demo/tiny"}}},
                "podTemplate": {"resources": {"requests": {"cpu": "50m"}, "limits": {"memory": "160Mi"}}},
            },
            *("Ready", "ContainerOOMKilled", "160Mi and was killed: raise spec.podTemplate.resources.limits.memory"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value[0].isupper() else "",
)
def test_bad_input_is_named(space: Space, changes: dict[str, object], condition: str, reason: str, words: str) -> None:
    space.apply("ModelDeployment", "bad", direct(**changes))
    assert words.lower() in space.reason(MDEP, "bad", condition, reason).lower()
    space.told("bad", reason)
    space.cluster.run("delete", MDEP, "bad", "--timeout=300s")
    space.gone("deployment,service,configmap,pod -lapp.kubernetes.io/instance=bad")


def test_a_missing_secret_that_appears_is_taken(space: Space) -> None:
    space.apply(
        "ModelDeployment", "keys", direct(service={"workers": 1, "apiKeySecretRef": {"name": "keys", "key": "k"}})
    )
    space.reason(MDEP, "keys", "Ready", "SecretNotFound")
    space.cluster.run("create", "secret", "generic", "keys", "--from-literal=k=sesame")
    space.wait(MDEP, "keys", "Ready")
    body = {"model": "keys", "messages": [{"role": "user", "content": "hi"}]}
    with space.url("keys") as url:
        assert httpx.post(f"{url}/chat/completions", json=body, timeout=60).status_code == 401
        key = {"Authorization": "Bearer sesame"}
        answer = httpx.post(f"{url}/chat/completions", json=body, headers=key, timeout=60)
        assert answer.status_code == 200
    assert "sesame" not in json.dumps(space.cluster.get(MDEP, "keys"))


def test_deleted_half_way_nothing_is_left(space: Space) -> None:
    space.apply("ModelDeployment", "half", fake(replicas=2))
    space.cluster.run("wait", "pod", "-lapp.kubernetes.io/instance=half", "--for=create", "--timeout=300s")
    space.cluster.run("delete", MDEP, "half", "--timeout=300s")
    space.gone("deployment,service,configmap,poddisruptionbudget,pod -lapp.kubernetes.io/instance=half")
    assert space.children("half") == []


@pytest.mark.alone
def test_operator_killed_half_way_ends_in_the_same_state(space: Space) -> None:
    space.apply("ModelDeployment", "same", fake(replicas=2))
    space.cluster.run("wait", "pod", "-lapp.kubernetes.io/instance=same", "--for=create", "--timeout=300s")
    system = replace(space.cluster, namespace=demo.SYSTEM)
    system.run("delete", "pod", "-lapp.kubernetes.io/name=pilotboat", "--grace-period=0", "--force")
    space.wait(MDEP, "same", "Ready")
    revision = space.status(MDEP, "same")["currentRevision"]
    assert space.children("same") == [
        f"configmap/same-{revision}",
        "configmap/same-route",
        f"deployment.apps/same-{revision}",
        "poddisruptionbudget.policy/same",
        "service/same",
        f"service/same-{revision}",
    ]
