"""What all unit tests share: hypothesis without deadlines, because machines are shared.

The same examples each time, so that a failure is the change's and not chance's. `HYPOTHESIS_PROFILE=thorough` looks
ten times as long, elsewhere each time: to be run by hand before a release; what it finds becomes an @example. So do the
stories of plan/test_stories.py, but with seeds that are always the same.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "pilotboat", max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("pilotboat"), max_examples=1000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "pilotboat"))
