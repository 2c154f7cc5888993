"""The profile of hypothesis for all tests, and how many examples a property is tried with.

`NRI_INJECT_EXAMPLES` is a factor: `make quick` tries a tenth of the usual examples, `make soak` 20
times as many. With `CI=true` the examples are the same in each run.
"""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, settings

FACTOR: Final = float(os.environ.get("NRI_INJECT_EXAMPLES", "1"))
MIN_EXAMPLES: Final = 5
USUAL: Final = 100

settings.register_profile(
    "nri-inject",
    derandomize=os.environ.get("CI") == "true",
    # A loaded machine takes its time: nothing here may depend on the clock.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=max(MIN_EXAMPLES, round(USUAL * FACTOR)),
)
settings.load_profile("nri-inject")


def examples(usual: int) -> settings:
    """Return the settings of a property that needs another number of examples than usual."""
    return settings(max_examples=max(MIN_EXAMPLES, round(usual * FACTOR)))
