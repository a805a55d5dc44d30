"""The operator under faults of the network, the API server and its own process: always the same end."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pilotboat.engine import api
from pilotboat.engine.api import load_configuration
from pilotboat.engine.kinds import CHILDREN, DEPLOYMENT, MODEL_DEPLOYMENT, POD, SERVICE, kind_of
from pilotboat.engine.web import status_app
from tests.integration.cluster import Cluster, namespace_of, ours
from tests.integration.faults import after_writes, changes, done, killed_after, trouble
from tests.integration.proxy import GONE, Call, Faults, Proxy, status
from tests.integration.running import Running, operator
from tests.integration.test_gateway import through_gateway
from tests.integration.test_reconcile import fine_tune_job, model_deployment, reported, settled

Raw = dict[str, Any]
End = tuple[Raw, list[str]]
WRITES = 5
"""Of a ModelDeployment with two replicas: ConfigMap, Deployment, Service, PodDisruptionBudget and status."""


async def shape(cluster: Cluster, running: Running) -> Raw:
    """The end state."""
    await settled(cluster, running)
    return await cluster.shape()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clean(plane: Path) -> End:
    """The end of a run without faults, and what was created and deleted in it."""
    configuration = await load_configuration(str(plane))
    async with (
        namespace_of(configuration, "without-faults") as cluster,
        Proxy(configuration) as proxy,
        operator(proxy.configuration, cluster.namespace) as running,
    ):
        await cluster.apply(model_deployment())
        return await shape(cluster, running), changes(proxy)


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "unanswered"])
@pytest.mark.parametrize("last", range(1, WRITES + 1))
async def test_killed_after_any_write_the_next_one_ends_where_a_clean_run_does(
    cluster: Cluster, proxy: Proxy, clean: End, last: int, answered: bool
) -> None:
    await cluster.apply(model_deployment())
    await killed_after(proxy, cluster.namespace, last, answered=answered)
    async with operator(proxy.configuration, cluster.namespace) as second:
        assert (await shape(cluster, second), changes(proxy)) == clean


def of(method: str, plural: str) -> Callable[[Call], bool]:
    """Calls of that method about that kind, or its status."""
    return lambda call: call.method == method and f"/{plural}" in call.path and not call.watch


MET: dict[str, tuple[Callable[[Call], bool], str]] = {
    "a list": (of("GET", "modeldeployments"), "429 500 late"),
    "a watch": (lambda call: call.watch and call.path.endswith("/modeldeployments"), "429 500"),
    "the first child": (of("PATCH", "configmaps"), "409 429 500"),
    "a child with children": (of("PATCH", "deployments"), "late"),
    "the status": (lambda call: call.method == "PATCH" and call.path.endswith("/status"), "409 500 late"),
    "an event": (of("POST", "events"), "500"),
}
"""Calls of a creation that differ in what becomes of them, and how each is not answered as it should be."""


@pytest.mark.parametrize(("call", "kind"), [(call, kind) for call, (_, kinds) in MET.items() for kind in kinds.split()])
async def test_trouble_with_any_call_only_delays(
    cluster: Cluster, proxy: Proxy, clean: End, call: str, kind: str
) -> None:
    await met_and_overcome(cluster, proxy, clean, kind, MET[call][0])


async def met_and_overcome(
    cluster: Cluster, proxy: Proxy, clean: End, kind: str, which: Callable[[Call], bool]
) -> None:
    """One call meets trouble, and the end is that of a run without."""
    met = trouble(proxy, kind, which)
    async with operator(proxy.configuration, cluster.namespace) as running:
        await cluster.apply(model_deployment())
        await running.until(met.is_set)
        assert (await shape(cluster, running), changes(proxy)) == clean
        assert running.value("reconciles_total", result="error") == 0


CALLS = 44
"""As many as an operator makes at least beside its watches, from its start until it has told of a ModelDeployment."""


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "number"),
    [*((kind, n) for kind in ("429", "500", "late") for n in range(CALLS)), *(("409", n) for n in range(WRITES))],
)
async def test_trouble_with_each_call_only_delays(
    cluster: Cluster, proxy: Proxy, clean: End, kind: str, number: int
) -> None:
    numbers = itertools.count()

    def which(call: Call) -> bool:
        counts = call.write if kind == "409" else not call.watch
        return counts and next(numbers) == number

    await met_and_overcome(cluster, proxy, clean, kind, which)


async def test_an_api_server_that_fails_often_only_delays(cluster: Cluster, proxy: Proxy, clean: End) -> None:
    dice = random.Random(7)

    async def fail(call: Call) -> web.Response | None:
        if call.watch or dice.random() < 0.5:
            return None
        code = dice.choice((429, 500, 503, 504))
        return status(code, "trouble", **({"Retry-After": "1"} if code == 429 else {}))

    async with operator(proxy.configuration, cluster.namespace) as running:
        await cluster.apply(model_deployment())
        await cluster.until(MODEL_DEPLOYMENT, reported)
        proxy.faults.before = fail
        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"service": {"port": 9999}}})
        await cluster.until(SERVICE, lambda found: found and found[0]["spec"]["ports"][0]["port"] == 9999)
        await cluster.until(MODEL_DEPLOYMENT, reported)
        assert running.value("reconciles_total", result="error") == 0
        await cluster.merge(MODEL_DEPLOYMENT, "chat", {"spec": {"service": {"port": None}}})
        await cluster.until(SERVICE, lambda found: found and found[0]["spec"]["ports"][0]["port"] == 8080)
        end = await shape(cluster, running)
    own = "ModelDeployment chat"  # whose spec and generation the test changed
    assert {name: raw for name, raw in end.items() if name != own} == {
        name: raw for name, raw in clean[0].items() if name != own
    }


async def test_watches_whose_version_is_too_old_begin_anew(cluster: Cluster, proxy: Proxy) -> None:
    """What each would have told next only a new list can tell, and no resync comes in time."""
    async with operator(proxy.configuration, cluster.namespace, resync=3600):
        await cluster.apply(model_deployment("before"))
        await cluster.until(MODEL_DEPLOYMENT, reported)
        proxy.expire()
        begun = proxy.watches
        await cluster.apply(model_deployment("meanwhile"))
        await cluster.until(MODEL_DEPLOYMENT, lambda found: len(found) == 2 and reported(found))
        assert proxy.watches > begun


async def test_a_list_whose_second_page_has_expired_is_none(
    cluster: Cluster, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is begun anew. By a later one nothing is taken for gone that was not on its first page."""
    monkeypatch.setattr(api, "PAGE", 1)
    second_pages = 0

    async def expire(call: Call) -> web.Response | None:
        nonlocal second_pages
        if "continue" not in call.query or not call.path.endswith("/modeldeployments"):
            return None
        second_pages += 1
        return web.json_response(GONE, status=410)

    for name in ("one", "two"):
        await cluster.apply(model_deployment(name))
    proxy.faults.before = expire
    async with operator(proxy.configuration, cluster.namespace, resync=1) as running:
        await running.until(lambda: second_pages >= 1)
        assert not running.engine.health.working
        proxy.faults = Faults()
        await cluster.until(MODEL_DEPLOYMENT, lambda found: len(found) == 2 and reported(found))
        proxy.faults.before, before = expire, second_pages
        await running.until(lambda: second_pages >= before + 2)
        assert running.engine.store.count(MODEL_DEPLOYMENT) == 2


