"""The chart's rights are those the operator needs, on an API server that enforces them."""

from __future__ import annotations

import asyncio
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio import client

from lab import build
from pilotboat.api.analysis import Why
from pilotboat.api.sources import SecretKey
from pilotboat.engine import prometheus
from pilotboat.engine.api import Api, load_configuration
from pilotboat.engine.engine import utc
from pilotboat.engine.errors import Forbidden
from pilotboat.engine.kinds import CONFIG_MAP, GATEWAY_PARTS, HTTP_ROUTE, LEASE, MODEL_DEPLOYMENT, PDB, Key
from pilotboat.engine.metrics import Metrics
from pilotboat.engine.node_watch import NAMESPACE
from pilotboat.plan.types import Answer, Questions
from standins.prometheus import Prometheus, vector
from tests.integration import gateway_api
from tests.integration.cluster import Cluster
from tests.integration.nameserver import primary
from tests.integration.running import operator
from tests.integration.test_foreign_route import lent_and_given_back
from tests.integration.test_gateway import gateway, kubelet, named, says, through_gateway
from tests.integration.test_http_route import by_route, rules
from tests.integration.test_reconcile import reported
from tests.integration.test_region_operator import key, shared

ROOT = Path(__file__).parents[2]
IMAGES = ("operator", "server", "trainer", "fetch", "gateway")
Raw = dict[str, Any]


def output(*command: str, given: str = "") -> str:
    done = subprocess.run(command, input=given, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def account(plane: Path) -> Iterator[str]:
    """A token of the operator's account, with the rights of a default installation and no other."""
    yield from installed(plane)


@pytest.fixture(scope="module")
def with_dns(plane: Path) -> Iterator[str]:
    """The same where `dns.enabled` is set."""
    yield from installed(plane, "--set=dns.enabled=true")


@pytest.fixture(scope="module")
def with_tokens(plane: Path) -> Iterator[str]:
    """The same where `prometheus.tokens` is set."""
    yield from installed(plane, "--set=prometheus.tokens=true")


def rights(home: str, *more: str) -> str:
    """All that the chart says of RBAC."""
    values = [f"--set=images.{name}=any" for name in IMAGES]
    chart = [str(ROOT / "charts" / "pilotboat"), f"--namespace={home}", "--show-only=templates/rbac.yaml"]
    return output(str(build.ensure() / "helm"), "template", "pilotboat", *chart, *values, *more)


def installed(plane: Path, *more: str, home: str = "") -> Iterator[str]:
    """The rights of the chart while they are there, and a token that has them."""
    home = home or f"chart-{uuid.uuid4().hex[:6]}"
    kubectl = [str(build.ensure() / "kubectl"), f"--kubeconfig={plane}"]
    made = rights(home, *more)
    output(*kubectl, "create", "namespace", home)
    output(*kubectl, "apply", "--filename=-", given=made)
    yield output(*kubectl, "create", "token", "pilotboat", f"--namespace={home}").strip()
    output(*kubectl, "delete", "--filename=-", "--wait=false", given=made)


@pytest.fixture
async def limited(plane: Path, account: str) -> client.Configuration:
    """The API server as the operator meets it in its pod."""
    return await as_account(plane, account)


async def as_account(plane: Path, account: str) -> client.Configuration:
    """With that token and no other right."""
    found = await load_configuration(str(plane))
    found.cert_file = found.key_file = None
    found.api_key = {"BearerToken": account}
    found.api_key_prefix = {"BearerToken": "Bearer"}
    return found


async def test_the_operator_may_use_a_gateway_that_is_named(
    plane: Path, cluster: Cluster, limited: client.Configuration
) -> None:
    with gateway_api.installed(plane):
        async with operator(limited, cluster.namespace) as running:
            await cluster.apply(by_route())
            await cluster.until(HTTP_ROUTE, rules)
            await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "GatewayReady", "False", "GatewayNotFound"))
            await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"replicas": 0, "routing": {"hostnames": None}}})
            await cluster.until(HTTP_ROUTE, lambda found: "hostnames" not in found[0]["spec"])
            await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"traffic": "Direct", "routing": None}})
            await cluster.until(HTTP_ROUTE, lambda found: not found)
            assert running.value("api_requests_total", code="403") == 0


async def test_the_operator_may_hold_a_deployment_until_a_route_of_others_is_given_back(
    plane: Path, cluster: Cluster, limited: client.Configuration
) -> None:
    with gateway_api.installed(plane):
        async with operator(limited, cluster.namespace) as running:
            await lent_and_given_back(cluster)
            assert running.value("api_requests_total", code="403") == 0


