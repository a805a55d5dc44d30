"""The inference server as a process of its own, as a container runs it: started, followed by its log lines, ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai

Event = dict[str, Any]


@dataclass
class ServerProcess:
    """A running server and what it has logged."""

    process: asyncio.subprocess.Process
    termination_log: Path
    events: list[Event] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    ended: bool = False

    async def follow(self) -> None:
        """Collect the log until the process closes it."""
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            line = raw.decode()
            async with self.changed:
                self.lines.append(line)
                if line.startswith("{"):
                    self.events.append(json.loads(line))
                self.changed.notify_all()
        async with self.changed:
            self.ended = True
            self.changed.notify_all()

    async def seen(self, name: str, count: int = 1, seconds: float = 300, **fields: object) -> list[Event]:
        """Wait until so many events of that name and with those fields are in the log."""

        def found() -> list[Event]:
            return [e for e in self.events if e["event"] == name and fields.items() <= e.items()]

        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(lambda: len(found()) >= count or self.ended)
        assert len(found()) >= count, f"no {name} {fields} in:\n{''.join(self.lines)}"
        return found()

    async def exit_code(self, seconds: float = 120) -> int:
        """Wait for the end."""
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    @property
    def url(self) -> str:
        """Where it listens."""
        port = next(event["port"] for event in self.events if event["event"] == "listening")
        return f"http://127.0.0.1:{port}"

    def client(self, key: str = "none") -> Any:
        """The official client; untyped, because tests also send what its types forbid."""
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=300)

    def workers(self) -> list[int]:
        """Process ids of the workers that were started last."""
        latest = {e["worker"]: e["worker_pid"] for e in self.events if e["event"] == "worker_started"}
        return list(latest.values())

    def terminate(self) -> None:
        """As kubelet does."""
        self.process.send_signal(signal.SIGTERM)


@asynccontextmanager
async def server_process(
    folder: Path, config: Event, environ: dict[str, str] | None = None, ready: bool = True
) -> AsyncIterator[ServerProcess]:
    """A server with that config, serving unless `ready` is False; killed at the end where it still runs."""
    path, report = folder / "server.json", folder / "termination-log"
    service = {"host": "127.0.0.1", "port": 0} | config.get("service", {})
    path.write_text(json.dumps(config | {"service": service}))
    report.write_text("")
    extra = {"PILOTBOAT_TERMINATION_LOG": str(report), **(environ or {})}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pilotboat_server", "--config", str(path)),
        env={**os.environ, **extra},
        stderr=asyncio.subprocess.PIPE,
    )
    running = ServerProcess(process, report)
    following = asyncio.create_task(running.follow())
    try:
        if ready:
            await running.seen("phase", phase="serving")
            await _answering(running.url)
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await following


async def _answering(url: str) -> None:
    """The socket listens before its workers run; the first answer waits for one of them."""
    async with httpx.AsyncClient(base_url=url, timeout=120) as http:
        assert (await http.get("/readyz")).status_code == 200


async def gone(pids: list[int], alive: Callable[[int], bool], seconds: float = 180) -> None:
    """Wait until none of the processes is alive."""
    async with asyncio.timeout(seconds):
        while any(alive(pid) for pid in pids):  # noqa: ASYNC110 - other processes end, and tell nobody here
            await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs and is no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
