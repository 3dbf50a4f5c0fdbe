"""Every fixture that speaks of TensorRT, on the real parser and builder: refused before, and built after."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from graphkit.rewrite.registry import installed
from graphkit.testing import Case, cases
from tests.tensorrt import verdicts

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
VERSIONS = {"rtx-1.4": "1.4.0.76", "rtx-1.7": "1.7.1.116"}
TOLD = [c for name in installed() for c in cases(FIXTURES / name) if c.refused_by or c.broken_on]
MEND = (
    *("inline-parameters", "align-if-branches", "fold-if", "fuse-layer-norm", "fuse-rms-norm", "fuse-gelu"),
    *("clamp-masks", "recenter-qdq", "drop-bias-qdq", "retarget-uint8", "fp64-to-fp32", "clamp-int64"),
    *("sequences-to-tensors", "unbake-batch", "lower-opset", "decompose", "inline-functions", "append-nms"),
    *("lower-gridsample", "silu", "unique-names"),
)


@cache
def _said(version: str) -> Mapping[str, str]:
    """What one version says of every model, before and after; one process asks for them all."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (pip install 'graphkit[rtx]')")
    models = {f"{c} before": c.before.SerializeToString() for c in TOLD}
    models |= {f"{c} after": c.after.SerializeToString() for c in TOLD if c.after is not None}
    return verdicts(models, VERSIONS[version])


@pytest.mark.parametrize("version", ["rtx-1.4", pytest.param("rtx-1.7", marks=pytest.mark.slow)])
@pytest.mark.parametrize("one", TOLD, ids=str)
def test_refused_before_as_told_and_built_after(one: Case, version: str) -> None:
    said = _said(version)
    reasons = [why for who, why in one.refused_by if who == version]
    before = said[f"{one} before"]
    assert all(why in before for why in reasons), f"{version} says of the model before: {before or 'nothing'}"
    if not reasons:
        assert not before, f"{version} refuses the model before, and the fixture does not say so: {before}"
    if one.after is not None:
        assert not said[f"{one} after"]


@pytest.mark.parametrize("name", MEND)
def test_every_mend_has_a_model_that_was_broken(name: str) -> None:
    assert any(c.spec.partition(":")[0] == name and c.after is not None for c in TOLD)


@pytest.mark.parametrize("one", TOLD, ids=str)
def test_versions_are_ones_that_are_asked(one: Case) -> None:
    assert {who for who, _ in one.refused_by} <= set(VERSIONS)
