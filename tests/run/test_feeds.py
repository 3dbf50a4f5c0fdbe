"""Generated inputs: right names, shapes, dtypes and ranges, the same for the same seed."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

from graphkit.run.feeds import feeds
from graphkit.run.reference import open_model


def model(text: str, opset: int = 21) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{text}')


def some(proto: onnx.ModelProto, count: int = 4, **kwargs: Any) -> list[dict[str, Any]]:
    return list(islice(feeds(proto, **kwargs), count))


def test_same_seed_same_feeds() -> None:
    m = model("g (float[2,3] x, int64[4] i) => (float[2,3] y) { y = Relu(x) }")
    for a, b in zip(some(m, seed=3), some(m, seed=3), strict=True):
        assert all(np.array_equal(a[k], b[k]) for k in a)
    assert not np.array_equal(some(m, seed=3)[0]["x"], some(m, seed=4)[0]["x"])


def test_an_initializer_needs_no_feed() -> None:
    m = model("g (float[3] x, float[3] w) => (float[3] y) <float[3] w = {1, 2, 3}> { y = Add(x, w) }")
    assert list(some(m)[0]) == ["x"]


def test_dynamic_dims_take_several_sizes_and_symbols_agree() -> None:
    m = model("g (float[batch,3,height,width] x, float[batch,5] z) => (float[batch,5] y) { y = Relu(z) }")
    found = some(m)
    assert len({f["x"].shape for f in found}) == len(found)
    assert all(f["x"].shape[0] == f["z"].shape[0] for f in found)
    assert found[1]["x"].shape[2] != found[1]["x"].shape[3]
    assert all(n % 32 == 0 for n in found[0]["x"].shape[2:])


def test_shapes_fix_an_input_and_its_symbols() -> None:
    m = model("g (float[n,3] x, float[n,5] z) => (float[n,5] y) { y = Relu(z) }")
    feed = some(m, shapes={"x": (7, 3)})[0]
    assert feed["x"].shape == (7, 3) and feed["z"].shape == (7, 5)


def test_sums_of_symbols_are_worked_out() -> None:
    m = model("g (float[batch,seq] x) => (float[batch,seq] y) { y = Relu(x) }")
    m.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.INT64, ["batch", "past + seq"]))
    m.graph.input.append(helper.make_tensor_value_info("cache", TensorProto.FLOAT, ["batch", "past"]))
    feed = some(m)[0]
    assert feed["mask"].shape[1] == feed["cache"].shape[1] + feed["x"].shape[1]
    assert set(np.unique(feed["mask"])) <= {0, 1}


def test_indices_stay_within_the_gathered_dim_through_casts_and_subgraphs() -> None:
    m = model(
        """g (int32[6] ids, bool c) => (float[6,2] y) <float[5,2] table = {1,2,3,4,5,6,7,8,9,0}> {
          wide = Cast <to = 7> (ids)
          y = If (c) <
            then_branch = t () => (float[6,2] a) { a = Gather(table, wide) },
            else_branch = e () => (float[6,2] b) { b = Gather(table, wide) }
          >
        }"""
    )
    found = some(m)
    assert all(f["ids"].min() >= 0 and f["ids"].max() <= 4 for f in found)
    assert {bool(f["c"]) for f in found} == {True, False}


def test_a_switch_gets_the_value_it_is_compared_with_and_another() -> None:
    m = model("g (int64 sr) => (bool y) <int64 rate = {16000}> { y = Equal(sr, rate) }")
    assert {int(f["sr"]) for f in some(m)} == {16000, 8000}


def test_local_functions_are_traced() -> None:
    m = parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21, "own" : 1]>
        g (float[4,2] t, int64[3] i) => (float[3,2] y) { y = own.pick(t, i) }
        <domain: "own", opset_import: ["" : 21]> pick (data, rows) => (out) { out = Gather(data, rows) }"""
    )
    assert all(f["i"].min() >= 0 and f["i"].max() <= 3 for f in some(m) if f["i"].size)


@pytest.mark.parametrize(
    "dtype",
    [
        *("FLOAT16", "BFLOAT16", "DOUBLE", "FLOAT8E4M3FN", "FLOAT8E5M2", "INT4", "UINT4", "BOOL"),
        *("INT8", "UINT8", "UINT64", "STRING", "COMPLEX64", "FLOAT4E2M1"),
    ],
)
def test_every_dtype(dtype: str) -> None:
    code = TensorProto.DataType.Value(dtype)
    x, y = (helper.make_tensor_value_info(n, code, [2, 3]) for n in "xy")
    m = helper.make_model(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y]))
    array = some(m)[0]["x"]
    assert array.shape == (2, 3)
    assert array.dtype == (object if dtype == "STRING" else helper.tensor_dtype_to_np_dtype(code))


def test_sequences_optionals_and_maps() -> None:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    mapping = onnx.TypeProto()
    mapping.map_type.key_type = TensorProto.STRING
    mapping.map_type.value_type.CopyFrom(tensor)
    inputs = [
        helper.make_value_info("s", helper.make_sequence_type_proto(tensor)),
        helper.make_value_info("o", helper.make_optional_type_proto(tensor)),
        helper.make_value_info("m", mapping),
    ]
    feed = some(helper.make_model(helper.make_graph([], "g", inputs, [])))[0]
    assert isinstance(feed["s"], list) and feed["o"].shape == (2,) and isinstance(feed["m"], dict)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2,3,4] x, int64[2] s) => (float[6,4] y) { y = Reshape(x, s) }",
        "g (float[2,3,4] x, int64[1] a) => (float[2,4] y) { y = ReduceSum <keepdims = 0> (x, a) }",
        "g (float[2,3,4] x, int64[2] a) => (float[1,2,3,1,4] y) { y = Unsqueeze(x, a) }",
        "g (float[2,3] x, int64[4] p) => (float[4,6] y) { y = Pad(x, p) }",
        "g (float[8] x, int64[1] k) => (float[3] v, int64[3] i) { v, i = TopK(x, k) }",
        "g (float[8,8] x, int64[1] s, int64[1] e, int64[1] a) => (float[8,3] y) { y = Slice(x, s, e, a) }",
        "g (float[8] x, int64[2] s) => (float[3] a, float[5] b) { a, b = Split(x, s) }",
        "g (float[1,1,2,2] x, float[4] s) => (float[1,1,5,3] y) { y = Resize(x, , s) }",
    ],
)
def test_shape_like_inputs_give_the_declared_output(text: str) -> None:
    m = model(text)
    loaded = open_model([m.SerializeToString()])
    values = loaded.run(some(m)[0])
    for info in m.graph.output:
        assert values[info.name].shape == tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
