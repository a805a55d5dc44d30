"""Both CRDs on a real API server: what it accepts, what it refuses and in which words, and what kubectl shows.

Nothing runs here but the API server: all that is refused is refused before any operator sees it.
"""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lab import build
from lab.kube import ApiError, Client
from pilotboat.api.crd import FINE_TUNE_JOB, KINDS, MODEL_DEPLOYMENT, Kind
from pilotboat.api.labels import API_VERSION
from pilotboat.api.model_deployment import ModelDeploymentSpec

Raw = dict[str, Any]
SHA = "a" * 64
HUB = {"huggingFace": {"repo": "google/gemma-3-270m-it"}}


class Server:
    """The API server, strict about unknown fields as kubectl is."""

    def __init__(self, kubeconfig: Path) -> None:
        self.client = Client.load(kubeconfig)
        self.kubectl = [str(build.ensure() / "kubectl"), f"--kubeconfig={kubeconfig}"]

    def path(self, kind: Kind, rest: str = "") -> str:
        return f"/apis/{API_VERSION}/namespaces/default/{kind.plural}{rest}"

    def create(self, kind: Kind, name: str, spec: Any, dry_run: bool = True) -> Raw:
        body = {"apiVersion": API_VERSION, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}
        query = "?fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
        return self.client.call("POST", self.path(kind) + query, body)

    def refusal(self, kind: Kind, name: str, spec: Any) -> str | None:
        """Why it is refused, or None."""
        try:
            self.create(kind, name, spec)
        except ApiError as error:
            if error.status not in (400, 422):
                raise
            return str(json.loads(str(error).partition(": ")[2])["message"])
        return None

    def run(self, *arguments: str, text: str | None = None) -> str:
        done = subprocess.run([*self.kubectl, *arguments], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def server(plane: Path) -> Server:
    found = Server(plane)
    found.run("api-resources")  # kubectl remembers what there was before the CRDs, and `explain` does not look again
    return found


def model(**changes: Any) -> Raw:
    return {"model": {"source": HUB}} | changes


def job(**changes: Any) -> Raw:
    return {"base": {"source": HUB}, "dataset": {"source": {"configMap": {"name": "d", "key": "t.jsonl"}}}} | changes


def source(**chosen: Any) -> Raw:
    return model(model={"source": chosen})


def http(url: str) -> Raw:
    return source(http={"urls": [url], "sha256": SHA})


def by_annotations(fields: Raw) -> Raw:
    external = {"source": "Service", "providerSpecific": fields}
    return {"hostname": "chat.example.org", "region": "east", "targets": ["192.0.2.1"], "externalDNS": external}


def pod(**changes: Any) -> Raw:
    return model(podTemplate=changes)


def variable(**changes: Any) -> Raw:
    return pod(env=[{"name": "A"} | changes])


def near(**changes: Any) -> Raw:
    """Beside pods of which an expression holds."""
    selector = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a"]} | changes]}
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def on_nodes(**changes: Any) -> Raw:
    term = {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["h100"]} | changes]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


ZONE = "topology.kubernetes.io/zone"
PLACED: Raw = {
    "tolerations": [
        {"key": "gpu", "operator": "Equal", "value": "h100", "effect": "NoExecute", "tolerationSeconds": 30},
        {"operator": "Exists"},
        {"key": "any", "operator": "", "effect": ""},
    ],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "memory", "operator": "Gt", "values": ["64"]}]},
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]},
                ]
            },
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 100, "preference": {"matchExpressions": [{"key": "ssd", "operator": "Exists"}]}}
            ],
        },
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 1,
                    "podAffinityTerm": {
                        "topologyKey": ZONE,
                        "labelSelector": {"matchLabels": {"app": "noisy"}},
                        "namespaceSelector": {},
                        "matchLabelKeys": ["pod-template-hash"],
                    },
                }
            ],
        },
        **near(),
    },
    "env": [
        {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app.kubernetes.io/name']"}}},
        {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}}},
        {"name": "D", "value": "", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ],
}
"""All kinds of it, as in a Pod."""

COPIED = {"mirror": {"percent": 30}}
REFERENCES = [{"prompt": f"1 + {number}", "answer": str(number + 1)} for number in range(6)]
JUDGED = {"steps": [{"weight": 5}], "analysis": {"quality": {"perplexity": {"references": REFERENCES}}}}
BY_ROUTE = {"httpRoute": {"name": "shop"}}
COPIES_NEED = ("spec.routing.mirror", "routing.mirror needs traffic: Gateway")

