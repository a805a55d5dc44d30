"""Replicas and traffic of a canary beside its stable revision, with at most one GPU more than before, or none.

Owns: the arithmetic of a move. Must not know: steps, judgement, pods.

Of `whole` replicas (`want`, or one less while one is borrowed) a revision that carries w per cent of the traffic needs
w per cent, to within one per cent of the traffic. Two such needs add up to at most whole + 1: so a rollout needs one
replica more than `want`, and while borrowing none. Weight is raised only to what the canary's ready replicas carry, and
stable shrinks only to what its remaining weight needs; a step that neither side can take at once is ramped. For each of
the canary's replicas that is ready and of no use there may be one more, up to `want`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..api.rollout import Surge
from .rollout import Revision


@dataclass(frozen=True)
class Standing:
    """A canary and its stable revision as they are, and the weight to be reached, in per cent."""

    want: int
    stable: Revision
    canary: Revision
    weight: int
    goal: int
    surge: Surge = Surge.AUTO
    borrowing: bool = False
    ends: bool = True
    """Whether stable goes at 100; else it stays beside: a step of 100 that is held may still be given up."""

    @property
    def whole(self) -> int:
        """Replicas that carry all of the traffic during this rollout."""
        return self.want - self.borrowing

    @property
    def most(self) -> int:
        """Replicas there may be of both together."""
        if self.surge is Surge.ALWAYS:
            return 2 * self.want
        return self.want + (not self.borrowing)


@dataclass(frozen=True)
class Move:
    """What comes next: replicas of both, and the canary's weight."""

    stable: int
    canary: int
    weight: int


def need(weight: int, whole: int) -> int:
    """Replicas that this weight needs: the fewest that carry it."""
    return (weight - 1) * whole // 100 + 1 if weight and whole else 0


def carries(ready: int, whole: int) -> int:
    """The weight that so many ready replicas carry, rounded up to a whole per cent."""
    return min(100, -(-100 * ready // whole)) if whole else 0


def move(at: Standing) -> Move:
    """The next move; repeated with the cluster following it reaches the goal, and at the end leaves nothing of stable.

    A goal below the weight, as of steps that were edited, changes neither.
    """
    weight = max(at.weight, min(at.goal, carries(at.canary.serving, at.whole)))
    if weight == 100 and at.ends:
        return Move(0, at.want, weight)
    wanted = min(at.want, max(1, need(max(at.goal, weight), at.whole)) + at.canary.useless)
    kept = max(1, need(100 - weight, at.whole))
    most = at.most + at.canary.useless
    stable = min(at.want, max(kept, most - wanted))
    canary = min(wanted, max(at.canary.replicas, most - stable))
    return Move(stable, canary, weight)


def back(at: Standing) -> Move:
    """The next move of a canary that is left: `move`, with the two in each other's place. It gets no new replicas, and
    stable loses none; there is nothing to keep whole but the traffic, so that `Always` asks for no more room either."""
    swapped = replace(at, stable=at.canary, canary=at.stable, weight=100 - at.weight, goal=100, surge=Surge.AUTO)
    made = move(swapped)
    stable = min(at.want, max(at.stable.replicas, made.canary))
    return Move(stable, min(at.canary.replicas, made.stable), 100 - made.weight)


def can_borrow(want: int) -> bool:
    """Whether a replica may be lent: not the only one."""
    return want > 1
