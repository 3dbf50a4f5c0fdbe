"""Half-precision models computed in fp32: the same model written in fp32 says what is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper, parser

from graphkit.errors import BadInput
from graphkit.run import outline
from graphkit.run.precision import Rounding, upcast, upcast_feed
from graphkit.run.stream import Program
from tests import corpus

# Everything that may say a dtype: inputs, initializers, Constant, ConstantOfShape, Cast, RandomNormalLike,
# a subgraph with its own initializer, a local function that gets a dtype as an attribute, and a sequence.
TEXT = """
<ir_version: 10, opset_import: ["" : 21, "my" : 1]>
g (T[2,4] x, bool p, float[4] f) => (T[2,4] y, seq(T[2,4]) q)
<T[4,4] w = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}>
{
  k = Constant <value = T[4] {0, 0, 0, 0}> ()
  shape = Shape(x)
  ones = ConstantOfShape <value = T[1] {0}> (shape)
  c = Cast <to = CODE> (f)
  e = EyeLike <dtype = CODE> (w)
  w2 = Add(w, e)
  m = MatMul(x, w2)
  s = Add(m, k)
  t = Mul(s, ones)
  l = CastLike(f, x)
  b = If (p) <
    then_branch = yes () => (T[2,4] u) <T[1] three = {0}> { u = Mul(t, three) },
    else_branch = no () => (T[2,4] v) { n = my.half <code = CODE> (t) v = Identity(n) }
  >
  d = Add(b, c)
  y = Add(d, l)
  q = SequenceConstruct(y, b)
}
<domain: "my", opset_import: ["" : 21]> half <code> (a) => (r)
{ wide = Cast <to = 1> (a) back = Cast <to: int = @code> (wide) r = Neg(back) }
"""
FEED = {
    "x": np.random.default_rng(0).standard_normal((2, 4)).astype(np.float16),
    "f": np.array([0.5, 1, 2, 4], np.float32),
}


def model(name: str) -> ModelProto:
    code = {"float16": 10, "bfloat16": 16, "float": 1}[name]
    made = parser.parse_model(TEXT.replace("T[", f"{name}[").replace("CODE", str(code)))
    dtype = {
        "float16": np.dtype(np.float16),
        "bfloat16": np.dtype(ml_dtypes.bfloat16),
        "float": np.dtype("f4"),
    }
    values = {"k": [0.5, 0.25, -1.5, 3.0], "ones": [1.5], "three": [3.0]}
    values["w"] = (np.random.default_rng(1).integers(-8, 8, (4, 4)) / 4).tolist()
    for key, tensor in constants(made):  # the parser takes only bits for half precision
        tensor.CopyFrom(numpy_helper.from_array(np.array(values[key]).astype(dtype[name]), tensor.name))
    return made


def constants(made: ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Every float constant, with the name of what it is."""
    for graph in outline.graphs(made):
        yield from ((t.name, t) for t in graph.initializer if t.name in ("w", "three"))
        for node in graph.node:
            yield from ((node.output[0], a.t) for a in node.attribute if a.HasField("t"))


