"""Before and after: what must be caught, what must not be accused, and what cannot be run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, parser

from graphkit.compare.equivalence import verify
from graphkit.model.file import ModelFile
from graphkit.model.text import ORIGIN_KEY
from graphkit.report.records import Verification

HEAD = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1, "acme" : 1]>\n'


def text(body: str, opset: int = 21) -> ModelProto:
    return parser.parse_model(HEAD.replace("21", str(opset)) + body)


def check(before: ModelProto, after: ModelProto, **kwargs: Any) -> Verification:
    return verify(ModelFile.from_proto(before), [after.SerializeToString()], None, **kwargs)


def network(layers: int = 4, channels: int = 8, seed: int = 0) -> ModelProto:
    """Conv, BatchNormalization and SiLU, a few times, on a dynamic image."""
    rng = np.random.default_rng(seed)
    nodes: list[NodeProto] = []
    weights: list[TensorProto] = []
    last, width = "x", 3
    for n in range(layers):
        arrays = [rng.normal(0, 0.3, (channels, width, 3, 3))]
        arrays += [
            rng.uniform(0.5, 2, channels) if k in (0, 3) else rng.normal(size=channels) for k in range(4)
        ]
        names = [f"w{n}", *(f"bn{n}_{k}" for k in range(4))]
        weights += [
            numpy_helper.from_array(a.astype(np.float32), t) for a, t in zip(arrays, names, strict=True)
        ]
        nodes += [
            helper.make_node("Conv", [last, f"w{n}"], [f"c{n}"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", [f"c{n}", *names[1:]], [f"b{n}"]),
            helper.make_node("Sigmoid", [f"b{n}"], [f"s{n}"]),
            helper.make_node("Mul", [f"b{n}", f"s{n}"], [f"m{n}"]),
        ]
        last, width = f"m{n}", channels
    nodes.append(helper.make_node("ReduceMean", [last], ["y"], keepdims=0, axes=[2, 3]))
    x = helper.make_tensor_value_info("x", 1, ["batch", 3, "height", "width"])
    y = helper.make_tensor_value_info("y", 1, ["batch", channels])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def folded(model: ModelProto) -> ModelProto:
    """Each BatchNormalization folded into the Conv before it."""
    after = ModelProto()
    after.CopyFrom(model)
    values = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in after.graph.initializer}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type != "BatchNormalization":
            nodes.append(node)
            continue
        scale, bias, mean, var = (values[i] for i in node.input[1:])
        factor = scale / np.sqrt(var + 1e-5)
        conv = nodes.pop()
        w = (values[conv.input[1]] * factor[:, None, None, None]).astype(np.float32)
        b = (bias - mean * factor).astype(np.float32)
        names = [f"{conv.input[1]}_f", f"{conv.input[1]}_b"]
        after.graph.initializer.extend(
            numpy_helper.from_array(v, k) for v, k in zip((w, b), names, strict=True)
        )
        nodes.append(helper.make_node("Conv", [conv.input[0], *names], node.output, pads=[1, 1, 1, 1]))
    del after.graph.node[:]
    after.graph.node.extend(nodes)
    return after


def scaled(model: ModelProto, place: int, gain: float) -> ModelProto:
    """The model with ``gain`` on the output of one node."""
    after = ModelProto()
    after.CopyFrom(model)
    node = after.graph.node[place]
    name = node.output[0]
    node.output[0] = f"{name}_unscaled"
    after.graph.initializer.append(numpy_helper.from_array(np.array(gain, np.float32), "planted"))
    after.graph.node.insert(place + 1, helper.make_node("Mul", [node.output[0], "planted"], [name]))
    return after


def test_a_healthy_fold_holds() -> None:
    before = network()
    found = check(before, folded(before), touched=[(f"b{n}", f"b{n}") for n in range(4)])
    assert found.status == "held" and found.compared == 5 and len(found.runs) >= 3
    assert found.worst is not None and found.worst.relative < 1e-5
    assert len({tuple(r.items()) for r in found.runs[:3]}) == 3


@pytest.mark.parametrize("place", range(17))
@pytest.mark.parametrize("gain", [1.01, 0.99])
def test_one_percent_planted_anywhere_is_caught_and_located(place: int, gain: float) -> None:
    before = network()
    name = before.graph.node[place].output[0]
    # a gain before a BatchNormalization survives it: inference normalises by stored statistics
    found = check(before, scaled(before, place, gain))
    assert found.status == "differs" and found.first is not None
    assert found.first.tensor == name


def test_swish_as_sigmoid_and_mul_holds_in_every_float() -> None:
    for dtype in ("float", "float16", "double"):
        before = text(f"g ({dtype}[n,16] x) => ({dtype}[n,16] y) {{ y = Swish(x) }}", 24)
        after = text(f"g ({dtype}[n,16] x) => ({dtype}[n,16] y) {{ s = Sigmoid(x) y = Mul(x, s) }}", 24)
        assert check(before, after).status == "held", dtype
        wrong = text(f"g ({dtype}[n,16] x) => ({dtype}[n,16] y) {{ y = HardSwish(x) }}", 24)
        assert check(before, wrong).status == "differs", dtype


def test_bfloat16_holds_and_one_percent_is_caught() -> None:
    before = text("g (bfloat16[4,64] x) => (bfloat16[4,64] y) { y = Swish(x) }", 24)
    after = text("g (bfloat16[4,64] x) => (bfloat16[4,64] y) { s = Sigmoid(x) y = Mul(x, s) }", 24)
    assert check(before, after).status == "held"
    assert check(before, scaled_bf16(after)).status == "differs"


def scaled_bf16(model: ModelProto) -> ModelProto:
    after = scaled(model, 1, 1.01)
    del after.graph.initializer[:]
    value = helper.make_tensor("planted", TensorProto.FLOAT, [], [1.01])
    after.graph.initializer.append(value)
    mul = after.graph.node[-1]
    wide = [
        helper.make_node("Cast", [mul.input[0]], ["wide"], to=1),
        helper.make_node("Mul", ["wide", "planted"], ["wider"]),
        helper.make_node("Cast", ["wider"], ["y"], to=16),
    ]
    del after.graph.node[-1:]
    after.graph.node.extend(wide)
    return after


def test_a_doubling_hidden_behind_an_argmax_shows_in_the_touched_tensor() -> None:
    before = text("g (float[n,9] x) => (int64[n] y) { r = Relu(x) y = ArgMax <axis = 1, keepdims = 0> (r) }")
    after = text(
        "g (float[n,9] x) => (int64[n] y) <float two = {2}> "
        "{ h = Relu(x) r = Mul(h, two) y = ArgMax <axis = 1, keepdims = 0> (r) }"
    )
    assert check(before, after).status == "held"
    found = check(before, after, touched=[("r", "r")])
    assert found.status == "differs" and found.first is not None and found.first.tensor == "r"


def test_ties_of_argmax_and_topk_are_no_difference() -> None:
    for op in ("y = ArgMax <axis = 1> (r)", "v, y = TopK(r, one)"):
        # rounding noise on equal scores moves the choice and nothing else
        noise = "s = Sin(x) t = Mul(s, e) r = Add(t, z)"
        one = (
            "g (float[n,9] x) => (int64[n,1] y) <int64[1] one = {1}, float z = {1}, float e = {%s}> { %s %s }"
        )
        before, after = (text(one % (e, noise, op)) for e in ("0", "0.000001"))
        assert check(before, after).status == "held", op
        assert check(before, text(one % ("0.5", noise, op))).status == "differs"


def test_integer_outputs_are_exact() -> None:
    before = text("g (int64[n,4] x) => (int64[n,4] y) <int64 k = {3}> { y = Mul(x, k) }")
    after = text(
        "g (int64[n,4] x) => (int64[n,4] y) <int64 k = {3}, int64 o = {1}> { h = Mul(x, k) y = Add(h, o) }"
    )
    assert check(before, before).status == "held"
    assert check(before, after).status == "differs"


def test_other_nan_places_differ() -> None:
    before = text("g (float[4,8] x) => (float[4,8] y) { y = Sqrt(x) }")
    after = text("g (float[4,8] x) => (float[4,8] y) <float m = {-1}> { h = Mul(x, m) y = Sqrt(h) }")
    assert check(before, after).status == "differs"


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ("g (float[2] x) => (float[2] z, float[2] y) { y = Relu(x) z = Neg(x) }", "outputs are z, y"),
        ("g (float[2] x) => (float[2] y) { y = Relu(x) }", "outputs are y"),
        (
            "g (float[2] x) => (float[2] y, float16[2] z) { y = Relu(x) h = Neg(x) z = Cast <to = 10> (h) }",
            "float16",
        ),
        ("g (float[2] w) => (float[2] y, float[2] z) { y = Relu(w) z = Neg(w) }", "'x' is gone"),
        ("g (float[2] x, float[2] w) => (float[2] y, float[2] z) { y = Relu(w) z = Neg(x) }", "'w' is new"),
        ("g (float[2] x) => (float[2,1] y, float[2] z) { y = Relu(x) z = Neg(x) }", "dims"),
        ("g (float[3] x) => (float[3] y, float[3] z) { y = Relu(x) z = Neg(x) }", "a dim of 3"),
        ("g (float[2] x) => (float[2] y, float[2] z) { y = Relu(q) z = Neg(x) }", "does not load"),
    ],
)
def test_another_signature_or_a_broken_model_differs(after: str, reason: str) -> None:
    before = text("g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Neg(x) }")
    found = check(before, text(after))
    assert found.status == "differs" and reason in found.reason


def test_renamed_inputs_and_outputs_are_followed_when_named() -> None:
    before = text("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    after = text("g (float[2] a) => (float[2] b) { b = Relu(a) }")
    assert check(before, after).status == "differs"
    assert check(before, after, names={"x": "a", "y": "b"}).status == "held"


def test_fixed_shapes_are_run_with_those_shapes() -> None:
    before = network()
    after = ModelProto()
    after.CopyFrom(before)
    for dim, size in zip(after.graph.input[0].type.tensor_type.shape.dim, (1, 3, 40, 56), strict=True):
        dim.dim_value = size
    found = check(before, after)
    assert found.status == "held" and all(r["x"] == (1, 3, 40, 56) for r in found.runs)


def test_a_model_that_stops_running_differs() -> None:
    before = text("g (float[n,4] x) => (float[n,4] y) { y = Relu(x) }")
    after = text("g (float[n,4] x) => (float[n,4] y) <int64[2] s = {1, 5}> { h = Reshape(x, s) y = Relu(h) }")
    found = check(before, after)
    assert found.status == "differs" and "does not run" in found.reason


def test_random_outputs_are_said_not_accused() -> None:
    body = (
        "g (float[8,8] x) => (float[8,8] y, float[8,8] z) "
        "{{ r = RandomNormalLike {} (x) y = Add(x, r) z = {}(x) }}"
    )
    before = text(body.format("", "Relu"))
    found = check(before, text(body.format("", "Relu")))
    assert found.status == "held" and "not comparable" in found.reason and found.reason.endswith(" y")
    assert check(before, text(body.format("", "Neg"))).status == "differs"
    seeded = text(body.format("<seed = 3.0>", "Relu"))
    assert check(seeded, seeded).compared == 2
    only = text("g (float[8] x) => (float[8] y) { y = RandomUniformLike(x) }")
    assert check(only, only).status == "not-run"


def test_custom_operators_are_named() -> None:
    standard = text("g (float[2] x) => (float[2] y) { s = Sigmoid(x) y = Mul(x, s) }")
    custom = text("g (float[2] x) => (float[2] y) { y = acme.SiLU(x) }")
    for before, after in ((custom, standard), (standard, custom)):
        found = check(before, after)
        assert found.status == "not-run" and "acme::SiLU" in found.reason


@pytest.mark.parametrize("last", [0, 1])
def test_group_norm_with_activation_is_verified(last: int) -> None:
    body = "g (float[2,8,4,8] x, float[8] a, float[8] b) => (float[2,8,4,8] y) {{ {} }}"
    norm = "{} = com.microsoft.GroupNorm <groups = 4, channels_last = {}, activation = {}> (x, a, b)"
    before = text(body.format(norm.format("y", last, 1)))
    after = text(body.format(norm.format("h", last, 0) + " s = Sigmoid(h) y = Mul(h, s)"))
    found = check(before, after)
    assert found.status == "held" and "reference" in found.runner
    wrong = text(body.format(norm.format("h", last, 0) + " s = HardSigmoid(h) y = Mul(h, s)"))
    assert check(before, wrong).status == "differs"


def test_over_the_memory_limit_is_not_run_and_says_which_flag() -> None:
    found = check(network(), network(), memory=1000)
    assert found.status == "not-run" and "--verify-memory" in found.reason
    assert check(network(), network(), memory=1 << 20).status == "held"


def big_external(folder: Path, layers: int = 3) -> Path:
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.2, (32, 32)).astype(np.float32), f"w{n}")
        for n in range(layers)
    ]
    nodes = [helper.make_node("MatMul", [f"t{n}", f"w{n}"], [f"t{n + 1}"]) for n in range(layers)]
    x, y = (helper.make_tensor_value_info(f"t{n}", 1, ["n", 32]) for n in (0, layers))
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path = folder / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    return path


def test_external_data_stays_where_it_is(tmp_path: Path) -> None:
    path = big_external(tmp_path)
    after = onnx.load(path, load_external_data=False)
    source = ModelFile.load(path)
    tmp_path.chmod(0o555)
    try:
        found = verify(source, [after.SerializeToString()], tmp_path, touched=[("t1", "t1"), ("t2", "t2")])
        assert found.status == "held" and found.compared == 3
        bad = verify(source, [scaled(after, 1, 1.01).SerializeToString()], tmp_path)
        assert bad.status == "differs" and bad.first is not None and bad.first.tensor == "t2"
        small = verify(source, [after.SerializeToString()], tmp_path, memory=8192)
        assert small.status == "not-run"
    finally:
        tmp_path.chmod(0o755)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.data", "m.onnx"]


def test_renamed_tensors_are_paired_by_their_origin() -> None:
    before = text("g (float[n,9] x) => (float[n,9] y) { a = Neg(x) b = Exp(a) y = Relu(b) }")
    after = text(
        "g (float[n,9] x) => (float[n,9] y) <float k = {1.01}> "
        "{ p = Neg(x) h = Exp(p) q = Mul(h, k) y = Relu(q) }"
    )
    record = '{"pass": "rename", "of": [], "same": {"p": "a", "q": "b"}}'
    after.graph.node[0].metadata_props.add(key=ORIGIN_KEY, value=record)
    after.graph.node[1].metadata_props.add(key=ORIGIN_KEY, value="not json")
    found = check(before, after)
    assert found.first is not None and (found.first.tensor, found.first.original) == ("q", "b")


def test_the_users_own_feeds_are_used() -> None:
    before = text("g (float[n,4] x) => (float[n,4] y) { y = Relu(x) }")
    after = text("g (float[n,4] x) => (float[n,4] y) { y = Abs(x) }")
    positive = [{"x": np.ones((2, 4), np.float32)}]
    assert check(before, after, feeds=positive).status == "held"
    assert check(before, after, feeds=lambda: iter([*positive, {"x": -positive[0]["x"]}])).status == "differs"
    assert check(before, after, feeds=[{"x": np.ones((2, 5), np.float32)}]).status == "not-run"


def test_what_cannot_be_read_or_run_says_why() -> None:
    model = text("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    assert verify(ModelFile.from_bytes(b"\xff\xff"), [b""], None).status == "not-run"
    never = text("g (float[2] x) => (float[5] y) <int64[1] s = {5}> { y = Reshape(x, s) }")
    found = check(never, never)
    assert found.status == "not-run" and "none of the inputs" in found.reason
    assert check(model, model, touched=[("no", "such")]).status == "held"


def test_verification_is_deterministic() -> None:
    first, second = (check(network(), folded(network()), seed=5) for _ in range(2))
    assert first == second


def test_quantised_steps_that_rounding_flips_are_the_models_own() -> None:
    body = (
        "g (float[n,256] x) => (float[n,256] y) <float s = {{0.05}}, uint8 z = {{128}}, float k = {{{}}}> "
        "{{ h = Mul(x, k) q = QuantizeLinear(h, s, z) y = DequantizeLinear(q, s, z) }}"
    )
    before = text(body.format("1"))
    assert check(before, text(body.format("1.01"))).status == "differs"
    exact = text(body.format("1").replace("float[n,256] y", "uint8[n,256] q").replace("y = Dequ", "w = Dequ"))
    assert check(exact, exact).status == "held"


def test_a_network_that_amplifies_rounding_is_not_accused_for_it() -> None:
    # cos of a large number: the last bits of x decide
    body = (
        "g (float[n,64] x) => (float[n,64] y) <float k = {200}, float a = {3}, float b = {66.6666667}> "
        "{ %s y = Cos(h) }"
    )
    before, after = text(body % "h = Mul(x, k)"), text(body % "g = Mul(x, a) h = Mul(g, b)")
    found = check(before, after)
    assert found.status == "held"
    shifted = text(body % "g = Mul(x, k) h = Add(g, a)")
    assert check(before, shifted).status == "differs"


def test_a_model_that_no_longer_loads_is_refused_even_where_the_original_runs_on_nothing() -> None:
    """Sizes that the model cannot take: the original runs at others, the result does not even load."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,n] x) => (float[1,n] y) <float[1,4] w = {{1, 2, 3, 4}}> {{ y = Add (x, w) }}"""
    before = onnx.parser.parse_model(text.format())
    after = onnx.parser.parse_model(text.replace("[1,n]", "[1,5]").format())
    found = verify(ModelFile.from_proto(before), [after.SerializeToString()])
    assert found.status == "differs" and "does not load" in found.reason