ACCEPTED: dict[str, tuple[Kind, Raw]] = {
    "the smallest model": (MODEL_DEPLOYMENT, model()),
    "the smallest job": (FINE_TUNE_JOB, job()),
    "the longest duration": (MODEL_DEPLOYMENT, model(service={"requestTimeout": "1h30m5s"})),
    "a request's whole day": (MODEL_DEPLOYMENT, model(service={"requestTimeout": "23h60m"})),
    "an @ in a path": (MODEL_DEPLOYMENT, http("https://cdn.example/npm/x@1.0/model.gguf?sig=a%20b")),
    "an address of numbers": (MODEL_DEPLOYMENT, http("http://[fd00::1]:8080/m.gguf")),
    "the last port": (MODEL_DEPLOYMENT, http("http://host:65535/m.gguf")),
    "dots in a name": (MODEL_DEPLOYMENT, source(pvc={"claimName": "weights", "path": "a..b/v1.2/model.gguf"})),
    "an equality that enough prompts can show": (
        MODEL_DEPLOYMENT,
        model(
            rollout={"steps": [{"weight": 5}], "analysis": {"quality": {"minEqual": 0.9, "prompts": ["Hello"] * 25}}}
        ),
    ),
    "an equality that nobody asks for": (
        MODEL_DEPLOYMENT,
        model(rollout={"steps": [{"weight": 5}], "analysis": {"quality": {"perplexity": {}}}}),
    ),
    "quantities": (
        MODEL_DEPLOYMENT,
        model(podTemplate={"resources": {"limits": {"memory": "16Gi", "cpu": 4, "nvidia.com/gpu": 1}}}),
    ),
    "where a pod may run": (MODEL_DEPLOYMENT, model(podTemplate=PLACED)),
    "where a trainer may run": (FINE_TUNE_JOB, job(podTemplate=PLACED)),
    "a pinned file": (
        FINE_TUNE_JOB,
        job(dataset={"source": {"huggingFace": {"repo": "o/d", "files": ["train.jsonl"]}}, "sha256": SHA}),
    ),
    "an A/B test": (
        MODEL_DEPLOYMENT,
        model(rollout={"steps": [{"weight": 50, "hold": "1h", "approval": True}], "analysis": {"warmup": 5}}),
    ),
    "a gate by perplexity": (MODEL_DEPLOYMENT, model(rollout=JUDGED)),
    "a route of others": (MODEL_DEPLOYMENT, model(traffic="HTTPRoute", routing=BY_ROUTE)),
    "copies for a canary": (MODEL_DEPLOYMENT, model(rollout={"steps": [{"weight": 5}]}, routing=COPIED)),
    "what a command left behind": (
        MODEL_DEPLOYMENT,
        model(rollout={"paused": False, "action": {"verb": "Abort", "id": "1", "revision": "0123abcd"}, "history": 5}),
    ),
    "a return to an earlier revision": (MODEL_DEPLOYMENT, model(rollout={"rollbackTo": "0123abcd"})),
    "lora": (FINE_TUNE_JOB, job(method={"lora": {"rank": 8, "targetModules": ["q_proj"]}})),
    "a provider's field as an annotation": (
        MODEL_DEPLOYMENT,
        model(
            zones={"dns": by_annotations({"aws/weight": "1", "external-dns.kubernetes.io/cloudflare-proxied": "true"})}
        ),
    ),
}

ASKED = {"steps": [{"weight": 5, "analysis": {"minSamples": 100, "proven": True, "queries": ["refusals"]}}]}
REFUSALS = {"url": "http://prometheus", "queries": [{"name": "refusals", "query": "up", "max": 1}]}
OFF = {metric: {"enabled": False} for metric in ("errors", "firstToken", "perToken")}
ACCEPTED |= {
    "a step that asks": (MODEL_DEPLOYMENT, model(rollout=ASKED | {"analysis": {"prometheus": REFUSALS}})),
    "a step that asks no query": (
        MODEL_DEPLOYMENT,
        model(
            rollout={
                "steps": [{"weight": 5, "analysis": {"proven": False, "queries": []}}],
                "analysis": OFF | {"prometheus": REFUSALS},
            }
        ),
    ),
    "one metric that is judged": (
        MODEL_DEPLOYMENT,
        model(
            rollout={
                "steps": [{"weight": 5, "analysis": {"proven": True}}],
                "analysis": OFF | {"errors": {}},
            }
        ),
    ),
}

