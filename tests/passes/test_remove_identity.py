"""The ``remove-identity`` pass beyond its fixtures: chains of nodes that do nothing, among some that do."""

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
FAR = 2**63 - 1
CONSTANTS = {
    "one": np.float32(1),
    "ones": np.ones((1, 3, 1), np.float32),
    "zero": np.zeros(1, np.float32),
    "half": np.float32(0.5),
    "begin": np.array([0, -FAR], np.int64),
    "end": np.array([FAR, 2**31 - 1], np.int64),
    "axes": np.array([1, 0], np.int64),
    "short": np.array([0], np.int64),
    "near": np.array([3], np.int64),
    "last": np.array([-1], np.int64),
    "pads": np.zeros(6, np.int64),
    "same": np.array([0, 3, -1], np.int64),
    "repeats": np.ones(3, np.int64),
    "scales": np.ones(3, np.float32),
    "no": np.array(False),
}
Spec = tuple[str, list[str], dict[str, object]]
IDLE: list[Spec] = [
    ("Identity", ["?"], {}),
    ("Cast", ["?"], {"to": 1}),
    ("Mul", ["one", "?"], {}),
    ("Mul", ["?", "ones"], {}),
    ("Div", ["?", "ones"], {}),
    ("Add", ["?", "zero"], {}),
    ("Sub", ["?", "zero"], {}),
    ("Pow", ["?", "one"], {}),
    ("Slice", ["?", "begin", "end", "axes"], {}),
    ("Pad", ["?", "pads"], {}),
    ("Reshape", ["?", "same"], {}),
    ("Expand", ["?", "repeats"], {}),
    ("Tile", ["?", "repeats"], {}),
    ("Transpose", ["?"], {"perm": [0, 1, 2]}),
    ("Concat", ["?"], {"axis": 1}),
    ("Sum", ["?"], {}),
    ("Dropout", ["?", "half"], {}),
    ("Dropout", ["?", "half", "no"], {}),
    ("MaxPool", ["?"], {"kernel_shape": [1]}),
    ("ReduceSum", ["?"], {"noop_with_empty_axes": 1}),
    ("Split", ["?"], {"num_outputs": 1, "axis": 2}),
    ("Resize", ["?", "", "scales"], {"mode": "linear"}),
]
BUSY: list[Spec] = [
    ("Relu", ["?"], {}),
    ("Neg", ["?"], {}),
    ("Sub", ["one", "?"], {}),
    ("Mul", ["?", "half"], {}),
    ("Softmax", ["?"], {"axis": 1}),
]


def model(specs: list[Spec], outputs: list[int], *, named: bool) -> onnx.ModelProto:
    """A chain over float[2,3,4]; ``outputs`` are places in it that the graph returns besides its end."""
    nodes = []
    for index, (op, inputs, attributes) in enumerate(specs):
        given_ = [f"t{index}" if i == "?" else i for i in inputs]
        nodes.append(helper.make_node(op, given_, [f"t{index + 1}"], **attributes))
    dims = ["n", 3, "m"] if named else [2, 3, 4]
    ends = sorted({len(specs), *(o for o in outputs if 0 < o < len(specs))})
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in CONSTANTS.items()]
    infos = [[helper.make_tensor_value_info(f"t{i}", 1, dims) for i in places] for places in ([0], ends)]
    graph = helper.make_graph(nodes, "g", *infos, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@slowly
@given(
    st.lists(st.one_of(st.sampled_from(IDLE), st.sampled_from(BUSY)), min_size=1, max_size=10),
    st.lists(st.integers(1, 9), max_size=2),
    st.booleans(),
)
def test_random_chains_keep_what_they_compute(specs: list[Spec], outputs: list[int], named: bool) -> None:
    before = model(specs, outputs, named=named)
    after = assert_equivalent("remove-identity", before)
    again, second = run("remove-identity", after)
    assert second.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()
    idle = [n for n in after.graph.node if (n.op_type, dict_of(n)) in [(o, a) for o, _, a in IDLE]]
    ends = {o.name for o in after.graph.output}
    assert all(ends & set(n.output) for n in idle if n.op_type not in ("Mul", "Sub", "Relu"))


def dict_of(node: onnx.NodeProto) -> dict[str, object]:
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()}


