"""A whole rehearsal: checked first, then fault by fault: whole, load, fault, heal, whole again, figures.

Owns: the order. Must not know: how any step is done, nor the command line.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from . import aim, faults, inside, load, measure, promises, watch
from .aim import Target
from .cluster import Subject
from .errors import NotWhole, Refused, RehearsalError, Unmeasured
from .file import Cut, Fault, OnPod, Rehearsal, Via
from .forward import forwarded
from .table import Row, Side
from .world import Pod, World

Say = Callable[[str], None]


@dataclass
class Stage:
    """All that a rehearsal needs; `rows` has what was measured so far, however it ends."""

    asked: Rehearsal
    ours: Subject
    control: Subject | None
    via: Via
    key: str | None = None
    allow_commands: bool = False
    say: Say = print
    rows: list[Row] = field(default_factory=list)

    async def check(self) -> list[tuple[Fault, str]]:
        """Every fault with what it would hit. Raises Refused; nothing is disturbed."""
        planned: list[tuple[Fault, str]] = []
        for subject in self._subjects():
            world = await subject.world()
            aim.whole(world)
            for fault in self.asked.faults:
                planned.append((fault, f"{world.told}: {(await self._hit(fault, subject, world)).told}"))
        return planned

    async def run(self) -> None:
        """All faults in turn. Raises Refused where one may not be made; those before it are in `rows`."""
        await self.check()
        for fault in self.asked.faults:
            ours = await self._side(fault, self.ours)
            self.rows.append(Row(fault.name, fault.kind, ours))
            if self.control:
                self.rows[-1] = Row(fault.name, fault.kind, ours, await self._side(fault, self.control))

    def _subjects(self) -> list[Subject]:
        return [self.ours, self.control] if self.control else [self.ours]

    async def _hit(self, fault: Fault, subject: Subject, world: World) -> Target:
        """What it hits as things are now. Raises Refused where it may not, or could not be undone."""
        if isinstance(fault, Cut) and not self.allow_commands:
            raise Refused(
                f"{fault.name}: {fault.kind} runs commands of the file on this machine: give --allow-commands"
            )
        if subject.control and isinstance(fault, OnPod):
            fault = fault.model_copy(update={"pod": None})  # a pod of that name is one of ours
        if aim.needs_nodes(fault):  # each time: nodes come and go between faults
            world = replace(world, zones=await subject.zones())
        hit = aim.target(fault, world)
        aim.check(fault, hit, world, self.asked.limit)
        if isinstance(fault, Cut):
            faults.check(fault, hit, f"faults.{self.asked.faults.index(fault)}")
        return hit

    async def _side(self, fault: Fault, subject: Subject) -> Side:
        self.say(f"{fault.name}: waiting until all is whole")
        world = await subject.until_whole(self.asked.wait)
        hit = await self._hit(fault, subject, world)
        try:
            async with self._requests(subject, world, hit) as requests:
                await requests.probe()
                return await self._measured(fault, subject, world, hit, requests)
        except Unmeasured as error:
            return Side(hit.told, trouble=str(error))

    async def _measured(self, fault: Fault, subject: Subject, world: World, hit: Target, requests: load.Load) -> Side:
        clock, wish = asyncio.get_running_loop().time, self.asked.load
        load_seconds = await _load_seconds(subject, hit.pods[0])
        looking = watch.Watch(subject)
        async with looking.running(), requests.running():
            await asyncio.sleep(wish.before)
            await self._still(fault, subject, hit)
            self.say(f"{fault.name}: {hit.told}, for {fault.seconds:g} s")
            tried = clock()
            async with faults.standing(fault, hit, subject):
                at = clock()
                await asyncio.sleep(fault.seconds)
                healed = clock()
            unfinished, trouble = await self._whole_again(subject)
            whole = clock()
            await asyncio.sleep(wish.after)
            end = clock()
        times = measure.Times(tried, at, healed, whole)
        seen = measure.seen(requests.records, times, wish.slow_after, requests.skipped, requests.late)
        restored = watch.restored(world, hit, looking.seen, at, end, promises.back(fault))
        promised = promises.promise(fault)
        lines = promises.lines(promised, seen, restored, load_seconds, end - at if unfinished else None)
        trouble = trouble or seen.doubt or promises.doubt(promised, restored, load_seconds)
        return Side(hit.told, tuple(lines), seen, restored, load_seconds, trouble, unfinished)

    async def _whole_again(self, subject: Subject) -> tuple[str | None, str | None]:
        """Why it is not whole in time, which is the fault's doing; why nobody can say whether it would have been."""
        try:
            await subject.until_whole(self.asked.wait)
        except NotWhole as error:
            return f"it was not whole again within {self.asked.wait:g} s: {error}", None
        except Refused as error:
            return None, f"whether it was whole again cannot be said: {error}"
        return None, None

    async def _still(self, fault: Fault, subject: Subject, hit: Target) -> None:
        """Look again: much may have happened under load. Raises Refused, or Unmeasured where it would hit others."""
        world = await subject.world()
        aim.whole(world)
        now = await self._hit(fault, subject, world)
        if now.hits != hit.hits:
            raise Unmeasured(f"it would have hit {now.told} by the time of the fault; nothing was done")

    @asynccontextmanager
    async def _requests(self, subject: Subject, world: World, hit: Target) -> AsyncIterator[load.Load]:
        wish = self.asked.load
        given = subject.control.url if subject.control else wish.url
        if given or self.via is Via.SERVICE:
            yield load.Load(wish, given or await subject.address(), subject.model, self.key)
            return
        port = await subject.gateway_port()
        if port is None:
            raise Refused("its traffic goes through no gateway of ours: give load.url, or run inside the cluster")
        async with forwarded(subject.reach, _unhurt(world, hit), port) as way:
            yield load.Load(wish, way.url, subject.model, self.key, way.broken)


def _unhurt(world: World, hit: Target) -> Pod:
    """A gateway that the fault leaves alone: a port-forward ends at one pod, and would end with it."""
    gone = {pod.uid for pod in hit.gateways}
    found = next((pod for pod in world.gateways if pod.ready and not pod.leaving and pod.uid not in gone), None)
    if found is None:
        raise Refused("no ready gateway can be reached by a port-forward")
    return found


async def _load_seconds(subject: Subject, pod: Pod) -> float:
    """How long the model took to load and to warm up; 0 where the pod does not say."""
    try:
        told = await subject.reach.ask(pod, inside.LOADED, {"port": pod.port}, line="ready")
        phases = json.loads(told.output.splitlines()[0])
        return float(sum(float(seconds) for seconds in phases.values()))
    except (RehearsalError, ValueError, IndexError, AttributeError, TypeError):
        return 0.0
