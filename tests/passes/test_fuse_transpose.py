"""The ``fuse-transpose`` pass beyond its fixtures: random graphs full of transposes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit.testing import assert_equivalent, run

slowly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SIZES = (2, 3, 4)
PERMS = ([0, 2, 1], [1, 2, 0], [2, 0, 1], [2, 1, 0])


class Net:
    """Nodes over tensors of three axes, with the shape of each tensor."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.shapes: dict[str, list[int]] = {"x": list(SIZES), "z": list(SIZES)}

    def add(self, op: str, inputs: list[str], shape: list[int], **attributes: object) -> None:
        """Append a node that gives a tensor of ``shape``."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.shapes[name] = shape

    def constant(self, values: np.ndarray) -> str:
        """A new initializer."""
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(values, name))
        return name


def transpose(draw: st.DrawFn, net: Net, name: str) -> None:
    perm = draw(st.sampled_from(PERMS))
    attributes = {} if perm == [2, 1, 0] and draw(st.booleans()) else {"perm": perm}
    net.add("Transpose", [name], [net.shapes[name][p] for p in perm], **attributes)


def unary(draw: st.DrawFn, net: Net, name: str) -> None:
    net.add(draw(st.sampled_from(["Relu", "Neg", "Sigmoid"])), [name], net.shapes[name])


def with_constant(draw: st.DrawFn, net: Net, name: str) -> None:
    shape = net.shapes[name]
    small = draw(st.sampled_from([(), shape[2:], [shape[1], 1], [shape[0], 1, shape[2]], shape]))
    values = np.random.default_rng(len(net.nodes)).random(tuple(small)).astype(np.float32)
    inputs = [name, net.constant(values)]
    net.add(draw(st.sampled_from(["Mul", "Sub"])), draw(st.permutations(inputs)), shape)


def pair(draw: st.DrawFn, net: Net, name: str) -> None:
    others = [n for n, s in net.shapes.items() if s == net.shapes[name]]
    inputs = [name, draw(st.sampled_from(others))]
    if draw(st.booleans()):
        net.add(draw(st.sampled_from(["Add", "Mul"])), inputs, net.shapes[name])
    else:
        axis = draw(st.integers(-3, 2))
        net.add(
            "Concat", inputs, [d * (1 + (i == axis % 3)) for i, d in enumerate(net.shapes[name])], axis=axis
        )


def along(draw: st.DrawFn, net: Net, name: str) -> None:
    net.add("Softmax", [name], net.shapes[name], axis=draw(st.integers(-3, 2)))


def reduction(draw: st.DrawFn, net: Net, name: str) -> None:
    axes = draw(st.lists(st.integers(0, 2), min_size=1, max_size=2, unique=True))
    shape = [1 if i in axes else d for i, d in enumerate(net.shapes[name])]
    axes = [a - 3 if draw(st.booleans()) else a for a in axes]
    op = draw(st.sampled_from(["ReduceMean", "ReduceMax", "ReduceSum"]))
    net.add(op, [name, net.constant(np.array(axes, np.int64))], shape)


STEPS = (transpose, transpose, unary, with_constant, pair, along, reduction)


@st.composite
def nets(draw: st.DrawFn) -> onnx.ModelProto:
    """A net that goes on from one of its last tensors, and may end in a reduction that drops axes."""
    net = Net()
    for _ in range(draw(st.integers(2, 9))):
        name = draw(st.sampled_from(list(net.shapes)[-3:]))
        draw(st.sampled_from(STEPS))(draw, net, name)
    outputs = [n.output[0] for n in net.nodes[-2:]]
    if draw(st.booleans()):
        axes = net.constant(np.array(draw(st.sampled_from([[0], [1, 2], [-1]])), np.int64))
        net.add("ReduceSum", [outputs[-1], axes], [], keepdims=0)
        outputs[-1] = net.nodes[-1].output[0]
    infos = [
        [helper.make_tensor_value_info(n, 1, s) for n in names]
        for names, s in ((["x", "z"], SIZES), (outputs, None))
    ]
    graph = helper.make_graph(net.nodes, "g", *infos, net.tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@slowly
@given(nets())
def test_random_nets_keep_their_numbers_and_come_to_rest(before: onnx.ModelProto) -> None:
    after = assert_equivalent("fuse-transpose", before)
    again, second = run("fuse-transpose", after)
    assert second.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()
    assert len(after.graph.node) <= len(before.graph.node)
    fewer = [sum(n.op_type == "Transpose" for n in m.graph.node) for m in (after, before)]
    assert fewer[0] < fewer[1] or after == before


@slowly
@given(st.tuples(st.booleans(), st.booleans()), st.tuples(st.booleans(), st.booleans()), st.booleans())
def test_products_of_matrices(turned: tuple[bool, bool], flags: tuple[bool, bool], gemm: bool) -> None:
    nodes, inputs = [], []
    for name, is_turned, flag, shape in zip(
        "ab", turned, flags if gemm else (False, False), ((2, 3), (3, 4)), strict=True
    ):
        shape = shape[::-1] if is_turned != flag else shape
        inputs.append(helper.make_tensor_value_info(name, 1, shape))
        if is_turned:
            nodes.append(helper.make_node("Transpose", [name], [f"{name}t"], perm=[1, 0]))
    read = [f"{n}t" if t else n for n, t in zip("ab", turned, strict=True)]
    attributes = {"transA": int(flags[0]), "transB": int(flags[1])} if gemm else {}
    nodes.append(helper.make_node("Gemm" if gemm else "MatMul", read, ["y"], **attributes))
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", 1, [2, 4])])
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    after = assert_equivalent("fuse-transpose", before)
    assert [n.op_type for n in after.graph.node] == ["Gemm" if gemm or any(turned) else "MatMul"]


@pytest.mark.parametrize("where", ["first", "second", "between"])
def test_an_attribute_of_the_caller_is_left(where: str) -> None:
    perms = {"first": "[1,0]", "second": "[1,0]"}
    first, second = ("perm: ints = @a" if where == n else f"perm = {perms[n]}" for n in ("first", "second"))
    axis = "axis: int = @b" if where == "between" else "axis = 1"
    before = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 17, "l": 1]>
        g (float[2,3] x) => (float[p,q] y) {{ y = l.f <a = [1,0], b = 1> (x) }}
        <domain: "l", opset_import: ["": 17]> f <a, b> (v) => (o) {{
          p = Transpose <{first}> (v)  q = Softmax <{axis}> (p)  r = Transpose <{second}> (q)  o = Relu (r)
        }}"""
    )
    assert run("fuse-transpose", before)[0] == before


def test_large_constants_are_not_laid_out_anew() -> None:
    values = numpy_helper.from_array(np.ones((300, 200), np.float32), "w")
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"]),
        helper.make_node("Mul", ["a", "w"], ["b"]),
        helper.make_node("Transpose", ["b"], ["y"]),
    ]
    infos = [helper.make_tensor_value_info(n, 1, [200, 300]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], [values])
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    assert run("fuse-transpose", before)[0] == before
