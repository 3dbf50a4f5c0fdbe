"""A program run in segments: the values, what a window does to them, cuts, rounding, memory and refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper, parser

from graphkit.errors import BadInput
from graphkit.run import reference
from graphkit.run.reference import CannotRun
from graphkit.run.stream import Program, Rounding
from tests import corpus

HEAD = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]> '
X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)


def text(body: str, **weights: Any) -> ModelProto:
    model = parser.parse_model(HEAD + body)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(w), n) for n, w in weights.items())
    return model


def run(model: ModelProto, feed: dict[str, Any], memory: int = 1 << 29, **how: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    Program(model, memory=memory).run(feed, found.__setitem__, **how)
    return found


def chain() -> ModelProto:
    """x -> a -> b -> (c, d) -> y, a convolution at either end."""
    rng = np.random.default_rng(1)
    w, v = (rng.standard_normal((s, t, 3, 3)).astype(np.float32) * 0.2 for s, t in ((24, 3), (24, 24)))
    return text(
        "g (float[N,3,8,8] x) => (float[N,24,8,8] y) {"
        "[one] a = Conv<pads=[1,1,1,1]>(x, w) [two] b = Sigmoid(a) [three] c = Mul(a, b)"
        "[four] d = Conv<pads=[1,1,1,1]>(c, v) [five] y = Add(d, b) }",
        w=w,
        v=v,
    )


def same(a: Any, b: Any) -> bool:
    if a.dtype.kind in "OU":
        return bool(np.all(a == b))
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", ["yolov5n_op12.onnx", "yolov5n_op17_dynamic.onnx", "yolov5n_qdq.onnx"])
def test_every_tensor_is_onnx_runtimes_own(name: str) -> None:
    model = onnx.load(next(p for p in corpus.shared_models() if p.name == name))
    side = 128 if "dynamic" in name else 640
    feed = {model.graph.input[0].name: np.random.default_rng(0).random((1, 3, side, side), np.float32)}
    program, found = Program(model), dict[str, Any]()
    program.run(feed, found.__setitem__)
    assert program.loads == 1
    assert set(found) == {o for n in model.graph.node for o in n.output if o}
    expected = reference.run(model.SerializeToString(), [feed], list(found))[0]
    for tensor, value in expected.items():
        assert found[tensor].dtype == value.dtype
        if value.dtype.kind == "f" and value.size:
            scale = np.abs(value).max() + 1e-20
            assert np.abs(found[tensor] - value).max() <= 1e-4 * scale + 2e-7, tensor
    again: dict[str, Any] = {}
    program.run(feed, again.__setitem__)
    assert program.loads == 1 and all(same(found[n], again[n]) for n in found)


@pytest.mark.parametrize("memory", [1, 30_000, 80_000])
def test_a_small_window_changes_no_bit(memory: int) -> None:
    whole, order = run(chain(), {"x": X}), list[str]()
    program, parts = Program(chain(), memory=memory), dict[str, Any]()

    def seen(name: str, value: Any) -> None:
        order.append(name)
        parts[name] = value

    program.run({"x": X}, seen)
    assert program.loads > 1
    assert order == ["a", "b", "c", "d", "y"]
    assert all(same(whole[n], parts[n]) for n in whole)


def test_only_what_is_wanted_is_computed() -> None:
    model = chain()
    model.graph.node.append(helper.make_node("Nonsense", ["a"], ["never"], name="bad"))
    found = run(model, {"x": X}, wanted={"c"})
    assert list(found) == ["c"] and same(found["c"], run(chain(), {"x": X})["c"])


@pytest.mark.parametrize("memory", [1, 1 << 29])
@pytest.mark.parametrize("told", [False, True])
def test_readers_of_a_cut_tensor_get_the_given_value(memory: int, told: bool) -> None:
    plain = run(chain(), {"x": X})
    given = {"a": plain["a"] * 2, "c": plain["c"] + 1}
    found = run(chain(), {"x": X}, memory, given=given.get, cuts=set(given) if told else None)
    assert same(found["a"], plain["a"])
    assert np.allclose(found["b"], 1 / (1 + np.exp(-given["a"])), atol=1e-6)
    assert np.allclose(found["c"], given["a"] * found["b"], atol=1e-6)
    part = run(
        chain(),
        {
            "x": X,
        },
        wanted={"d"},
        given={"c": plain["c"] + 1}.get,
    )
    assert same(found["d"], part["d"]) and not np.allclose(found["d"], plain["d"])


def test_what_serves_only_a_cut_tensor_does_not_run() -> None:
    model = chain()
    model.graph.node[0].op_type = "Nonsense"
    plain = run(chain(), {"x": X})
    given = {"a": plain["a"], "b": plain["b"]}
    for memory in (1, 1 << 29):
        found = run(model, {"x": X}, memory, wanted={"c", "y"}, given=given.get, cuts=set(given))
        assert same(found["c"], plain["c"]) and same(found["y"], plain["y"])


def test_a_subgraph_reads_the_given_value() -> None:
    model = text(
        "g (float[2] x, bool p) => (float[2] y) { a = Relu(x) y = If(p) <"
        "then_branch = t () => (float[2] u) { u = Neg(a) },"
        "else_branch = e () => (float[2] v) { v = Exp(a) }> }"
    )
    feed = {"x": np.array([1, 2], np.float32), "p": np.array(True)}
    for memory in (1, 1 << 20):
        found = run(model, feed, memory, given={"a": np.array([5, 6], np.float16)}.get)
        assert found["y"].tolist() == [-5, -6] and found["a"].tolist() == [1, 2]


def test_tf32_rounds_operands_to_nearest() -> None:
    a, w = (np.random.default_rng(s).standard_normal((40, 40)).astype(np.float32) for s in (1, 2))
    model = text(
        "g (float[40,40] a, float[40,40] b) => (float[40,40] y) { t = MatMul(a, w) y = MatMul(t, b) }", w=w
    )

    def rounded(v: Any) -> Any:
        mantissa, exponent = np.frexp(np.float64(v))
        return np.ldexp(np.rint(mantissa * 2048) / 2048, exponent)

    found = run(model, {"a": a, "b": w}, rounding=Rounding(tf32=True))
    exact = rounded(a) @ rounded(w)
    assert np.abs(found["t"] - exact).max() < 1e-5 < np.abs(a @ w - exact).max()
    assert np.abs(found["y"] - rounded(found["t"]) @ rounded(w)).max() < 1e-4
    cut = run(model, {"a": a, "b": w}, rounding=Rounding(tf32=True), given={"t": found["t"] * 3}.get)
    assert np.abs(cut["y"] - rounded(found["t"] * 3) @ rounded(w)).max() < 1e-3 and same(cut["t"], found["t"])


def test_native_dtypes_round_and_overflow() -> None:
    model = text("g (float[3] x) => (float[3] y) { a = Mul(x, x) y = Sqrt(a) }")
    x = np.array([1.2345678, 300, 3], np.float32)
    found = run(model, {"x": x}, rounding=Rounding(native={"a": "float16", "y": "bfloat16"}))
    with np.errstate(over="ignore"):
        a = (x * x).astype(np.float16).astype(np.float32)
    assert np.isinf(found["a"][1]) and same(found["a"], a)
    assert same(found["y"], np.sqrt(a).astype(ml_dtypes.bfloat16).astype(np.float32))


def test_other_dtypes_cross_from_segment_to_segment() -> None:
    model = text(
        "g (float[5] x, float s) => (float[5] y, float[5] z, float[5] w) {"
        "a = Cast<to=16>(x) b = Identity(a) y = Cast<to=1>(b)"
        "c = QuantizeLinear(x, s, zero) d = DequantizeLinear(c, s) z = Neg(d)"
        "e = QuantizeLinear<output_dtype=17>(x, s) f = DequantizeLinear(e, s) w = Neg(f) }",
        zero=numpy_helper.to_array(helper.make_tensor("zero", onnx.TensorProto.INT4, [], [0])),
    )
    feed = {"x": np.array([1, -2, 3, -4, 5], np.float32), "s": np.array(0.5, np.float32)}
    whole, parts = run(model, feed), run(model, feed, 1)
    assert whole["b"].dtype == ml_dtypes.bfloat16 and whole["e"].dtype == ml_dtypes.float8_e4m3fn
    assert whole["c"].dtype == ml_dtypes.int4 and whole["c"].astype(int).tolist() == [2, -4, 6, -8, 7]
    assert whole.keys() == parts.keys() and all(same(whole[n], parts[n]) for n in whole)


def test_text_sequences_and_empty_tensors_cross_too() -> None:
    model = text(
        "g (float[4] x, string[2] s) => (float[?] y, string[2] t, float[0,3] n)"
        "<int64 i = {1}, int64[2] h = {2, 2}>"
        "{ t = Identity(s) q = SplitToSequence(x, h) y = SequenceAt(q, i) m = Identity(none) n = Neg(m) }",
        none=np.zeros((0, 3), np.float32),
    )
    feed = {"x": np.arange(4, dtype=np.float32), "s": np.array(["a", "b"], object)}
    for memory in (1, 1 << 20):
        found = run(model, feed, memory)
        assert found["y"].tolist() == [2, 3] and found["t"].tolist() == ["a", "b"]
        assert found["n"].shape == (0, 3) and "q" not in found


def test_a_node_that_onnx_runtime_lacks_runs_on_the_evaluator() -> None:
    model = text(
        "g (float[1,4,4,8] x, float[8] s, float[8] b) => (float[1,4,4,8] y) { a = Relu(x)"
        "n = com.microsoft.GroupNorm <groups=2, epsilon=0.00001, activation=0>(a, s, b) y = Neg(n) }"
    )
    x = np.random.default_rng(0).standard_normal((1, 4, 4, 8)).astype(np.float32)
    found = run(model, {"x": x, "s": np.ones(8, np.float32), "b": np.zeros(8, np.float32)})
    groups = found["n"].reshape(16, 2, 4)
    assert np.allclose(groups.mean(axis=(0, 2)), 0, atol=1e-5) and np.allclose(
        groups.std(axis=(0, 2)), 1, atol=1e-2
    )
    assert same(found["y"], -found["n"])


def test_nodes_out_of_order_and_cycles() -> None:
    model = chain()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    found, expected = run(model, {"x": X}), run(chain(), {"x": X})
    assert all(same(found[n], expected[n]) for n in expected)
    with pytest.raises(BadInput, match="cycle through node 'round'"):
        Program(text("g (float x) => (float y) { [round] a = Add(x, y) y = Neg(a) }"))


def test_refusals_name_what_is_wrong() -> None:
    with pytest.raises(BadInput, match="input 'x' is missing; the model needs x"):
        run(chain(), {})
    with pytest.raises(
        BadInput, match=r"input 'x' has shape \[2, 3, 8, 9\] but the model wants \[N, 3, 8, 8\]"
    ):
        run(chain(), {"x": np.zeros((2, 3, 8, 9), np.float32)})
    with pytest.raises(BadInput, match=r"tensor 'a' has shape .* but the given value \[1\]"):
        run(chain(), {"x": X}, given={"a": np.zeros(1, np.float32)}.get)
    with pytest.raises(CannotRun, match=r"node 'odd' \(Odd\)"):
        run(
            text("g (float[2] x) => (float[2] y) { a = Relu(x) [odd] b = my.Odd(a) y = Neg(b) }"),
            {"x": np.ones(2, "f4")},
        )
    late = text("g (float[2] x, int64[1] i) => (float[1] y) { a = Relu(x) [pick] y = Gather(a, i) }")
    with pytest.raises(CannotRun, match=r"node 'pick' \(Gather\): .*out of"):
        run(late, {"x": np.ones(2, np.float32), "i": np.array([7])})


def test_external_weights_are_mapped_and_may_not_leave_the_folder(tmp_path: Path) -> None:
    onnx.save(chain(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=100)
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    found: dict[str, Any] = {}
    Program(model, tmp_path).run({"x": X}, found.__setitem__, rounding=Rounding(tf32=True))
    expected = run(chain(), {"x": X}, rounding=Rounding(tf32=True))
    assert all(same(found[n], expected[n]) for n in expected)
    with pytest.raises(BadInput, match=r"its data lies in 'w\.bin'; say in which folder"):
        run(model, {"x": X})
    (tmp_path / "w.bin").write_bytes(b"short")
    with pytest.raises(BadInput, match="truncated"):
        Program(model, tmp_path).run({"x": X}, found.__setitem__)


PEAK = """
import resource, sys
import numpy as np
from onnx import helper as h, numpy_helper as nh
from graphkit.run.stream import Program, Rounding
count, side, window = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
values = (rng.standard_normal((count, 64, 64, 1, 1)) * 0.15).astype("f4")
weights = [nh.from_array(v, f"w{i}") for i, v in enumerate(values)]
nodes = [h.make_node("Conv", [f"t{i}", f"w{i}"], [f"t{i + 1}"]) for i in range(count)]
ends = [h.make_tensor_value_info(n, 1, [1, 64, side, side]) for n in ("t0", f"t{count}")]
graph = h.make_graph(nodes, "g", ends[:1], ends[1:], weights)
model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)])
feed = {"t0": rng.standard_normal((1, 64, side, side), dtype="f4")}
program, total = Program(model, memory=window << 20), 0
import onnxruntime
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def seen(name, value):
    global total
    total += value.nbytes
program.run(feed, seen)
program.run(feed, seen, given=lambda n: feed["t0"] if int(n[1:]) % 2 else None)
program.run(feed, seen, rounding=Rounding(tf32=True))
print(total // 3 >> 20, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before >> 10)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts in other units elsewhere")
def test_memory_stays_within_the_window() -> None:
    command = [sys.executable, "-c", PEAK, "64", "256", "128"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    activations, peak = map(int, said.split())
    assert activations == 1024
    assert peak < 128 + 64  # the window, and ONNX Runtime itself
