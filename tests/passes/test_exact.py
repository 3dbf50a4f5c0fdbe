"""What constant folding computes itself is what ONNX Runtime computes, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit import Model
from graphkit.run.session import OrtModel
from graphkit_passes._exact import exact

slowly = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
Array = npt.NDArray[Any]
DTYPES = ("int32", "int64", "float32", "float64")
SPECIAL = (0.0, -0.0, 1.5, -7.25, 1e-40, 3e38, float("inf"), float("nan"), 16777217.0, 2**31 - 1.0)


def values(shape: tuple[int, ...], dtype: str, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype.startswith("int"):
        return rng.integers(-9, 9, shape).astype(dtype)
    return rng.choice([*SPECIAL, *rng.standard_normal(8)], shape).astype(dtype)


def agree(op: str, inputs: list[Array], opset: int, attributes: dict[str, Any]) -> None:
    """Compute one node both ways; nothing to compare where one of them will not."""
    names = [f"i{k}" for k in range(len(inputs))]
    node = helper.make_node(op, names, ["y"], **attributes)
    tensors = [numpy_helper.from_array(np.asarray(v), n) for v, n in zip(inputs, names, strict=True)]
    output = onnx.ValueInfoProto(name="y")
    graph = helper.make_graph([node], "g", [], [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    main = Model.from_proto(model).main
    got = exact(main, main.nodes[0], [np.asarray(v) for v in inputs])
    if got is None:
        return
    try:
        want = OrtModel(model.SerializeToString()).run({})["y"]
    except Exception as error:
        if "Could not find an implementation" in str(error) or "Type Error" in str(error):
            return
        raise AssertionError(f"{op}: numpy gave {got}, the runtime: {error}") from error
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    assert np.array_equal(got, want, equal_nan=got.dtype.kind == "f"), (op, inputs, got, want)
    if got.dtype.kind == "f":
        known = ~np.isnan(got)
        assert np.array_equal(np.signbit(got)[known], np.signbit(want)[known])


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Equal", "Greater", "Less"])
@given(dtype=st.sampled_from(DTYPES), opset=st.sampled_from([9, 13, 17]), seed=st.integers(0, 999))
@slowly
def test_arithmetic(op: str, dtype: str, opset: int, seed: int) -> None:
    agree(op, [values((3, 4), dtype, seed), values((4,), dtype, seed + 1)], opset, {})


@pytest.mark.parametrize(
    "op", ["Neg", "Floor", "Ceil", "Sqrt", "Not", "Identity", "Shape", "Transpose", "Squeeze"]
)
@given(dtype=st.sampled_from([*DTYPES, "bool"]), seed=st.integers(0, 999))
@slowly
def test_one_input(op: str, dtype: str, seed: int) -> None:
    if op not in ("Not", "Identity", "Shape", "Transpose", "Squeeze") and dtype == "bool":
        return
    if op == "Not" and dtype != "bool":
        return
    if op in ("Floor", "Ceil", "Sqrt") and dtype.startswith("int"):
        return
    agree(op, [values((2, 1, 3), dtype, seed)], 17, {})


@given(
    start=st.integers(-7, 7),
    end=st.sampled_from([-(2**63), -9, -2, -1, 0, 2, 4, 2**31 - 1, 2**63 - 1]),
    step=st.sampled_from([-2, -1, 1, 2, 3]),
    axis=st.sampled_from([-2, -1, 0, 1]),
)
@slowly
def test_slices(start: int, end: int, step: int, axis: int) -> None:
    data = np.arange(20, dtype=np.int64).reshape(4, 5)
    bounds = [np.array([v], np.int64) for v in (start, end, axis, step)]
    agree("Slice", [data, *bounds], 17, {})


@given(
    axes=st.lists(st.integers(-4, 3), min_size=1, max_size=2, unique=True), opset=st.sampled_from([11, 13])
)
@slowly
def test_unsqueeze(axes: list[int], opset: int) -> None:
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    if len({a % (2 + len(axes)) for a in axes}) < len(axes) or any(
        not -2 - len(axes) <= a < 2 + len(axes) for a in axes
    ):
        return
    if opset < 13:
        agree("Unsqueeze", [data], opset, {"axes": axes})
    else:
        agree("Unsqueeze", [data, np.array(axes, np.int64)], opset, {})


@given(
    to=st.sampled_from([1, 6, 7, 9, 11]), dtype=st.sampled_from([*DTYPES, "bool"]), seed=st.integers(0, 999)
)
@slowly
def test_casts(to: int, dtype: str, seed: int) -> None:
    large = values((6,), dtype, seed)
    if dtype == "int64":
        large = large * np.array([1, 10**6, 10**10, 2**53 + 1, 2**60 + 7, 3], np.int64)
    agree("Cast", [large], 17, {"to": to})


@given(index=st.lists(st.integers(-4, 3), min_size=0, max_size=3), axis=st.sampled_from([-2, -1, 0, 1]))
@slowly
def test_gather(index: list[int], axis: int) -> None:
    agree(
        "Gather", [np.arange(16, dtype=np.int64).reshape(4, 4), np.array(index, np.int64)], 17, {"axis": axis}
    )


@given(shape=st.lists(st.sampled_from([-1, 0, 1, 2, 3, 6]), min_size=1, max_size=3))
@slowly
def test_reshape(shape: list[int]) -> None:
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    sizes = [data.shape[i] if s == 0 and i < 2 else s for i, s in enumerate(shape)]
    known = np.prod([s for s in sizes if s != -1])
    fits = sizes.count(-1) <= 1 and 0 not in sizes and 6 % known == 0 and (-1 in sizes or known == 6)
    if fits:
        agree("Reshape", [data, np.array(shape, np.int64)], 17, {})


@given(
    bounds=st.tuples(st.integers(-5, 5), st.integers(-5, 5), st.integers(-3, 3)),
    dtype=st.sampled_from(DTYPES),
)
@slowly
def test_ranges(bounds: tuple[int, int, int], dtype: str) -> None:
    if bounds[2]:
        agree("Range", [np.array(v, dtype) for v in bounds], 17, {})


@given(shape=st.lists(st.integers(0, 3), min_size=0, max_size=3), dtype=st.sampled_from([*DTYPES, "bool"]))
@slowly
def test_filled_where_concat_expand(shape: list[int], dtype: str) -> None:
    value = numpy_helper.from_array(values((1,), dtype, 3), "v")
    agree("ConstantOfShape", [np.array(shape, np.int64)], 17, {"value": value})
    x, y = values((2, 3), dtype, 1), values((3,), dtype, 2)
    agree("Where", [values((2, 1), "bool", 5), x, y], 17, {})
    agree("Concat", [x, x[:1]], 17, {"axis": 0})
    agree("Expand", [y, np.array([2, *shape[:1], 3] if 0 not in shape[:1] else [2, 3], np.int64)], 17, {})
