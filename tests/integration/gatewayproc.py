"""A gateway as its pod runs it: agent and HAProxy as processes of their own, over a real API server.

Replicas stand on addresses of their own on the loopback device, because an EndpointSlice must not name 127.0.0.0/8.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from lab.plane import free_ports
from pilotboat.api import labels
from pilotboat.api.routing import Evidence, Lane, Route, Unreached
from pilotboat.engine.kinds import Kind
from pilotboat_gateway.runtime import servers
from tests.integration.cluster import PATIENCE, Cluster
from tools.images import borrow

ROOT = Path(__file__).parents[2]
PORT = 8080
SLICE = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
PATHS = [str(ROOT / part) for part in ("operator", "images/server", "images/gateway")]
Raw = dict[str, Any]


HAPROXY = functools.cache(lambda: borrow("gateway", "/usr/sbin/haproxy"))


def shipped() -> dict[str, str]:
    """The environment, with the gateway image's HAProxy before the machine's own: another version does other things."""
    return {**os.environ, "PATH": f"{HAPROXY()}{os.pathsep}{os.environ['PATH']}"}


def network() -> str:
    """A /24 of the block for benchmarks, one a process, so that two test runs do not meet."""
    return f"198.18.{os.getpid() % 256}"


@contextmanager
def addresses() -> Iterator[str]:
    """All addresses of the network lead to this machine while the block runs."""
    subprocess.run(["ip", "route", "replace", "local", f"{network()}.0/24", "dev", "lo"], check=True)
    try:
        yield network()
    finally:
        subprocess.run(["ip", "route", "del", "local", f"{network()}.0/24", "dev", "lo"], check=True)


@contextmanager
def replica(folder: Path, address: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """The real server with the fake engine; it may not listen yet."""
    config = folder / f"{address}.json"
    config.write_text(
        '{"model": {"path": "/none", "name": "chat"}, "engine": {"type": "Fake"}, "inference": {"batchSize": 512}, '
        f'"service": {{"host": "{address}", "port": {PORT}, "workers": 1}}}}'
    )
    with (folder / f"{address}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pilotboat_server", "--config", str(config)],
            env={**os.environ, **environ, "PYTHONPATH": os.pathsep.join(PATHS)},
            stderr=log,
            stdout=log,
            start_new_session=True,  # its workers are stopped and killed with it
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def replicas(folder: Path, names: Sequence[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """One on each address, begun at once."""
    with ExitStack() as stack:
        yield [stack.enter_context(replica(folder, name)) for name in names]


async def serving(address: str) -> None:
    """Until a replica is ready."""

    async def ready() -> bool:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.get(f"http://{address}:{PORT}/readyz") as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

    await until(ready)


async def until(true: Callable[[], Any]) -> None:
    """Until an awaitable question is answered with yes."""
    async with asyncio.timeout(PATIENCE):
        while not await true():  # noqa: ASYNC110 -- other processes, which tell nobody here
            await asyncio.sleep(0.02)


@dataclass
class Gateway:
    """One pod."""

    cluster: Cluster
    kubeconfig: Path
    folder: Path
    environ: dict[str, str]
    agent_port: int
    http: aiohttp.ClientSession
    port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """One container."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "pilotboat_gateway", name],
                env={**shipped(), **self.environ},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """As a node's memory killer does, with all children."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def log(self) -> str:
        """What both said, for a failed test's reader."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    async def ready(self) -> None:
        """Until the pod would be ready, and has applied what it knows."""
        try:
            await until(self.is_ready)
        except TimeoutError:
            raise AssertionError(self.log()) from None

    async def is_ready(self) -> bool:
        """The readiness probe, and no change under way."""
        try:
            return await self.answers() and await self.metric("applied") == 1
        except aiohttp.ClientError:
            return False

    async def answers(self) -> bool:
        """The readiness probe."""
        async with self.http.get(f"http://127.0.0.1:{self.agent_port}/readyz") as response:
            return response.status == 200

    async def metric(self, name: str) -> float:
        """Of the agent, summed over labels."""
        async with self.http.get(f"http://127.0.0.1:{self.agent_port}/metrics") as response:
            page = await response.text()
        prefix = f"pilotboat_gateway_{name}"
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(prefix))

    async def evidence(self, name: str = "chat") -> Evidence:
        """What the operator reads."""
        async with self.http.get(f"http://127.0.0.1:{self.agent_port}/evidence/{name}") as response:
            return Evidence.model_validate(await response.json())

    async def unreached(self) -> list[str]:
        """What the operator reads each second: replicas that the probes do not reach."""
        return (await self._unreached("")).pods

    async def unseated(self, *names: str) -> list[str]:
        """Of these, what it says it sends no requests to."""
        return (await self._unreached(",".join(names))).unseated

    async def warmed(self, *names: str) -> dict[str, float]:
        """Of these, who told it for how many seconds it had warmed up."""
        return (await self._unreached(",".join(names))).warmed

    async def flooded(self) -> dict[str, int]:
        """By deployment, feedback that it says it has refused of late."""
        return (await self._unreached("")).flooded

    async def _unreached(self, asked: str) -> Unreached:
        url = f"http://127.0.0.1:{self.agent_port}/unreached"
        async with self.http.get(url, params={"of": asked} if asked else {}) as response:
            return Unreached.model_validate(await response.json())

    async def route(self, name: str = "chat", port: int = 0, **more: Any) -> None:
        """Write a deployment's route; lanes as revision to share. A new replica has its whole weight at once."""
        lanes = [Lane(revision=rev, service=f"{name}-{rev}", share=share) for rev, share in more.pop("lanes").items()]
        route = Route(deployment=name, port=port or self.port, lanes=lanes, **{"slow_start": "0s", **more})
        await self.write_route(name, route.to_json())

    async def reload(self, **route: Any) -> None:
        """Write a route with rules that take a reload, and wait until HAProxy runs with them."""
        before = await self.metric("reloads_total")
        await self.route(**route)

        async def reloaded() -> bool:
            return await self.metric("reloads_total") > before and await self.is_ready()

        await until(reloaded)

    async def write_route(self, name: str, text: str) -> None:
        """The ConfigMap as it is."""
        meta = {"name": f"{name}-route", "labels": {labels.COMPONENT: "gateway"}}
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"route.json": text}}
        await self.cluster.apply(manifest)

    async def endpoints(self, revision: str, *names: str, name: str = "chat", port: int = PORT, **more: Any) -> None:
        """The slice of a lane's service; `zones` are the addresses' zones by their last number."""
        service, zones = f"{name}-{revision}", more.pop("zones", {})
        manifest = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": [
                {
                    "addresses": [each],
                    "conditions": {"ready": True, **more},
                    "targetRef": {"kind": "Pod", "name": f"pod-{each}"},
                    **({"zone": zone} if (zone := zones.get(int(each.rpartition(".")[2]))) else {}),
                }
                for each in names
            ],
        }
        await self.write_slice(manifest)

    async def write_slice(self, manifest: Raw) -> None:
        """As the controller does it, whose kind our operator has no use for."""
        name, api = manifest["metadata"]["name"], self.cluster.api
        if await api.get(SLICE, self.cluster.namespace, name) is None:
            await api.create(SLICE, self.cluster.namespace, manifest)
        else:
            await api.merge(SLICE, self.cluster.namespace, name, manifest)

    async def models(self, count: int = 1, at_once: int = 8, **headers: str) -> Counter[str]:
        """Cheap requests; by revision that answered, or status."""
        seen: Counter[str] = Counter()
        left = iter(range(count))

        async def work() -> None:
            for _ in left:
                seen[await self.one(**headers)] += 1

        await asyncio.gather(*(work() for _ in range(at_once)))
        return seen

    async def one(self, **headers: str) -> str:
        """A request's revision, or its status."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.get(f"http://127.0.0.1:{self.port}/v1/models", headers=sent) as response:
            await response.read()
            return response.headers["x-pilotboat-revision"] if response.status == 200 else str(response.status)

    def chat(self, text: str, stream: bool = False, port: int = 0) -> Any:
        """A request that generates; for `async with`."""
        body = {"model": "chat", "messages": [{"role": "user", "content": text}], "stream": stream}
        return self.http.post(f"http://127.0.0.1:{port or self.port}/v1/chat/completions", json=body)

    async def answered_by(self, wanted: set[str]) -> None:
        """Until requests in a row are answered by these and no others."""

        async def are() -> bool:
            return set(await self.models(40)) == wanted

        await until(are)

    async def uses(self, address: str) -> None:
        """Until HAProxy has an address among its servers."""
        await until(lambda: self._uses(address))

    async def _uses(self, address: str) -> bool:
        return address in await self.active()

    async def active(self) -> set[str]:
        """Addresses that HAProxy sends new requests to, if their probes say so."""
        found = (await servers(self.folder / "runtime.sock")).values()
        return {each.address for each in found if not each.maintenance and not each.draining}

    async def serves(self, lanes: dict[str, int]) -> None:
        """Until the map that HAProxy has says these shares, in per mille."""

        async def shares() -> bool:
            found = await self.shares()
            return found == {revision: share for revision, share in lanes.items() if share}

        await until(shares)

    async def shares(self) -> dict[str, int]:
        """As HAProxy's file of the map says it; the process gets it a moment before the agent calls it applied."""
        try:
            lines = dict(line.split(" ", 1) for line in (self.folder / "lanes.map").read_text().splitlines())
        except FileNotFoundError:
            return {}
        parts = lines.get("split/chat", "").split("|")
        found, below = {}, 0
        for bound, backend in zip(parts[::2], parts[1::2], strict=False):
            found[lines[f"lane/{backend}"]] = int(bound) - below
            below = int(bound)
        return found


@asynccontextmanager
async def gateway(cluster: Cluster, kubeconfig: Path, **environ: str) -> AsyncIterator[Gateway]:
    """Both containers begun; nothing is routed yet."""
    port, agent_port = free_ports(2)
    # Sockets allow paths of 90 characters, and pytest's are longer.
    with tempfile.TemporaryDirectory(prefix="gw-") as name:
        told = {
            "PILOTBOAT_NAMESPACE": cluster.namespace,
            "PILOTBOAT_GATEWAY_DIR": name,
            "PILOTBOAT_AGENT_PORT": str(agent_port),
            "KUBECONFIG": str(kubeconfig),
            "PYTHONPATH": os.pathsep.join(PATHS),
            **environ,
        }
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as http:
            made = Gateway(cluster, kubeconfig, Path(name), told, agent_port, http, port)
            try:
                made.start("agent")
                made.start("haproxy")
                yield made
            finally:
                for each in list(made.processes):
                    made.kill(each)
                print(made.log())  # shown where the test failed
