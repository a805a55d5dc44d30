"""From records and sightings to figures, verdicts and the table."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilotboat.rehearse import aim, measure, promises, table
from pilotboat.rehearse.file import Promise
from pilotboat.rehearse.load import Fate, Record
from pilotboat.rehearse.measure import Times
from pilotboat.rehearse.promises import Line
from pilotboat.rehearse.table import Row, Side
from pilotboat.rehearse.watch import Back, Restored, Sighting, restored
from tests.unit.rehearse.objects import fault, raw_pod, seen

TIMES = Times(tried=9.9, fault=10.0, healed=40.0, whole=50.0)


def request(
    began: float, wait: float | None = 0.1, took: float = 0.5, fate: Fate = Fate.WHOLE, error: str = ""
) -> Record:
    first = None if wait is None else began + wait
    return Record(began, first, began + took, stream=False, fate=fate, error=error)


def lost(began: float, took: float = 0.5) -> Record:
    return request(began, None, took, Fate.LOST, "time-out")


CALM = [request(each / 2) for each in range(18)]


def figures(*records: Record, skipped: int = 0, late: float = 0.0) -> measure.Seen:
    return measure.seen([*CALM, *records], TIMES, None, skipped, late)


def test_only_what_met_the_fault_counts() -> None:
    found = figures(request(9.8), request(20), lost(30), request(60), request(61, 0.3))
    assert (found.requests, found.lost, found.cut, found.doubt) == (3, 1, 0, None)
    assert (found.before.p50, found.during.p50, found.after.p95) == (0.1, 0.1, 0.3)
    assert found.errors == {"time-out": 1}


@pytest.mark.parametrize(("waits", "p50", "p95"), [([1, 100], 1, 100), (range(1, 21), 10, 19), ([7], 7, 7)])
def test_percentiles_are_by_nearest_rank(waits: Any, p50: float, p95: float) -> None:
    assert measure._waits([request(20, wait, took=200) for wait in waits]) == measure.Wait(p50, p95)


def test_traffic_has_moved_when_the_last_bad_request_began() -> None:
    cut = request(9.5, took=3, fate=Fate.CUT)
    found = figures(cut, lost(12.5, took=20), request(14, wait=1.5, took=2), request(15, wait=0.9), lost(45))
    assert (found.lost, found.cut, found.slow, found.moved) == (2, 1, 1, 4.0)
    assert figures(cut).moved == 0.0


def test_what_was_there_before_the_fault_did_not_move() -> None:
    assert figures(request(9.8, took=9, fate=Fate.CUT)).moved == 0.0
    assert figures(request(9.95, None, fate=Fate.LOST)).moved == 0.0


@pytest.mark.parametrize(
    ("records", "more", "words"),
    [
        ([lost(5), request(20)], {}, "1 requests failed before the fault"),
        ([], {}, "no request was under way"),
        ([request(20), request(21, None, fate=Fate.OWN)], {}, "1 of 2 requests failed on this side"),
        ([request(20)], {"skipped": 1}, "1 were not begun"),
        ([request(20)], {"late": 1.5}, "too busy"),
    ],
)
def test_figures_that_say_nothing_of_the_deployment(records: list[Record], more: dict[str, Any], words: str) -> None:
    assert words in (figures(*records, **more).doubt or "")


def test_no_load_before_the_fault() -> None:
    assert "load.before" in (measure.seen([request(20)], TIMES, None, 0, 0).doubt or "")


BEFORE = seen()
A, B, C = (raw_pod(name, node) for name, node in (("a", "n1"), ("b", "n2"), ("c", "n3")))
HIT = aim.target(fault("killProcess"), BEFORE)


def sightings(*worlds: Any) -> list[Sighting]:
    return [Sighting(10.0 + at, world) for at, world in enumerate(worlds)]


def test_a_restarted_replica_counts_when_it_was_started_anew() -> None:
    out, back = raw_pod("a", "n1", ready=False, restarts=1), raw_pod("a", "n1", restarts=1)
    stale = seen(A, B, C)  # kubelet has not noticed: the API still calls the dead one ready
    found = restored(
        BEFORE, HIT, sightings(stale, stale, seen(out, B, C), seen(back, B, C)), 10.0, 14.0, Back.RESTARTED
    )
    assert (found.ready, found.replaced) == (3.0, None)


def test_a_replica_that_is_gone_is_replaced_by_another() -> None:
    new = raw_pod("d", "n1", ready=False)
    worlds = (seen(A, B, C), seen(A, B, C, new), seen(A, B, C, raw_pod("d", "n1")))
    found = restored(BEFORE, HIT, sightings(*worlds), 10.0, 14.0, Back.NEVER)
    assert (found.replaced, found.ready) == (1.0, 2.0)


def test_a_new_pod_on_a_node_that_was_cut_off_or_without_a_place_replaces_nothing() -> None:
    """Kubernetes gives new pods to a node until it knows that it is silent."""
    astray, placeless = raw_pod("d", "n1", ready=False), raw_pod("e", "", ready=False)
    worlds = (seen(A, B, C, astray), seen(A, B, C, astray, placeless), seen(A, B, C, raw_pod("e", "n2", ready=False)))
    cut = aim.Target(HIT.pods, nodes=("n1",))
    assert restored(BEFORE, cut, sightings(*worlds), 10.0, 14.0, Back.NEVER).replaced == 2.0
    assert restored(BEFORE, cut, sightings(*worlds[:2]), 10.0, 14.0, Back.NEVER).replaced is None
    assert restored(BEFORE, HIT, sightings(*worlds), 10.0, 14.0, Back.NEVER).replaced == 0.0


def test_a_replica_that_never_left() -> None:
    assert restored(BEFORE, HIT, sightings(seen(A, B, C)), 10.0, 14.0, Back.TOLD).ready == 0.0
    assert restored(BEFORE, HIT, sightings(seen(A, B, C)), 10.0, 14.0, Back.NEVER).ready is None


def test_the_operators_own_record_of_a_recovery_is_used_when_it_is_of_this_fault() -> None:
    old = {"detectedAt": "2026-05-01T12:00:00Z", "replacedAt": "2026-05-01T12:00:04Z"}
    new = {"fault": "node", "detectedAt": "2026-05-01T13:00:00Z", "replacedAt": "2026-05-01T13:00:02.5Z"}
    before = seen(recovery={"last": old})
    found = restored(before, HIT, sightings(before, seen(recovery={"last": new})), 10.0, 14.0, Back.NEVER)
    assert (found.detected, found.recovery) == (2.5, new)
    assert restored(before, HIT, sightings(before), 10.0, 14.0, Back.NEVER).detected is None
    early = seen(recovery={"last": new | {"replacedAt": "2026-05-01T12:59:59Z"}})
    assert restored(before, HIT, sightings(early), 10.0, 14.0, Back.NEVER).detected == 0.0
    odd = seen(recovery={"last": {"detectedAt": "yesterday"}})
    assert restored(before, HIT, sightings(odd), 10.0, 14.0, Back.NEVER).detected is None


def told(kind: str, found: measure.Seen, back: Restored, **more: Any) -> dict[str, Line]:
    promised = promises.promise(fault(kind, **more))
    return {line.what: line for line in promises.lines(promised, found, back, load_seconds=2.0)}


def test_a_process_is_back_within_the_models_load_and_five_seconds() -> None:
    kept = told("killProcess", figures(request(20)), Restored(ready=6.9))
    assert (kept["all replicas ready"].promised, kept["all replicas ready"].kept) == ("<= 7.0 s", True)
    assert kept["lost before first token"].kept is True
    broken = told("killProcess", figures(lost(20)), Restored(ready=7.1))
    assert [line.kept for line in broken.values()] == [False, None, False, False, None]


def test_a_replacement_is_counted_from_detection_where_that_is_known() -> None:
    late = told("cutNode", figures(request(20)), Restored(replaced=20.0, ready=30.0))
    assert late["replacement created after the fault"].kept is False
    known = told("cutNode", figures(request(20)), Restored(replaced=20.0, ready=30.0, detected=3.0))
    assert known["replacement created after detection"].measured == "3.0 s"
    assert known["replacement created after detection"].kept is True
    never = told("cutNode", figures(request(20)), Restored())
    assert never["replacement created after the fault"].measured == "not seen"
    assert never["replacement created after the fault"].kept is False


@pytest.mark.parametrize(
    ("kind", "back", "sure"),
    [
        ("killProcess", Restored(blind=None), False),
        ("killProcess", Restored(blind=9.0), False),
        ("killProcess", Restored(ready=12.0, blind=9.0), False),
        ("killProcess", Restored(ready=30.0, blind=9.0), True),
        ("killProcess", Restored(ready=6.0, blind=9.0), True),
        ("killProcess", Restored(blind=0.3), True),
        ("deletePod", Restored(replaced=20.0, blind=9.0), False),
        ("deletePod", Restored(replaced=20.0, detected=16.0, blind=9.0), True),
        ("fullDisk", Restored(blind=None), True),
    ],
)
def test_what_was_late_while_nobody_looked_may_have_been_in_time(kind: str, back: Restored, sure: bool) -> None:
    """Ready is promised within 7 s here, a replacement within 15 s."""
    promised = promises.promise(fault(kind, **({"bytes": 1} if kind == "fullDisk" else {})))
    assert (promises.doubt(promised, back, load_seconds=2.0) is None) is sure


def test_how_long_nobody_looked() -> None:
    here = seen(A, B, C)
    assert restored(BEFORE, HIT, [Sighting(10.5, here), Sighting(13.0, here)], 10.0, 14.0, Back.TOLD).blind == 2.5
    assert restored(BEFORE, HIT, [Sighting(10.5, here)], 10.0, 14.0, Back.TOLD).blind == 3.5
    assert restored(BEFORE, HIT, [Sighting(9.0, here)], 10.0, 14.0, Back.TOLD).blind is None


@pytest.mark.parametrize(
    ("watched", "kept"), [(3.0, (None, None)), (8.0, (None, False)), (16.0, (False, False)), (None, (False, False))]
)
def test_what_is_not_due_before_the_waiting_ended_is_not_broken(
    watched: float | None, kept: tuple[bool | None, bool | None]
) -> None:
    """A replacement is promised within 15 s here, ready replicas within 7 s."""
    promised = Promise(lost=0, replacement_seconds=15, ready_seconds=5)
    found = list(promises.lines(promised, figures(lost(20)), Restored(), 2.0, watched))
    assert (found[3].kept, found[4].kept) == kept
    assert found[0].kept is False


def test_a_file_may_promise_more_or_nothing() -> None:
    more = told("fullDisk", figures(request(9.95, fate=Fate.CUT)), Restored(ready=0.0), bytes=1, promise={"cut": 0})
    assert more["streams and answers cut"].kept is False
    nothing = told("fullDisk", figures(lost(20)), Restored(ready=0.0), bytes=1, promise={"lost": None})
    assert nothing["lost before first token"].kept is None


def row(
    kept: bool | None, trouble: str | None = None, control: Side | None = None, unfinished: str | None = None
) -> Row:
    lines = (Line("lost", "0", "1 of 9", kept),)
    return Row("a fault", "deletePod", Side("a (n1)", lines, trouble=trouble, unfinished=unfinished), control)


def test_the_table() -> None:
    control = Side("z (n1)", (Line("lost", "0", "4 of 9", False),))
    assert list(table.table([row(False, control=control), row(True)])) == [
        "fault    what was hit        promised  measured  control",
        "a fault  a (n1)        lost  0         1 of 9    4 of 9   BROKEN",
        "a fault  a (n1)        lost  0         1 of 9             kept",
    ]
    assert next(table.table([row(True)])) == "fault    what was hit        promised  measured"


def test_what_was_not_measured_has_no_verdict() -> None:
    lines = list(table.table([row(False, "too busy")]))
    assert lines[1].endswith("1 of 9")
    assert lines[2].strip() == "not measured: too busy"


def test_what_never_came_back_has_broken_what_it_has_broken_and_kept_nothing_yet() -> None:
    lines = list(table.table([row(False, unfinished="a pod is gone"), row(True, unfinished="a pod is gone")]))
    assert lines[1].endswith("1 of 9    BROKEN")
    assert lines[2].strip() == "not measured: a pod is gone"
    assert lines[3].endswith("1 of 9")


@pytest.mark.parametrize(
    ("rows", "asked", "status"),
    [
        ([row(True), row(None)], 2, 0),
        ([row(True), row(False)], 2, 1),
        ([row(False)], 2, 1),
        ([row(True)], 2, 2),
        ([row(True), row(False, "too busy")], 2, 2),
        ([row(True, unfinished="a pod is gone")], 1, 2),
        ([row(False, unfinished="a pod is gone")], 1, 1),
        ([row(False, "too busy", unfinished="a pod is gone")], 1, 2),
        ([], 1, 2),
        # The control is there to compare with; nothing is promised of it.
        ([row(True, control=Side("z", (Line("lost", "0", "4", False),), trouble="x"))], 1, 0),
    ],
)
def test_the_exit_status(rows: list[Row], asked: int, status: int) -> None:
    assert table.status(rows, asked) == status


def test_the_record_is_json() -> None:
    found = Side("a", (), figures(lost(20)), Restored(ready=1.0))
    (told_,) = json.loads(json.dumps(table.record([Row("f", "deletePod", found)])))
    assert (told_["ours"]["seen"]["lost"], told_["ours"]["restored"]["ready"], told_["broken"]) == (1, 1.0, False)