X = "g (float[4,64] x) => (float[4,64] y) "


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (X + "<float lo = {0}, float hi = {6}> { y = Clip(x, lo, hi) }", X + "{ y = Relu(x) }"),
        (X + "<float lo = {-10}, float hi = {10}> { y = Clip(x, lo, hi) }", X + "{ y = Identity(x) }"),
        (
            X + "<float t = {5}, float z = {0}> { m = Greater(x, t) y = Where(m, z, x) }",
            X + "{ y = Identity(x) }",
        ),
        (
            "g (float[4,64] x, float[4,64] d) => (float[4,64] y) { y = Div(x, d) }",
            "g (float[4,64] x, float[4,64] d) => (float[4,64] y) { e = Abs(d) y = Div(x, e) }",
        ),
        (
            "g (int64[4,64] x, int64[4,64] d) => (int64[4,64] y) { y = Mod(x, d) }",
            "g (int64[4,64] x, int64[4,64] d) => (int64[4,64] y) { e = Abs(d) y = Mod(x, e) }",
        ),
        (
            "g (int64[4,64] x) => (int64[4,64] y) <int64 t = {10}> { y = Min(x, t) }",
            "g (int64[4,64] x) => (int64[4,64] y) { y = Identity(x) }",
        ),
        (
            "g (float[n,3,h,w] x) => (float[n,3,p,q] y) "
            "{ y = MaxPool <kernel_shape = [2,2], strides = [2,2], ceil_mode = 1> (x) }",
            "g (float[n,3,h,w] x) => (float[n,3,p,q] y) "
            "{ y = MaxPool <kernel_shape = [2,2], strides = [2,2]> (x) }",
        ),
        (
            "g (float[1,seq,4] x) => (float[1,s,4] y) "
            "<int64[1] a = {0}, int64[1] e = {4096}, int64[1] d = {1}> { y = Slice(x, a, e, d) }",
            "g (float[1,seq,4] x) => (float[1,s,4] y) "
            "<int64[1] a = {0}, int64[1] e = {16}, int64[1] d = {1}> { y = Slice(x, a, e, d) }",
        ),
        (
            X + "<float c = {100}> { a = Sub(x, c) y = Relu(a) }",
            X + "<float c = {100}, float k = {2}> { a = Sub(x, c) b = Relu(a) y = Mul(b, k) }",
        ),
        (
            "g (float[4,2] x) => (float[4,2] y) <float[2] w = {1000000, 1}> { r = Relu(x) y = Mul(r, w) }",
            "g (float[4,2] x) => (float[4,2] y) <float[2] w = {1000000, 2}> { r = Relu(x) y = Mul(r, w) }",
        ),
        (
            "g (float[4,64] x) => (int64[4] y) { r = Floor(x) y = ArgMax <axis = 1, keepdims = 0> (r) }",
            "g (float[4,64] x) => (int64[4] y) "
            "{ r = Floor(x) y = ArgMax <axis = 1, keepdims = 0, select_last_index = 1> (r) }",
        ),
    ],
)
def test_what_only_values_beyond_the_ordinary_show_is_caught(before: str, after: str) -> None:
    assert check(text(before), text(before)).status == "held"
    assert check(text(before), text(after)).status == "differs"


