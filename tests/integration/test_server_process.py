"""The server's processes: workers share one engine, the dead are replaced, a drain cuts nothing, ends have reasons."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from pilotboat.api.runtime import TerminationReport
from standins import tiny
from tests.integration.serverproc import ServerProcess, gone, is_alive, server_process

FAKE: dict[str, Any] = {"model": {"path": "/none", "name": "m"}, "engine": {"type": "Fake"}}
THREE = FAKE | {"service": {"workers": 3}, "inference": {"batchSize": 8, "cpuThreads": 3}}
PACED = "fake:delay=0.03 fake:tokens=150"


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def chat(server: ServerProcess, text: str, **more: Any) -> Any:
    async with server.client() as client:
        return await client.chat.completions.create(model="m", messages=ask(text), **more)


async def metric(server: ServerProcess, series: str) -> float:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        text = (await http.get("/metrics")).text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(series))


async def test_three_workers_have_one_engine_and_one_truth(tmp_path: Path) -> None:
    async with server_process(tmp_path, THREE) as server:
        prompts = [f"question {number}" for number in range(24)]
        together = [
            a.choices[0].message.content
            for a in await asyncio.gather(*(chat(server, p, temperature=0) for p in prompts))
        ]
        alone = [(await chat(server, p, temperature=0)).choices[0].message.content for p in prompts]
        counts = [await metric(server, "vllm:request_success_total") for _ in range(6)]
        assert len(set(server.workers())) == 3
        assert (await server.seen("settings"))[0]["threads"] == 3
        server.terminate()
        assert await server.exit_code() == 0
    assert together == alone
    assert counts == [48] * 6, "every worker tells the same figures"


async def test_a_dead_worker_is_replaced_and_its_requests_are_cancelled(tmp_path: Path) -> None:
    config = FAKE | {"service": {"workers": 2}}
    async with server_process(tmp_path, config) as server:
        async with server.client() as client:
            stream = await client.chat.completions.create(
                model="m", messages=ask("fake:delay=0.01 fake:tokens=9999"), stream=True
            )
            parts = aiter(stream)
            await anext(parts)
            for pid in server.workers():
                os.kill(pid, signal.SIGKILL)
            with pytest.raises(Exception, match=r"peer closed|disconnected|incomplete|Connection"):
                async for _ in parts:
                    pass
        await server.seen("worker_died", count=2)
        await server.seen("worker_started", count=4)
        assert (await chat(server, "still there?")).choices[0].finish_reason == "stop"
        assert await metric(server, 'vllm:request_success_total{finished_reason="abort"') == 1


async def test_when_the_engines_process_dies_its_workers_end(tmp_path: Path) -> None:
    async with server_process(tmp_path, THREE) as server:
        workers = server.workers()
        server.process.kill()
        await server.process.wait()
        await gone(workers, is_alive)


@pytest.mark.parametrize("workers", [1, 3])
async def test_sigterm_cuts_no_stream_and_ends_with_zero(tmp_path: Path, workers: int) -> None:
    config = FAKE | {"service": {"workers": workers}, "inference": {"batchSize": 8}}
    async with server_process(tmp_path, config) as server, server.client() as client:
        streams = [
            await client.chat.completions.create(model="m", messages=ask(PACED), max_tokens=150, stream=True)
            for _ in range(6)
        ]
        server.terminate()
        await server.seen("phase", phase="draining")
        with pytest.raises(openai.APIStatusError) as refused:
            await chat(server, "too late")
        texts = await asyncio.gather(*map(read, streams))
        assert await server.exit_code() == 0
    assert refused.value.status_code == 503
    assert refused.value.response.headers["retry-after"] == "1"
    assert [len(text.split()) for text in texts] == [150] * 6


async def read(stream: Any) -> str:
    return "".join([part.choices[0].delta.content or "" async for part in stream])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("sent", [slice(0, -5), slice(0, None)], ids=["half an upload", "a stream that nobody reads"])
async def test_callers_that_stall_do_not_keep_the_process_alive(tmp_path: Path, workers: int, sent: slice) -> None:
    """The answer is of 16 MB: more than the sockets between them hold."""
    config = FAKE | {"engine": {"type": "Fake", "fake": {"text": "x" * 4000}}, "inference": {"maxLength": 8192}}
    question = {"messages": ask("fake:tokens=4000"), "stream": True}
    async with server_process(tmp_path, config | {"service": {"workers": workers}}) as server:
        address, body = httpx.URL(server.url), json.dumps(question).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: m\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection((address.host, address.port)) as caller:
            caller.sendall(head + body[sent])
            if body[sent] == body:
                await asyncio.to_thread(caller.recv, 1)
            assert (await chat(server, "others are served")).choices
            server.terminate()
            assert await server.exit_code() == 0, "".join(server.lines)


async def test_a_worker_that_hangs_does_not_keep_the_process_alive(tmp_path: Path) -> None:
    async with server_process(tmp_path, FAKE | {"service": {"workers": 2}}) as server:
        hung = server.workers()[0]
        os.kill(hung, signal.SIGSTOP)
        server.terminate()
        await server.seen("worker_left", worker_pid=hung)
        assert await server.exit_code() == 0


async def test_a_load_balancer_is_told_of_the_drain_until_the_end(tmp_path: Path) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    config = FAKE | {"service": {"workers": 2, "agentPort": port}}
    async with server_process(tmp_path, config) as server, server.client() as client:
        assert await agent_says(port) == "100%\n"
        stream = await client.chat.completions.create(model="m", messages=ask(PACED), max_tokens=150, stream=True)
        server.terminate()
        await server.seen("phase", phase="draining")
        assert await agent_says(port) == "0%\n"
        assert len((await read(stream)).split()) == 150
        assert await server.exit_code() == 0


async def agent_says(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    line = (await reader.read()).decode()
    writer.close()
    return line


async def test_a_fake_told_to_die_dies_without_a_word(tmp_path: Path) -> None:
    config = FAKE | {"engine": {"type": "Fake", "fake": {"exitAfter": 2}}}
    async with server_process(tmp_path, config) as server:
        assert [(await chat(server, "still there?")).choices[0].finish_reason for _ in range(2)] == ["stop"] * 2
        with pytest.raises(openai.APIError):
            await chat(server, "and now?")
        assert await server.exit_code() == 1
        assert server.termination_log.read_text() == ""
    config["engine"]["fake"]["exitAfter"] = 0
    async with server_process(tmp_path, config, ready=False) as server:
        assert await server.exit_code() == 1
        assert not [event for event in server.events if event.get("phase") == "serving"]


async def test_signals_to_the_whole_group_cut_nothing_either(tmp_path: Path) -> None:
    async with server_process(tmp_path, THREE) as server, server.client() as client:
        stream = await client.chat.completions.create(model="m", messages=ask(PACED), max_tokens=150, stream=True)
        for pid in [*server.workers(), server.process.pid]:
            os.kill(pid, signal.SIGTERM)
        assert len((await read(stream)).split()) == 150
        assert await server.exit_code() == 0


@pytest.mark.parametrize(
    ("config", "reason", "words"),
    [
        ({"model": {"path": "/gone"}}, "InvalidModel", "/gone does not exist"),
        (FAKE | {"inference": {"batchSize": 0}}, "InvalidSpec", "inference.batchSize"),
        (
            {"model": {"path": "PATH/x.gguf", "adapter": "/a"}, "engine": {"type": "LlamaCpp"}},
            "Unsupported",
            "model.adapter",
        ),
        ({"model": {"path": "PATH/x.gguf"}}, "InvalidModel", "llama.cpp cannot load"),
        ({"model": {"path": "PATH/x.gguf"}, "gpu": {"count": 1}}, "Unsupported", "gpu.count: 1"),
        (
            {"model": {"path": "PATH/x.gguf"}, "gpu": {"count": 1}, "inference": {"device": "cpu"}},
            "InvalidModel",
            "llama.cpp cannot load",
        ),
        ({"model": {"path": "PATH/folder"}, "gpu": {"count": 2}}, "Unsupported", "gpu.count: 2"),
        ({"model": {"path": "PATH/folder"}}, "InvalidModel", "transformers cannot load"),
        ({"model": {"path": "PATH/gone"}}, "InvalidModel", "gone from the cache (/cache/blobs/0123): delete the pod"),
    ],
)
async def test_what_no_restart_can_mend_ends_with_64_and_its_reason(
    tmp_path: Path, config: dict[str, Any], reason: str, words: str
) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\0" * 64)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text('{"model_type": "nobody-knows-this"}')
    (tmp_path / "folder" / "tokenizer.json").write_text("{}")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "m.gguf").symlink_to("/cache/blobs/0123")
    (tmp_path / "folder" / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    model = {key: value.replace("PATH", str(tmp_path)) for key, value in config["model"].items()}
    async with server_process(tmp_path, config | {"model": model}, ready=False) as server:
        assert await server.exit_code() == 64, "".join(server.lines)
        report = TerminationReport.parse(server.termination_log.read_text())
    assert report is not None
    assert report.reason == reason
    assert words in report.message


@pytest.mark.parametrize("field", ["port", "agentPort"])
async def test_a_port_that_is_taken_is_told_in_one_line_and_may_be_tried_again(tmp_path: Path, field: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = FAKE | {"service": {field: taken.getsockname()[1]}}
        async with server_process(tmp_path, config, ready=False) as server:
            assert await server.exit_code() == 1
            told = (await server.seen("failed"))[0]
    assert told["message"].startswith(f"service.host, service.{field}: 127.0.0.1 port "), told
    assert not [line for line in server.lines if not line.startswith("{")]


async def test_a_length_nobody_asked_for_fits_the_model_and_one_asked_for_is_refused(tmp_path: Path) -> None:
    config: dict[str, Any] = {"model": {"path": str(tiny.make(tmp_path / "tiny")), "name": "m"}}
    async with server_process(tmp_path, config) as server, server.client() as client:
        assert (await client.models.retrieve("m")).max_model_len == 512
        assert (await client.chat.completions.create(model="m", messages=ask("a"), max_tokens=3)).usage
    async with server_process(tmp_path, config | {"inference": {"maxLength": 2048}}, ready=False) as server:
        assert await server.exit_code() == 64
        report = TerminationReport.parse(server.termination_log.read_text())
    assert report is not None
    assert report.message == "inference.maxLength: 2048 is above the model's 512 tokens"


async def test_an_empty_secret_ends_the_start(tmp_path: Path) -> None:
    async with server_process(tmp_path, FAKE, {"PILOTBOAT_API_KEYS": "\n  \n"}, ready=False) as server:
        assert await server.exit_code() == 64
        report = TerminationReport.parse(server.termination_log.read_text())
    assert report is not None
    assert report.reason == "InvalidSpec"
    assert "PILOTBOAT_API_KEYS holds no key" in report.message


async def test_keys_are_needed_and_never_logged(tmp_path: Path) -> None:
    config = FAKE | {"service": {"workers": 2}}
    async with server_process(tmp_path, config, {"PILOTBOAT_API_KEYS": "first-secret\nsecond-secret\n"}) as server:
        async with server.client("second-secret") as client:
            await client.models.list()
        async with server.client("wrong-secret") as client:
            with pytest.raises(openai.AuthenticationError):
                await client.chat.completions.create(model="m", messages=ask("a private prompt"))
        server.terminate()
        assert await server.exit_code() == 0
        log = "".join(server.lines)
    assert "secret" not in log
    assert "private" not in log
