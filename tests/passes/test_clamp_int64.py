"""The ``clamp-int64`` pass beyond its fixtures: random slices by numpy's rules, constants of all kinds."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphkit.testing import assert_equivalent, run

MOST, LEAST = 2**63 - 1, -(2**63)
LIMITS = (-(2**31), 2**31 - 1)
far = st.sampled_from([MOST, LEAST, MOST - 1, LEAST + 1, 2**31, -(2**31) - 1, 2**40, -(2**40)])
bounds = st.one_of(st.integers(-6, 6), far)
steps = st.one_of(st.integers(-3, 3).filter(bool), far)


def build(rows: list[tuple[int, int, int]], *, dynamic: bool, axes: str, nodes: bool) -> onnx.ModelProto:
    """A Slice of [4, 5], one (start, end, step) for each axis; as initializers or Constant nodes."""
    columns = {name: [row[n] for row in rows] for n, name in enumerate(("start", "end", "step"))}
    columns["axes"] = [n - 2 if axes == "negative" else n for n in range(len(rows))]
    values = {n: np.array(v, np.int64) for n, v in columns.items()}
    names = ["start", "end", "axes" if axes != "none" else "", "step"]
    body = [helper.make_node("Slice", ["x", *names], ["y"], "slice")]
    tensors = [numpy_helper.from_array(v, n) for n, v in values.items() if n in names]
    if nodes:
        made = [helper.make_node("Constant", [], [t.name], f"c_{t.name}", value=t) for t in tensors]
        body, tensors = [*made, *body], []
    given_ = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["a", "b"] if dynamic else [4, 5])]
    ends = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", "n"])]
    graph = helper.make_graph(body, "g", given_, ends, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _constants(model: onnx.ModelProto) -> list[np.ndarray]:
    told = [a.t for n in model.graph.node for a in n.attribute if a.HasField("t")]
    return [numpy_helper.to_array(t) for t in (*model.graph.initializer, *told)]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(bounds, bounds, steps), min_size=1, max_size=2),
    st.booleans(),
    st.sampled_from(["none", "positive", "negative"]),
    st.booleans(),
)
def test_random_slices_pick_the_same_elements(
    rows: list[tuple[int, int, int]], dynamic: bool, axes: str, nodes: bool
) -> None:
    assume(not any(_is_open(row) for row in rows))
    if len(rows) == 1 and axes == "negative":
        axes = "positive"
    model = build(rows, dynamic=dynamic, axes=axes, nodes=nodes)
    after, report = run("clamp-int64", model)
    assert all(((v >= LIMITS[0]) & (v <= LIMITS[1])).all() for v in _constants(after))
    assert not report.refusals
    x = np.arange(20, dtype=np.float32).reshape(4, 5)
    expected = x[tuple(_numpy(row, size) for row, size in zip(rows, x.shape, strict=False))]
    (got,) = onnxruntime.InferenceSession(after.SerializeToString()).run(None, {"x": x})
    np.testing.assert_array_equal(got, expected)
    assert run("clamp-int64", after)[1].rewrites == 0


def _is_open(row: tuple[int, int, int]) -> bool:
    """Whether a row goes backwards to an end beyond int32."""
    return row[1] > LIMITS[1] and row[2] < 0


@settings(max_examples=20)
@given(st.lists(st.tuples(bounds, bounds, steps), min_size=1, max_size=2), st.booleans())
def test_an_end_that_runtimes_disagree_on_stays(rows: list[tuple[int, int, int]], dynamic: bool) -> None:
    rows = [(0, MOST, -1), *rows][:2]
    after, report = run("clamp-int64", build(rows, dynamic=dynamic, axes="positive", nodes=False))
    assert MOST in next(numpy_helper.to_array(t) for t in after.graph.initializer if t.name == "end")
    assert [r.reason for r in report.refusals] == [
        f"'end' holds {MOST}, and Slice 'slice' may go backwards to it, which runtimes take in two ways"
    ]


def _numpy(row: tuple[int, int, int], size: int) -> slice:
    """The slice of numpy for bounds of ONNX, where -9 is below the first element and never an index."""
    start, end, step = row
    low, high = (0, size) if step > 0 else (-1, size - 1)
    start = min(max(start + size if start < 0 else start, max(low, 0)), high)
    end = min(max(end + size if end < 0 else end, low), high)
    step = min(max(step, -100), 100)
    return slice(start, None if end < 0 else end, step)


@settings(max_examples=20)
@given(bounds, st.booleans())
def test_before_opset_10_the_bounds_are_attributes(end: int, dynamic: bool) -> None:
    node = helper.make_node("Slice", ["x"], ["y"], "slice", axes=[1], starts=[1], ends=[end])
    given_ = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["a", "b"] if dynamic else [4, 5])]
    ends = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", "n"])]
    graph = helper.make_graph([node], "g", given_, ends)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)
    after = assert_equivalent("clamp-int64", model)
    told = {a.name: list(a.ints) for a in after.graph.node[0].attribute}
    assert LIMITS[0] <= told["ends"][0] <= LIMITS[1]


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["Identity", "Concat", "Where", "Max", "Min", "Reshape"]), max_size=4), far)
def test_on_the_way_to_a_slice_or_elsewhere(path: list[str], value: int) -> None:
    nodes, last = [], "k"
    for n, op in enumerate(path):
        more = {"Concat": [], "Where": ["five"], "Max": ["five"], "Min": ["five"], "Reshape": ["shape"]}
        first = ["c"] if op == "Where" else []
        nodes.append(helper.make_node(op, [*first, last, *more.get(op, [])], [f"t{n}"], f"t{n}"))
        if op == "Concat":
            nodes[-1].attribute.append(helper.make_attribute("axis", 0))
        last = f"t{n}"
    nodes.append(helper.make_node("Slice", ["x", "one", last], ["y"], "slice"))
    tensors = {"k": value, "five": 5, "one": 1, "shape": 1}
    values = [numpy_helper.from_array(np.array([v], np.int64), n) for n, v in tensors.items()]
    given_ = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [8]),
        helper.make_tensor_value_info("c", TensorProto.BOOL, [1]),
    ]
    ends = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m"])]
    graph = helper.make_graph(nodes, "g", given_, ends, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    after = assert_equivalent("clamp-int64", model)
    assert all(((v >= LIMITS[0]) & (v <= LIMITS[1])).all() for v in _constants(after))
    assert run("clamp-int64", after)[1].rewrites == 0

    nodes.append(helper.make_node("Mul", [last, "five"], ["z"], "matters"))
    graph.node.append(nodes[-1])
    graph.output.append(helper.make_tensor_value_info("z", TensorProto.INT64, [1]))
    model.graph.CopyFrom(graph)
    after, report = run("clamp-int64", model)
    if path:
        assert after == model
        assert "Mul 'matters' may need the value" in report.refusals[0].reason
    else:  # the Slice alone gets another constant
        assert report.rewrites == 1 and len(report.refusals) == 1


@pytest.mark.parametrize(
    ("low", "high"), [(LEAST, MOST), (LEAST, 3), (-3, MOST), (LEAST + 1, 3), (-3, 2**40)]
)
def test_clip_loses_the_limits_of_int64_alone(low: int, high: int) -> None:
    tensors = [numpy_helper.from_array(np.array(v), n) for n, v in (("low", low), ("high", high))]
    node = helper.make_node("Clip", ["x", "low", "high"], ["y"], "clip")
    ends = [helper.make_tensor_value_info(n, TensorProto.INT64, [4]) for n in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    after = assert_equivalent("clamp-int64", model)
    wanted = ["x", "low" if low != LEAST else "", "high" if high != MOST else ""]
    while not wanted[-1]:
        wanted.pop()
    assert list(after.graph.node[0].input) == wanted


def test_a_large_table_is_not_looked_at() -> None:
    table = numpy_helper.from_array(np.full(1 << 14, MOST, np.int64), "table")
    node = helper.make_node("Gather", ["table", "i"], ["y"], "look")
    ends = [helper.make_tensor_value_info(n, TensorProto.INT64, [2]) for n in "iy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    after, report = run("clamp-int64", model)
    assert after == model and not report.refusals


def test_a_default_that_a_caller_can_override_is_left_alone() -> None:
    model = build([(1, MOST, 1)], dynamic=False, axes="none", nodes=False)
    model.graph.input.append(helper.make_tensor_value_info("end", TensorProto.INT64, [1]))
    after, report = run("clamp-int64", model)
    assert after == model and not report.rewrites