def test_what_a_switched_off_dropout_or_a_random_shape_touches_is_compared() -> None:
    body = X + "<float r = {{0.5}}, bool t = {{0}}> {{ d = Dropout(x, r, t) e = Relu(d) y = {}(e) }}"
    assert check(text(body.format("Relu")), text(body.format("Neg"))).status == "differs"
    body = X + "{{ r = RandomNormalLike(x) s = Shape(r) z = ConstantOfShape(s) w = Add(x, z) y = {}(w) }}"
    assert check(text(body.format("Relu")), text(body.format("Relu"))).reason == ""
    assert check(text(body.format("Relu")), text(body.format("Neg"))).status == "differs"


def branching(condition: str, then: str = "Relu", other: str = "Abs") -> ModelProto:
    return text(
        f"g (float[seq,64] x) => (float[seq,64] y) <int64 hundred = {{100}}, int64 z = {{0}}> {{ {condition} "
        f"y = If (c) <then_branch = a () => (float[k,64] o) {{ o = {then}(x) }},"
        f" else_branch = b () => (float[k,64] p) {{ p = {other}(x) }}> }}"
    )


@pytest.mark.parametrize(
    "condition",
    [
        "s = ReduceSum <keepdims = 0> (x) t = Constant <value_float = 0.0> () c = Greater(s, t)",
        "s = ReduceMax <keepdims = 0> (x) t = Constant <value_float = 50.0> () c = Greater(s, t)",
        "s = Shape <start = 0, end = 1> (x) n = Squeeze(s) c = Greater(n, hundred)",
    ],
)
def test_both_branches_are_run(condition: str) -> None:
    before = branching(condition)
    assert check(before, before).reason == ""
    assert check(before, branching(condition, then="Neg")).status == "differs"
    assert check(before, branching(condition, other="Neg")).status == "differs"


