"""The ``fuse-reshape`` pass beyond its fixtures: random rows, of numbers and of names."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit.testing import assert_equivalent, run

slowly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SHAPING = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}


class Row:
    """Nodes in a row over [2,3,1,4] or a named [n,3,1,m]; ``shape`` is that of the last for 2 and 4."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.shape = [2, 3, 1, 4]
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    @property
    def last(self) -> str:
        """The name of what the row gives so far."""
        return f"t{len(self.nodes)}"

    def add(self, op: str, inputs: list[str], shape: list[int], **attributes: object) -> None:
        """Append a node."""
        name = f"t{len(self.nodes) + 1}"
        self.nodes.append(helper.make_node(op, [self.last, *inputs], [name], **attributes))
        self.shape = shape

    def constant(self, values: list[int]) -> str:
        """A new list of numbers."""
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def axes(self, op: str, axes: list[int], shape: list[int]) -> None:
        """A Squeeze or Unsqueeze, as the opset has it."""
        if self.opset < 13:
            self.add(op, [], shape, axes=axes)
        else:
            self.add(op, [self.constant(axes)], shape)


@st.composite
def rows(draw: st.DrawFn) -> tuple[Row, list[int]]:
    """A row, and places in it that something else reads too."""
    row = Row(draw(st.sampled_from([11, 13, 18])))
    for _ in range(draw(st.integers(1, 6))):
        STEPS[draw(st.sampled_from(sorted(STEPS)))](draw, row)
    return row, draw(st.lists(st.integers(1, len(row.nodes)), max_size=2))


def reshape(draw: st.DrawFn, row: Row) -> None:
    total = prod(row.shape)
    first = draw(st.sampled_from([d for d in (1, 2, 3, 4, 6, 8, 12, 24) if total % d == 0]))
    target = draw(st.permutations([first, total // first, *([1] if draw(st.booleans()) else [])]))
    told = list(target)
    place = draw(st.integers(0, len(target) - 1))
    if draw(st.booleans()):
        told[place] = -1
    for axis, size in enumerate(target):
        if axis < len(row.shape) and row.shape[axis] == size and told[axis] != -1 and draw(st.booleans()):
            told[axis] = 0
    row.add("Reshape", [row.constant(told)], list(target))


def flatten(draw: st.DrawFn, row: Row) -> None:
    axis = draw(st.integers(-len(row.shape), len(row.shape)))
    cut = axis % len(row.shape) if axis < 0 else axis
    row.add("Flatten", [], [prod(row.shape[:cut]), prod(row.shape[cut:])], axis=axis)


def squeeze(draw: st.DrawFn, row: Row) -> None:
    ones = [i for i, d in enumerate(row.shape) if d == 1]
    if ones:
        axes = draw(st.lists(st.sampled_from(ones), min_size=1, unique=True))
        told = [a - len(row.shape) if draw(st.booleans()) else a for a in axes]
        row.axes("Squeeze", told, [d for i, d in enumerate(row.shape) if i not in axes])


def unsqueeze(draw: st.DrawFn, row: Row) -> None:
    if len(row.shape) < 6:
        count = draw(st.integers(1, 2))
        rank = len(row.shape) + count
        axes = draw(st.lists(st.integers(0, rank - 1), min_size=count, max_size=count, unique=True))
        rest = iter(row.shape)
        told = [a - rank if draw(st.booleans()) else a for a in axes]
        row.axes("Unsqueeze", told, [1 if i in axes else next(rest) for i in range(rank)])


def transpose(draw: st.DrawFn, row: Row) -> None:
    perm = list(draw(st.permutations(range(len(row.shape)))))
    row.add("Transpose", [], [row.shape[p] for p in perm], perm=perm)


STEPS = {f.__name__: f for f in (reshape, flatten, squeeze, unsqueeze, transpose)}


def model(row: Row, read: list[int], dims: list[object]) -> onnx.ModelProto:
    """The row as a model; a Relu reads each tensor in ``read``."""
    ends = [row.last, *(f"r{i}" for i in dict.fromkeys(read))]
    nodes = [*row.nodes, *(helper.make_node("Relu", [f"t{i}"], [f"r{i}"]) for i in dict.fromkeys(read))]
    infos = [
        helper.make_tensor_value_info("t0", 1, dims),
        *(helper.make_tensor_value_info(e, 1, None) for e in ends),
    ]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], row.tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", row.opset)], ir_version=8)


@slowly
@given(rows())
def test_random_rows_keep_their_numbers_and_come_to_rest(drawn: tuple[Row, list[int]]) -> None:
    row, read = drawn
    if not row.nodes:
        return
    before = model(row, read, [2, 3, 1, 4])
    after = assert_equivalent("fuse-reshape", before)
    again, second = run("fuse-reshape", after)
    assert second.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()
    assert len(after.graph.node) <= len(before.graph.node)
    if not read and not any(n.op_type == "Transpose" for n in row.nodes):
        assert len(after.graph.node) == 1  # sizes that are numbers can all be stated


@slowly
@given(rows())
def test_rows_of_named_sizes_are_right_for_whatever_sizes(drawn: tuple[Row, list[int]]) -> None:
    import onnxruntime as ort

    row, read = drawn
    if not row.nodes:
        return
    before = model(row, read, ["n", 3, 1, "m"])
    after, _ = run("fuse-reshape", before)
    assert run("fuse-reshape", after)[1].rewrites == 0
    sessions = [ort.InferenceSession(m.SerializeToString()) for m in (before, after)]
    for n, m in ((2, 4), (4, 2), (8, 1), (0, 4), (2, 0)):
        feed = {"t0": np.random.default_rng(0).random((n, 3, 1, m), np.float32)}
        try:
            wanted = sessions[0].run(None, feed)
        except Exception:  # the sizes do not suit the original
            continue
        for a, b in zip(wanted, sessions[1].run(None, feed), strict=True):
            assert a.shape == b.shape
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "second", ["Flatten <axis: int = @a> (b)", "Reshape <allowzero: int = @a> (b, shape)"]
)
def test_an_attribute_of_the_caller_is_refused(second: str) -> None:
    before = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 17, "l": 1]>
        g (float[2,3] x) => (float[p,q] y) {{ y = l.f <a = 1> (x) }}
        <domain: "l", opset_import: ["": 17]> f <a> (v) => (o) {{
          shape = Constant <value = int64[2] {{0, 3}}> ()
          one = Constant <value = int64[1] {{2}}> ()
          b = Unsqueeze (v, one)
          o = {second}
        }}"""
    )
    after, report = run("fuse-reshape", before)
    assert after == before
    assert "are not known well enough" in report.refusals[0].reason
