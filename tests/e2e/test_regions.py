"""Two clusters as two regions of one host name: one dies whole, one is cut off again and again; callers from outside.

Shown with two labs side by side, a real Knot outside of both, the operator of the chart in each, and a client that
resolves the name as any does. The answer moves once, callers with it, and nobody is ever answered but one region whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from lab import faults, procs
from tests.e2e.outsider import PATIENCE, Seen
from tests.e2e.twolabs import Served, TwoLabs, served, side_by_side, whole

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.long]
AFTER = 30
"""Seconds that a region must have been well before it is preferred again."""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoLabs]:
    with side_by_side(tmp_path_factory.mktemp("regions")) as found:
        yield found


def test_a_region_that_dies_whole_is_left_and_gets_its_callers_back_when_it_is_told_to(two: TwoLabs) -> None:
    """Every process of the preferred region ends: callers go to the other, and stay there though the first is back and
    well for longer than asked for, because the way back is Manual; made Automatic, it takes them back by its rule."""
    with served(two, after=f"{AFTER}s", mode="Manual") as name, name.outsider().calling() as seen:
        seen.served(two.east.targets)
        began = time.monotonic()
        faults.black_out(two.east.lab)
        dead = time.monotonic()
        moved(name, seen, began, "killed")
        assert "east is not heard of" in name.agreed("west", 1, "west")["why"]

        whole(two.east.lab)
        print(f"dead after {dead - began:.1f} s; whole again {time.monotonic() - began:.1f} s after it was killed")
        back = name.beaten("east").known["east"]
        print(f"{time.monotonic() - began:.1f} s: serves again, and counts {back.up} s")
        name.until(lambda found: found.known["east"].up > 2 * AFTER, what="A region that is well for long")
        name.agreed("west", 1, "east", "west")
        assert seen.answers[-1][1] == two.west.targets

        name.apply("east", "west", after=f"{AFTER}s", mode="Automatic")
        seen.answered(two.east.targets)
        seen.served(two.east.targets)
        assert "east is preferred to west and has been healthy for" in name.agreed("east", 2, "west", "east")["why"]
        for region in ("east", "west"):
            name.spaces[region].told("chat", "DnsMoved")
    told(name, seen, "east", "west", "east")


def test_a_region_that_is_cut_off_again_and_again_costs_one_move(two: TwoLabs) -> None:
    """It lives on behind its cut link, takes itself for well, and must not write when the link is back for a while."""
    with served(two, after="5m") as name, name.outsider().calling() as seen:
        seen.served(two.east.targets)
        began = time.monotonic()
        two.outside.cut(two.east.lab)
        moved(name, seen, began, "cut off")
        for _ in range(3):
            two.outside.mend(two.east.lab)
            name.beaten("east")
            name.agreed("west", 1, "east", "west")
            heard(name, True)
            two.outside.cut(two.east.lab)
            heard(name, False)
        two.outside.mend(two.east.lab)
        name.beaten("east")
        name.agreed("west", 1, "east", "west")
        seen.served(two.west.targets)
    told(name, seen, "east", "west")


def heard(name: Served, east: bool) -> None:
    """Until west says whether it hears of east."""
    wanted = {"east": east, "west": True}

    def so() -> bool:
        return {each["name"]: each["healthy"] for each in name.told("west")["regions"]} == wanted

    procs.wait_until(so, what=f"West's word on the regions, {wanted}", timeout=PATIENCE, interval=0.5)


def moved(name: Served, seen: Seen, began: float, how: str) -> None:
    """Until all callers are served in the other region; how long each part took."""
    west = name.of.west.targets
    answered = seen.answered(west) - began
    first, last = (at - began for at in seen.served(west))
    print(
        f"{how}: another answer after {answered:.1f} s; callers served again from {first:.1f} s, all from {last:.1f} s"
    )


def told(name: Served, seen: Seen, *regions: str) -> None:
    """One region was answered at a time, whole; callers went there, nowhere else, and failed only at the lost one."""
    where = name.targets()
    assert [found for _, found in seen.answers] == [where[region] for region in regions]
    for number, stretches in enumerate(seen.of(where)):
        print(f"caller {number}: {', '.join(f'{len(asked)} in {region}' for region, asked in stretches)}")
        assert [region for region, _ in stretches] == list(regions)
        (_, before), *after = stretches
        first = next((at for at, each in enumerate(before) if each.wrong), len(before))
        print(f"  lost: {[each.wrong for each in before[first:]]}")
        assert all(each.wrong for each in before[first:]), "it was well until it was lost"
        assert not [each for _, asked in after for each in asked if each.wrong]