def test_a_branch_that_no_input_takes_is_said() -> None:
    before = branching(
        "s = Sin(x) m = ReduceMax <keepdims = 0> (s) t = Constant <value_float = 2.0> () c = Greater(m, t)"
    )
    found = check(before, before)
    assert found.status == "held" and "the then-branch of 'y' was never run" in found.reason


def test_an_output_that_is_always_zero_is_said() -> None:
    before = text(X + "{ s = Sin(x) t = Sub(s, s) y = Relu(t) }")
    found = check(before, before)
    assert found.status == "held" and "'y' was 0, NaN or empty on every input tried" in found.reason


def test_activations_count_toward_the_memory_limit() -> None:
    model = text(
        "g (float[1] x) => (float z) <int64[1] s = {30000000}> "
        "{ e = Expand(x, s) r = Relu(e) z = ReduceMax <keepdims = 0> (r) }"
    )
    found = check(model, model, memory=50 << 20)
    assert found.status == "not-run" and "--verify-memory" in found.reason


def test_defaults_are_overridden() -> None:
    head = "g (float[4] x, float[4] b) => (float[4] y) <float[4] b = {1, 2, 3, 4}"
    before = text(head + "> { y = Add(x, b) }")
    assert check(before, before).status == "held"
    assert check(before, text(head + ", float[4] c = {1, 2, 3, 4}> { y = Add(x, c) }")).status == "differs"
    gone = text("g (float[4] x) => (float[4] y) <float[4] b = {1, 2, 3, 4}> { y = Add(x, b) }")
    assert "'b'" in check(before, gone).reason and check(before, gone).status == "differs"