REFUSED: dict[str, tuple[Kind, Any, tuple[str, ...]]] = {
    "an unknown field": (MODEL_DEPLOYMENT, model(replica=2), ('unknown field "spec.replica"',)),
    "an unknown nested field": (
        MODEL_DEPLOYMENT,
        model(inference={"temperature": 1}),
        ('unknown field "spec.inference.temperature"',),
    ),
    "copies for no canary": (MODEL_DEPLOYMENT, model(routing=COPIED), COPIES_NEED),
    "copies past the gateway": (MODEL_DEPLOYMENT, model(routing=COPIED, traffic="Direct"), COPIES_NEED),
    "copies by another gateway": (
        MODEL_DEPLOYMENT,
        model(traffic="HTTPRoute", routing=COPIED | {"gateway": {"name": "edge"}}, rollout={"steps": [{"weight": 5}]}),
        COPIES_NEED,
    ),
    "a route for our gateway": (MODEL_DEPLOYMENT, model(routing=BY_ROUTE), ("goes together with routing.gateway or",)),
    "two ways by route": (
        MODEL_DEPLOYMENT,
        model(traffic="HTTPRoute", routing=BY_ROUTE | {"gateway": {"name": "edge"}}),
        ("spec.routing", "give one of routing.gateway"),
    ),
    "hosts of a route of others": (
        MODEL_DEPLOYMENT,
        model(traffic="HTTPRoute", routing=BY_ROUTE | {"hostnames": ["a.example"]}),
        ("spec.routing", "routing.hostnames need routing.gateway"),
    ),
    "callers that stay, by a route of others": (
        MODEL_DEPLOYMENT,
        model(traffic="HTTPRoute", routing=BY_ROUTE | {"sticky": {"header": "x-user"}}),
        ("spec.routing", "routing.sticky needs traffic: Gateway"),
    ),
    "copies of nothing": (
        MODEL_DEPLOYMENT,
        model(rollout={"steps": [{"weight": 5}]}, routing={"mirror": {"percent": 0}}),
        ("spec.routing.mirror.percent", "greater than or equal to 1"),
    ),
    "no spec": (MODEL_DEPLOYMENT, None, ("spec: Required value",)),
    "no model": (MODEL_DEPLOYMENT, {"replicas": 1}, ("spec.model: Required value",)),
    "a wrong type": (MODEL_DEPLOYMENT, model(replicas="two"), ("spec.replicas", "integer")),
    "too many replicas": (MODEL_DEPLOYMENT, model(replicas=1001), ("spec.replicas", "1000")),
    "negative replicas": (MODEL_DEPLOYMENT, model(replicas=-1), ("spec.replicas", "greater than or equal to 0")),
    "two sources": (
        MODEL_DEPLOYMENT,
        source(**HUB, pvc={"claimName": "weights"}),
        ("spec.model.source", "give exactly one of huggingFace, http, pvc, fineTuneJob"),
    ),
    "two bases": (
        FINE_TUNE_JOB,
        job(base={"source": HUB | {"pvc": {"claimName": "weights"}}}),
        ("spec.base.source", "give exactly one of huggingFace, http, pvc"),
    ),
    "two data sets": (
        FINE_TUNE_JOB,
        job(dataset={"source": HUB | {"configMap": {"name": "d", "key": "t.jsonl"}}}),
        ("spec.dataset.source", "give exactly one of huggingFace, http, pvc, configMap"),
    ),
    "no source": (MODEL_DEPLOYMENT, source(), ("spec.model.source", "give exactly one of huggingFace")),
    "fake behaviour for a real engine": (
        MODEL_DEPLOYMENT,
        model(engine={"type": "LlamaCpp", "fake": {"delay": 1}}),
        ("spec.engine", "fake is only for type Fake"),
    ),
    "more fates than requests": (
        MODEL_DEPLOYMENT,
        model(engine={"type": "Fake", "fake": {"failRatio": 1, "hangRatio": 0.5}}),
        ("spec.engine.fake", "together must not be above 1"),
    ),
    "an unknown engine": (MODEL_DEPLOYMENT, model(engine={"type": "Magic"}), ("spec.engine.type", '"LlamaCpp"')),
    "a bad duration": (
        MODEL_DEPLOYMENT,
        model(service={"requestTimeout": "5 minutes"}),
        ("spec.service.requestTimeout", "a duration such as 90s, 5m or 1h30m"),
    ),
    "a repeated unit": (
        MODEL_DEPLOYMENT,
        model(service={"requestTimeout": "5m5m"}),
        ("spec.service.requestTimeout", "a duration such as"),
    ),
    "a path upwards": (
        MODEL_DEPLOYMENT,
        source(pvc={"claimName": "weights", "path": "a/../../etc"}),
        ("spec.model.source.pvc.path", "'..' is not allowed in a path"),
    ),
    "an absolute path": (
        MODEL_DEPLOYMENT,
        source(pvc={"claimName": "weights", "path": "/etc"}),
        ("spec.model.source.pvc.path", "leave out the slash"),
    ),
    "credentials in an address": (
        MODEL_DEPLOYMENT,
        http("https://me:secret@host/m.gguf"),
        ("spec.model.source.http.urls[0]", "credentials do not belong in an address"),
    ),
    "another scheme": (
        MODEL_DEPLOYMENT,
        http("ftp://host/m.gguf"),
        ("spec.model.source.http.urls[0]", "must be an http:// or https:// address"),
    ),
    "a port that is none": (
        MODEL_DEPLOYMENT,
        http("https://host:65536/m.gguf"),
        ("spec.model.source.http.urls[0]", "the port must be from 1 to 65535"),
    ),
    "a time-out of nothing": (
        MODEL_DEPLOYMENT,
        model(service={"requestTimeout": "0s"}),
        ("spec.service.requestTimeout", "must be longer than 0s"),
    ),
    "more than a day for a request": (
        MODEL_DEPLOYMENT,
        model(service={"requestTimeout": "23h60m1s"}),
        ("spec.service.requestTimeout", "must not be longer than 24h"),
    ),
    "a default outside its limits": (
        MODEL_DEPLOYMENT,
        model(inference={"limits": {"temperature": {"min": 0.8, "max": 1}}}),
        ("spec.inference", "defaults.temperature must be within limits.temperature"),
    ),
    "another default outside its limits": (
        MODEL_DEPLOYMENT,
        model(inference={"defaults": {"topP": 0.5}, "limits": {"topP": {"min": 0.6, "max": 1}}}),
        ("spec.inference", "defaults.topP must be within limits.topP"),
    ),
    "digests beside a job's record": (
        MODEL_DEPLOYMENT,
        {"model": {"source": {"fineTuneJob": {"name": "qa"}}, "digests": {"model.gguf": SHA}}},
        ("spec.model", "digests are not for source.fineTuneJob"),
    ),
    "a cache on a claim without its name": (
        MODEL_DEPLOYMENT,
        {"model": {"source": HUB, "cache": {"type": "PersistentVolumeClaim"}}},
        ("spec.model.cache", "type: PersistentVolumeClaim needs claimName"),
    ),
    "a cache of nodes that is nowhere": (
        MODEL_DEPLOYMENT,
        {"model": {"source": HUB, "cache": {"type": "Node", "size": "1Gi"}}},
        ("spec.model.cache", "type: Node needs path"),
    ),
    "a cache of nodes in two places": (
        MODEL_DEPLOYMENT,
        {"model": {"source": HUB, "cache": {"type": "Node", "path": "/m", "claimName": "m"}}},
        ("spec.model.cache", "not both"),
    ),
    "a cache without a type": (
        MODEL_DEPLOYMENT,
        {"model": {"source": HUB, "cache": {"path": "/m"}}},
        ("spec.model.cache", "claimName, path, size and keepFree are for type"),
    ),
    "seeds of a cache that is shared": (
        MODEL_DEPLOYMENT,
        {"model": {"source": HUB, "cache": {"type": "PersistentVolumeClaim", "claimName": "m", "seed": True}}},
        ("spec.model.cache", "seed is for type: Node"),
    ),
    "a cache of what is on a claim": (
        MODEL_DEPLOYMENT,
        {"model": {"source": {"pvc": {"claimName": "m"}}, "cache": {"type": "Node", "path": "/m"}}},
        ("spec.model", "a model of source.pvc is served from there"),
    ),
    "a cache in a relative folder": (
        MODEL_DEPLOYMENT,
        {"model": {"source": HUB, "cache": {"type": "Node", "path": "models"}}},
        ("spec.model.cache.path", "must be an absolute path"),
    ),
    "a cache above the root": (
        MODEL_DEPLOYMENT,
        {"model": {"source": HUB, "cache": {"type": "Node", "path": "/m/../etc"}}},
        ("spec.model.cache.path", "'..' is not allowed"),
    ),
    "a cache of no bytes": (
        MODEL_DEPLOYMENT,
        {"model": {"source": HUB, "cache": {"type": "Node", "path": "/m", "size": 0}}},
        ("spec.model.cache.size", "greater than or equal to 1"),
    ),
    "a hub's address with a query": (
        MODEL_DEPLOYMENT,
        {"model": {"source": {"huggingFace": {"repo": "a/b", "endpoint": "https://hub.example.org?x=1"}}}},
        ("spec.model.source.huggingFace.endpoint", "without ? and #"),
    ),
    "limits the wrong way round": (
        MODEL_DEPLOYMENT,
        model(inference={"limits": {"temperature": {"min": 1, "max": 0.1}}}),
        ("spec.inference.limits.temperature", "min must not be above max"),
    ),
    "a provider's field that no annotation is for": (
        MODEL_DEPLOYMENT,
        model(zones={"dns": by_annotations({"aws/weight": "1", "alias": "true"})}),
        ("spec.zones.dns.externalDNS.providerSpecific", "with source Service only aws/..., azure/tags"),
    ),
    "no amount": (
        MODEL_DEPLOYMENT,
        model(podTemplate={"resources": {"limits": {"memory": "lots"}}}),
        ("spec.podTemplate.resources.limits.memory",),
    ),
    "a digest too short": (MODEL_DEPLOYMENT, source(http={"urls": ["https://h/m"], "sha256": "ab"}), ("sha256", "64")),
    "an unknown field of a job": (FINE_TUNE_JOB, job(epochs=3), ('unknown field "spec.epochs"',)),
    "a wrong type in a job": (FINE_TUNE_JOB, job(training={"epochs": "three"}), ("spec.training.epochs", "number")),
    "a data set's digest too short": (
        FINE_TUNE_JOB,
        job(dataset={"source": {"configMap": {"name": "d", "key": "t.jsonl"}}, "sha256": "ab"}),
        ("spec.dataset.sha256", "64"),
    ),
    "lora for a full training": (
        FINE_TUNE_JOB,
        job(method={"type": "Full", "lora": {"rank": 8}}),
        ("spec.method", "lora goes with type LoRA only"),
    ),
    "two lengths": (
        FINE_TUNE_JOB,
        job(training={"epochs": 1, "maxSteps": 10}),
        ("spec.training", "give epochs or maxSteps, not both"),
    ),
    "a size for an existing claim": (
        FINE_TUNE_JOB,
        job(output={"pvc": {"claimName": "out", "size": "1Gi"}}),
        ("spec.output.pvc", "claimName names an existing claim"),
    ),
    "a digest of many files": (
        FINE_TUNE_JOB,
        job(dataset={"source": {"huggingFace": {"repo": "o/d"}}, "sha256": SHA}),
        ("spec.dataset", "sha256 is of one file"),
    ),
    "a toleration of everything by value": (
        MODEL_DEPLOYMENT,
        pod(tolerations=[{"value": "a"}]),
        ("spec.podTemplate.tolerations[0]", "without a key the operator must be Exists"),
    ),
    "a value for any value": (
        MODEL_DEPLOYMENT,
        pod(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]),
        ("spec.podTemplate.tolerations[0]", "operator Exists takes no value"),
    ),
    "a time that nothing ends": (
        FINE_TUNE_JOB,
        job(podTemplate={"tolerations": [{"key": "a", "tolerationSeconds": 5}]}),
        ("spec.podTemplate.tolerations[0]", "tolerationSeconds goes with effect NoExecute only"),
    ),
    "a toleration with a field of no Pod": (
        MODEL_DEPLOYMENT,
        pod(tolerations=[{"key": "a", "seconds": 5}]),
        ('unknown field "spec.podTemplate.tolerations[0].seconds"',),
    ),
    "tolerations without end": (
        MODEL_DEPLOYMENT,
        pod(tolerations=[{"key": "a"}] * 33),
        ("spec.podTemplate.tolerations", "at most 32 items"),
    ),
    "an affinity for no node": (
        MODEL_DEPLOYMENT,
        pod(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}),
        ("Execution.nodeSelectorTerms", "Required value"),
    ),
    "an affinity of no Pod": (
        FINE_TUNE_JOB,
        job(podTemplate={"affinity": {"gpuAffinity": {}}}),
        ('unknown field "spec.podTemplate.affinity.gpuAffinity"',),
    ),
    "labels without end": (
        MODEL_DEPLOYMENT,
        pod(affinity=near(values=["a"] * 65)),
        ("labelSelector.matchExpressions[0].values", "at most 64 items"),
    ),
    "none of some labels": (
        MODEL_DEPLOYMENT,
        pod(affinity=near(values=[])),
        ("labelSelector.matchExpressions[0]", "In and NotIn need values, Exists and DoesNotExist take none"),
    ),
    "more than two numbers": (
        MODEL_DEPLOYMENT,
        pod(affinity=on_nodes(operator="Gt", values=["1", "2"])),
        ("nodeSelectorTerms[0].matchExpressions[0]", "Gt and Lt exactly one"),
    ),
    "two values": (
        MODEL_DEPLOYMENT,
        variable(value="a", valueFrom={"fieldRef": {"fieldPath": "spec.nodeName"}}),
        ("spec.podTemplate.env[0]", "give value or valueFrom, not both"),
    ),
    "a value from two places": (
        MODEL_DEPLOYMENT,
        variable(valueFrom={key: {"name": "a", "key": "b"} for key in ("secretKeyRef", "configMapKeyRef")}),
        ("spec.podTemplate.env[0].valueFrom", "give exactly one of fieldRef, resourceFieldRef, configMapKeyRef"),
    ),
    "a value from nowhere": (
        MODEL_DEPLOYMENT,
        variable(valueFrom={"vaultRef": {"path": "a"}}),
        ('unknown field "spec.podTemplate.env[0].valueFrom.vaultRef"',),
    ),
    "a field that no variable has": (
        MODEL_DEPLOYMENT,
        variable(valueFrom={"fieldRef": {"fieldPath": "spec.containers"}}),
        ("spec.podTemplate.env[0].valueFrom.fieldRef.fieldPath", "must be a field of the pod that a variable can have"),
    ),
    "a resource of no container": (
        FINE_TUNE_JOB,
        job(podTemplate={"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "memory"}}}]}),
        ("spec.podTemplate.env[0].valueFrom.resourceFieldRef.resource", "such as limits.memory"),
    ),
    "a learning rate of nothing": (FINE_TUNE_JOB, job(training={"learningRate": 0}), ("spec.training.learningRate",)),
}

STEP = {"weight": 5}
IDLE = "is for rollouts with steps, and there are none"


def rollout(*weights: int, **changes: Any) -> Raw:
    return model(rollout=({"steps": [{"weight": weight} for weight in weights]} if weights else {}) | changes)


QUERY = {"name": "wrong", "query": "up", "max": 1}


def queried(**changes: Any) -> Raw:
    return rollout(5, analysis={"prometheus": {"url": "https://prometheus:9090/base", "queries": [QUERY]} | changes})


def asking(asks: Raw, **analysis: Any) -> Raw:
    return rollout(steps=[STEP, {"weight": 50, "analysis": asks}], analysis=analysis)


UNNAMED = "steps[].analysis.queries must be names of analysis.prometheus.queries"
UNJUDGED = "steps[].analysis.minSamples and proven need a metric that is judged"
ROLLOUTS: dict[str, tuple[Raw, str, str]] = {
    "weights that stay": (rollout(5, 5), "steps", "the weights of the steps must rise"),
    "weights that fall": (rollout(50, 5), "steps", "the weights of the steps must rise"),
    "a step after all": (rollout(50, 100, 20), "steps", "nothing after 100"),
    "no weight": (rollout(0), "steps[0].weight", "greater than or equal to 1"),
    "more than all": (rollout(5, 101), "steps[1].weight", "less than or equal to 100"),
    "a step without weight": (rollout(steps=[{"hold": "1m"}]), "steps[0].weight", "Required value"),
    "too many steps": (rollout(*range(1, 22)), "steps", "must have at most 20 items"),
    "a hold in words": (rollout(steps=[STEP | {"hold": "5 min"}]), "steps[0].hold", "a duration such as 90s"),
    "an empty hold": (rollout(steps=[STEP | {"hold": ""}]), "steps[0].hold", "a duration such as 90s"),
    "a deadline in words": (rollout(5, deadline="soon"), "deadline", "a duration such as 90s"),
    "a deadline at once": (rollout(5, deadline="0m0s"), "deadline", "must be longer than 0s"),
    "an unknown verb": (rollout(5, action={"verb": "Go", "id": "1"}), "action.verb", '"Approve", "Skip", "Promote"'),
    "a verb without id": (rollout(5, action={"verb": "Skip"}), "action.id", "Required value"),
    "an id with blanks": (rollout(5, action={"verb": "Skip", "id": "a b"}), "action.id", "should match"),
    "a verb for no revision": (
        rollout(5, action={"verb": "Skip", "id": "1", "revision": "latest"}),
        *("action.revision", "8 digits as in status.revisions"),
    ),
    "an unknown metric": (rollout(5, analysis={"latency": {}}), "analysis.latency", "unknown field"),
    "no latency at all": (
        rollout(5, analysis={"firstToken": {"sloMilliseconds": 0}}),
        *("analysis.firstToken.sloMilliseconds", "greater than or equal to 1"),
    ),
    "no revision": (rollout(rollbackTo="latest"), "rollbackTo", "8 digits as in status.revisions"),
    "an unknown surge": (rollout(5, surge="Maybe"), "surge", '"Auto", "Always", "Never"'),
    "no query": (queried(queries=[]), "analysis.prometheus.queries", "should have at least 1 items"),
    "two queries of a name": (
        queried(queries=[QUERY, QUERY]),
        *("analysis.prometheus.queries", "each query needs a name of its own"),
    ),
    "a query without a bound": (
        queried(queries=[{"name": "wrong", "query": "up"}]),
        *("analysis.prometheus.queries[0]", "give max, min or both"),
    ),
    "bounds that cross": (
        queried(queries=[QUERY | {"min": 2}]),
        *("analysis.prometheus.queries[0]", "min must not be above max"),
    ),
    "a name in capitals": (
        queried(queries=[QUERY | {"name": "Wrong"}]),
        *("analysis.prometheus.queries[0].name", "must be a name in lower case"),
    ),
    "a period too short": (
        queried(periodSeconds=5),
        *("analysis.prometheus.periodSeconds", "greater than or equal to 15"),
    ),
    "an address with a query": (queried(url="http://p/?a=b"), "analysis.prometheus.url", "without ? and #"),
    "prompts that nobody compares": (
        rollout(5, analysis={"quality": {"perplexity": {}, "prompts": ["Hello"]}}),
        *("analysis.quality.prompts", "prompts is for answers that are compared: give minEqual as well"),
    ),
    "a length of nothing": (
        rollout(5, analysis={"quality": {"perplexity": {}, "maxTokens": 8}}),
        *("analysis.quality.maxTokens", "maxTokens is for answers that are compared"),
    ),
    "an equality that nobody could show": (
        rollout(5, analysis={"quality": {"minEqual": 0.9}}),
        *("analysis.quality.minEqual", "give more prompts, or a lower minEqual"),
    ),
    "too few prompts": (
        rollout(5, analysis={"quality": {"prompts": ["Hello"] * 10}}),
        *("analysis.quality.minEqual", "give more prompts, or a lower minEqual"),
    ),
    "too few references": (
        rollout(5, analysis={"quality": {"perplexity": {"references": [{"prompt": "1+1", "answer": "2"}]}}}),
        *("analysis.quality.perplexity.references", "should have at least 6 items"),
    ),
    "a query that there is not": (asking({"queries": ["refusals", "other"]}, prometheus=REFUSALS), "steps", UNNAMED),
    "a query where there are none": (asking({"queries": ["refusals"]}), "steps", UNNAMED),
    "none of no queries": (asking({"queries": []}), "steps", UNNAMED),
    "requests that nobody judges": (asking({"minSamples": 9}, **OFF), "steps", UNJUDGED),
    "a proof of nothing": (asking({"proven": True}, **OFF), "steps", UNJUDGED),
    "no requests": (asking({"minSamples": 0}), "steps[1].analysis.minSamples", "greater than or equal to 1"),
    "too many requests": (asking({"minSamples": 10**6 + 1}), "steps[1].analysis.minSamples", "1000000"),
    "too many names": (
        asking({"queries": ["refusals"] * 11}, prometheus=REFUSALS),
        *("steps[1].analysis.queries", "must have at most 10 items"),
    ),
    "an unknown field of a step's analysis": (asking({"errors": {}}), "steps[1].analysis.errors", "unknown field"),
    "steps past the gateway": (rollout(5) | {"traffic": "Direct"}, "steps", "rollout.steps need traffic: Gateway"),
    "analysis of nothing": (rollout(analysis={"minSamples": 10}), "analysis", f"analysis {IDLE}"),
    "a surge of nothing": (rollout(steps=[], surge="Never"), "surge", f"surge {IDLE}"),
    "a deadline of nothing": (rollout(deadline="5m"), "deadline", f"deadline {IDLE}"),
    "a failure of nothing": (rollout(onFailure="Pause"), "onFailure", f"onFailure {IDLE}"),
    "a pause of nothing": (rollout(paused=True), "paused", f"paused {IDLE}"),
}


@pytest.mark.parametrize("case", ROLLOUTS, ids=str)
def test_a_rollout_that_would_be_misread_is_refused_by_both_validators(server: Server, case: str) -> None:
    """One error, which names the field."""
    spec, field, words = ROLLOUTS[case]
    message = server.refusal(MODEL_DEPLOYMENT, "chat", spec)
    assert message is not None
    assert f"spec.rollout.{field}" in message
    assert words in message
    assert message.replace("Invalid value: null", "").count("Invalid value") <= 1
    with pytest.raises(ValidationError) as found:
        ModelDeploymentSpec.model_validate(spec)
    assert len(found.value.errors()) == 1


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_accepted(server: Server, case: str) -> None:
    kind, spec = ACCEPTED[case]
    assert server.refusal(kind, "chat", spec) is None
    kind.spec.model_validate(spec)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refused_in_words_that_help(server: Server, case: str) -> None:
    kind, spec, words = REFUSED[case]
    message = server.refusal(kind, "chat", spec)
    assert message is not None
    assert [word for word in words if word not in message] == [], message
    with pytest.raises(ValidationError):
        kind.spec.model_validate(spec)


@pytest.mark.parametrize("name", ["a" * 41, "with.dots", "1st"])
@pytest.mark.parametrize(("kind", "spec"), [(MODEL_DEPLOYMENT, model()), (FINE_TUNE_JOB, job())], ids=["mdep", "ftj"])
def test_names_that_children_could_not_have_are_refused(server: Server, kind: Kind, spec: Raw, name: str) -> None:
    message = server.refusal(kind, name, spec)
    assert message is not None
    assert "at most 40 characters" in message
    assert server.refusal(kind, "a" * 40, spec) is None


def test_what_a_job_was_made_from_cannot_change(server: Server) -> None:
    server.create(FINE_TUNE_JOB, "frozen", job(training={"epochs": 1}), dry_run=False)
    path = server.path(FINE_TUNE_JOB, "/frozen")
    for change, field in (
        ({"training": {"epochs": 2}}, "training"),
        ({"gpu": {"count": 1}}, "gpu"),
        ({"podTemplate": {"labels": {"a": "b"}}}, "podTemplate"),
    ):
        with pytest.raises(ApiError, match=f"{field} cannot change after creation: create a new FineTuneJob"):
            server.client.merge(path, {"spec": change})
    server.client.merge(path, {"spec": {"suspend": True, "activeDeadlineSeconds": 60}})


def test_a_deployment_scales_as_any_workload(server: Server) -> None:
    server.create(MODEL_DEPLOYMENT, "scaled", model(), dry_run=False)
    path = server.path(MODEL_DEPLOYMENT, "/scaled")
    server.client.merge(f"{path}/status", {"status": {"replicas": 1, "selector": "app=chat"}})
    server.run("scale", "mdep/scaled", "--replicas=3")
    scale = server.client.get(f"{path}/scale")
    assert scale["spec"]["replicas"] == 3
    assert scale["status"] == {"replicas": 1, "selector": "app=chat"}


def test_kubectl_explains_every_field(server: Server) -> None:
    told = server.run("explain", "mdep.spec.inference.gpuMemoryFraction")
    assert "Share of each GPU's memory. Default: 0.8." in told
    told = server.run("explain", "ftj", "--recursive")
    assert "targetModules" in told


def test_kubectl_get_shows_what_is_going_on(server: Server) -> None:
    server.create(MODEL_DEPLOYMENT, "shown", model(), dry_run=False)
    ready = {"type": "Ready", "status": "False", "reason": "Fetching", "message": "42 % of 3 files"}
    stamp = {"observedGeneration": 1, "lastTransitionTime": "2026-05-01T12:00:00Z"}
    status = {"conditions": [ready | stamp], "ready": "0/1", "model": {"source": "org/m", "engine": "LlamaCpp"}}
    server.client.merge(server.path(MODEL_DEPLOYMENT, "/shown/status"), {"status": status})
    head, row = server.run("get", "mdep", "shown", "-o", "wide").splitlines()
    assert head.split() == [
        *("NAME", "MODEL", "ENGINE", "READY", "REASON", "REPLICAS", "AGE", "REVISION", "URL", "MESSAGE"),
    ]
    assert row.split()[:6] == ["shown", "org/m", "LlamaCpp", "False", "Fetching", "0/1"]
    assert "42 % of 3 files" in row
    assert "shown" in server.run("get", "pilotboat")


def test_kubectl_get_shows_how_far_a_job_is(server: Server) -> None:
    server.create(FINE_TUNE_JOB, "shown", job(), dry_run=False)
    trainer = {"progressPercentage": 42, "estimatedRemainingSeconds": 90, "lastUpdatedTime": "2026-05-01T12:00:00Z"}
    progress = {"step": 21, "loss": "1.25"}
    status = {"phase": "Running", "trainerStatus": trainer, "progress": progress, "message": "runs"}
    server.client.merge(server.path(FINE_TUNE_JOB, "/shown/status"), {"status": status})
    head, row = server.run("get", "ftj", "shown", "-o", "wide").splitlines()
    assert head.split() == ["NAME", "PHASE", "PROGRESS", "STEP", "LOSS", "ETA", "AGE", "MESSAGE"]
    assert row.split()[:6] == ["shown", "Running", "42", "21", "1.25", "90"]
    assert row.split()[-1] == "runs"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_the_api_server_finds_nothing_to_warn_of(server: Server, kind: Kind) -> None:
    """Among its conditions are NonStructuralSchema and a CEL cost that is too high."""
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.full_name}"
    conditions = {c["type"]: c["status"] for c in server.client.get(path)["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}


# pydantic and the API server are two validators of one contract

WORDS = st.text(alphabet="ab./-_@: \u00e9\u00a0\n0h5ms*?[", max_size=12)
NUMBERS = st.one_of(st.integers(-2, 70), st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.5, 100000, 4294967295, 4294967296]))
ODD: st.SearchStrategy[Any] = st.sampled_from([None, [], {}, "", True])


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values in a spec that could be replaced."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += leaves(item, (*path, key))
    return found