@pytest.mark.parametrize("spec", IDLE, ids=lambda s: f"{s[0]}-{len(s[1])}")
@pytest.mark.parametrize("named", [False, True])
def test_each_of_them_goes(spec: Spec, named: bool) -> None:
    before = model([("Exp", ["?"], {}), spec, ("Exp", ["?"], {})], [], named=named)
    after, _ = run("remove-identity", before)
    assert [n.op_type for n in after.graph.node] == ["Exp", "Exp"]


@pytest.mark.parametrize(
    "spec",
    [
        *[(op, ["?", "half"], {}) for op in ("Mul", "Div", "Add", "Sub", "Pow")],
        ("Slice", ["?", "short", "near", "last"], {}),
        ("Transpose", ["?"], {"perm": [0, 2, 1]}),
        ("Cast", ["?"], {"to": 10}),
        ("ReduceSum", ["?"], {"keepdims": 1}),
        ("Split", ["?"], {"num_outputs": 2, "axis": 2}),
        ("Resize", ["?", "", "doubled"], {"mode": "nearest"}),
    ],
    ids=lambda s: s[0],
)
def test_what_changes_something_stays_byte_for_byte(spec: Spec) -> None:
    before = model([("Exp", ["?"], {}), spec], [], named=False)
    before.graph.output[0].type.tensor_type.ClearField("shape")
    before.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 2], np.float32), "doubled"))
    if spec[0] == "Split":
        before.graph.node[1].output.append("rest")
    assert run("remove-identity", before)[0] == before


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [(10, 1), (10, 11), (16, 1), (1, 11), (3, 6), (2, 5), (5, 1), (6, 11), (9, 7), (9, 1), (6, 7)],
)
def test_a_cast_there_and_back_goes(narrow: int, wide: int) -> None:
    after = assert_equivalent("remove-identity", there_and_back(narrow, wide))
    assert [n.op_type for n in after.graph.node] == ["Concat"]


@pytest.mark.parametrize(
    ("wide", "narrow"), [(1, 10), (1, 16), (10, 16), (11, 1), (7, 6), (6, 1), (7, 11), (1, 6), (3, 2), (1, 9)]
)
def test_a_cast_that_loses_stays(wide: int, narrow: int) -> None:
    before = there_and_back(wide, narrow)
    assert run("remove-identity", before)[0] == before


def there_and_back(start: int, over: int) -> onnx.ModelProto:
    """Casts an input to another type, and back."""
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=over),
        helper.make_node("Cast", ["a"], ["y"], to=start),
    ]
    nodes.insert(0, helper.make_node("Concat", ["v", "v"], ["x"], axis=0))
    infos = [helper.make_tensor_value_info(n, start, [size]) for n, size in (("v", 4), ("y", 8))]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("attribute", ["to", "perm", "kernel_shape"])
def test_an_attribute_of_the_caller_is_not_known(attribute: str) -> None:
    node, kind, value = {
        "to": ("Cast <to: int = @a> (v)", "int", 1),
        "perm": ("Transpose <perm: ints = @a> (v)", "ints", [0, 1, 2]),
        "kernel_shape": ("MaxPool <kernel_shape: ints = @a> (v)", "ints", [1]),
    }[attribute]
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 17, "l": 1]>
        g (float[1,1,2] x) => (float[1,1,2] y) {{ y = l.f <a: {kind} = {value}> (x) }}
        <domain: "l", opset_import: ["": 17]> f <a> (v) => (o) {{ b = {node} o = Relu (b) }}"""
    )
    assert run("remove-identity", model)[0] == model