def test_an_input_that_gets_a_rank_is_run_with_it() -> None:
    before = text("g (float[n] x) => (float[n] y) { y = Relu(x) }")
    before.graph.input[0].type.tensor_type.ClearField("shape")
    before.graph.output[0].type.tensor_type.ClearField("shape")
    assert check(before, text("g (float[3,4] x) => (float[3,4] y) { y = Relu(x) }")).status == "held"


def test_a_step_of_a_quantised_tensor_needs_other_floats() -> None:
    head = "g (float[1,10000] x) => (uint8[1,10000] y) <float s = {0.05}, uint8 z = {128}"
    before = text(head + "> { y = QuantizeLinear(x, s, z) }")
    tail = (
        ", int64[1] st = {0}, int64[1] e = {9995}, int64[1] f = {10000}, int64[1] a = {1}, uint8 one = {1}> "
        "{ r = QuantizeLinear(x, s, z) p = Slice(r, st, e, a) q = Slice(r, e, f, a) t = Add(q, one) "
        "y = Concat <axis = 1> (p, t) }"
    )
    assert check(before, text(head + tail)).status == "differs"


def test_a_float32_tensor_behind_float16_may_move_by_its_roundings() -> None:
    body = "g (float16[4,64] x) => (float[4,64] y) { a = Add(x, x) %s w = Cast <to = 1> (b) y = Mul(w, w) }"
    before, after = text(body % "h = Add(a, x) b = Add(h, a)"), text(body % "h = Add(a, a) b = Add(h, x)")
    assert check(before, after).status == "held"
    assert check(before, text(body % "h = Add(a, a) b = Add(h, a)")).status == "differs"


