"""Each recovery is one observation, whatever is written after it."""

from __future__ import annotations

import itertools
from typing import Any

from prometheus_client import CollectorRegistry

from pilotboat.engine.recovery_metrics import Recoveries

BEGUN = {"fault": "NodeLost", "subject": "node n1", "detectedAt": "2026-05-01T12:00:00Z"}
MADE = BEGUN | {"trafficMovedAt": "2026-05-01T11:59:20Z", "replacedAt": "2026-05-01T12:00:03Z"}
DONE = MADE | {"readyAt": "2026-05-01T12:00:20Z"}
NEXT = DONE | {"detectedAt": "2026-05-01T13:00:00Z", "replacedAt": None, "readyAt": "2026-05-01T13:00:30Z"}


def status(last: dict[str, Any] | None) -> dict[str, Any]:
    return {"recovery": {"last": last}} if last else {}


def told(*story: dict[str, Any] | None) -> dict[str, tuple[float, float]]:
    """By what was reached: how often, and seconds in all."""
    registry = CollectorRegistry()
    seen = Recoveries(registry)
    for before, after in itertools.pairwise(story):
        seen.see(status(before), status(after))
    name = "pilotboat_recovery_seconds"

    def value(what: str, until: str) -> float:
        return registry.get_sample_value(f"{name}_{what}", {"fault": "NodeLost", "until": until}) or 0

    return {until: (value("count", until), value("sum", until)) for until in ("moved", "replaced", "ready")}


def test_a_recovery_is_told_when_it_is_over_and_once() -> None:
    assert told(None, BEGUN, MADE) == {"moved": (0, 0), "replaced": (0, 0), "ready": (0, 0)}
    assert told(None, BEGUN, MADE, DONE, DONE) == {"moved": (1, 0), "replaced": (1, 3), "ready": (1, 20)}


def test_its_parts_are_told_with_it() -> None:
    registry = CollectorRegistry()
    seen = Recoveries(registry)
    split = DONE | {"seconds": {"schedule": 0.0, "load": 3.0, "warm": 0.4}}
    for before, after in itertools.pairwise((MADE, split, split)):
        seen.see(status(before), status(after))
    name = "pilotboat_recovery_part_seconds_sum"
    found = {
        p: registry.get_sample_value(name, {"fault": "NodeLost", "part": p})
        for p in ("schedule", "pull", "load", "warm")
    }
    assert found == {"schedule": 0, "pull": None, "load": 3, "warm": 0.4}


def test_the_next_is_another() -> None:
    assert told(DONE, NEXT)["ready"] == (1, 30)
    assert told(None, DONE, NEXT)["ready"] == (2, 50)


def test_of_losses_beside_one_another_each_is_told_once() -> None:
    seen = Recoveries(registry := CollectorRegistry())
    other = {"fault": "PodLost", "subject": "pod p", "detectedAt": "2026-05-01T12:00:10Z"}
    over = other | {"readyAt": "2026-05-01T12:00:20Z", "seconds": {"load": 2.0}}
    story = [
        {"last": BEGUN},
        {"beside": [MADE], "last": other},
        {"beside": [DONE], "last": over, "count": 2},
        {"beside": [DONE], "last": over, "count": 2, "standIns": 1},
        {"last": NEXT, "count": 3},
    ]
    for before, after in itertools.pairwise(story):
        seen.see({"recovery": before}, {"recovery": after})

    def value(what: str, fault: str) -> float | None:
        return registry.get_sample_value(f"pilotboat_recovery_seconds_{what}", {"fault": fault, "until": "ready"})

    assert (value("count", "NodeLost"), value("sum", "NodeLost")) == (2, 50)
    assert (value("count", "PodLost"), value("sum", "PodLost")) == (1, 10)
    assert registry.get_sample_value("pilotboat_recovery_part_seconds_count", {"fault": "PodLost", "part": "load"}) == 1


def test_a_loss_in_whose_place_there_is_a_greater_one_is_not_told() -> None:
    zone = {"fault": "ZoneLost", "subject": "zone b", "detectedAt": BEGUN["detectedAt"]}
    assert told(BEGUN, zone, zone | {"readyAt": "2026-05-01T12:00:20Z"})["ready"] == (0, 0), "of the node"


def test_a_status_that_cannot_be_read_is_nobodys_recovery() -> None:
    assert told({"fault": 7}, {"nonsense": 1})["ready"] == (0, 0)