RICH: dict[str, tuple[Kind, Raw]] = {
    "ModelDeployment": (
        MODEL_DEPLOYMENT,
        model(
            model={
                "source": {"http": {"urls": ["https://h/m.gguf"], "sha256": SHA}},
                "digests": {"m.gguf": SHA},
                "cache": {"type": "Node", "path": "/var/models", "size": "1Gi", "keepFree": 5, "seed": True},
            },
            engine={
                "type": "Fake",
                "image": "r.example/x:1",
                "fake": {"tokens": 3, "delay": 0.5, "jitter": 1, "failRatio": 0.25, "text": "no", "exitAfter": 9},
            },
            inference={
                "device": "cpu",
                "batchSize": 2,
                "gpuMemoryFraction": 0.5,
                "defaults": {"temperature": 1, "topP": 0.5},
                "limits": {"topP": {"min": 0, "max": 1}},
            },
            service={"port": 80, "apiKeySecretRef": {"name": "keys", "key": "k"}, "requestTimeout": "5m"},
            gpu={"count": 1, "resourceName": "nvidia.com/gpu"},
            zones={"spread": "Required"},
            rollout={
                "steps": [
                    {"weight": 5, "hold": "5m", "analysis": {"minSamples": 9, "proven": True, "queries": ["up"]}},
                    {"weight": 50, "approval": True},
                ],
                "surge": "Never",
                "deadline": "10m",
                "paused": True,
                "action": {"verb": "Skip", "id": "1", "revision": "0123abcd"},
                "analysis": {
                    "minSamples": 10,
                    "firstToken": {"sloMilliseconds": 500},
                    "prometheus": {"url": "http://p", "queries": [{"name": "up", "query": "up", "max": 1}]},
                },
            },
            podTemplate={
                "labels": {"a": "b"},
                "resources": {"limits": {"memory": "1Gi"}},
                "imagePullSecrets": [{"name": "pull"}],
                **PLACED,
            },
        ),
    ),
    "FineTuneJob": (
        FINE_TUNE_JOB,
        job(
            base={"source": {"pvc": {"claimName": "w", "path": "a/b"}}},
            dataset={
                "source": {"huggingFace": {"repo": "o/d", "revision": "main", "files": ["t.jsonl"]}},
                "format": "Alpaca",
                "sha256": SHA,
            },
            method={"type": "LoRA", "lora": {"rank": 8, "alpha": 16, "targetModules": ["q"], "dropout": 0.1}},
            training={"maxSteps": 10, "learningRate": 0.1, "packing": True, "precision": "fp32", "seed": 1},
            output={"pvc": {"size": "1Gi", "accessMode": "ReadWriteMany"}},
            suspend=True,
            backoffLimit=1,
        ),
    ),
}