async def test_a_watch_that_goes_silent_is_begun_anew(cluster: Cluster, proxy: Proxy) -> None:
    async with operator(proxy.configuration, cluster.namespace, silence=3):
        await cluster.apply(model_deployment("before"))
        await cluster.until(MODEL_DEPLOYMENT, reported)
        proxy.silence()
        await cluster.apply(model_deployment("meanwhile"))
        await cluster.until(MODEL_DEPLOYMENT, lambda found: len(found) == 2 and reported(found))


async def test_a_dead_watch_is_worked_round_by_resync_and_told_by_health(cluster: Cluster, proxy: Proxy) -> None:
    async with operator(proxy.configuration, cluster.namespace, resync=2) as running:
        await cluster.apply(model_deployment("before"))
        await cluster.until(MODEL_DEPLOYMENT, reported)
        assert await healthz(running) == (200, "ok\n")
        proxy.silence()
        for name in ("one", "two", "three"):
            await cluster.apply(model_deployment(name))
            await cluster.until(MODEL_DEPLOYMENT, reported)
        code, told = await healthz(running)
        assert code == 500
        assert f"the watch of modeldeployments in {cluster.namespace} is dead" in told.splitlines()


async def healthz(running: Running) -> tuple[int, str]:
    """What kubelet is answered."""
    app = status_app(running.engine.health.complaints, lambda: True, lambda: b"")
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/healthz")
        return answer.status, await answer.text()


async def test_a_deletion_that_nobody_told_is_found(cluster: Cluster, proxy: Proxy) -> None:
    proxy.faults.passes = lambda kind, event: event["type"] != "DELETED"
    async with operator(proxy.configuration, cluster.namespace, resync=2) as running:
        parent = await cluster.apply(model_deployment())
        await cluster.until(MODEL_DEPLOYMENT, reported)
        (service,) = await cluster.list(SERVICE)
        await cluster.delete(service)
        await cluster.until(SERVICE, lambda found: found and found[0]["metadata"]["uid"] != service["metadata"]["uid"])
        await cluster.delete(parent)
        await cluster.until(SERVICE, lambda found: not found)
        await running.until(lambda: not running.engine.store.count(MODEL_DEPLOYMENT))