def run(made: ModelProto, feed: dict[str, Any], **how: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    Program(made).run(feed, found.__setitem__, **how)
    return found


@pytest.mark.parametrize("branch", [True, False])
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_as_if_it_had_been_written_in_fp32(name: str, branch: bool) -> None:
    half = model(name)
    kept = half.SerializeToString()
    wide, dtypes = upcast(half)
    onnx.checker.check_model(wide, full_check=True)
    assert half.SerializeToString() == kept
    feed = {**FEED, "p": np.array(branch)}
    if name == "bfloat16":
        feed["x"] = FEED["x"].astype(ml_dtypes.bfloat16)
    lifted = upcast_feed(feed)
    assert lifted["x"].dtype == np.float32 and lifted["p"].dtype == bool
    found, expected = run(wide, lifted), run(model("float"), lifted)
    assert found.keys() == expected.keys() and len(found) >= 12
    for tensor, value in expected.items():
        assert found[tensor].dtype == value.dtype and np.array_equal(found[tensor], value), tensor
    assert {dtypes[n] for n in ("x", "w", "k", "ones", "c", "m", "y", "u")} == {name}
    assert not {"shape", "f", "p"} & set(dtypes)


def test_native_rounding_gives_the_half_precision_back() -> None:
    wide, dtypes = upcast(model("float16"))
    feed = upcast_feed({**FEED, "p": np.array(True)})
    exact, found = run(wide, feed), run(wide, feed, rounding=Rounding(native=dtypes))
    for tensor in ("m", "s", "t", "y"):
        assert np.array_equal(found[tensor], found[tensor].astype(np.float16).astype(np.float32))
        assert not np.array_equal(found[tensor], exact[tensor])
        assert np.allclose(found[tensor], exact[tensor], rtol=4e-3, atol=4e-3)


def test_nothing_to_do_is_the_same_object() -> None:
    made = model("float")
    assert upcast(made) == (made, {}) and upcast(made)[0] is made


def test_other_narrow_dtypes_stay() -> None:
    made = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float16[3] x) => (float16[3] y) '
        "<float16 s = {14336}> { q = QuantizeLinear <output_dtype = 17> (x, s) y = DequantizeLinear(q, s) }"
    )
    wide, dtypes = upcast(made)
    assert dtypes == {"x": "float16", "y": "float16", "s": "float16"}
    found = run(wide, {"x": np.array([0.3, 1, 7], np.float32)})
    assert found["q"].dtype == ml_dtypes.float8_e4m3fn and found["y"].dtype == np.float32
    assert np.allclose(found["y"], [0.3125, 1, 7])


def test_an_overflow_of_half_is_none_in_fp32() -> None:
    made = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float16[1] x) => (float16[1] y) '
        "{ a = Mul(x, x) y = Sqrt(a) }"
    )
    x = np.array([1000], np.float16)
    wide, dtypes = upcast(made)
    assert run(wide, upcast_feed({"x": x}))["y"].tolist() == [1000]
    assert np.isinf(run(wide, upcast_feed({"x": x}), rounding=Rounding(native=dtypes))["y"]).all()


def test_external_weights(tmp_path: Path) -> None:
    w = numpy_helper.from_array(np.arange(2048, dtype=np.float16).reshape(32, 64), "w")
    x, y = helper.make_tensor_value_info("x", 10, [1, 32]), helper.make_tensor_value_info("y", 10, [1, 64])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [w])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    outside = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    feed = {"x": np.ones((1, 32), np.float32)}
    expected = np.arange(2048, dtype=np.float32).reshape(32, 64).sum(axis=0)
    assert np.array_equal(run(upcast(outside, tmp_path)[0], feed)["y"][0], expected)
    with pytest.raises(BadInput, match="say in which folder"):
        upcast(outside)


def halved(made: ModelProto) -> None:
    """What a converter does to a model of convolutions: every float is half but what Resize reads."""
    sizes = {name for n in made.graph.node if n.op_type == "Resize" for name in n.input[1:]}
    floats = [t for t in made.graph.initializer if t.data_type == 1 and t.name not in sizes]
    for node in made.graph.node:
        if node.op_type == "Constant" and node.output[0] not in sizes and node.attribute[0].t.data_type == 1:
            floats.append(node.attribute[0].t)
    for tensor in floats:
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    del made.graph.value_info[:]
    for info in (*made.graph.input, *made.graph.output):
        info.type.tensor_type.elem_type = 10


def test_a_real_model_in_half_precision() -> None:
    path = next(p for p in corpus.shared_models() if p.name == "yolov5n_op12.onnx")
    made = onnx.load(path)
    halved(made)
    feed = {"images": np.random.default_rng(0).random((1, 3, 640, 640)).astype(np.float16)}
    wide, dtypes = upcast(made)
    onnx.checker.check_model(wide, full_check=True)
    exact, half = run(wide, upcast_feed(feed)), run(made, feed)
    near = run(wide, upcast_feed(feed), rounding=Rounding(native=dtypes))
    narrow = {n for n, v in half.items() if v.dtype == np.float16}
    assert len(narrow) > 200 and narrow <= set(dtypes)
    for name in narrow:
        assert exact[name].dtype == np.float32
        scale = np.abs(exact[name]).max() + 1e-3
        assert np.abs(near[name] - exact[name]).max() <= 0.05 * scale, name
        assert np.abs(half[name] - exact[name]).max() <= 0.05 * scale, name
    assert any(not np.array_equal(near[n], exact[n]) for n in narrow)
