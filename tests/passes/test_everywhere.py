"""Every pass on every operator and on real models, alone and in random pipelines; see everywhere.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import corpus
from tests.passes.everywhere import BUILTIN, alone, pipeline

PIPELINES = 200
SLICE = 20  # node tests for each pipeline, so that each of the 1,884 goes through two


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILTIN)
def test_alone_on_every_node_test(name: str) -> None:
    found = [o for label, data in corpus.node_tests() for o in alone(name, label, data)]
    assert [(o.specs, o.model, o.bad) for o in found if o.bad] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", [*corpus.wheel_models()][::10], ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_alone_on_the_models_of_the_onnx_wheel(path: Path) -> None:
    found = [o for name in BUILTIN for o in alone(name, path.stem, path)]
    assert [(o.specs, o.bad) for o in found if o.bad] == []


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, PIPELINES, 20))
def test_random_pipelines(first: int) -> None:
    tests = corpus.node_tests()
    found = [
        pipeline(number, *tests[(number * SLICE + i) % len(tests)])
        for number in range(first, first + 20)
        for i in range(SLICE)
    ]
    assert [(o.specs, o.model, o.bad) for o in found if o.bad] == []