def replaced(spec: Raw, path: tuple[Any, ...], value: Any) -> Raw:
    changed = copy.deepcopy(spec)
    target: Any = changed
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return changed


@st.composite
def mutants(draw: st.DrawFn) -> tuple[Kind, Raw, tuple[Any, ...], Any]:
    kind, spec = RICH[draw(st.sampled_from(sorted(RICH)))]
    path = draw(st.sampled_from(leaves(spec)))
    value = draw(st.one_of(WORDS, NUMBERS, ODD))
    return kind, replaced(spec, path, value), path, value


def excused(path: tuple[Any, ...], value: Any, present: Any) -> bool:
    """Where the two may differ. pydantic turns types into each other, and reads null as absent where it may be."""
    lax = isinstance(value, bool) or isinstance(present, bool) or isinstance(value, str) != isinstance(present, str)
    return value is None or lax or (isinstance(present, int) and isinstance(value, float))


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(mutant=mutants())
def test_pydantic_accepts_what_the_api_server_accepts(
    server: Server, mutant: tuple[Kind, Raw, tuple[Any, ...], Any]
) -> None:
    kind, spec, path, value = mutant
    present: Any = RICH[kind.kind][1]
    for step in path:
        present = present[step]
    message = server.refusal(kind, "chat", spec)
    try:
        kind.spec.model_validate(spec)
        ours = None
    except ValidationError as error:
        ours = str(error)
    assert (message is None) == (ours is None) or excused(path, value, present), (path, value, message, ours)
