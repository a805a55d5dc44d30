"""The evidence that may promote: Wald's sequential test, anchored at stable's long-run rate.

Owns: its statistic and its bound. Must not know: metrics, time, or what is decided.

Wald 1945, "Sequential tests of statistical hypotheses". It runs on all of the canary's requests, and only its lower
bound is used: a canary whose rate is at or above `bad` ever gets there with probability beta at most, however often one
looks. So an extension goes on with the same count and costs nothing; a count begun anew has that risk again.

Wald's own bound, ln beta, pays for looks from the first request on. Ours begin late, after all the steps, and what is
not spent on the looks before may be spent then.
"""

from __future__ import annotations

from math import exp, log, log1p

LEAST, MOST = 1e-4, 0.99
LATEST = 1000
"""Requests at the first look beyond which the bound is no more lenient: there it is 0 for nearly all rates."""


def likelihood(n: int, over: int, good: float, margin: float, effect: float = 1) -> float:
    """Logarithm of how much likelier `over` of `n` is at the rate `good + margin` than at `good`.

    `effect`: how many that go wrong together count as one.
    """
    good, bad = _rates(good, margin)
    return (over * log(bad / good) + (n - over) * log((1 - bad) / (1 - good))) / effect


def bound(beta: float, first: int, good: float, margin: float, effect: float = 1) -> float:
    """Where the likelihood is low enough to promote, at the first look, which is at `first` requests, and all later.

    A bad canary is at or below it at the first look with a probability that is binomial. From a likelihood above it
    goes there ever after with probability exp(bound - likelihood) at most (Ville). The bound is the highest for which
    both together are beta, and never above 0, where bad is the likelier.
    """
    good, bad = _rates(good, margin)
    n = min(int(first / effect), LATEST)
    low, above = 0.0, 1.0
    log_good, log_bad = n * log1p(-good), n * log1p(-bad)
    for over in range(n + 1):
        under, rest = low + exp(log_bad), above - exp(log_good)
        if log_bad > log_good or under + exp(log_bad - log_good) * rest > beta:
            return min(0.0, log((beta - low) / max(above, 1e-12)))
        low, above = under, rest
        more = log((n - over) / (over + 1)) if over < n else 0.0
        log_good, log_bad = log_good + more + log(good / (1 - good)), log_bad + more + log(bad / (1 - bad))
    return 0.0


def _rates(good: float, margin: float) -> tuple[float, float]:
    """The rate of a good canary, and of one that is too much worse."""
    good = min(max(good, LEAST), MOST - LEAST)
    return good, min(good + margin, MOST)
