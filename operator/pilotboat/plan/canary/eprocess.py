"""The evidence that may abort: an e-process against stable in the same minute.

Owns: the likelihood ratios, their mixture and the stakes. Must not know: metrics, time, or what is decided.

In a minute with n_c canary and n_s stable requests, of which e_c and e_s went wrong, each of the K = e_c + e_s falls on
the canary with probability q0 = n_c / (n_c + n_s) where both are alike, and q_r = r·n_c / (r·n_c + n_s) where the
canary's rate is r times stable's. The likelihood ratio of that split has expectation 1 or less for a canary no worse,
however the rates move from minute to minute. So it is a fair bet, and a purse of 1 staked on such bets grows to 1/alpha
with probability alpha at most, over all looks together (Ville 1939; Ramdas et al. 2023, "Game-theoretic statistics and
safe anytime-valid inference").

The purse is shared by several r, since nobody knows how much worse a bad canary is. Most of it is staked in the first
minute; the rest comes into play little by little, so that a canary that turns bad only later, at a higher weight, meets
stakes that its good minutes have not used up.

A power below 1 of such a ratio is a bet no better than fair, and so is a capped one: both only ever make it smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf, log

RATIOS = (1.3, 1.6, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
"""How many times worse the canary may be; none is favoured."""
FIRST = 0.75
"""Share of the purse that is staked in the first minute."""
LATER = 0.05
"""Share of what is left that each later minute adds."""
LARGEST = 1e300
"""What a stake does not grow beyond, so that it stays a number."""
_PAIRS = tuple((ratio, log(ratio)) for ratio in RATIOS)


def gained(canary: int, over: int, stable: int, stable_over: int, effect: float = 1, cap: float = inf) -> list[float]:
    """One minute's likelihood ratios, one for each of RATIOS.

    `effect`: how many that go wrong together count as one. `cap`: what no single minute may exceed.
    """
    wrong = over + stable_over
    if not wrong or not canary or not stable:
        return [1.0] * len(RATIOS)
    both = log(canary + stable)
    logs = ((over * worse + wrong * (both - log(ratio * canary + stable))) / effect for ratio, worse in _PAIRS)
    return [min(cap, exp(min(each, 690.0))) for each in logs]


def staked(before: Sequence[float], minutes: int, gains: Sequence[float]) -> list[float]:
    """The stakes on each of RATIOS after one more minute, the one after `minutes`."""
    if not before:
        return [FIRST * gain for gain in gains]
    fresh = LATER * reserve(minutes)
    return [min(LARGEST, (old + fresh) * gain) for old, gain in zip(before, gains, strict=True)]


def reserve(minutes: int) -> float:
    """What of the purse is not staked yet after so many minutes."""
    return (1 - FIRST) * (1 - LATER) ** (minutes - 1) if minutes else 1.0


def purse(stakes: Sequence[float], minutes: int) -> float:
    """All there is: the mean of the stakes over RATIOS, and what is not staked yet."""
    return sum(stakes) / len(RATIOS) + reserve(minutes)