def test_double_norms_are_computed_in_double() -> None:
    norm = "com.microsoft.GroupNorm <groups = 4, channels_last = 1, activation = %d> (x, a, b)"
    head = "g (double[2,8,4,8] x, double[8] a, double[8] b) => (double[2,8,4,8] y) "
    after = text(head + "{ h = " + norm % 0 + " s = Sigmoid(h) y = Mul(h, s) }")
    assert check(text(head + "{ y = " + norm % 1 + " }"), after).status == "held"


def test_an_operator_that_came_later_is_somebodys_own() -> None:
    before = text(X + "{ y = Swish <beta = 1.5> (x) }", 23)
    found = check(before, text(X + "{ s = Sigmoid(x) y = Mul(x, s) }", 23))
    assert found.status == "not-run" and "Swish" in found.reason


def test_what_callers_have_to_know_is_said() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[n,4] {0}) => (float[n,4] y) {{ y = Neg ({0}) }}"""
    before = parser.parse_model(text.format("x"))
    after = parser.parse_model(text.format("z").replace("[n,4] z", "[2,4] z"))
    found = verify(ModelFile.from_proto(before), [after.SerializeToString()], names={"x": "z"})
    assert found.status == "held"
    assert "'x' is called 'z' now; input 'z' is [2, 4] now, was [n, 4]" in found.reason
