"""Faults and load of a rehearsal on real server processes, each in a PID namespace as in a pod.

In place of an API server and kubelet stands `podaccess`, which runs what exec asks for; the lab's tests use real ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes.aio import client

from pilotboat.engine.api import Api
from pilotboat.rehearse import faults, file, inside
from pilotboat.rehearse.aim import Target
from pilotboat.rehearse.cluster import Subject
from pilotboat.rehearse.errors import Refused, Unmeasured
from pilotboat.rehearse.file import Aim
from pilotboat.rehearse.forward import forwarded
from pilotboat.rehearse.load import Fate, Load
from pilotboat.rehearse.reach import Reach
from pilotboat.rehearse.world import Pod
from tests.integration.serverproc import is_alive
from tests.standins.podaccess import PodAccess, container
from tests.unit.rehearse.objects import fault

PATIENCE = 180.0
FAKE = {"type": "Fake", "fake": {"tokens": 20, "delay": 0.05}}


@dataclass
class Server:
    """A pilotboat_server in a namespace of its own, and the way into it."""

    url: str
    access: PodAccess
    subject: Subject
    hit: Target
    pid: int
    """Of the namespace's first process."""

    @property
    def pod(self) -> Pod:
        return self.hit.pods[0]

    def engine(self) -> int:
        """The engine's PID on this machine."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])

    def state(self) -> str:
        return Path(f"/proc/{self.engine()}/stat").read_text().rpartition(")")[2].split()[0]

    async def answering(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=5) as http, asyncio.timeout(PATIENCE):
            while not await _ready(http):  # noqa: ASYNC110 -- another process, which tells nobody here
                await asyncio.sleep(0.02)

    def load(self, **wishes: Any) -> Load:
        wish = {"requestsPerSecond": 20, "streams": 3, "timeout": 20, "maxTokens": 20, **wishes}
        return Load(file.Load.model_validate(wish), self.url, "m")


async def _ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).status_code == 200
    except httpx.HTTPError:
        return False


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


@asynccontextmanager
async def serving(folder: Path, workers: int = 2) -> AsyncIterator[Server]:
    port, path = free_port(), folder / "server.json"
    model = folder / "model"
    model.mkdir()
    service = {"host": "127.0.0.1", "port": port, "workers": workers}
    config = {"model": {"path": str(model), "name": "m"}, "engine": FAKE, "service": service}
    path.write_text(json.dumps(config))
    async with AsyncExitStack() as stack:
        pid = await stack.enter_async_context(container([sys.executable, "-m", "pilotboat_server", "--config", path]))
        access = await stack.enter_async_context(PodAccess({"a": pid}, {"a": port}).serving())
        configuration = client.Configuration(host=access.url)
        api = await stack.enter_async_context(Api(configuration))
        reach = await stack.enter_async_context(Reach(configuration, "team"))
        pod = Pod("a", "uid-a", "n1", True, False, 0, "server", port)
        subject = Subject(api, reach, Aim(namespace="team", name="chat"))
        made = Server(f"http://127.0.0.1:{port}", access, subject, Target((pod,)), pid)
        await made.answering()
        yield made


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path) as made:
        yield made


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 -- processes, which tell nobody here
            await asyncio.sleep(0.01)


def fates(load: Load) -> set[Fate]:
    return {record.fate for record in load.records}


async def test_killing_the_engine_ends_the_container_and_every_request_is_accounted_for(server: Server) -> None:
    load = server.load(requestsPerSecond=2, streams=3)
    long = server.load(requestsPerSecond=0, streams=1, maxTokens=1000, prompt="fake:tokens=1000", timeout=120)
    await load.probe()
    async with load.running(), long.running():
        await until(lambda: sum(each.fate is Fate.WHOLE for each in load.records) >= 10)
        assert fates(load) == {Fate.WHOLE}
        async with faults.standing(fault("killProcess"), server.hit, server.subject):
            await until(lambda: any("refused" in each.error for each in load.records))
    await until(lambda: not is_alive(server.pid))
    records = [*load.records, *long.records]
    assert {each.fate for each in records} == {Fate.WHOLE, Fate.LOST, Fate.CUT}
    cut = [each for each in records if each.fate is Fate.CUT]
    assert all(each.first is not None and each.first < each.ended for each in cut)
    lost = [each for each in records if each.fate is Fate.LOST]
    assert all(each.first is None for each in lost)


async def test_a_worker_alone_is_killed_and_replaced(server: Server) -> None:
    engine = server.engine()
    async with faults.standing(fault("killProcess", process="worker"), server.hit, server.subject):
        pass
    await server.answering()
    assert server.engine() == engine


async def test_a_worker_that_is_none_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, workers=1) as server:
        with pytest.raises(Unmeasured, match=r"service\.workers is 1"):
            async with faults.standing(fault("killProcess", process="worker"), server.hit, server.subject):
                pytest.fail("it does not stand")
        await server.answering()


async def test_an_engine_that_hangs_answers_again_afterwards(server: Server) -> None:
    load = server.load(requestsPerSecond=10, streams=0)
    async with load.running():
        await until(lambda: load.records)
        async with faults.standing(fault("slowModel", **{"for": 60}), server.hit, server.subject):
            await until(lambda: server.state() == "T")
            before = len(load.records)
            await until(lambda: len(load._flying) >= 15)
            assert len(load.records) - before < 15
        assert server.state() != "T"
    assert fates(load) == {Fate.WHOLE}
    assert max(each.wait or 0 for each in load.records) > 0.5


async def test_a_share_of_the_time_makes_it_slow_and_not_silent(server: Server) -> None:
    load = server.load(requestsPerSecond=0, streams=1, maxTokens=4)
    slowed = fault("slowModel", share=0.8, **{"for": 60})
    async with load.running(), faults.standing(slowed, server.hit, server.subject):
        await until(lambda: len(load.records) >= 2)
    assert fates(load) == {Fate.WHOLE}
    assert server.state() != "T"


async def test_whoever_is_cancelled_leaves_no_stopped_engine(server: Server) -> None:
    standing = asyncio.Event()

    async def stand() -> None:
        async with faults.standing(fault("slowModel", **{"for": 100}), server.hit, server.subject):
            standing.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stand())
    await standing.wait()
    await until(lambda: server.state() == "T")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.state() != "T"


async def test_a_connection_that_breaks_undoes_the_fault_by_itself(server: Server) -> None:
    async with server.subject.reach.program(server.pod, inside.SLOW, {"seconds": 600, "share": 1}) as running:
        assert await running.until("ready")
        await until(lambda: server.state() == "T")
        server.access.cut()
        await until(lambda: server.state() != "T")


async def test_a_disk_is_filled_and_emptied(server: Server, tmp_path: Path) -> None:
    filled = tmp_path / "pilotboat-rehearsal-a"
    wish = {"seconds": 600, "bytes": 5 << 20, "folder": str(tmp_path), "run": "a"}
    async with server.subject.reach.program(server.pod, inside.FILL, wish) as running:
        assert await running.until("ready"), running.said
        assert filled.stat().st_blocks * 512 >= 5 << 20
    await until(lambda: not filled.exists())


async def test_the_nodes_own_disk_is_never_filled_whole(server: Server) -> None:
    whole = fault("fullDisk", bytes="1023Gi")
    with pytest.raises(Unmeasured, match="the node's own"):
        async with faults.standing(whole, server.hit, server.subject):
            pytest.fail("it does not stand")


async def test_what_a_broken_connection_left_is_mended(server: Server, tmp_path: Path) -> None:
    left = tmp_path / "pilotboat-rehearsal-of-before"
    left.write_text("left behind")
    await server.subject.reach.ask(server.pod, inside.MEND, {"folder": str(tmp_path), "run": "a"})
    assert not left.exists()


async def test_what_a_killed_run_left_is_undone_by_the_next_one(server: Server, tmp_path: Path) -> None:
    left = tmp_path / "pilotboat-rehearsal-of-before"
    left.write_text("left behind")
    os.kill(server.engine(), signal.SIGSTOP)
    wish = {"seconds": 600, "bytes": 1 << 20, "folder": str(tmp_path), "run": "a"}
    async with server.subject.reach.program(server.pod, inside.FILL, wish) as running:
        assert await running.until("ready"), running.said
        assert not left.exists()
        await until(lambda: server.state() != "T")


@pytest.mark.parametrize(
    ("kind", "more"), [("fullDisk", {"bytes": "1Mi"}), ("slowModel", {}), ("killProcess", {"process": "worker"})]
)
async def test_another_rehearsals_fault_is_left_standing(server: Server, kind: str, more: dict[str, Any]) -> None:
    async with faults.standing(fault("slowModel", **{"for": 60}), server.hit, server.subject):
        await until(lambda: server.state() == "T")
        with pytest.raises(Unmeasured, match=r"another rehearsal stands in this pod: .* 60 s, or end it .*kill [0-9]+"):
            async with faults.standing(fault(kind, **more), server.hit, server.subject):
                pytest.fail("it does not stand")
        assert server.state() == "T"
    assert server.state() != "T"


async def test_another_rehearsals_disk_is_left_full(server: Server, tmp_path: Path) -> None:
    wish = {"seconds": 600, "bytes": 1 << 20, "folder": str(tmp_path), "run": "a"}
    async with server.subject.reach.program(server.pod, inside.FILL, wish) as running:
        assert await running.until("ready"), running.said
        await server.subject.reach.ask(server.pod, inside.MEND, {"folder": str(tmp_path), "run": "b"})
        assert (tmp_path / "pilotboat-rehearsal-a").exists()
        await server.subject.reach.ask(server.pod, inside.MEND, {"folder": str(tmp_path), "run": "a"})
        await until(lambda: not list(tmp_path.glob("pilotboat-rehearsal*")))


async def test_an_engine_that_is_pid_1_is_refused() -> None:
    alone = Pod("a", "uid-a", "n1", True, False, 0, "server", None)
    async with container([]) as pid, PodAccess({"a": pid}).serving() as access, AsyncExitStack() as stack:
        reach = await stack.enter_async_context(Reach(client.Configuration(host=access.url), "team"))
        with pytest.raises(Unmeasured, match="the engine is PID 1 of its container"):
            await reach.ask(alone, inside.KILL, {"process": "engine"})


async def test_a_pod_that_cannot_be_reached(server: Server) -> None:
    gone = replace(server.pod, name="gone")
    with pytest.raises(Unmeasured, match=r"pods/exec of gone: 404"):
        await server.subject.reach.ask(gone, inside.MEND, {})


async def test_how_long_the_model_took_to_load(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")  # of the pod: it leads elsewhere
    told = await server.subject.reach.ask(server.pod, inside.LOADED, {"port": server.pod.port})
    assert json.loads(told.output.splitlines()[0]).keys() == {"loading", "warming"}


async def test_an_endpoint_that_does_not_answer_is_refused_before_anything_is_done(server: Server) -> None:
    nobody = replace(server.load(), url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Refused, match="connection refused"):
        await nobody.probe()
    with pytest.raises(Refused, match="status 404"):
        await replace(server.load(), model="another").probe()


async def test_a_port_forward_is_a_way_to_it(server: Server) -> None:
    async with forwarded(server.subject.reach, server.pod, 8080) as way:
        load = replace(server.load(requestsPerSecond=5), url=way.url, broken=way.broken)
        await load.probe()
        async with load.running():
            await until(lambda: len(load.records) >= 10)
    assert fates(load) == {Fate.WHOLE}


async def test_a_port_forward_that_fails_is_nobody_elses_fault(server: Server) -> None:
    async with forwarded(server.subject.reach, server.pod, 8080) as way:
        load = replace(server.load(requestsPerSecond=5, streams=1), url=way.url, broken=way.broken)
        wish = {"requestsPerSecond": 0, "streams": 1, "maxTokens": 1000, "prompt": "fake:tokens=1000", "timeout": 120}
        long = replace(server.load(**wish), url=way.url, broken=way.broken)
        async with load.running(), long.running():
            await until(lambda: len(load.records) >= 5)
            server.access.broken = True
            server.access.cut()
            await until(lambda: "the port-forward broke" in {each.error for each in long.records})
            await until(lambda: "the port-forward failed" in {each.error for each in load.records})
    assert fates(load) == {Fate.WHOLE, Fate.OWN}
    assert fates(long) == {Fate.OWN}


async def test_a_door_that_is_closed_behind_a_port_forward_is_the_deployments_fault(server: Server) -> None:
    server.access.ports["a"] = free_port()
    async with forwarded(server.subject.reach, server.pod, 8080) as way:
        load = replace(server.load(requestsPerSecond=0, streams=1), url=way.url, broken=way.broken)
        async with load.running():
            await until(lambda: load.records)
    assert fates(load) == {Fate.LOST}


async def test_more_than_it_can_have_under_way_is_skipped_and_told(server: Server) -> None:
    load = replace(server.load(requestsPerSecond=50, streams=0), most=2)
    async with load.running():
        await until(lambda: load.skipped >= 5)
    assert fates(load) == {Fate.WHOLE}
