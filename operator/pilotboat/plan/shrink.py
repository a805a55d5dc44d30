"""Which replicas go when a revision is to have fewer: zones keep as many as each other.

Owns: who is marked to go first. Must not know: why there are to be fewer, how a mark is written.

A ReplicaSet takes those first that are not ready, then those of the lowest `pod-deletion-cost`, then those on the
fullest node, then those that became ready last. The last two know nothing of zones, and a replica that was lost and
came back is one that became ready last: where a zone has more nodes than replicas it would be left empty by its own
return. While another revision has replicas too, of which a rollout takes all in the end, only those are marked that
Kubernetes calls ready and that are of no use: lost ones, and those of a zone that gets less than its share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from ..api import labels
from . import build, diagnose
from .build import Raw, dig
from .load import Useless
from .types import Manifest, Observed

FIRST = "-1"
"""The cost of those that are to go; it is 0 where nothing is said."""


def costs(observed: Observed, made: Iterable[Manifest], useless: Useless) -> dict[str, str | None]:
    """Costs to write before these Deployments are applied, by pod; None: none any more.

    Where anybody else has given one of the pods a cost, the choice is his.
    """
    live = {raw["metadata"]["name"]: raw for raw in build.of_kind(observed.children, "Deployment")}
    lasting = [pod for pod in observed.pods if diagnose.lasting(pod)]
    found: dict[str, str | None] = {}
    for new in made:
        old = live.get(new["metadata"]["name"]) if new["kind"] == "Deployment" else None
        left = dig(new, "spec", "replicas") or 0
        if not left or left >= (dig(old, "spec", "replicas") or 0):
            continue
        mine = build.of_revision(lasting, dig(old, "metadata", "labels", labels.REVISION))
        if not {_cost(pod) for pod in mine} <= {None, FIRST}:
            continue
        alone = len(mine) == len(lasting)
        leaving = _leaving(mine, left, observed) if alone else _useless(mine, left, useless)
        found |= _changed(mine, {pod["metadata"]["name"] for pod in leaving})
    return found


def _useless(pods: list[Raw], left: int, useless: Useless) -> list[Raw]:
    """As many of these as go once those have gone that Kubernetes does not call ready."""
    over = len(useless.called & {pod["metadata"]["name"] for pod in pods}) - left
    return useless.among(sorted(pods, key=_age))[: max(0, over)]


def _changed(pods: Iterable[Raw], leaving: set[str]) -> dict[str, str | None]:
    told = {pod["metadata"]["name"]: _cost(pod) for pod in pods}
    asked = {name: FIRST if name in leaving else None for name in told}
    return {name: cost for name, cost in asked.items() if cost != told[name]}


def _leaving(pods: list[Raw], left: int, observed: Observed) -> Iterator[Raw]:
    """Those that do not serve, then the youngest of the fullest node of the fullest zone, until so many are left."""
    idle = [pod for pod in pods if not diagnose.ready(pod)]
    serving = sorted((pod for pod in pods if diagnose.ready(pod)), key=_age)
    zones = {pod["metadata"]["name"]: _zone(pod, observed) for pod in serving}
    if len(set(zones.values())) < 2:
        return
    over = len(pods) - left
    yield from idle[:over]
    for _ in range(over - len(idle)):
        fullest = Counter(zones[pod["metadata"]["name"]] for pod in serving)
        held = Counter(dig(pod, "spec", "nodeName") for pod in serving)
        going = max(serving, key=lambda pod: (*_weight(pod, zones, fullest, held), _age(pod)))
        serving.remove(going)
        yield going


def _weight(pod: Raw, zones: Mapping[str, str], fullest: Counter[str], held: Counter[str]) -> tuple[int, int]:
    return fullest[zones[pod["metadata"]["name"]]], held[dig(pod, "spec", "nodeName")]


def _age(pod: Raw) -> tuple[str, str]:
    return build.made(pod), pod["metadata"]["name"]


def _zone(pod: Raw, observed: Observed) -> str:
    node = observed.nodes.get(dig(pod, "spec", "nodeName") or "")
    return node.zone if node else ""


def _cost(pod: Raw) -> str | None:
    cost: str | None = dig(pod, "metadata", "annotations", labels.DELETION_COST)
    return cost