FIRST: dict[str, tuple[Raw, int]] = {
    "Direct": (model_deployment(), WRITES),
    "Gateway": (through_gateway(), 12),  # and a headless Service, the route and five parts of the gateway
    "FineTuneJob": (fine_tune_job("qa"), 4),  # ConfigMap, PersistentVolumeClaim, Job and status
}
"""Parents, and how many writes make their children and the first status."""


@pytest.mark.parametrize("case", FIRST)
async def test_what_is_made_at_first_takes_as_many_writes_as_are_tried_here(
    cluster: Cluster, proxy: Proxy, case: str
) -> None:
    manifest, writes = FIRST[case]
    async with operator(proxy.configuration, cluster.namespace) as running:
        await cluster.apply(manifest)
        await cluster.until(kind_of(manifest["apiVersion"], manifest["kind"]), reported)
        await running.idle()
    made = [call for call in proxy.writes if call.code == 201]
    assert len(made) == writes - 1


def left(case: str, number: int) -> list[pytest.MarkDecorator]:
    """A gateway's deletion waits for the garbage collector: after every second write it is left to `make soak`."""
    return [pytest.mark.long] if case == "Gateway" and number % 2 else []


@pytest.mark.parametrize(
    ("case", "written"),
    [pytest.param(case, n, marks=left(case, n)) for case, (_, writes) in FIRST.items() for n in range(writes + 1)],
)
async def test_deleted_after_any_write_nothing_stays(cluster: Cluster, proxy: Proxy, case: str, written: int) -> None:
    parent = await cluster.apply(FIRST[case][0])
    deleted = after_writes(proxy, written, lambda: cluster.delete(parent))
    async with operator(proxy.configuration, cluster.namespace) as running:
        await running.until(deleted.is_set)
        await nothing_left(cluster, running)
        assert running.value("reconciles_total", result="error") == 0


@pytest.mark.parametrize("written", [pytest.param(n, marks=left("Gateway", n)) for n in range(FIRST["Gateway"][1] + 1)])
async def test_deleted_after_any_write_it_leaves_the_gateway_to_the_others(
    cluster: Cluster, proxy: Proxy, written: int
) -> None:
    async with operator(proxy.configuration, cluster.namespace) as running:
        await cluster.apply(through_gateway("other", replicas=0))
        await cluster.until(MODEL_DEPLOYMENT, reported)
        await running.idle()
        before = await cluster.shape()
        parent = await cluster.apply(through_gateway())
        deleted = after_writes(proxy, done(proxy) + written, lambda: cluster.delete(parent))
        await running.until(deleted.is_set)
        await running.until(lambda: len(list(running.engine.store.parents())) == 1)
        await running.idle()
        for kind in CHILDREN:
            await cluster.until(kind, lambda found: "chat" not in owners(found))
        await running.idle()
        assert await cluster.shape() == before
        assert running.value("reconciles_total", result="error") == 0


def owners(found: list[Raw]) -> set[str]:
    return {owner["name"] for raw in found for owner in raw["metadata"].get("ownerReferences") or ()}


async def nothing_left(cluster: Cluster, running: Running) -> None:
    """Neither in the operator's mind nor in the namespace, and nothing is made again."""
    store = running.engine.store
    await running.until(lambda: not [*store.parents(), *store.gateways.keys()])
    await running.idle()
    for kind in (*CHILDREN, POD):
        await cluster.until(kind, lambda found: not any(map(ours, found)))
    await running.idle()
    assert not [raw for kind in (*CHILDREN, POD) for raw in await cluster.list(kind) if ours(raw)]


async def test_made_anew_under_the_same_name_it_gets_children_of_its_own(cluster: Cluster) -> None:
    async with operator(cluster.configuration, cluster.namespace):
        old = await cluster.apply(model_deployment())
        await cluster.until(MODEL_DEPLOYMENT, reported)
        await cluster.delete(old)
        new = await cluster.apply(model_deployment())
        uid = new["metadata"]["uid"]
        for kind in (DEPLOYMENT, SERVICE):
            await cluster.until(kind, lambda found: found and found[0]["metadata"]["ownerReferences"][0]["uid"] == uid)
        await cluster.until(MODEL_DEPLOYMENT, lambda found: reported(found) and "NameTaken" not in str(found))


async def test_kinds_that_are_installed_after_the_operator_began_are_watched(cluster: Cluster, proxy: Proxy) -> None:
    """As by a GitOps tool that applies CRDs last. No resync comes in time to hide a watch that is not there."""
    asked = 0

    async def unknown(call: Call) -> web.Response | None:
        nonlocal asked
        asked += call.path.endswith("/modeldeployments")
        return web.Response(status=404, text="404 page not found\n") if "/pilotboat.dev" in call.path else None

    proxy.faults.before = unknown
    async with operator(proxy.configuration, cluster.namespace, resync=3600) as running:
        await running.until(lambda: asked >= 2)
        proxy.faults = Faults()
        await running.until(lambda: running.engine.health.working)
        await cluster.apply(model_deployment())
        await cluster.until(MODEL_DEPLOYMENT, reported)
