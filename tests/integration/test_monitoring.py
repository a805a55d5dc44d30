"""The chart's alerts and dashboard, asked of a real Prometheus that scrapes pages of the real registries: a query that
finds nothing there would find nothing in anybody's cluster."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from lab import build
from pilotboat.engine.kinds import FINE_TUNE_JOB, MODEL_DEPLOYMENT
from pilotboat.engine.metrics import Metrics
from pilotboat.engine.store import Store
from pilotboat_gateway.evidence import Recorder
from pilotboat_gateway.metrics import Metrics as GatewayMetrics
from pilotboat_gateway.requestlog import Seen
from pilotboat_server.metrics import Metrics as ServerMetrics
from tests.integration import promserver
from tests.integration.promserver import Page, Server
from tests.integration.test_chart import IMAGES, output
from tests.integration.test_prometheus import PATIENCE
from tools import dashboard
from unit.engine.objects import parent
from unit.engine.test_canary_metrics import STATE
from unit.engine.test_recovery_metrics import DONE, MADE

CHART = Path(__file__).parents[2] / "charts" / "pilotboat"
ALERTS = CHART / "files" / "alerts.yaml"
HERE = {"namespace": "ns", "pod": "some-pod"}


class Operator:
    """A page of the operator's: a ModelDeployment in every trouble that an alert is about."""

    def __init__(self) -> None:
        self.metrics, store = Metrics(), Store(lambda: 0.0)
        self.metrics.track(store, lambda: 1, lambda: 0, lambda: 1)
        for name, phase in (("chat", "Aborted"), ("other", "Holding")):
            rollout = STATE.model_dump(by_alias=True, mode="json", exclude_none=True) | {"phase": phase}
            told = [("Available", "False"), ("Ready", "False"), ("ZonesHealthy", "False")]
            store.put(MODEL_DEPLOYMENT, parent(name, status={"rollout": rollout, "conditions": conditions(told)}))
        failed = conditions([("Failed", "True")])
        store.put(FINE_TUNE_JOB, parent("tuned", "FineTuneJob", status={"conditions": failed}))

    def render(self) -> str:
        """As the time goes on."""
        self.metrics.reconciles.labels("modeldeployments", "error").inc()
        self.metrics.latency.labels("modeldeployments").observe(20)
        self.metrics.observe_request("apply", "deployments", "200", 0.1)
        self.metrics.regions.failures.labels("DnsUnreachable").inc()
        whole = DONE | {"seconds": {"load": 3.0}}
        self.metrics.recoveries.see({"recovery": {"last": MADE}}, {"recovery": {"last": whole}})
        return self.metrics.render().decode()


def conditions(told: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"type": kind, "status": status, "reason": "NodeLost"} for kind, status in told]


class Gateway:
    """A page of a gateway that fails."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.metrics = GatewayMetrics(self.recorder)
        self.metrics.applied.set(0)
        self.metrics.bad_routes.labels("chat-route").set(1)
        for gauge in (self.metrics.servers_up, self.metrics.streams):
            gauge.labels("chat", "aaaa").set(1)

    def render(self) -> str:
        """As the time goes on."""
        for revision, status in (("aaaa", 200), ("aaaa", 500), (None, 503)):
            seen = Seen("chat", revision, status, status >= 500, 30.0, None, retries=1, judged=True)
            self.recorder.request(seen, now=0.0)
        return self.metrics.render().decode()


class Replica:
    """A page of a server at work."""

    def __init__(self) -> None:
        self.metrics = ServerMetrics("chat")

    def render(self) -> str:
        """As the time goes on."""
        self.metrics.prompt_tokens.inc()
        self.metrics.generation_tokens.inc()
        self.metrics.between_tokens(0.0, 0.1, 1)
        return self.metrics.render(0.0).decode()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return promserver.programs(tmp_path_factory.mktemp("prometheus"))


def queries() -> Iterator[tuple[str, str]]:
    """All of the dashboard and of the alerts, by what shows them."""
    for row in dashboard.ROWS.values():
        for panel in row:
            for name, query in panel.lines.items():
                yield f"{panel.title}: {name}", query.replace("$namespace", ".*")
    for rule in rules():
        yield rule["alert"], rule["expr"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


async def test_every_alert_fires_and_every_panel_has_lines(programs: Path, tmp_path: Path) -> None:
    pages = {
        "operator": Page(Operator().render, own=True),
        "gateways": Page(Gateway().render, HERE),
        "servers": Page(Replica().render, HERE),
    }
    async with promserver.scraping(programs, tmp_path, pages) as server, aiohttp.ClientSession() as session:
        asked, end = list(queries()), time.monotonic() + PATIENCE
        while asked and time.monotonic() < end:  # what a late scrape took away the next one brings
            asked = [each for each in asked if not await found(session, server, each[1])]
            await asyncio.sleep(0.2)
    assert not asked


async def found(session: aiohttp.ClientSession, server: Server, query: str) -> list[Any]:
    """The series that a query gives; raises AssertionError where it is none."""
    async with session.get(f"{server.url}/api/v1/query", params={"query": query}) as response:
        told = await response.json()
    assert told["status"] == "success", (query, told)
    series: list[Any] = told["data"]["result"]
    return series


def test_promtool_takes_the_rules(programs: Path) -> None:
    done = subprocess.run(
        [programs / "promtool", "check", "rules", ALERTS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules())} rules found" in done.stdout


def test_the_chart_brings_them_where_they_are_asked_for() -> None:
    def rendered(*options: str) -> Counter[str]:
        return Counter(each["kind"] for each in documents(*options))

    extra = rendered("--set=monitoring.enabled=true", "--set=monitoring.dashboard=true") - rendered()
    assert extra == {"PodMonitor": 3, "PrometheusRule": 1, "ConfigMap": 1}
    brought = [each for each in documents("--set=monitoring.enabled=true") if each["kind"] == "PrometheusRule"]
    assert [each["spec"] for each in brought] == [yaml.safe_load(ALERTS.read_text())]


def documents(*options: str) -> list[dict[str, Any]]:
    images = [f"--set=images.{name}=any" for name in IMAGES]
    shown = output(str(build.ensure() / "helm"), "template", "pilotboat", str(CHART), *images, *options)
    return [each for each in yaml.safe_load_all(shown) if each]
