"""What all unit tests share: hypothesis without deadlines, because machines are shared.

`HYPOTHESIS_PROFILE=thorough` looks ten times as long.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("pilotboat", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("pilotboat"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "pilotboat"))
