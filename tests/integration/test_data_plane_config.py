"""The real HAProxy reads every form of the configuration, without a warning."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from pilotboat_gateway import config
from pilotboat_gateway.settings import Settings
from tests.integration.gatewayproc import shipped
from tests.unit.gateway.test_config import made, seats


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"lanes": []},
        {"sticky": {"header": "x-user"}, "testers": {"header": "x-try", "value": "yes", "revision": "b"}},
        {"sticky": {"cookie": "who"}, "max_queued": 0},
        {"copies": {"percent": 30, "revision": "b", "room": 4}},
        {"testers": {"header": "x-try", "value": "-f", "revision": "b"}, "request_timeout": "1000h"},
    ],
    ids=["plain", "no lanes", "header and testers", "cookie and no queue", "copies", "a flag for a value, and weeks"],
)
def test_haproxy_takes_it(tmp_path: Path, more: dict[str, Any]) -> None:
    settings, routes = Settings("ns", tmp_path), made(**more)
    boards = seats(routes, a=[1, 2], b=[3])
    settings.map.write_text(config.map_text(config.lanes_map(routes, boards)))
    settings.config.write_text(config.render(routes, boards, settings))
    command = ["haproxy", "-c", "-f", str(settings.config)]
    done = subprocess.run(command, env=shipped(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
