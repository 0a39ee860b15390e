"""How Hypothesis draws: the same examples every time, unless HYPOTHESIS_PROFILE=explore is set."""

import os

from hypothesis import settings

settings.register_profile("repeat", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))
