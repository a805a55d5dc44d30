"""The probe against real servers: alike, unlike, slow, failing, dead, closed; and its own end by a signal."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from pilotboat.api.probing import ProbeMinute
from pilotboat.plan.canary import gates
from tests.integration.probeproc import config, ended, probe, started
from tests.integration.serverproc import server_process

PROMPTS = [f"question number {number}" for number in range(6)]
QUALITY = {"quality": {"maxTokens": 24}, "prompts": PROMPTS}
LOAD = {"loadTest": {"rate": 20, "duration": "2s", "promptTokens": [8, 40], "maxTokens": 8}}
TRAFFIC = {"traffic": {"perMinute": 240, "duration": "2s", "maxTokens": 8}, "prompts": PROMPTS}
KEY = "sk-very-secret"


class Servers:
    """Starts servers that end with the test."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder, self._stack, self._count = folder, stack, 0

    async def start(self, environ: dict[str, str] | None = None, service: Any = None, **fake: Any) -> str:
        self._count += 1
        folder = self._folder / f"server-{self._count}"
        folder.mkdir()
        engine = {"type": "Fake"} | ({"fake": fake} if fake else {})
        settings = {"model": {"path": "/none", "name": "m"}, "engine": engine}
        settings["service"] = {"workers": 1} | (service or {})
        server = await self._stack.enter_async_context(server_process(folder, settings, environ))
        return server.url


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Servers]:
    async with AsyncExitStack() as stack:
        yield Servers(tmp_path, stack)


async def test_the_same_model_agrees_with_itself_and_with_its_twin(servers: Servers, tmp_path: Path) -> None:
    stable, canary = await servers.start(), await servers.start()
    quality = (await probe(tmp_path, config(canary, stable, **QUALITY))).result.quality
    assert quality
    assert (quality.prompts, quality.stable_failed, quality.canary_failed) == (6, 0, 0)
    for agreement in (quality.canary, quality.itself):
        assert (agreement.answered, agreement.exact, agreement.prefix, agreement.similarity) == (6, 6, 1.0, 1.0)
        assert agreement.log_likelihood == 0.0
        assert agreement.compared_tokens == 6 * 16
    assert quality.examples == []


async def test_another_model_disagrees_and_stable_does_not_with_itself(servers: Servers, tmp_path: Path) -> None:
    stable, canary = await servers.start(), await servers.start(text="quite other words come out of this one")
    result = (await probe(tmp_path, config(canary, stable, **QUALITY))).result
    assert (result.stable, result.canary) == ("aaaa1111", "bbbb2222")
    quality = result.quality
    assert quality
    assert (quality.canary.exact, quality.itself.exact) == (0, 6)
    assert quality.canary.prefix < 0.5 < quality.itself.prefix
    assert len(quality.examples) == 3
    assert all(example.stable != example.canary and example.prompt in PROMPTS for example in quality.examples)


async def test_the_built_in_prompts_are_used_where_there_are_none(servers: Servers, tmp_path: Path) -> None:
    stable, canary = await servers.start(), await servers.start()
    quality = (await probe(tmp_path, config(canary, stable, quality={"maxTokens": 4}))).result.quality
    assert quality
    assert quality.prompts == quality.canary.exact == 20


async def test_given_answers_are_less_likely_to_another_model(servers: Servers, tmp_path: Path) -> None:
    stable, canary = await servers.start(text="red green blue"), await servers.start(text="red green")
    references = [{"prompt": f"question {n}", "answer": "red green blue green"} for n in range(6)]
    run = await probe(tmp_path, config(canary, stable, perplexity={"references": references}))
    found = run.result.perplexity
    assert found
    assert (found.references, found.gaps) == (6, [0.625] * 6)
    assert (found.stable, found.canary) == (pytest.approx(1.6487), pytest.approx(3.0802))
    assert "perplexity: 6 of 6 references done" in run.output


async def test_the_built_in_references_are_used_where_there_are_none(servers: Servers, tmp_path: Path) -> None:
    stable, canary = await servers.start(), await servers.start(failRatio=1)
    found = (await probe(tmp_path, config(canary, stable, perplexity={}))).result.perplexity
    assert found
    assert (found.references, found.canary_failed) == (20, 20)
    assert min(found.gaps) > 40, "what its engine fails at is judged against it"


async def test_a_failure_that_does_not_come_again_says_nothing_of_a_reference(servers: Servers, tmp_path: Path) -> None:
    stable, canary = await servers.start(), await servers.start(failRatio=0.1)
    found = (await probe(tmp_path, config(canary, stable, perplexity={}))).result.perplexity
    assert found
    assert (found.references, found.canary_failed, set(found.gaps)) == (20, 0, {0.0})


async def test_a_load_is_sent_and_measured(servers: Servers, tmp_path: Path) -> None:
    run = await probe(tmp_path, config(await servers.start(), **LOAD))
    load = run.result.load_test
    assert load
    assert load.sent == load.planned - load.held_back
    assert load.ok == load.sent == load.first_token.count == load.per_token.count
    assert load.errors == {}
    assert 8 <= (load.prompt_tokens or 0) <= 40
    assert f"{load.sent} of {load.planned} requests sent, 0 under way" in run.output


