"""The deployment under rehearsal, in the cluster: read, waited for, and reached.

Owns: what is asked of the API server. Must not know: faults, load, promises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from ..api import labels
from ..api.routing import authority
from ..engine.api import Api
from ..engine.errors import ApiError
from ..engine.kinds import DEPLOYMENT, MODEL_DEPLOYMENT, NODE, POD, SERVICE, Kind
from ..plan import nodes
from ..plan.types import Ref
from . import aim, world
from .errors import Refused
from .file import Aim, Control
from .reach import Reach
from .world import Pod, World

LOOK_AGAIN = 0.25
GATEWAYS = f"{labels.INSTANCE}={labels.GATEWAY},{labels.COMPONENT}=gateway"
SERVER = "server"

Raw = dict[str, Any]


@dataclass
class Subject:
    """One deployment: ours, or with `control` the plain one beside it."""

    api: Api
    reach: Reach
    aim: Aim
    control: Control | None = None

    @property
    def service(self) -> str:
        """Name of its Service."""
        return self.control.service if self.control else self.aim.name

    @property
    def model(self) -> str:
        """What requests call the model."""
        return (self.control and self.control.model) or self.aim.name

    async def world(self) -> World:
        """As it is now. Raises Refused where it does not exist, ApiError where it cannot be read."""
        if self.control:
            raw = await self._found(DEPLOYMENT, self.control.deployment, "control.deployment")
            chosen = ((raw.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
            selector = ",".join(f"{key}={value}" for key, value in sorted(chosen.items()))
            return world.control(raw, await self._pods(selector, None))
        raw = await self._found(MODEL_DEPLOYMENT, self.aim.name, "deployment.name")
        replicas = f"{labels.INSTANCE}={self.aim.name},{labels.COMPONENT}={SERVER}"
        pods, gateways = await self._pods(replicas, SERVER), await self._pods(GATEWAYS, "haproxy")
        return world.model_deployment(raw, pods, gateways)

    async def zones(self) -> dict[str, str]:
        """Which zone each node is in, as it is now."""
        found = [raw async for page in self.api.pages(NODE, None) for raw in page]
        return {node.name: node.zone for node in map(nodes.read, found)}

    async def until_whole(self, seconds: float) -> World:
        """Wait. Raises Refused with what is wrong when the time is over, and at once where waiting cannot help."""
        last: World | ApiError | None = None
        try:
            async with asyncio.timeout(seconds):
                async for last in self.worlds():
                    if isinstance(last, World) and (last.fit is None or last.busy):
                        break
        except TimeoutError:
            pass
        if not isinstance(last, World):
            raise Refused(f"the API server did not say within {seconds:g} s how it is" + (f": {last}" if last else ""))
        aim.whole(last)
        return last

    async def worlds(self) -> AsyncIterator[World | ApiError]:
        """As it is, again and again, or why that is not known: while a fault stands no refusal ends the looking."""
        while True:
            found: World | ApiError
            try:
                found = await self.world()
            except ApiError as error:
                found = error
            yield found
            await asyncio.sleep(LOOK_AGAIN)

    async def delete(self, pod: Pod, grace: int | None) -> None:
        """A pod of it, that very one."""
        await self.api.delete(Ref("v1", "Pod", self.aim.namespace, pod.name), pod.uid, grace)

    async def address(self) -> str:
        """Its Service's own address, for callers inside the cluster."""
        raw = await self._found(SERVICE, self.service, "the Service")
        ip, ports = raw["spec"].get("clusterIP"), raw["spec"].get("ports") or ()
        if not ip or ip == "None" or not ports:
            raise Refused(f"Service {self.aim.namespace}/{self.service} has no address of its own: give load.url")
        return f"http://{authority(ip, ports[0]['port'])}"

    async def gateway_port(self) -> int | None:
        """Its port on the namespace's gateway; None where its traffic does not go there."""
        raw = await self._found(SERVICE, self.service, "the Service")
        component = (raw["spec"].get("selector") or {}).get(labels.COMPONENT)
        port = (raw["metadata"].get("labels") or {}).get(labels.GATEWAY_PORT)
        return int(port) if component == "gateway" and port else None

    async def _found(self, kind: Kind, name: str, field_name: str) -> Raw:
        raw = await self.api.get(kind, self.aim.namespace, name)
        if raw is None:
            raise Refused(f"{field_name}: there is no {kind.kind} {name} in namespace {self.aim.namespace}")
        return raw

    async def _pods(self, selector: str, container: str | None) -> tuple[Pod, ...]:
        raws = [raw async for page in self.api.pages(POD, self.aim.namespace, selector) for raw in page]
        return world.pods(raws, container)
