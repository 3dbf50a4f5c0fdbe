"""Running a model: ONNX Runtime, the dtypes numpy lacks, external data, and the reference evaluator."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from graphkit.run import reference
from graphkit.run.contrib import sigmoid
from graphkit.run.reference import CannotRun, open_model, run

RELU = '<ir_version: 10, opset_import: ["" : 21]> g (float[2] x) => (float[2] y) { h = Neg(x) y = Relu(h) }'


def test_extra_outputs_follow_the_models_own() -> None:
    data = parser.parse_model(RELU).SerializeToString()
    x = np.array([1, -2], np.float32)
    assert list(open_model([data], None, ["h"]).run({"x": x})) == ["y", "h"]
    found = run(data, [{"x": x}], ["h", "y"])
    assert np.array_equal(found[0]["h"], -x) and list(found[0]) == ["h", "y"]
    assert list(run(data, [{"x": x}])[0]) == ["y"]


@pytest.mark.parametrize(
    ("name", "dtype"), [("bfloat16", ml_dtypes.bfloat16), ("float8e4m3fn", ml_dtypes.float8_e4m3fn)]
)
def test_dtypes_that_numpy_lacks(name: str, dtype: type) -> None:
    m = parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]> g ({name}[3] x, float[2] z) => ({name}[3] y, float[2] w) '
        "{ y = Identity(x) w = Relu(z) }"
    )
    x = np.array([1, 2, -3]).astype(dtype)
    model = open_model([m.SerializeToString()], only="ort")
    values = model.run({"x": x, "z": np.array([-1, 1], np.float32)})
    assert values["y"].dtype == dtype and np.array_equal(values["y"], x)
    assert values["w"].tolist() == [0, 1]


def test_sequences_go_through() -> None:
    m = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (seq(float[2]) s) => (float[2] y) <int64 i = {1}> '
        "{ y = SequenceAt(s, i) }"
    )
    feed = {"s": [np.zeros(2, np.float32), np.ones(2, np.float32)]}
    assert open_model([m.SerializeToString()], only="ort").run(feed)["y"].tolist() == [1, 1]


@pytest.fixture
def external(tmp_path: Path) -> Path:
    w = numpy_helper.from_array(np.arange(400, dtype=np.float32).reshape(20, 20), "w")
    x, y = (helper.make_tensor_value_info(n, 1, [1, 20]) for n in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [w])
    path = tmp_path / "m.onnx"
    opsets = [helper.make_opsetid("", 21)]
    onnx.save(
        helper.make_model(graph, opset_imports=opsets, ir_version=10),
        path,
        save_as_external_data=True,
        location="m.data",
        size_threshold=0,
    )
    return path


@pytest.mark.parametrize("only", ["ort", "reference"])
def test_external_data_is_found_in_the_folder(external: Path, only: str) -> None:
    x = np.ones((1, 20), np.float32)
    want = x @ np.arange(400, dtype=np.float32).reshape(20, 20)
    assert np.allclose(
        open_model([external.read_bytes()], external.parent, only=only).run({"x": x})["y"], want
    )
    assert np.allclose(run(external, [{"x": x}])[0]["y"], want)
    assert sorted(p.name for p in external.parent.iterdir()) == ["m.data", "m.onnx"]


def test_a_custom_operator_is_named() -> None:
    m = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21, "acme" : 1]> '
        "g (float[2] x) => (float[2] y) { y = acme.SiLU(x) }"
    )
    with pytest.raises(CannotRun, match=r"acme::SiLU"):
        open_model([m.SerializeToString()])


def test_a_feed_that_does_not_fit_says_so_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    model = open_model([parser.parse_model(RELU).SerializeToString()])
    with pytest.raises(CannotRun) as caught:
        model.run({"x": np.ones(3, np.float32)})
    assert "\n" not in str(caught.value)
    with pytest.raises(CannotRun):
        open_model([b"\x08\x0a\x3a\x00junk"], only="ort")
    assert capfd.readouterr() == ("", "")


def test_the_reference_evaluator_has_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    m = parser.parse_model(RELU.replace("float", "complex64"))
    data = m.SerializeToString()
    monkeypatch.setattr(reference, "REFERENCE_NODES", 1)
    with pytest.raises(CannotRun, match="too large"):
        open_model([data])
    monkeypatch.setattr(reference, "REFERENCE_BYTES", 1)
    with pytest.raises(CannotRun):
        open_model([data])


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("activation", [0, 1])
def test_group_norm(last: int, activation: int) -> None:
    shape = "2,3,5,8" if last else "2,8,3,5"
    m = parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]> '
        f"g (float[{shape}] x, float[8] a, float[8] b) => (float[{shape}] y) {{ "
        f"y = com.microsoft.GroupNorm <groups = 4, epsilon = 1e-5, activation = {activation}, "
        f"channels_last = {last}> (x, a, b) }}"
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=[int(n) for n in shape.split(",")]).astype(np.float32)
    a, b = rng.normal(size=(2, 8)).astype(np.float32)
    got = open_model([m.SerializeToString()]).run({"x": x, "a": a, "b": b})["y"]
    standard = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[2,8,3,5] x, float[8] a, float[8] b) => '
        "(float[2,8,3,5] y) { y = GroupNormalization <num_groups = 4> (x, a, b) }"
    )
    nchw = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if last else x
    want = open_model([standard.SerializeToString()], only="ort").run({"x": nchw, "a": a, "b": b})["y"]
    want = want * sigmoid(want) if activation else want
    assert np.allclose(np.moveaxis(got, -1, 1) if last else got, want, atol=1e-5)


def test_skip_group_norm_adds_first() -> None:
    m = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]> '
        "g (float16[2,3,3,4] x, float[4] a, float[4] b, float16[2,4] skip, float16[4] bias) "
        "=> (float16[2,3,3,4] y, float16[2,3,3,4] s) "
        "{ y, s = com.microsoft.SkipGroupNorm <groups = 2, activation = 1> (x, a, b, skip, bias) }"
    )
    rng = np.random.default_rng(0)
    feed = {
        "x": rng.normal(size=(2, 3, 3, 4)).astype(np.float16),
        "a": np.ones(4, np.float32),
        "b": np.zeros(4, np.float32),
        "skip": rng.normal(size=(2, 4)).astype(np.float16),
        "bias": rng.normal(size=4).astype(np.float16),
    }
    found = open_model([m.SerializeToString()]).run(feed)
    total = feed["x"] + feed["skip"][:, None, None, :] + feed["bias"]
    assert np.allclose(found["s"], total, atol=2e-2) and found["y"].dtype == np.float16


def test_quick_gelu_agrees_with_onnxruntime() -> None:
    for attribute, alpha in (("", 1.702), ("<alpha = 1.0>", 1.0)):
        m = parser.parse_model(
            '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]> g (float[50] x) => (float[50] y) '
            f"{{ y = com.microsoft.QuickGelu {attribute} (x) }}"
        )
        x = np.linspace(-90, 90, 50, dtype=np.float32)
        ours, theirs = (
            open_model([m.SerializeToString()], only=o).run({"x": x})["y"] for o in ("reference", "ort")
        )
        assert np.allclose(ours, theirs, atol=1e-5) and np.allclose(ours, x * sigmoid(alpha * x), atol=1e-5)
