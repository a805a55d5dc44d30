"""How many replicas each revision has, step by step, while a new revision replaces older ones.

Owns: the arithmetic of a rolling update over one Deployment a revision. Must not know: what a revision is made of.

Invariants, for every step and from any state (tests/unit/plan/test_rollout.py holds them by hypothesis):
1. replicas are only added while their sum stays within `want + surge`, the target's useless ones not counted;
2. a ready replica is taken away only where at least `want` ready ones remain, and an older one of which nothing is
   known only where nothing is wanted;
3. replicas that are not ready go first, but no more of them than the target needs for its first `surge` replicas,
   before it has proven that it can be ready (a probe may fail for a moment, and the target may be the broken one) or
   starves for want of their GPU;
4. repeated with the cluster following, it ends with `want` replicas of the target and none of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SURGE = 1
"""Replicas above the wanted number while a revision is replaced."""


@dataclass(frozen=True)
class Revision:
    """One revision as it stands: replicas asked of its Deployment, and how many of them are ready.

    `known` is False while the Deployment's status is older than its spec: then its replicas are neither counted as
    ready nor given up as broken.
    """

    name: str
    replicas: int
    ready: int
    known: bool = True
    useless: int = 0
    """Of those that are not ready, how many Kubernetes calls so: they are lost, or their zone gets less than its share
    of the requests. Others are made beside them, and time is no proof against them."""

    @property
    def serving(self) -> int:
        """Replicas known to be ready."""
        return min(self.ready, self.replicas) if self.known else 0

    @property
    def idle(self) -> int:
        """Replicas known not to be ready."""
        return self.replicas - self.serving if self.known else 0

    @property
    def down(self) -> bool:
        """Whether it is known to serve nothing; what is not known is no proof of that."""
        return self.known and not self.serving


def beside(useless: int) -> str:
    """Words on so many replicas that Kubernetes calls ready, and that are of no use."""
    return f"; {useless} more are ready, and are lost or in a zone without its share of the requests" if useless else ""


@dataclass(frozen=True)
class Step:
    """Replicas for the target and for each older revision by name."""

    target: int
    others: dict[str, int]

    @property
    def done(self) -> bool:
        """Whether nothing is left of the older revisions."""
        return not any(self.others.values())

    @property
    def ended(self) -> frozenset[str]:
        """Older revisions of which nothing is left."""
        return frozenset(name for name, replicas in self.others.items() if not replicas)


def step(want: int, target: Revision, others: Sequence[Revision], starved: bool = False, surge: int = SURGE) -> Step:
    """The next replica counts; `others` with the one to shrink first in front.

    `starved`: a pod of the target cannot be placed, so it is worth giving up replicas that do not serve anyway.
    """
    if want == 0:
        return Step(0, {revision.name: 0 for revision in others})
    left = _without_surplus(want, target, others)
    _give_up_idle(left, others, all_of_them=starved or target.serving > 0, keep=want)
    if not any(left.values()):
        return Step(want, left)
    if target.idle and not target.serving:
        _stand_in(want + surge - max(target.replicas, surge), left, others)
    room = want + surge + target.useless - sum(left.values())
    return Step(min(want, max(target.replicas, room, 0)), left)


def _without_surplus(want: int, target: Revision, others: Sequence[Revision]) -> dict[str, int]:
    """Older replicas without the ready ones that are not needed for `want` ready ones in all."""
    spare = target.serving + sum(revision.serving for revision in others) - want
    left: dict[str, int] = {}
    for revision in others:
        gone = max(0, min(spare, revision.serving))
        spare -= gone
        left[revision.name] = revision.replicas - gone
    return left


def _give_up_idle(left: dict[str, int], others: Sequence[Revision], all_of_them: bool, keep: int) -> None:
    """Take away replicas that do not serve: all, or only those beyond `keep`, which would leave the target no room."""
    for revision in others:
        beyond = revision.idle if all_of_them else max(0, sum(left.values()) - keep)
        left[revision.name] -= min(revision.idle, beyond)


def _stand_in(most: int, left: dict[str, int], others: Sequence[Revision]) -> None:
    """While the target serves nothing, a serving revision takes up what is wanted beyond what there is."""
    serving = [revision.name for revision in others if revision.serving]
    if serving:
        left[serving[-1]] += max(0, most - sum(left.values()))
