"""The ``retarget-uint8`` pass beyond its fixtures: random code on bytes, which may wrap or may not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphkit.testing import assert_equivalent, run

BINARY = ["Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "BitwiseAnd", "BitwiseOr", "BitwiseXor"]
MOVING = ["Identity", "Transpose", "Reshape"]


@dataclass(frozen=True)
class Step:
    """One node on bytes; ``second`` picks an operand: an earlier tensor, or a constant."""

    op: str
    first: int
    second: int
    value: int


steps = st.lists(
    st.builds(
        Step,
        op=st.sampled_from([*BINARY, *MOVING]),
        first=st.integers(0, 9),
        second=st.integers(0, 9),
        value=st.integers(0, 20),
    ),
    max_size=5,
)


def build(code: list[Step], end: str) -> onnx.ModelProto:
    """Bytes from booleans, from a clipped tensor and from an input, and random code on them."""
    nodes = [
        helper.make_node("Cast", ["m"], ["t0"], "masks", to=TensorProto.UINT8),
        helper.make_node("Clip", ["x", "low", "high"], ["c"], "clip"),
        helper.make_node("Cast", ["c"], ["t1"], "clipped", to=TensorProto.UINT8),
        helper.make_node("Identity", ["u"], ["t2"], "bytes"),
    ]
    tensors = {"low": np.float32(0), "high": np.float32(7), "shape": np.array([2, 2], np.int64)}
    made = ["t0", "t1", "t2"]
    for n, step in enumerate(code):
        first = made[step.first % len(made)]
        operands = [first]
        if step.op in BINARY:
            if step.second < 5:
                operands.append(made[step.second % len(made)])
            else:
                tensors[f"k{n}"] = np.uint8(max(step.value, 1))
                operands.append(f"k{n}")
            if step.op in ("Div", "Mod"):  # by what is not 0
                tensors[f"k{n}"] = np.uint8(max(step.value, 1))
                operands[1] = f"k{n}"
        elif step.op == "Reshape":
            operands.append("shape")
        made.append(f"s{n}")
        nodes.append(helper.make_node(step.op, operands, [made[-1]], f"n{n}"))
    attrs = {"to": TensorProto.FLOAT} if end == "Cast" else {}
    last = [made[-1], made[0]] if end in ("Equal", "Greater") else [made[-1]]
    nodes.append(helper.make_node(end, last, ["y"], "end", **attrs))
    kinds = {"Cast": TensorProto.FLOAT, "Identity": TensorProto.UINT8}
    given_ = [
        helper.make_tensor_value_info(n, k, [2, 2])
        for n, k in (("m", TensorProto.BOOL), ("x", TensorProto.FLOAT), ("u", TensorProto.UINT8))
    ]
    ends = [helper.make_tensor_value_info("y", kinds.get(end, TensorProto.BOOL), [2, 2])]
    values = [numpy_helper.from_array(np.asarray(v), n) for n, v in tensors.items()]
    graph = helper.make_graph(nodes, "g", given_, ends, values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@settings(max_examples=30)
@given(steps, st.sampled_from(["Cast", "Identity", "Equal", "Greater"]))
def test_what_is_retargeted_keeps_its_numbers_and_comes_to_rest(code: list[Step], end: str) -> None:
    model = build(code, end)
    after = assert_equivalent("retarget-uint8", model)
    onnx.checker.check_model(after, full_check=True)
    again, second = run("retarget-uint8", after)
    assert second.rewrites == 0 and again.SerializeToString() == after.SerializeToString()


@settings(max_examples=30)
@given(st.integers(1, 300), st.sampled_from(["Add", "Sub", "Mul"]))
def test_arithmetic_is_retargeted_as_far_as_it_cannot_wrap(value: int, op: str) -> None:
    """A boolean as 0 or 1, and a constant: 255 + 1 wraps, 254 + 1 does not."""
    constant = min(value, 255)
    tensors = [numpy_helper.from_array(np.uint8(constant).reshape(1), "k")]
    nodes = [
        helper.make_node("Cast", ["m"], ["b"], "b", to=TensorProto.UINT8),
        helper.make_node(op, ["k", "b"], ["s"], "s"),
        helper.make_node("Cast", ["s"], ["y"], "y", to=TensorProto.FLOAT),
    ]
    given_ = [helper.make_tensor_value_info("m", TensorProto.BOOL, [4])]
    ends = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])]
    graph = helper.make_graph(nodes, "g", given_, ends, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    after, report = run("retarget-uint8", model)
    wraps = op == "Add" and constant + 1 > 255
    assert bool(report.rewrites) != wraps
    assert (after == model) == wraps
    assert_equivalent("retarget-uint8", model)


@pytest.mark.parametrize(
    ("source", "fits"),
    [
        ("s = Sigmoid (x)", True),
        ("s = Softmax (x)", True),
        ("a = Sigmoid (x) s = Ceil (a)", True),
        ("s = Relu (x)", False),
        ("a = Abs (x) s = Floor (a)", False),
        ("s = ArgMax (x)", False),
        ("a = IsNaN (x) b = Cast <to = 7> (a) s = Mul (b, n)", True),
        ("a = IsNaN (x) b = Cast <to = 7> (a) s = Sub (b, n)", False),
        ("a = IsNaN (x) b = Cast <to = 6> (a) s = Sub (i, b)", True),
        ("a = Sigmoid (x) s = Mul (a, f)", False),
        ("s = Where (c, p, q)", True),
        ("s = Clip (x, q, r)", False),
    ],
)
def test_what_is_known_of_the_numbers_that_become_bytes(source: str, fits: bool) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[2,2] x, bool[2,2] c) => (float[a,b] y)
        <int64 n = {{200}}, int32 i = {{7}}, float f = {{2.0}},
         float p = {{1.0}}, float q = {{255.0}}, float r = {{256.0}}>
        {{ {source} b0 = Cast <to = 2> (s) t = Identity (b0) y = Cast <to = 1> (t) }}"""
    )
    after, report = run("retarget-uint8", model)
    assert bool(report.rewrites) == fits, [str(r) for r in report.refusals]
    if not fits:
        assert after == model
        assert "may lie outside of 0 to 255" in report.refusals[0].reason


def test_an_input_gets_one_cast_for_all_its_readers() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (uint8[2,3] x, bool c) => (float[3,2] y, float[2,3] z, int64[2,n] i)
        {
          t = Transpose (x)  y = Cast <to = 1> (t)
          z = If (c) <then_branch = a () => (float[2,3] u) { v = Identity (x) u = Cast <to = 1> (v) },
                      else_branch = b () => (float[2,3] w) { w = Cast <to = 1> (x) }>
          i = NonZero (x)
        }"""
    )
    after = assert_equivalent("retarget-uint8", model)
    casts = [n for n in after.graph.node if n.op_type == "Cast" and list(n.input) == ["x"]]
    assert len(casts) == 1
