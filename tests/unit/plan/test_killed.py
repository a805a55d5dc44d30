"""An operator that dies between any two writes of a canary's passes: the next one ends where one that lives does."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from pilotboat.plan.capacity import carries
from pilotboat.plan.types import Plan
from unit.plan.cluster import cut, writes
from unit.plan.test_course import STEPS, Canary
from unit.plan.test_overtaken import Watched

REPLICAS = 4
LONGEST = 9
"""No pass here has as many writes."""


class Killed(Watched):
    """An operator that dies after so many writes of each pass. Kubernetes acts on what it has written before the next
    one begins, with what is there. Whoever has requests can carry them, after every write."""

    def __init__(self, after: int, **changes: Any) -> None:
        self.after: int | None = None
        self.longest = 0
        super().__init__(**{"replicas": REPLICAS, "steps": STEPS} | changes)
        self.after = after

    def check(self) -> None:
        if self.after is not None:
            for revision, share in self.shares.items():
                bears = carries(self.ready(revision), REPLICAS - self.lent)
                assert share <= 10 * bears, (revision, self.shares, self.replicas)

    def carry_out(self, plan: Plan) -> bool:
        if self.after is None:
            return super().carry_out(plan)
        self.longest = max(self.longest, writes(plan))
        begun = Canary.carry_out(self, cut(plan, self.after))
        self.check()
        self.follow()
        wrote = Canary.carry_out(self, self.plan())
        self.check()
        return wrote or begun


def walked(cluster: Canary, fails: bool) -> dict[str, Any]:
    """A whole rollout: what is there in the end, and how much was made on the way."""
    new = cluster.push(7)
    if fails:
        cluster.failing.add(new)
    cluster.settle()
    for _ in range(30):
        cluster.minute()
        if cluster.status.get("rollout", {}).get("phase") in (None, "Aborted"):
            break
    assert cluster.settle()
    return {
        "shares": cluster.shares,
        "replicas": cluster.replicas,
        "stable": cluster.status["currentRevision"],
        "records": [(record["outcome"], record["revision"]) for record in cluster.status["rollouts"]],
        "objects": sorted((ref.kind, ref.name) for ref in cluster.objects),
        "pods": len(cluster.pods),
        "made": cluster.serial,
    }


@functools.cache
def lived(room: int, fails: bool) -> dict[str, Any]:
    """The same with an operator that does not die."""
    return walked(Canary(REPLICAS, room), fails)


ROOM = pytest.mark.parametrize(
    "room",
    [pytest.param({"room": 99}, id="one more"), pytest.param({"room": REPLICAS, "lent": 1}, id="one lent")],
)
ENDS = pytest.mark.parametrize("fails", [False, True], ids=["promoted", "given up"])


@ROOM
@ENDS
@pytest.mark.parametrize("after", range(LONGEST))
def test_an_operator_killed_after_any_write_of_any_pass_ends_in_the_same_state(
    after: int, fails: bool, room: dict[str, int]
) -> None:
    """And has made as many objects and pods as one that lives, and deleted as many."""
    killed = Killed(after, **room)
    assert walked(killed, fails) == lived(room["room"], fails)
    assert killed.longest < LONGEST, "every write is the last of one of these tests"
