"""Queries against a real Prometheus (Debian's), which scrapes a page of ours: what it answers is understood."""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pilotboat.api.analysis import Why
from pilotboat.plan.types import Answer, Questions
from tests.integration import promserver
from tests.integration.promserver import Page, Server
from tests.integration.test_prometheus import NEVER, World

PAGE = """
accuracy{pod="chat-aaaa-1"} 0.7
accuracy{pod="chat-bbbb-1"} 0.9
accuracy{pod="chat-bbbb-2"} 0.8
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return promserver.programs(tmp_path_factory.mktemp("prometheus"))


@pytest.fixture
async def server(programs: Path, tmp_path: Path) -> AsyncIterator[Server]:
    errors = itertools.count(0, 3)
    page = Page(lambda: f"{PAGE}tool_errors_total {next(errors)}\n")
    async with promserver.scraping(programs, tmp_path, {"pods": page}) as found:
        yield found


async def answer(server: Server, query: str) -> Answer:
    """What one look finds."""
    world = World(clock=lambda: datetime.now(UTC))
    async with world.asking() as asker:
        (found,) = await world.look(asker, Questions(server.url, (query,), NEVER))
    return found


async def test_a_real_one_is_understood(server: Server) -> None:
    before = datetime.now(UTC).timestamp()
    for query, values in (
        ('accuracy{pod=~"chat-aaaa-.*"}', [0.7]),
        ('accuracy{pod=~"chat-bbbb-.*"}', [0.8, 0.9]),
        ('avg(accuracy{pod=~"chat-bbbb-.*"})', [0.85]),
        ("scalar(count(accuracy)) + 1", [4.0]),
        ("nothing_of_that_name", []),
        ("1 / vector(0)", [math.inf]),
    ):
        found = await answer(server, query)
        assert found.trouble is None, query
        assert sorted(found.values) == pytest.approx(values), query
        assert found.stamp is None or found.stamp == pytest.approx(before, abs=60)
    (nothing,) = (await answer(server, "vector(0) / 0")).values
    assert math.isnan(nothing)
    (rate,) = (await answer(server, "rate(tool_errors_total[30s])")).values
    assert rate > 0


async def test_what_a_real_one_refuses_is_told_in_its_words_and_so_is_its_end(server: Server) -> None:
    for query, words in (
        ("accuracy[1m]", "not one that gives numbers"),
        ('"a word"', "not one that gives numbers"),
        ("accuracy{", "HTTP 400: "),
        ("no_such_function(accuracy)", "unknown function"),
    ):
        found = await answer(server, query)
        assert found.trouble, query
        assert found.trouble[0] is Why.NO_ANSWER
        assert words in found.trouble[1]
    server.process.kill()
    server.process.wait()
    assert (await answer(server, "accuracy")).trouble == (Why.NO_ANSWER, "it cannot be reached")
