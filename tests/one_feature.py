"""The one-feature models: each holds one thing that rewriting ONNX is known to lose, change or die of.

Their builders stand in ``tests/features``, one file per kind of feature.
"""

from __future__ import annotations

import importlib
from functools import cache

from tests.features.base import Feature, build_all

MODULES = ("silent", "dropped", "annotations", "structure", "dtypes", "external", "encodings")


@cache
def features() -> tuple[Feature, ...]:
    """All of them, built once; the ids are unique."""
    for module in MODULES:
        importlib.import_module(f"tests.features.{module}")
    return tuple(build_all())


def by_id(name: str) -> Feature:
    """The feature of that id, for a test that wants a certain one."""
    return next(feature for feature in features() if feature.id == name)
