"""What a fault would hit, and whether it may: the blast radius.

Owns: choosing, and every refusal. Must not know: how faults are made. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .errors import NotWhole, Refused
from .file import CutNode, CutZone, Fault, Limit
from .world import Pod, World


@dataclass(frozen=True)
class Target:
    """What a fault hits."""

    pods: tuple[Pod, ...]
    nodes: tuple[str, ...] = ()
    """Nodes that are cut off; none for faults of a pod."""
    zone: str | None = None
    """The zone that is cut off; for a node, the one that it is in."""
    whole_zone: bool = False
    gateways: tuple[Pod, ...] = ()
    """Gateways that go with them."""

    @property
    def hits(self) -> tuple[frozenset[str], frozenset[str]]:
        """Who they are, by uid, and the nodes: two targets with the same hit the same."""
        return frozenset(pod.uid for pod in (*self.pods, *self.gateways)), frozenset(self.nodes)

    @property
    def told(self) -> str:
        """In words."""
        if self.whole_zone:
            return f"zone {self.zone}: {_names(self.pods)}"
        if self.nodes:
            return f"node {self.nodes[0]}: {_names(self.pods)}"
        return ", ".join(f"{pod.name} ({pod.node})" for pod in self.pods)


def needs_nodes(fault: Fault) -> bool:
    """Whether zones have to be known for it."""
    return isinstance(fault, CutNode | CutZone)


def target(fault: Fault, world: World) -> Target:
    """What it would hit. Raises Refused where there is no such thing."""
    if isinstance(fault, CutZone):
        return _zone(fault, world)
    if isinstance(fault, CutNode):
        node = fault.node or _first(fault, world).node
        _known(fault, "node", node, world.zones or {})
        return _cut(world, (node,), (world.zones or {})[node], whole=False)
    return Target((_named(fault, fault.pod, world) if fault.pod else _first(fault, world),))


def check(fault: Fault, hit: Target, world: World, limit: Limit) -> None:
    """Raise Refused where the fault would go beyond the limit, or leave nobody to serve."""
    for what, hits, most in (
        ("replicas", [pod.name for pod in hit.pods], limit.replicas),
        ("nodes", list(hit.nodes), limit.nodes),
        ("zones", [hit.zone or ""] if hit.whole_zone else [], limit.zones),
    ):
        if len(hits) > most:
            raise Refused(f"{fault.name}: would hit {len(hits)} {what} ({', '.join(hits)}); limit.{what} allows {most}")
    gone = {pod.uid for pod in hit.pods}
    if not any(pod.uid not in gone for pod in world.serving):
        raise Refused(f"{fault.name}: {world.told} would have no ready replica elsewhere; give it more replicas")
    lost = {pod.uid for pod in hit.gateways}
    if world.gateways and not any(pod.ready and not pod.leaving and pod.uid not in lost for pod in world.gateways):
        raise Refused(f"{fault.name}: the namespace would have no ready gateway elsewhere")


def whole(world: World) -> None:
    """Raise Refused where the deployment is not fit for any fault, NotWhole where it may become so."""
    if world.busy:
        raise Refused(world.busy)
    if world.fit:
        raise NotWhole(f"{world.told} is not whole: {world.fit}")


def _zone(fault: CutZone, world: World) -> Target:
    zones = world.zones or {}
    zone = fault.zone or zones.get(_first(fault, world).node, "")
    if not zone:
        raise Refused(f"{fault.name}: the node of the first replica has no zone: label nodes, or name faults[].zone")
    nodes = tuple(sorted(node for node, its in zones.items() if its == zone))
    _known(fault, "zone", zone, set(zones.values()))
    return _cut(world, nodes, zone, whole=True)


def _cut(world: World, nodes: tuple[str, ...], zone: str, *, whole: bool) -> Target:
    hit, gateways = (tuple(pod for pod in pods if pod.node in nodes) for pods in (world.pods, world.gateways))
    if not hit:
        raise Refused(f"{world.told} has no replica on {', '.join(nodes)}: nothing would be learned")
    return Target(hit, nodes, zone or None, whole, gateways)


def _known(fault: Fault, what: str, name: str, all_: Iterable[str]) -> None:
    if name not in all_:
        raise Refused(f"{fault.name}: there is no {what} {name}; there are {', '.join(sorted(set(all_))) or 'none'}")


def _named(fault: Fault, name: str, world: World) -> Pod:
    for pod in world.pods:
        if pod.name == name:
            return pod
    raise Refused(f"{fault.name}: {world.told} has no pod {name}; it has {_names(world.pods)}")


def _first(fault: Fault, world: World) -> Pod:
    if not world.serving:
        raise Refused(f"{fault.name}: {world.told} has no ready replica")
    return world.serving[0]


def _names(pods: Iterable[Pod]) -> str:
    return ", ".join(pod.name for pod in pods) or "none"
