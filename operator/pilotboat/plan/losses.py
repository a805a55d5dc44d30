"""Which replicas are lost with their nodes, and how many others stand in for them.

Owns: the memory of lost nodes (status.recovery.nodes) and its hysteresis. Must not know: zones' states, Deployments,
what is told of it.

A replica is lost when its node is suspect and it does not serve: no gateway reaches it or, where no gateway tells,
it is not ready. Where only a device of the node is out of order it must have served before: a new one gets a device
that is well, and is not ready while it loads. Lost replicas are left as they are, for nobody knows that they are dead,
and as many more are asked for. When the node is well again, or they serve again though it is not, they must stay so
before the surplus goes: each further loss doubles that time. Nor does it go before their zone has its whole share.

Where more than half of all nodes are not heard of at once and no gateway has told of a replica since, it is more likely
that the control plane is cut off than that they are dead: they stay suspected, and only what was lost before is lost.
Half is not enough, so one node of two that dies is stood in for; where all are away there is nowhere to do so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..api.recovery import LostNode
from ..api.routing import Sighting
from . import ceased, diagnose, nodes
from .build import Raw, condition, dig, elapsed, parsed, timestamp
from .types import Node, Observed

PATIENCE = 10.0
"""Seconds that the gateways' word on a replica of a suspect node is waited for; with none to ask, news of other nodes:
Kubernetes tells over so long of those that it does not hear of, and where they are most it is rather cut off."""

LONGEST = 3600.0
"""Most seconds that a node or zone must be well again."""

HEARD_BY = 60.0
"""Seconds after which the word of a node that is well again on its replicas has surely come: its heartbeats may come by
a new connection while a kubelet (1.36) still waits on the old one, 30 s in silence and 15 s for an answer to a ping."""

FORGET = 6 * 3600.0
"""Seconds without a loss after which a node is as good as any other."""

REMEMBERED = 16
"""Nodes in status that are well and trusted again. What is lost is there whole: there are no more of these than of
replicas."""


@dataclass(frozen=True)
class Sight:
    """What the gateways see of a replica."""

    up: bool
    """Whether any gateway reaches it."""
    canned: frozenset[str] = frozenset()
    """What came of canned inferences: why they failed, empty where one did not."""
    up_for: float = 0.0
    """Seconds for which a gateway has reached it, by that gateway's own clock."""


@dataclass(frozen=True)
class Losses:
    """Lost nodes now, and what follows."""

    nodes: tuple[LostNode, ...] = ()
    look_again: timedelta | None = None
    unjudged: frozenset[str] = frozenset()
    """Names of replicas that do not serve by Kubernetes' word alone, while it hears of too few nodes to be believed."""

    @property
    def pods(self) -> frozenset[str]:
        """Names of the replicas that others stand in for."""
        return frozenset(name for node in self.nodes if node.counted for name in node.pods)

    @property
    def failing(self) -> frozenset[str]:
        """Of these, those that do not serve again."""
        return frozenset().union(*map(failing, self.nodes))

    def stand_ins(self, pods: Iterable[Raw], replicas: int) -> int:
        """How many are to stand in for some of these pods: what there are of replicas above the number asked for.

        One for each that is lost, and twice as many as there are to be replicas at most. Those that serve again and are
        not trusted yet count only up to once as many: where nodes come and go, their number grows."""
        names = [_name(pod) for pod in pods if diagnose.lasting(pod)]
        lost, failing = (sum(name in which for name in names) for which in (self.pods, self.failing))
        return min(lost, max(replicas, min(failing, 2 * replicas)))


def failing(node: LostNode) -> frozenset[str]:
    """Replicas that are lost with this node and do not serve again."""
    return frozenset(node.pods) - frozenset(node.serving) if node.counted and not node.well_since else frozenset()


def sights(observed: Observed, since: datetime | None) -> dict[str, Sight]:
    """By pod: what those gateways say that have answered since then."""
    told: dict[str, list[tuple[Sighting, float]]] = {}
    for answer, at in zip(observed.evidence, observed.evidence_at, strict=True):
        if since is None or at >= since:
            for pod, seen in answer.replicas.items():
                told.setdefault(pod, []).append((seen, answer.now))
    return {pod: _sight(seen) for pod, seen in told.items()}


def _sight(seen: Sequence[tuple[Sighting, float]]) -> Sight:
    canned = frozenset(each.canned for each, _ in seen if each.canned is not None)
    up = [now - each.since for each, now in seen if each.up]
    return Sight(bool(up), canned, max([0.0, *up]))


def look(
    observed: Observed,
    known: Sequence[LostNode],
    well_after: float,
    asks: bool,
    now: datetime,
    uneven: Collection[str] = (),
) -> Losses:
    """The memory brought up to date. `asks`: gateways are there to be asked; `well_after`: seconds to be well again;
    `uneven`: zones whose replicas get less than their share.

    Where no node can be seen at all (none is told of), nothing is lost.
    """
    if not observed.nodes:
        return Losses()
    before, cut_off = {node.name: node for node in known}, nodes.hears_of_few(observed.nodes)
    placed: dict[str, list[Raw]] = {name: [] for name in before}
    for pod in observed.pods:
        if diagnose.lasting(pod) and (where := dig(pod, "spec", "nodeName")):
            placed.setdefault(where, []).append(pod)
    found: list[LostNode] = []
    unjudged: frozenset[str] = frozenset()
    for name, pods in sorted(placed.items()):
        node = observed.nodes.get(name, Node(name, lost="the node is gone"))
        if node.suspect:
            judged = _suspected(observed, before.get(name), node, pods, well_after, asks, now, node.zone in uneven)
            by_silence = cut_off and node.lost is not None and name in observed.nodes
            kept = [_as_before(before.get(name), each, observed) for each in judged] if by_silence else judged
            unjudged |= frozenset().union(*map(failing, judged)) - frozenset().union(*map(failing, kept))
            found += kept
        elif name in before:
            found += _well(before[name], pods, well_after, now, node.zone in uneven)
    counts = [node for node in found if node.counted or not node.well_since]
    memory = sorted((node for node in found if node not in counts), key=lambda node: node.since, reverse=True)
    told = [*counts, *memory[:REMEMBERED]]
    return Losses(tuple(sorted(told, key=lambda node: node.name)), _soonest(told, well_after, now), unjudged)