def test_labels_and_annotations_of_the_users_own_stand_once_beside_the_charts() -> None:
    """The chart's labels are what its selector goes by; its annotations are a proposal."""
    values = [*(f"--set=images.{name}=any" for name in IMAGES), "--set=podLabels.app\\.kubernetes\\.io/name=mine"]
    mine = ["--set=podLabels.team=a", "--set-string=podAnnotations.prometheus\\.io/scrape=false"]
    chart = [str(ROOT / "charts" / "pilotboat"), "--show-only=templates/operator.yaml"]
    made = output(str(build.ensure() / "helm"), "template", "pilotboat", *chart, *values, *mine)
    text = next(part for part in made.split("\n---\n") if "\nkind: Deployment\n" in part)
    template = yaml.safe_load(text)["spec"]["template"]["metadata"]
    assert template["annotations"] == {"prometheus.io/scrape": "false", "prometheus.io/port": "8080"}
    assert template["labels"]["team"] == "a"
    assert template["labels"]["app.kubernetes.io/name"] == "pilotboat"
    assert text.count("prometheus.io/scrape") == 1


def test_names_that_are_numbers_are_strings() -> None:
    """In namespaces, labels and the environment Kubernetes takes nothing else."""
    values = [*(f"--set=images.{name}=12:34" for name in IMAGES), "--set-string=images.pullSecrets={1}"]
    mine = ["--set-string=serviceAccount.name=7,priorityClassName=8,watchNamespaces={9}", "--namespace=123"]
    made = output(str(build.ensure() / "helm"), "template", "2024", str(ROOT / "charts" / "pilotboat"), *values, *mine)
    objects = [found for found in yaml.safe_load_all(made) if found and found["kind"] != "CustomResourceDefinition"]
    assert {found["metadata"].get("namespace", "") for found in objects} == {"", "123", "9", "kube-node-lease"}
    pod = next(found for found in objects if found["kind"] == "Deployment")["spec"]["template"]
    assert pod["metadata"]["labels"]["app.kubernetes.io/instance"] == "2024"
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "12:34"
    assert next(each for each in container["env"] if each["name"] == "PILOTBOAT_NAMESPACE")["value"] == "123"
    assert (pod["spec"]["serviceAccountName"], pod["spec"]["priorityClassName"]) == ("7", "8")
    assert pod["spec"]["imagePullSecrets"] == [{"name": "1"}]
    assert [(each, value) for found in objects for each, value in odd(found)] == []


ODD = """
replicas: 3
podLabels: {build: 12345678, canary: true, team:}
podAnnotations: {since: 2024}
nodeSelector: {pool: 7, gpu: true}
tolerations: [{key: pool, operator: Equal, value: 7, effect: NoExecute, tolerationSeconds: 30}, {operator: Exists}]
serviceAccount: {annotations: {account: 1234567890123}}
hub: {endpoint: "http://hub:80/x"}
dns: {enabled: true}
prometheus: {tokens: true}
priorityClassName: system-cluster-critical
images: {pullSecrets: [1st]}
"""


