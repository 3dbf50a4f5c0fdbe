"""The ``decompose`` pass beyond its fixtures: random norms, attentions, masks and sums, and targets."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit.errors import BadOption
from graphkit.rewrite.registry import load_pass
from graphkit.testing import assert_equivalent, run

slowly = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def parse(opset: int, text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]>\n{text}')


def ops(model: onnx.ModelProto) -> set[str]:
    return {n.op_type for n in model.graph.node}


def at_rest(spec: str, model: onnx.ModelProto) -> onnx.ModelProto:
    """The result, which computes the same, is valid, and is not changed again."""
    after = assert_equivalent(spec, model)
    again, second = run(spec, after)
    assert second.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()
    onnx.checker.check_model(after, full_check=True)
    return after


@slowly
@given(
    heads=st.sampled_from([(2, 2), (4, 2), (4, 1)]),
    flat=st.booleans(),
    mask=st.sampled_from(["", "bool", "float"]),
    causal=st.booleans(),
    softcap=st.sampled_from([0.0, 2.0]),
    scale=st.sampled_from([None, 0.5]),
    past=st.booleans(),
)
def test_random_attentions(
    heads: tuple[int, int],
    flat: bool,
    mask: str,
    causal: bool,
    softcap: float,
    scale: float | None,
    past: bool,
) -> None:
    (queries, keys), size, rows, columns, before = heads, 8, 3, 5, 2 if past else 0
    shapes = {"q": (queries, rows), "k": (keys, columns), "v": (keys, columns)}
    inputs = [
        helper.make_tensor_value_info(n, 1, [2, s, h * size] if flat else [2, h, s, size])
        for n, (h, s) in shapes.items()
    ]
    names = ["q", "k", "v", "m" if mask else ""]
    if mask:
        kind = 9 if mask == "bool" else 1
        inputs.append(helper.make_tensor_value_info("m", kind, [rows, columns + before]))
    if past:
        inputs += [helper.make_tensor_value_info(n, 1, [2, keys, before, size]) for n in ("pk", "pv")]
        names += ["pk", "pv"]
    attrs = {"is_causal": int(causal), "softcap": softcap} | ({} if scale is None else {"scale": scale})
    attrs |= {"q_num_heads": queries, "kv_num_heads": keys} if flat else {}
    outputs = ["y", "ok", "ov"] if past else ["y"]
    node = helper.make_node("Attention", names, outputs, **attrs)
    ends = [helper.make_tensor_value_info(n, 1, None) for n in outputs]
    graph = helper.make_graph([node], "g", inputs, ends)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    assert "Attention" not in ops(assert_equivalent("decompose:target=trt-10.3", model))


@slowly
@given(
    op=st.sampled_from(["LayerNormalization", "RMSNormalization"]),
    axis=st.integers(-3, 2),
    dtype=st.sampled_from([1, 10]),
    open_dim=st.booleans(),
)
def test_random_norms(op: str, axis: int, dtype: int, open_dim: bool) -> None:
    shape = [2, 3, 4]
    scale = np.linspace(0.5, 2, int(np.prod(shape[axis:]))).reshape(shape[axis:])
    constant = numpy_helper.from_array(scale.astype(helper.tensor_dtype_to_np_dtype(dtype)), "s")
    declared = ["n", *shape[1:]] if open_dim and axis % 3 else shape
    ends = [helper.make_tensor_value_info(n, dtype, declared) for n in ("x", "y")]
    node = helper.make_node(op, ["x", "s"], ["y"], axis=axis)
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [constant])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    assert op not in ops(at_rest("decompose:target=trt-8.5", model))


@slowly
@given(st.integers(-(2**31), 2**31 - 1), st.sampled_from(["And", "Or", "Xor"]), st.booleans())
def test_random_masks_of_bits(mask: int, op: str, constant_first: bool) -> None:
    inputs = "m, x" if constant_first else "x, m"
    model = parse(
        18, f"g (int32[2,9] x) => (int32[2,9] y) <int32 m = {{{mask}}}> {{ y = Bitwise{op} ({inputs}) }}"
    )
    after, report = run("decompose", model)
    if report.rewrites:
        rng = np.random.default_rng(0)
        x = rng.integers(-(2**31), 2**31 - 1, (2, 9), np.int32)
        import onnxruntime

        (got,) = onnxruntime.InferenceSession(after.SerializeToString()).run(None, {"x": x})
        wanted = {"And": np.bitwise_and, "Or": np.bitwise_or, "Xor": np.bitwise_xor}[op](x, np.int32(mask))
        np.testing.assert_array_equal(got, wanted)
    else:
        assert "runs of ones" in report.refusals[0].reason or "beyond its dtype" in report.refusals[0].reason


@slowly
@given(
    op=st.sampled_from(["CumSum", "CumProd"]),
    length=st.integers(1, 9),
    reverse=st.booleans(),
    exclusive=st.booleans(),
    axis=st.sampled_from([0, 1, -1]),
)
def test_random_cumulations(op: str, length: int, reverse: bool, exclusive: bool, axis: int) -> None:
    shape = f"[{length},2]" if axis == 0 else f"[2,{length}]"
    attrs = f"reverse = {int(reverse)}, exclusive = {int(exclusive)}"
    model = parse(
        26, f"g (float{shape} x) => (float{shape} y) <int64 a = {{{axis}}}> {{ y = {op} <{attrs}> (x, a) }}"
    )
    assert op not in ops(assert_equivalent(f"decompose:ops={op}", model))


@pytest.mark.parametrize(
    "equation", ["ij,jk->ik", "bij,bkj->bik", "ij->ji", "ij->i", "ij,j->i", "i,j->ij", "ij,ij->"]
)
def test_einsum(equation: str) -> None:
    sizes = dict(zip("bijk", (2, 3, 4, 5), strict=True))
    terms, result = equation.split("->")[0].split(","), equation.split("->")[1]
    inputs = ", ".join(f"float[{','.join(str(sizes[c]) for c in t)}] x{n}" for n, t in enumerate(terms))
    names = ", ".join(f"x{n}" for n in range(len(terms)))
    shape = ",".join(str(sizes[c]) for c in result)
    body = f'y = Einsum <equation = "{equation}"> ({names})'
    text = f"g ({inputs}) => (float[{shape}] y) {{ {body} }}"
    model = parse(17, text)
    after, report = run("decompose:ops=Einsum", model)
    if equation == "ij,ij->":
        assert "several dims" in report.refusals[0].reason
    else:
        assert "Einsum" not in ops(at_rest("decompose:ops=Einsum", model))
    assert after is not None


def test_a_target_that_knows_all_changes_nothing() -> None:
    model = parse(24, "g (float[2,4] x) => (float[2,4] y) { y = Swish (x) }")
    assert run("decompose:target=rtx-1.7", model)[0] == model
    assert "Swish" not in ops(run("decompose:target=trt-10.15", model)[0])
    assert run("decompose:target=trt-11.0", model)[0] == model


@pytest.mark.parametrize("target", ["rtx", "rtx-1.3", "rtx-2.0", "trt-7", "onnx-1.4"])
def test_targets_that_nothing_is_known_of(target: str) -> None:
    model = parse(24, "g (float[2,4] x) => (float[2,4] y) { y = Swish (x) }")
    with pytest.raises(BadOption):
        run(load_pass(f"decompose:target={target}"), model)


def test_an_operator_that_is_nowhere_is_noted() -> None:
    model = parse(24, "g (float[2,4] x) => (float[2,4] y) { y = Relu (x) }")
    _, report = run("decompose:ops=Attentoin", model)
    assert report.notes == ("no node of the default domain is a 'Attentoin'",)


def test_an_einsum_that_broadcasts_is_refused() -> None:
    model = parse(
        17, 'g (float[2,1] a, float[3,4] b) => (float[2,4] y) { y = Einsum <equation = "ij,jk->ik"> (a, b) }'
    )
    _, report = run("decompose:ops=Einsum", model)
    assert "may be broadcast" in report.refusals[0].reason
