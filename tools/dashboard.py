"""The Grafana dashboard of the chart.

Owns: which figures an SRE sees, in which order. Must not know: where the file lies (tools/gen.py does), how Prometheus
is found (a variable of the dashboard).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

HEIGHT, COLUMNS, WIDTH = 8, 3, 24
"""Of a panel, in Grafana's units; panels in a row; units in a row."""
BY = "deployment, revision"
HERE = '{namespace=~"$namespace"}'
WHOLE = '{until="ready"}'


@dataclass(frozen=True)
class Panel:
    """One diagram: queries by what their lines are called (Grafana's `{{label}}`)."""

    title: str
    unit: str
    lines: dict[str, str]
    about: str = ""


def quantile(share: float, series: str, by: str, where: str = HERE, over: str = "5m") -> str:
    """Of a histogram, over that time."""
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({series}_bucket{where}[{over}])))"


def rate(series: str, by: str, where: str = HERE) -> str:
    """A second, over five minutes."""
    return f"sum by ({by}) (rate({series}{where}[5m]))"


ROWS: dict[str, tuple[Panel, ...]] = {
    "Traffic, as the gateways see it": (
        Panel("Requests", "reqps", {"{{deployment}} {{revision}}": rate("pilotboat_gateway_requests_total", BY)}),
        Panel(
            "Failed",
            "percentunit",
            {
                "{{deployment}} {{revision}}": f"{rate('pilotboat_gateway_errors_total', BY)} / "
                f"{rate('pilotboat_gateway_requests_total', BY)}"
            },
            "Answers of 500 to 599, and those cut off.",
        ),
        Panel(
            "Refused and asked again",
            "reqps",
            {
                "refused {{deployment}} {{code}}": rate("pilotboat_gateway_refused_total", "deployment, code"),
                "again {{deployment}} {{revision}}": rate("pilotboat_gateway_retries_total", BY),
            },
            "Requests that no replica got; replicas that were asked in vain before another answered.",
        ),
        Panel(
            "Time to first token",
            "s",
            {
                "p50 {{deployment}} {{revision}}": quantile(0.5, "pilotboat_gateway_first_token_seconds", BY),
                "p95 {{deployment}} {{revision}}": quantile(0.95, "pilotboat_gateway_first_token_seconds", BY),
            },
        ),
        Panel(
            "Under way",
            "short",
            {"{{deployment}} {{revision}}": f"sum by ({BY}) (pilotboat_gateway_open_streams{HERE})"},
        ),
        Panel(
            "Replicas that take requests",
            "short",
            {"{{deployment}} {{revision}}": f"max by ({BY}) (pilotboat_gateway_servers_up{HERE})"},
            "As the gateway that sees most of them.",
        ),
    ),
    "Rollouts": (
        Panel(
            "The canary's share",
            "percent",
            {"{{namespace}}/{{name}}": f"max by (namespace, name) (pilotboat_canary_weight_percent{HERE})"},
        ),
        Panel(
            "Evidence against it",
            "short",
            {
                "{{name}} {{metric}}": f"max by (name, metric) (pilotboat_canary_evidence{HERE})",
                "{{name}} {{metric}} is given up at": f"max by (name, metric) (pilotboat_canary_abort_at{HERE})",
            },
            "1 says nothing. docs/canary-statistics.md.",
        ),
        Panel(
            "Proof for it",
            "short",
            {
                "{{name}} {{metric}}": f"max by (name, metric) (pilotboat_canary_likelihood{HERE})",
                "{{name}} {{metric}} is promoted at": f"max by (name, metric) (pilotboat_canary_promote_at{HERE})",
            },
            "The lower the better.",
        ),
    ),
    "Resources and recovery": (
        Panel(
            "Conditions that are False",
            "short",
            {
                "{{kind}} {{condition}} {{reason}}": "max by (kind, condition, reason) "
                '(pilotboat_resource_conditions{status="False"})'
            },
            "What each reason means and what to do: docs/reasons.md.",
        ),
        Panel(
            "Losses, until all was whole",
            "s",
            {
                "p50 {{fault}}": quantile(0.5, "pilotboat_recovery_seconds", "fault", WHOLE, "1d"),
                "p95 {{fault}}": quantile(0.95, "pilotboat_recovery_seconds", "fault", WHOLE, "1d"),
            },
            "Of the last day.",
        ),
        Panel(
            "Where a replacement's time goes",
            "s",
            {
                "{{part}}": "sum by (part) (increase(pilotboat_recovery_part_seconds_sum[1d])) / "
                "sum by (part) (increase(pilotboat_recovery_part_seconds_count[1d]))"
            },
            "The mean of the last day.",
        ),
    ),
    "Servers": (
        Panel(
            "Tokens a second",
            "short",
            {
                "made {{model_name}}": rate("vllm:generation_tokens_total", "model_name"),
                "read {{model_name}}": rate("vllm:prompt_tokens_total", "model_name"),
            },
        ),
        Panel(
            "Time between tokens",
            "s",
            {
                "p50 {{model_name}}": quantile(0.5, "vllm:inter_token_latency_seconds", "model_name"),
                "p95 {{model_name}}": quantile(0.95, "vllm:inter_token_latency_seconds", "model_name"),
            },
        ),
        Panel(
            "At work, waiting, and the context in use",
            "short",
            {
                "running {{model_name}}": f"sum by (model_name) (vllm:num_requests_running{HERE})",
                "waiting {{model_name}}": f"sum by (model_name) (vllm:num_requests_waiting{HERE})",
                "context {{model_name}}": f"avg by (model_name) (vllm:kv_cache_usage_perc{HERE})",
            },
            "The context of all slots is full at 1.",
        ),
    ),
    "The operator": (
        Panel(
            "From a change to its answer",
            "s",
            {
                "p50 {{kind}}": quantile(0.5, "pilotboat_wake_to_done_seconds", "kind", ""),
                "p99 {{kind}}": quantile(0.99, "pilotboat_wake_to_done_seconds", "kind", ""),
            },
        ),
        Panel(
            "Writes and requests to the API server",
            "reqps",
            {
                "requests": "sum(rate(pilotboat_api_requests_total[5m]))",
                "writes {{kind}}": rate("pilotboat_api_writes_total", "kind", ""),
            },
        ),
        Panel(
            "Waiting for a worker",
            "short",
            {"now": "max(pilotboat_queue_depth)", "leaders": "sum(pilotboat_leader)"},
            "And how many replicas of the operator lead.",
        ),
    ),
}


