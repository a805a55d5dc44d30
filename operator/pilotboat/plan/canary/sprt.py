"""The evidence that may promote: Wald's sequential test, anchored at stable's long-run rate.

Owns: its statistic and its bound. Must not know: metrics, time, or what is decided.

Wald 1945, "Sequential tests of statistical hypotheses". It runs on all of the canary's requests, and only its lower
bound is used: a canary whose rate is at or above `bad` ever gets there with probability beta at most, however often one
looks. So an extension goes on with the same count and costs nothing; a count begun anew has that risk again.
"""

from __future__ import annotations

from math import log

LEAST, MOST = 1e-4, 0.99


def likelihood(n: int, over: int, good: float, margin: float, effect: float = 1) -> float:
    """Logarithm of how much likelier `over` of `n` is at the rate `good + margin` than at `good`.

    `effect`: how many that go wrong together count as one.
    """
    good = min(max(good, LEAST), MOST - LEAST)
    bad = min(good + margin, MOST)
    return (over * log(bad / good) + (n - over) * log((1 - bad) / (1 - good))) / effect


def bound(beta: float) -> float:
    """Where the likelihood is low enough to promote."""
    return log(beta)
