"""Evidence and minutes to judge, for the tests of this folder.

Owns: how they are drawn and built. Must not know: how they are judged.
"""

from __future__ import annotations

from hypothesis import strategies as st

from pilotboat.api.analysis import AnalysisState
from pilotboat.api.routing import BOUNDS, Evidence, Minute, PodMinute
from pilotboat.plan.canary import Count, Settings, Stratum, Tally

START = 1_800_000_000 // 60 * 60
SETTINGS = Settings()
BOUND = BOUNDS[40]
FRESH = AnalysisState(cursor=START - 60, first_token_bound=BOUND, per_token_bound=BOUND)


def tally(requests: int, errors: int = 0, slow: int = 0, slow_tokens: int = 0) -> Tally:
    return Tally(requests, errors, Count(requests - errors, slow), Count(requests - errors, slow_tokens))


def minutes(canary: Tally, stable: Tally, count: int, first: int = 0) -> list[Stratum]:
    return [Stratum(START + 60 * minute, canary, stable) for minute in range(first, first + count)]


@st.composite
def tallies(draw: st.DrawFn, most: int = 60) -> Tally:
    requests = draw(st.integers(0, most))
    errors = draw(st.integers(0, requests))
    answered = requests - errors
    return tally(requests, errors, draw(st.integers(0, answered)), draw(st.integers(0, answered)))


@st.composite
def strata(draw: st.DrawFn, most: int = 12) -> list[Stratum]:
    return [
        Stratum(START + 60 * minute, draw(tallies()), draw(tallies(200)))
        for minute in range(draw(st.integers(1, most)))
    ]


def evidence(gateway: str, now: float, stable: dict[int, int], canary: dict[int, int] | None = None) -> Evidence:
    """Requests of both by the beginning of their minute: one in ten slow, none failed."""

    def side(counts: dict[int, int]) -> list[Minute]:
        return [
            Minute(start=start, requests=n, first_token={"38": n - n // 10, "44": n // 10})
            for start, n in sorted(counts.items())
        ]

    pods = [
        PodMinute(pod="stable-0", revision="old", start=start, per_token={"20": n - n // 10, "25": n // 10})
        for start, n in sorted(stable.items())
    ]
    return Evidence(gateway=gateway, now=now, minutes={"old": side(stable), "new": side(canary or {})}, pods=pods)
