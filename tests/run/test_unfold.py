"""Models laid open: every number stays, names of the main graph stay, and labels are TensorRT's."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper, parser

from graphkit.run.stream import Program
from graphkit.run.unfold import Unfolded, unfold
from tests import corpus

HEAD = '<ir_version: 10, opset_import: ["" : 21, "my" : 1]> '
OPEN = {"If", "Loop", "Scan", "LSTM", "GRU", "RNN"}
X = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)


def run(model: ModelProto, feed: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    Program(model).run(feed, found.__setitem__)
    return found


def opened(model: ModelProto, feed: dict[str, Any], tolerance: float = 1e-5) -> Unfolded:
    """The model laid open, after checking that it is valid and computes the same, tensor for tensor."""
    result = unfold(model, feed)
    onnx.checker.check_model(result.model)
    expected, found = run(model, feed), run(result.model, feed)
    assert set(expected) <= set(found)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape, name
        if value.dtype.kind == "f":
            assert np.allclose(found[name], value, rtol=tolerance, atol=tolerance, equal_nan=True), name
        else:
            assert np.array_equal(found[name], value), name
    assert [o.name for o in result.model.graph.output] == [o.name for o in model.graph.output]
    if result.model is not model:
        assert {n.name for n in result.model.graph.node} == set(result.labels) == set(result.iterations)
        made = {o for n in result.model.graph.node for o in n.output}
        assert set(result.tensors) <= made
    return result


def ops(result: Unfolded) -> list[str]:
    return [n.op_type for n in result.model.graph.node]


BRANCH = (
    "g (float[2,3] x, bool p) => (float[2,3] z, float[2,3] y) { a = Relu(x) [ifn] z = If (p) <"
    "then_branch = t () => (float[2,3] tt) { i = Neg(a) [inn] tt = Exp(i) },"
    "else_branch = s () => (float[2,3] o) { o = Abs(a) }> y = my.fn <k = 2.0> (z) }"
    '<domain: "my", opset_import: ["" : 21]> fn <k> (q) => (r)'
    "{ c = Constant <value_float: float = @k> () m = Mul(q, c) [innr] r = Softplus(m) }"
)


def test_a_branch_and_a_function() -> None:
    model = parser.parse_model(HEAD + BRANCH)
    taken = opened(model, {"x": X, "p": np.array(True)})
    assert ops(taken) == ["Relu", "Neg", "Exp", "Constant", "Mul", "Softplus"]
    assert list(taken.labels.values()) == [
        "node_of_a",
        "node_of_i | t (then_branch) | ifn (If)",
        "inn | t (then_branch) | ifn (If)",
        "node_of_c | node_of_y (fn)",
        "node_of_m | node_of_y (fn)",
        "innr | node_of_y (fn)",
    ]
    assert taken.tensors["z"] == ("t (then_branch) | ifn (If)", "tt") and taken.tensors["y"] == (
        "node_of_y (fn)",
        "r",
    )
    assert not taken.model.functions and not taken.notes and set(taken.iterations.values()) == {None}
    other = opened(model, {"x": X, "p": np.array(False)})
    assert ops(other) == ["Relu", "Abs", "Constant", "Mul", "Softplus"]


def test_results_that_are_not_made_inside() -> None:
    """A loop that hands its condition and one state on as they came."""
    model = parser.parse_model(
        HEAD + "g (float[2,3] x) => (float[2,3] y, float[2,3] z) <int64 n = {3}, bool go = {1}> {"
        "[lp] y, z = Loop (n, go, x, x) <body = l (int64 i, bool t, float[2,3] v, float[2,3] k) =>"
        "(bool t, float[2,3] w, float[2,3] k) { w = Add(v, k) }> }"
    )
    result = opened(model, {"x": X})
    assert ops(result) == ["Add", "Add", "Add", "Identity"]
    assert result.labels[result.model.graph.node[-1].name] == "lp"


def test_nothing_to_open_is_the_same_object() -> None:
    model = parser.parse_model(HEAD + "g (float[2,3] x) => (float[2,3] y) { [n] y = Relu(x) }")
    result = opened(model, {"x": X})
    assert result.model is model and result.labels == {"n": "n"} and not result.notes


def test_a_loop_and_what_it_stacks() -> None:
    model = parser.parse_model(
        HEAD + "g (float[2,3] x, int64 n, float limit) => (float[2,3] y, float[?,2,3] all) <bool go = {1}> {"
        "[lp] y, all = Loop (n, go, x) <body = b (int64 i, bool c, float[2,3] v) =>"
        "(bool d, float[2,3] w, float[2,3] o) { [up] w = Add(v, x)"
        "[sum] s = ReduceMax <keepdims = 0> (w) d = Less(s, limit) o = Neg(w) }> }"
    )
    feed = {"x": np.abs(X), "n": np.array(9), "limit": np.array(np.abs(X).max() * 3.5, np.float32)}
    result = opened(model, feed)
    steps = [result.iterations[n] for n in result.labels if result.labels[n] == "up | b (body) | lp (Loop)"]
    assert steps == [0, 1, 2]
    assert [name for name, origin in result.tensors.items() if origin == ("b (body) | lp (Loop)", "w")][
        -1
    ] == "y"
    longer = opened(model, {**feed, "limit": np.array(1e9, np.float32)})
    assert ops(longer).count("ReduceMax") == 9
    none = opened(model, {**feed, "n": np.array(0)})
    assert none.model is model and "runs no iteration" in none.notes[0]
    many = opened(model, {**feed, "n": np.array(600), "limit": np.array(1e9, np.float32)}, 1e-3)
    assert many.model is model and "600 iterations, more than 512" in many.notes[0]


def test_a_branch_in_a_loop_goes_its_own_way_each_time() -> None:
    model = parser.parse_model(
        HEAD + "g (float[2,3] x) => (float[2,3] y) <int64 n = {4}, bool go = {1}, int64 two = {2}> {"
        "[lp] y = Loop (n, go, x) <body = b (int64 i, bool c, float[2,3] v) => (bool d, float[2,3] w) {"
        "d = Identity(c) e = Less(i, two) [ifn] w = If (e) <"
        "then_branch = t () => (float[2,3] p) { [dbl] p = Add(v, v) },"
        "else_branch = f () => (float[2,3] q) { [neg] q = Neg(v) }> }> }"
    )
    result = opened(model, {"x": X})
    said = list(result.labels.values())
    assert said.count("dbl | t (then_branch) | ifn (If) | b (body) | lp (Loop)") == 2
    assert said.count("neg | f (else_branch) | ifn (If) | b (body) | lp (Loop)") == 2
    assert not OPEN & set(ops(result))


def test_what_cannot_be_opened_stays_with_what_is_inside() -> None:
    """A loop of 600 iterations in a branch: the branch opens, the loop reads its renamed tensors."""
    model = parser.parse_model(
        HEAD + "g (float[2,3] x, bool p) => (float[2,3] y) <int64 n = {600}, bool go = {1}> { t = Neg(x)"
        "y = If (p) <then_branch = a () => (float[2,3] r) { t2 = Exp(t) [lp] r = Loop (n, go, x) <"
        "body = b (int64 i, bool c, float[2,3] v) => (bool d, float[2,3] w)"
        "{ d = Identity(c) w = Min(v, t2) }> },"
        "else_branch = e () => (float[2,3] s) { t2 = Abs(t) s = Identity(t2) }> }"
    )
    result = opened(model, {"x": X, "p": np.array(True)})
    assert ops(result) == ["Neg", "Exp", "Loop"] and result.notes[0].startswith(
        "lp | a (then_branch) | node_of_y (If)"
    )
    assert ops(opened(model, {"x": X, "p": np.array(False)})) == ["Neg", "Abs", "Identity"]


def recurrent(
    op: str, direction: str, *, bias: bool, start: bool, peep: bool = False, **attrs: Any
) -> ModelProto:
    """One recurrent node over [5, 2, 3], 4 hidden units; every output asked for."""
    rng, gates, d = (
        np.random.default_rng(3),
        {"LSTM": 4, "GRU": 3, "RNN": 1}[op],
        1 + (direction == "bidirectional"),
    )
    sizes: dict[str, tuple[int, ...]] = {"w": (d, gates * 4, 3), "r": (d, gates * 4, 4)}
    sizes |= {"b": (d, gates * 8)} if bias else {}
    sizes |= {"h0": (d, 2, 4)} if start else {}
    sizes |= {"c0": (d, 2, 4)} if start and op == "LSTM" else {}
    sizes |= {"p": (d, 12)} if peep else {}
    weights = [
        numpy_helper.from_array(rng.standard_normal(s).astype(np.float32) * 0.5, n) for n, s in sizes.items()
    ]
    names = [
        n if n in sizes else "" for n in ("w", "r", "b", "len", "h0", *(("c0", "p") if op == "LSTM" else ()))
    ]
    outputs = ["y", "yh", "yc"][: 3 if op == "LSTM" else 2]
    node = helper.make_node(
        op, ["x", *names], outputs, name="cell", hidden_size=4, direction=direction, **attrs
    )
    ends = [helper.make_tensor_value_info(n, 1, [*([5] if n == "y" else []), d, 2, 4]) for n in outputs]
    x = helper.make_tensor_value_info("x", 1, [5, 2, 3])
    graph = helper.make_graph([node], "g", [x], ends, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


SEQUENCE = {"x": np.random.default_rng(4).standard_normal((5, 2, 3)).astype(np.float32)}


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("op", "how"),
    [
        ("LSTM", {"bias": True, "start": True}),
        ("LSTM", {"bias": False, "start": False}),
        ("LSTM", {"bias": True, "start": True, "peep": True}),
        ("GRU", {"bias": True, "start": True, "linear_before_reset": 1}),
        ("GRU", {"bias": True, "start": False, "linear_before_reset": 0}),
        ("GRU", {"bias": False, "start": True}),
        ("RNN", {"bias": True, "start": True}),
        ("RNN", {"bias": False, "start": False}),
    ],
)
def test_recurrent_nodes_step_by_step(op: str, direction: str, how: dict[str, Any]) -> None:
    result = opened(recurrent(op, direction, **how), SEQUENCE)
    assert set(result.labels.values()) == {"cell"} and not OPEN & set(ops(result))
    assert {s for s in result.iterations.values() if s is not None} == set(range(5))


def test_an_lstm_offers_what_an_engine_may_hold() -> None:
    result = opened(recurrent("LSTM", "forward", bias=True, start=True), SEQUENCE)
    found = run(result.model, SEQUENCE)
    shapes = {role: found[name].shape for name, (_, role) in result.tensors.items()}
    assert shapes["XW"] == (5, 2, 16) and shapes["bias"] == (16,)
    assert {shapes[f"{role}.4"] for role in ("XW", "hR", "sum", "pre")} == {(2, 16)}
    assert {shapes[f"{role}.4"] for role in ("i", "o", "f", "c~", "c", "tanh(c)", "h")} == {(2, 4)}
    last = next(name for name, (_, role) in result.tensors.items() if role == "h.4")
    assert np.array_equal(found[last], found["yh"][0])


@pytest.mark.parametrize(
    ("attrs", "reason"),
    [
        ({"clip": 1.0}, "clips"),
        ({"activations": ["Sigmoid", "Softsign", "Tanh"]}, "activation softsign"),
        ({"input_forget": 1}, "couples"),
    ],
)
def test_recurrent_nodes_that_stay_whole(attrs: dict[str, Any], reason: str) -> None:
    model = recurrent("LSTM", "forward", bias=True, start=True, **attrs)
    result = unfold(model, SEQUENCE)
    assert result.model is model and reason in result.notes[0] and result.notes[0].startswith("cell (LSTM)")


def test_weights_that_are_computed() -> None:
    """A recurrent weight that a node makes, and half precision all through."""
    model = recurrent("LSTM", "forward", bias=True, start=False)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.elem_type = 10
    model.graph.node[0].input[1] = "w2"
    model.graph.node.insert(0, helper.make_node("Abs", ["w"], ["w2"], name="abs"))
    opened(model, {"x": SEQUENCE["x"].astype(np.float16)}, 5e-3)


@cache
def node_cases() -> list[tuple[str, ModelProto, dict[str, Any]]]:
    """ONNX's own tests with control flow, recurrence or local functions, with their inputs."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        cases = [c for c in collect_testcases(None) if c.model is not None]
    found = []
    for case in cases:
        local = {(f.domain, f.name) for f in case.model.functions}
        if any(n.op_type in OPEN or (n.domain, n.op_type) in local for n in case.model.graph.node):
            names = [i.name for i in case.model.graph.input]
            values = [
                numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v
                for v in case.data_sets[0][0]
            ]
            found.append((case.name, case.model, dict(zip(names, values, strict=True))))
    return found


def test_onnx_own_tests() -> None:
    whole, count = set(), 0
    for name, model, feed in node_cases():
        if name.endswith("_batchwise"):  # layout 1, which ONNX Runtime refuses
            continue
        result = opened(model, feed, 2e-3 if "float16" in name else 1e-5)
        count += 1
        whole |= {name} if result.notes else set()
    assert count >= 50
    assert whole == {"test_loop16_seq_none", "test_scan_sum"}  # an optional state; a Scan of opset 8


@pytest.mark.parametrize(
    "name", ["silero_vad.onnx", "silero_vad_16k_op15.onnx", "silero_vad_op18_ifless.onnx"]
)
def test_a_voice_detector(name: str) -> None:
    model = onnx.load(next(p for p in corpus.package_models("silero-vad") if p.name == name))
    sound = np.random.default_rng(0).standard_normal((1, 576)).astype(np.float32) * 0.1
    feed = {"input": sound, "state": np.zeros((2, 1, 128), np.float32), "sr": np.array(16000)}
    names = {i.name for i in model.graph.input}
    result = opened(model, {n: v for n, v in feed.items() if n in names})
    assert not OPEN & set(ops(result)) and not result.notes
    assert any(" (If)" in label for label in result.labels.values())