def render() -> str:
    """The JSON of the dashboard."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        at = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        panels.append({"type": "row", "title": title, "collapsed": False, "gridPos": at, "panels": []})
        panels += (_panel(panel, top + 1, number) for number, panel in enumerate(row))
        top += 1 + HEIGHT * -(-len(row) // COLUMNS)
    board = {
        "title": "Pilotboat",
        "uid": "pilotboat",
        "tags": ["pilotboat"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_SOURCE, _NAMESPACE]},
        "panels": [panel | {"id": number} for number, panel in enumerate(panels, 1)],
    }
    return json.dumps(board, indent=1) + "\n"


_SOURCE = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
_ASKED = {"type": "prometheus", "uid": "${source}"}
_NAMESPACE = {
    "name": "namespace",
    "label": "Namespace",
    "type": "query",
    "datasource": _ASKED,
    "query": "label_values(pilotboat_gateway_applied, namespace)",
    "refresh": 2,
    "multi": True,
    "includeAll": True,
    "allValue": ".*",
}


def _panel(panel: Panel, top: int, number: int) -> dict[str, Any]:
    row, column = divmod(number, COLUMNS)
    width = WIDTH // COLUMNS
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _ASKED,
        "gridPos": {"x": column * width, "y": top + row * HEIGHT, "w": width, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "expr": query, "legendFormat": name}
            for at, (name, query) in enumerate(panel.lines.items())
        ],
    }
