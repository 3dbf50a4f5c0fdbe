"""Settings of all tests: hypothesis without a deadline (machines are noisy), reproducible in CI."""

import os

from hypothesis import settings

settings.register_profile("graphkit", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("graphkit")
