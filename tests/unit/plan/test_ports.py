"""Ports of a gateway: kept once settled, never shared for long, the same for whoever looks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.routing import PORTS
from pilotboat.plan.ports import choose, preferred

NAMES = st.text("abc", min_size=1, max_size=3)
SOME = st.sampled_from([PORTS[0], PORTS[1], PORTS[2], PORTS[-2], PORTS[-1]])


@given(NAMES, st.none() | SOME | st.sampled_from([0, 80, PORTS.stop]), st.dictionaries(SOME, NAMES))
def test_a_port_is_in_range_and_nobody_elses(name: str, settled: int | None, held: dict[int, str]) -> None:
    port = choose("ns", name, settled, held)
    assert port in PORTS
    assert held.get(port, name) == name
    assert port == choose("ns", name, settled, held)
    assert choose("ns", name, port, {**held, port: name}) == port


@given(st.lists(NAMES, unique=True, max_size=12), st.data())
def test_whatever_they_start_with_they_end_apart(names: list[str], data: st.DataObject) -> None:
    """Each chooses by what it sees, in any order; those in front are the older ones."""
    settled: dict[str, int | None] = {name: data.draw(st.none() | SOME) for name in names}
    for _ in range(len(names) + 1):
        for name in data.draw(st.permutations(names)):
            settled[name] = choose("ns", name, settled[name], _held(names, settled))
    assert len(set(settled.values())) == len(names)
    before = dict(settled)
    assert {name: choose("ns", name, settled[name], _held(names, settled)) for name in names} == before


def _held(names: list[str], settled: dict[str, int | None]) -> dict[int, str]:
    return {port: name for name in reversed(names) if (port := settled[name]) is not None}


def test_a_full_gateway_has_no_port_left() -> None:
    assert choose("ns", "late", None, dict.fromkeys(PORTS, "another")) is None
    last = {port: "another" for port in PORTS if port != PORTS[-1]}
    assert choose("ns", "late", None, last) == PORTS[-1]


def test_the_hash_spreads_over_all_of_them() -> None:
    assert len({preferred("ns", f"m{n}") for n in range(2000)}) > 1700
    assert preferred("a", "chat") != preferred("b", "chat")