@pytest.mark.parametrize("namespaces", [[], ["default", "kube-public"]], ids=["all", "some"])
def test_an_api_server_takes_values_that_are_numbers_and_restricted_pods(
    plane: Path, tmp_path: Path, namespaces: list[str]
) -> None:
    binaries, home = build.ensure(), f"chart-{uuid.uuid4().hex[:6]}"
    kubectl = [str(binaries / "kubectl"), f"--kubeconfig={plane}"]
    given = tmp_path / "values.yaml"
    given.write_text(f"{ODD}watchNamespaces: {namespaces}\n")
    values = [*(f"--set=images.{name}=any" for name in IMAGES), f"--values={given}", f"--namespace={home}"]
    made = output(str(binaries / "helm"), "template", "pilotboat", str(ROOT / "charts" / "pilotboat"), *values)
    output(*kubectl, "create", "namespace", home)
    output(*kubectl, "label", "namespace", home, "pod-security.kubernetes.io/warn=restricted")
    apply = [*kubectl, "apply", "--dry-run=server", "--server-side", "--force-conflicts", "--filename=-"]
    done = subprocess.run(apply, input=made, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    pod = next(raw for raw in yaml.safe_load_all(made) if raw and raw["kind"] == "Deployment")["spec"]["template"]
    assert (pod["metadata"]["labels"]["build"], pod["spec"]["nodeSelector"]["gpu"]) == ("12345678", "true")


def odd(found: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Names of any kind that are no strings."""
    if isinstance(found, dict):
        for key, value in found.items():
            if key in ("name", "namespace", "value", "app.kubernetes.io/instance") and not isinstance(
                value, str | dict
            ):
                yield f"{path}.{key}", value
            yield from odd(value, f"{path}.{key}")
    elif isinstance(found, list):
        for number, value in enumerate(found):
            yield from odd(value, f"{path}[{number}]")


def test_a_hub_whose_port_is_none_is_refused() -> None:
    values = [*(f"--set=images.{name}=any" for name in IMAGES), "--set=hub.endpoint=http://hub:65536"]
    chart = [str(build.ensure() / "helm"), "template", "pilotboat", str(ROOT / "charts" / "pilotboat"), *values]
    done = subprocess.run(chart, text=True, capture_output=True, check=False)
    assert done.returncode != 0
    assert "hub" in done.stderr


async def test_the_operator_may_do_all_that_it_does(cluster: Cluster, limited: client.Configuration) -> None:
    async with operator(limited, cluster.namespace) as running:
        chat = await cluster.apply(through_gateway())
        for kind in GATEWAY_PARTS:
            await cluster.until(kind, gateway)
        for kind, name in ((CONFIG_MAP, "chat-route"), (PDB, "chat")):
            await cluster.until(kind, lambda found, name=name: named(found, name))
        await cluster.until(MODEL_DEPLOYMENT, reported)
        await cluster.delete(chat)
        for kind in GATEWAY_PARTS:
            await cluster.until(kind, lambda found: gateway(found) is None)
        await asyncio.wait_for(running.idle(), 60)
        refused = running.value("api_requests_total", code="403")
        assert (refused, running.value("reconciles_total", result="refused")) == (0, 0)


async def test_it_may_look_when_a_node_was_heard_of_and_at_nobody_elses_lease(
    cluster: Cluster, limited: client.Configuration
) -> None:
    async with Api(limited) as api:
        assert await api.get(LEASE, NAMESPACE, "no-such-node") is None
        with pytest.raises(Forbidden):
            await api.get(LEASE, cluster.namespace, "no-such-node")


async def test_shared_host_names_need_rights_that_only_dns_enabled_grants(
    plane: Path, cluster: Cluster, limited: client.Configuration, with_dns: str, tmp_path: Path
) -> None:
    async with primary(tmp_path) as server:
        await key(cluster, server.secret)
        await cluster.apply(shared(server, "east", "127.1.0.1"))
        async with operator(limited, cluster.namespace):
            await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "DnsReady", "False", "DnsNotPermitted"))
            assert "finalizers" not in (await cluster.get(MODEL_DEPLOYMENT, "chat"))["metadata"]
        async with operator(await as_account(plane, with_dns), cluster.namespace) as running:
            await kubelet(cluster, "server", True, count=1)
            await cluster.until(MODEL_DEPLOYMENT, lambda found: says(found, "DnsReady", "True"))
            await cluster.delete(await cluster.get(MODEL_DEPLOYMENT, "chat"))
            await cluster.until(MODEL_DEPLOYMENT, lambda found: not found)
            assert (await server.client("chat.example.org").look()).beats == ()
            assert running.value("api_requests_total", code="403") == 0


async def test_tokens_for_queries_need_a_right_that_only_prometheus_tokens_grants(
    plane: Path, cluster: Cluster, limited: client.Configuration, with_tokens: str
) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "prom"}, "stringData": {"token": "shown"}}
    await cluster.apply(body)
    async with Prometheus(time.time, vector(1)).serving() as server:
        asked = Questions(server.url, ("up",), 3600, SecretKey(name="prom"))
        (barred,) = await looked(limited, cluster.namespace, asked)
        assert barred.trouble
        assert barred.trouble[0] is Why.NOT_PERMITTED
        assert server.requests == []
        (found,) = await looked(await as_account(plane, with_tokens), cluster.namespace, asked)
        assert found.values == (1.0,)
        assert [request.authorization for request in server.requests] == ["Bearer shown"]


async def looked(configuration: client.Configuration, namespace: str, asked: Questions) -> tuple[Answer, ...]:
    """What one look finds with these rights."""
    key, done = Key("modeldeployments", namespace, "chat"), asyncio.Event()
    async with Api(configuration) as api:
        asker = prometheus.Prometheus(api, lambda keys: done.set(), Metrics().prometheus_queries, utc)
        task = asyncio.create_task(asker.run())
        asker.want(key, asked)
        await asyncio.wait_for(done.wait(), 60)
        task.cancel()
        await asyncio.wait([task])
        return asker.of(key)
