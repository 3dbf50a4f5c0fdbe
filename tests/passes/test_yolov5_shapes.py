"""A real detector with dynamic axes comes to as few nodes as onnxslim leaves of it, and all numbers hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphkit import rewrite
from graphkit_passes.fix_shapes import FixShapes
from graphkit_passes.fold_constants import FoldConstants

MODEL = Path(__file__).resolve().parents[3] / "shared" / "models" / "yolov5n_op17_dynamic.onnx"
ONNXSLIM = 236  # nodes that onnxslim 0.1.98 leaves with --input-shapes images:1,3,640,640


@pytest.mark.skipif(not MODEL.exists(), reason=f"{MODEL.name} is not in ../shared/models")
@pytest.mark.parametrize(
    "sizes", [{"images": "1x3x640x640"}, {"batch": "1", "height": "640", "width": "640"}]
)
def test_as_few_nodes_as_onnxslim(sizes: dict[str, str]) -> None:
    report = rewrite(MODEL, [FixShapes(sizes=sizes), FoldConstants()])
    after = report.passes[-1].nodes_after
    assert sum(report.passes[0].nodes_before.values()) == 524
    assert sum(after.values()) <= ONNXSLIM
    assert not {"Shape", "Gather", "Constant", "Range", "Expand", "Where"} & set(after)
    assert report.verification.status == "held"
    assert not [r for p in report.passes for r in p.refusals]
