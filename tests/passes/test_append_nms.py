"""The ``append-nms`` pass beyond its fixtures: random heads and batches, and a real detector on a photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from graphkit.errors import BadOption
from graphkit.rewrite.registry import load_pass
from graphkit.testing import assert_equivalent, run

slowly = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SHARED = Path(__file__).resolve().parents[3] / "shared" / "models"


def head(kind: str, batch: int | str, classes: int, opset: int = 17) -> onnx.ModelProto:
    """A model that gives its input as the head of a detector."""
    shape = [batch, 40, 5 + classes] if kind == "yolov5" else [batch, 4 + classes, 40]
    ends = [helper.make_tensor_value_info(n, 1, shape) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@slowly
@given(
    kind=st.sampled_from(["yolov5", "yolov8"]),
    op=st.sampled_from(["onnx", "loop"]),
    batch=st.sampled_from([1, 3, "n"]),
    classes=st.integers(1, 3),
    agnostic=st.booleans(),
    boxes=st.sampled_from(["center", "corners"]),
    opset=st.sampled_from([11, 13, 18]),
)
def test_random_heads(
    kind: str, op: str, batch: int | str, classes: int, agnostic: bool, boxes: str, opset: int
) -> None:
    spec = f"append-nms:op={op},head={kind},max-boxes=7,candidates=30,boxes={boxes},score-threshold=0.1"
    spec += ",class-agnostic=true" if agnostic else ""
    after = assert_equivalent(spec, head(kind, batch, classes, opset))
    assert [o.name for o in after.graph.output] == ["num_dets", "det_boxes", "det_scores", "det_classes"]
    onnx.checker.check_model(after, full_check=True)
    assert run(spec, after)[0] == after


@pytest.mark.parametrize("kind", ["yolov5", "yolov8"])
def test_the_plugin_is_told_all(kind: str) -> None:
    spec = f"append-nms:head={kind},score-threshold=0.3,iou-threshold=0.6,max-boxes=9,class-agnostic=true"
    after, _ = run(spec, head(kind, 2, 3))
    node = after.graph.node[-1]
    assert (node.domain, node.op_type) == ("TRT", "EfficientNMS_TRT")
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert found.pop("score_threshold") == pytest.approx(0.3)
    assert found.pop("iou_threshold") == pytest.approx(0.6)
    assert found == {
        "plugin_version": b"1", "background_class": -1, "box_coding": 1, "score_activation": 0,
        "max_output_boxes": 9, "class_agnostic": 1,
    }  # fmt: skip
    dims = [[d.dim_value for d in o.type.tensor_type.shape.dim] for o in after.graph.output]
    assert dims == [[2, 1], [2, 9, 4], [2, 9], [2, 9]]


@pytest.mark.parametrize("options", ["score-threshold=2", "max-boxes=0", "max-boxes=50,candidates=20"])
def test_options_out_of_range(options: str) -> None:
    with pytest.raises(BadOption):
        load_pass(f"append-nms:{options}")


def test_an_output_that_is_not_there_is_refused() -> None:
    _, report = run("append-nms:output=z,head=yolov5", head("yolov5", 1, 2))
    assert "there is no output 'z'" in report.refusals[0].reason


def test_two_heads_and_halves_are_refused() -> None:
    model = head("yolov5", 1, 2)
    model.graph.node.append(helper.make_node("Neg", ["x"], ["z"]))
    model.graph.output.append(helper.make_tensor_value_info("z", 1, [1, 40, 7]))
    _, report = run("append-nms:head=yolov5", model)
    assert "several outputs have the shape of a yolov5 head" in report.refusals[0].reason
    assert run("append-nms:head=yolov5,output=z", model)[1].rewrites == 1
    half = head("yolov8", 1, 2)
    for end in (*half.graph.input, *half.graph.output):
        end.type.tensor_type.elem_type = 10
    _, report = run("append-nms:op=onnx,head=yolov8,max-boxes=5", half)
    assert "'y' is float16, not float32" in report.refusals[0].reason


def photo() -> np.ndarray:
    """bus.jpg, 640 pixels high, in the corner of a gray square: [1, 3, 640, 640]."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    source = np.asarray(image.open(SHARED / "bus.jpg").convert("RGB").resize((480, 640)))
    square = np.full((640, 640, 3), 114, np.uint8)
    square[:, :480] = source
    return (square.transpose(2, 0, 1)[None] / 255).astype(np.float32)


@pytest.mark.parametrize("op", ["onnx", "loop"])
def test_a_real_detector_finds_four_persons_and_a_bus(op: str) -> None:
    import onnxruntime

    model = SHARED / "yolov5n_op12.onnx"
    if not model.exists():
        pytest.skip(f"{model.name} is not beside the repository")
    image = photo()
    after, _ = run(f"append-nms:op={op},score-threshold=0.4,iou-threshold=0.5", onnx.load(model))
    number, boxes, scores, classes = onnxruntime.InferenceSession(after.SerializeToString()).run(
        None, {"images": image}
    )
    count = int(number[0, 0])
    assert classes[0, :count].tolist() == [0, 0, 0, 0, 5]
    np.testing.assert_allclose(scores[0, :count], [0.87, 0.78, 0.76, 0.48, 0.42], atol=0.05)
    assert (classes[0, count:] == -1).all()
    assert boxes[0, :count].max() < 660