async def test_a_slow_canary_is_seen_as_slow(servers: Servers, tmp_path: Path) -> None:
    slow = await servers.start(first=0.4, delay=0.03)
    enough = {"loadTest": LOAD["loadTest"] | {"rate": 60}}
    load = (await probe(tmp_path, config(slow, **enough))).result.load_test
    assert load
    assert load.ok
    assert (load.first_token.p50 or 0) >= 400
    assert (load.per_token.p50 or 0) >= 29
    said = gates.load(load.planned, 0, load.first_token.p95 or 0, most_ms=399, most_errors=0)
    assert said.passed is False
    assert said.message.startswith("P95 ")


async def test_a_failing_canary_is_counted_by_status_and_so_are_minutes(servers: Servers, tmp_path: Path) -> None:
    stable, canary = await servers.start(), await servers.start(failRatio=0.5)
    result = (await probe(tmp_path, config(canary, stable, **LOAD, **TRAFFIC))).result
    assert result.load_test
    assert result.traffic
    assert set(result.load_test.errors) == {"500"}
    assert result.load_test.errors["500"] + result.load_test.ok == result.load_test.sent
    assert counted(result.traffic.stable) == (8, 0, 8, 8)
    assert counted(result.traffic.canary) == (8, 4, 4, 4)


def counted(minutes: list[ProbeMinute]) -> tuple[int, int, int, int]:
    """Requests, errors, and how many have each of the two times."""
    return (
        sum(minute.requests for minute in minutes),
        sum(minute.errors for minute in minutes),
        sum(sum(minute.first_token.values()) for minute in minutes),
        sum(sum(minute.per_token.values()) for minute in minutes),
    )


async def test_a_canary_that_dies_under_load_is_a_result(servers: Servers, tmp_path: Path) -> None:
    dying = await servers.start(exitAfter=10)
    load = (await probe(tmp_path, config(dying, **LOAD))).result.load_test
    assert load
    assert load.ok + sum(load.errors.values()) == load.sent
    assert load.ok <= 10
    assert set(load.errors) <= {"unreachable", "cut", "503", "500"}


async def test_requests_beyond_the_bound_are_held_back_and_said(servers: Servers, tmp_path: Path) -> None:
    slow = await servers.start(first=3)
    bounded = {"loadTest": LOAD["loadTest"] | {"concurrency": 2, "duration": "1s"}}
    load = (await probe(tmp_path, config(slow, **bounded))).result.load_test
    assert load
    assert load.held_back == load.planned - load.sent > 0
    assert not load.kept_up


async def test_nobody_there(servers: Servers, tmp_path: Path) -> None:
    stable = await servers.start()
    run = await probe(tmp_path, config("http://127.0.0.1:9", stable, **QUALITY))
    assert (run.exit_code, run.report.reason) == (1, "RevisionUnreachable")
    assert "canary bbbb2222 at http://127.0.0.1:9: no answer within 2 s" in run.report.message


@pytest.mark.parametrize(("keys", "reason", "code"), [(f"{KEY}\nother", "Probed", 0), ("wrong", "ApiKeyRefused", 64)])
async def test_the_first_key_is_used_and_never_said(
    servers: Servers, tmp_path: Path, keys: str, reason: str, code: int
) -> None:
    canary = await servers.start({"PILOTBOAT_API_KEYS": f"{KEY}\nsecond"})
    run = await probe(tmp_path, config(canary, **LOAD), {"PILOTBOAT_API_KEYS": keys})
    assert (run.exit_code, run.report.reason) == (code, reason)
    assert not {key for key in (*keys.splitlines(), KEY) if key in run.output + run.report.message}


@pytest.mark.parametrize("work", [LOAD, QUALITY, TRAFFIC], ids=["load", "quality", "traffic"])
async def test_requests_that_are_all_wrong_say_nothing_of_the_canary(
    servers: Servers, tmp_path: Path, work: dict[str, Any]
) -> None:
    stable, canary = await servers.start(), await servers.start()
    run = await probe(tmp_path, config(canary, stable, **work) | {"model": "another"})
    assert (run.exit_code, run.report.reason) == (64, "ProbeFailed")
    assert "refuses every request: 404: The model 'another' does not exist" in run.report.message


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGUSR1])
async def test_it_ends_at_once_when_told_and_never_as_success(
    servers: Servers, tmp_path: Path, stop: signal.Signals
) -> None:
    long = {"loadTest": LOAD["loadTest"] | {"duration": "10m"}}
    async with started(tmp_path, config(await servers.start(), **long)) as process:
        assert process.stdout
        said = ""
        while "under way" not in said:
            line = await process.stdout.readline()
            assert line, said
            said += line.decode()
        process.send_signal(stop)
        run = await ended(tmp_path, process, said)
    assert (run.exit_code, run.report.reason) == (143, "ProbeInterrupted")
    assert run.report.result == {}
