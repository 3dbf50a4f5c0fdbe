"""Passes on every operator and on real models, alone and in random pipelines: a part of sweep_passes.py.

benchmarks/sweep_passes.py runs all of it, a hundred thousand cases; here each node test meets some of the
passes, and each pass some of the node tests.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import corpus
from tests.passes.everywhere import BUILTIN, alone, pipeline

PIPELINES = 200
SLICE = 4  # node tests for each pipeline
SHARE = 16  # each pass meets one node test in so many, another share of them than its neighbour
SMALL = [p for p in corpus.wheel_models() if p.parent.name != "light"]


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILTIN)
def test_alone_on_node_tests(name: str) -> None:
    some = corpus.node_tests()[BUILTIN.index(name) % SHARE :: SHARE]
    found = [o for label, data in some for o in alone(name, label, data)]
    assert [(o.specs, o.model, o.bad) for o in found if o.bad] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", SMALL[::12], ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_alone_on_the_models_of_the_onnx_wheel(path: Path) -> None:
    found = [o for name in BUILTIN for o in alone(name, path.stem, path)]
    assert [(o.specs, o.bad) for o in found if o.bad] == []


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, PIPELINES, 20))
def test_random_pipelines(first: int) -> None:
    tests = corpus.node_tests()
    found = [
        pipeline(number, *tests[(number * 9 + i * 471) % len(tests)])
        for number in range(first, first + 20)
        for i in range(SLICE)
    ]
    assert [(o.specs, o.model, o.bad) for o in found if o.bad] == []
