"""The best that any test could do, for it is told what nobody knows: how bad the canary is.

Owns: how many of the canary's requests such a test needs to abort for errors, at the risk that ours has. Must not know:
how we judge.

Both are Wald's likelihood ratio (1945) at its upper bound, looked at as often as ours. `known-rates` knows both rates
of errors, so a shared incident would fool it. `known-split` knows only how many times worse the canary is and what its
share is, and looks at whose each failure is: the best of those that a shared incident does not fool.
"""

from __future__ import annotations

from math import log

import numpy as np

from bench.traces import BEFORE, LOOKS, ROLLOUT, SHARES, STEP, Floats, Ints, Side, Trace, World
from pilotboat.api.analysis import Metric
from pilotboat.plan.canary.settings import Settings

STEPS = slice(BEFORE, BEFORE + ROLLOUT)
ABORT_AT = log(Settings().abort_at(Metric.ERRORS))


def known_rates(world: World, trace: Trace) -> Floats:
    """Requests until it aborts, of each rollout; infinite where it does not in the four steps."""
    good, bad = world.stable, world.canary or world.stable
    requests, errors = _of_slots(trace.canary)
    gains = errors * log(bad / good) + (requests - errors) * log((1 - bad) / (1 - good))
    return _until(gains, requests)


def known_split(world: World, trace: Trace) -> Floats:
    """The same, of the split alone."""
    ratio = (world.canary or world.stable) / world.stable
    share = np.repeat(SHARES, STEP * LOOKS)
    (requests, errors), (_, others) = _of_slots(trace.canary), _of_slots(trace.stable)
    return _until(errors * log(ratio) - (errors + others) * np.log(ratio * share + 1 - share), requests)


def _of_slots(side: Side) -> tuple[Ints, Ints]:
    """Requests and errors of every slot of the four steps."""
    counts = np.diff(side.looks[:2, :, STEPS], axis=3, prepend=0).reshape(2, -1, ROLLOUT * LOOKS)
    return counts[0], counts[1]


def _until(gains: Floats, requests: Ints) -> Floats:
    """The requests until what was gained is enough."""
    reached = np.cumsum(gains, axis=1) >= ABORT_AT
    known = np.take_along_axis(np.cumsum(requests, axis=1), reached.argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(reached.any(axis=1), known, np.inf)