def _as_before(before: LostNode | None, judged: LostNode, observed: Observed) -> LostNode:
    """A node's losses without those that are new, unless a gateway has told of a replica since it was suspected."""
    if sights(observed, parsed(judged.since)):
        return judged
    held = frozenset(before.pods) if before and before.counted else frozenset()
    failed = failing(before) if before else frozenset()
    pods = [name for name in judged.pods if name in held]
    serving = [name for name in pods if name in judged.serving or name not in failed]
    return judged.model_copy(update={"counted": bool(pods), "pods": pods, "serving": serving})


def _suspected(
    observed: Observed,
    before: LostNode | None,
    node: Node,
    pods: Sequence[Raw],
    well_after: float,
    asks: bool,
    now: datetime,
    uneven: bool,
) -> list[LostNode]:
    """A node that is not to be trusted: which of its replicas are lost. What was lost stays so, until it has served
    again for as long as a node must be well, and its zone is not `uneven`."""
    if not pods and before is None:
        return []
    told = _suspicion(before, node, now)
    seen = sights(observed, parsed(told.since))
    silent = node.lost is not None and node.name in observed.nodes
    waits = (asks or silent) and elapsed(told.since, now) < PATIENCE
    held = set(before.pods) if before and before.counted else set()
    lost, serving = [], []
    for pod in pods:
        name = _name(pod)
        served = _served_for(pod, seen.get(name), told.since, now, waits, stale=node.lost is not None)
        if name in held:
            stays = uneven or served is None or served < held_for(told, well_after)
        else:
            stays = served == 0 and (node.lost is not None or ceased.has(pod, now))
        lost += [name] if stays else []
        serving += [name] if stays and served else []
    if not lost and held & set(map(_name, pods)):  # what is lost from now on is another loss
        told = told.model_copy(update={"since": timestamp(now), "losses": told.losses + 1})
    return [told.model_copy(update={"counted": bool(lost), "pods": sorted(lost), "serving": sorted(serving)})]


def _suspicion(before: LostNode | None, node: Node, now: datetime) -> LostNode:
    """The node as it is remembered; one that was well meanwhile is suspected anew."""
    assert node.suspect
    flapped = before is not None and before.well_since is not None
    since = timestamp(now) if before is None or flapped else before.since
    losses = before.losses + flapped if before else 1
    return LostNode(name=node.name, zone=node.zone, fault=node.suspect[0], since=since, losses=losses)


def _well(before: LostNode, pods: Sequence[Raw], well_after: float, now: datetime, uneven: bool) -> list[LostNode]:
    """Well again: its replicas count when it has been so long enough, and its losses are remembered for longer.

    Those that are not ready by then are waited for a little: were the surplus to go now, it would be they. So are those
    of an `uneven` zone, however long it takes: they get too few requests to be in anybody's place.
    """
    since = before.well_since or timestamp(now)
    lasted, waits = elapsed(since, now), uneven and before.counted
    harmless = not before.counted and before.well_since is None and before.losses == 1
    if harmless or (lasted >= FORGET and not waits):
        return []
    over = lasted - held_for(before, well_after)
    here = {_name(pod) for pod in pods if waits or over < 0 or (over < HEARD_BY and not diagnose.ready(pod))}
    left = [name for name in before.pods if name in here]
    return [before.model_copy(update={"well_since": since, "pods": left, "serving": [], "counted": bool(left)})]


def held_for(node: LostNode, well_after: float) -> float:
    """Seconds that the node must be well before its replicas count again."""
    return trusted_after(well_after, node.losses)


def trusted_after(first: float, losses: int) -> float:
    """Seconds that what was lost so often must be well: `first` the first time, and twice as long with each loss."""
    return float(min(LONGEST, first * 2 ** min(max(0, losses - 1), 20)))


def _served_for(pod: Raw, sight: Sight | None, since: str, now: datetime, waits: bool, *, stale: bool) -> float | None:
    """Seconds for which it has served, 0 where it does not; None where that is not told.

    `waits`: gateways are still to tell. `stale`: nobody hears of the node, so what Kubernetes has said of it since
    before the suspicion tells nothing."""
    if sight is not None:
        return max(sight.up_for, 1.0) if sight.up else 0.0
    if waits:
        return None
    if not diagnose.ready(pod):
        return 0.0
    ready_at = dig(condition(pod, "Ready"), "lastTransitionTime") or ""
    return None if stale and ready_at <= since else max(elapsed(max(ready_at, since), now), 1.0)


def _name(pod: Raw) -> str:
    return str(pod["metadata"]["name"])


def _soonest(kept: Sequence[LostNode], well_after: float, now: datetime) -> timedelta | None:
    """When time alone changes something."""
    waits = [PATIENCE - elapsed(node.since, now) for node in kept if not node.counted and not node.well_since]
    held = [held_for(n, well_after) - elapsed(n.well_since, now) for n in kept if n.well_since and n.counted]
    waits += [wait if wait > 0 else wait + HEARD_BY for wait in held]
    ahead = [wait for wait in waits if wait > -1]
    return timedelta(seconds=max(0.0, min(ahead)) + 0.5) if ahead else None
