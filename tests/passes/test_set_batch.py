"""The ``set-batch`` pass: every row of the new batch is what the old model computes of it alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit import BadOption, PassFailed
from graphkit.run.reference import CannotRun
from graphkit.testing import assert_equivalent, run
from graphkit_passes.set_batch import SetBatch, _Rows
from tests.passes.named_edits import close, parse, slowly, values

STEPS = ["relu", "conv", "reshape", "flatten", "transpose", "softmax", "branch", "two"]


@st.composite
def networks(draw: Any) -> tuple[onnx.ModelProto, int]:
    """A chain over x [B, 4, 6] of what keeps the batch in front, with its size in the Reshapes."""
    batch = draw(st.integers(1, 3))
    rng = np.random.default_rng(0)
    nodes, tensors, infos = [], [], []
    now, shape = "x", [batch, 4, 6]

    def add(op: str, extra: list[str], new: list[int], **attributes: Any) -> None:
        nonlocal now, shape
        made = f"t{len(nodes)}"
        nodes.append(helper.make_node(op, [now, *extra], [made], **attributes))
        now, shape = made, new
        if draw(st.booleans()):
            infos.append(helper.make_tensor_value_info(made, 1, new))

    def constant(values_: np.ndarray) -> str:
        tensors.append(numpy_helper.from_array(values_, f"c{len(tensors)}"))
        return tensors[-1].name

    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=5)):
        size = int(np.prod(shape[1:]))
        if step == "relu":
            add("Relu", [], shape)
        elif step == "two":
            add("Mul", [constant(np.float32([2]))], shape)
        elif step == "softmax":
            add("Softmax", [], shape, axis=len(shape) - 1)
        elif step == "flatten":
            add("Flatten", [], [batch, size], axis=1)
        elif step == "reshape":
            target = draw(st.sampled_from([[batch, size // 2, 2], [batch, -1, 4], [batch, size], [0, 2, -1]]))
            add(
                "Reshape",
                [constant(np.int64(target))],
                np.empty(shape).reshape(*or_batch(target, batch)).shape,
            )
        elif step == "transpose" and len(shape) == 3:
            add("Transpose", [], [batch, shape[2], shape[1]], perm=[0, 2, 1])
        elif step == "conv" and len(shape) == 3:
            weights = rng.normal(size=(2, shape[1], 1)).astype(np.float32)
            add("Conv", [constant(weights)], [batch, 2, shape[2]])
        elif step == "branch":
            made = f"t{len(nodes)}"
            graphs = {
                f"{k}_branch": helper.make_graph(
                    [helper.make_node(op, [now], [f"{made}_{k}"])],
                    k,
                    [],
                    [helper.make_tensor_value_info(f"{made}_{k}", 1, shape)],
                )
                for k, op in (("then", "Neg"), ("else", "Exp"))
            }
            nodes.append(helper.make_node("If", ["c"], [made], **graphs))
            now = made
    inputs = [helper.make_tensor_value_info("x", 1, [batch, 4, 6]), helper.make_tensor_value_info("c", 9, [])]
    if not nodes:
        add("Relu", [], shape)
    output = helper.make_tensor_value_info(now, 1, shape)
    graph = helper.make_graph(
        nodes, "g", inputs, [output], tensors, value_info=[i for i in infos if i.name != now]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), batch


def or_batch(target: list[int], batch: int) -> list[int]:
    return [d or batch for d in target]


@slowly
@given(networks(), st.sampled_from(["N", "1", "4", "5"]))
def test_random_networks(drawn: tuple[onnx.ModelProto, int], size: str) -> None:
    model, batch = drawn
    got, report = run(f"set-batch:{size}", model)
    if size == str(batch):
        assert got == model
        return
    assert not report.refusals
    assert_equivalent(f"set-batch:{size}", model)
    onnx.checker.check_model(got, full_check=True)
    count = int(size) if size.isdecimal() else 2 * batch + 1
    rows = np.random.default_rng(1).normal(size=(count, 4, 6)).astype(np.float32)
    (output,) = [o.name for o in model.graph.output]
    after = values(got, {"x": rows, "c": np.array(True)}, [output])[output]
    for place in range(count):
        same = np.repeat(rows[place : place + 1], batch, 0)
        before = values(model, {"x": same, "c": np.array(True)}, [output])[output]
        close({output: after[place]}, {output: before[0]})
    dim = got.graph.output[0].type.tensor_type.shape.dim[0]
    assert (dim.dim_param or str(dim.dim_value)) == size


@pytest.mark.parametrize("size", ["N", "3"])
@pytest.mark.parametrize(
    "text",
    [
        "{ m = ReduceMean <axes = [0]> (x)  y = Sub (x, m) }",
        "{ y = CumSum (x, zero) }",
        "{ y = Softmax <axis = 0> (x) }",
    ],
)
def test_rows_that_are_mixed_are_found_by_their_numbers(text: str, size: str) -> None:
    model = parse(f"g (float[2,4] x) => (float[2,4] y) <int64 zero = {{0}}> {text}")
    assert run(f"set-batch:{size}", model)[1].rewrites
    with pytest.raises(AssertionError, match="differs"):
        assert_equivalent(f"set-batch:{size}", model)


def test_what_is_baked_elsewhere_does_not_run() -> None:
    model = parse(
        """g (float[2,4] x) => (float[2,4] y) <int64[2] s = {2, 4}> { z = Expand (x, s)  y = Relu (z) }"""
    )
    with pytest.raises(AssertionError, match="differs"):
        assert_equivalent("set-batch:4", model)


def test_rows_of_other_sizes_cannot_be_compared() -> None:
    """What a model finds in each row may be more or less; then nothing is proven, and that is said."""
    rows = _Rows(["x"], 1, {"found": 0, "counts": None})
    assert [len(f["x"]) for f in rows.feeds({"x": np.zeros((3, 4))})] == [1, 1, 1]
    with pytest.raises(CannotRun, match="the rows of 'found' differ in size"):
        rows.expected([{"found": np.zeros((2, n)), "counts": np.zeros(3)} for n in (4, 5, 4)])
    with pytest.raises(CannotRun, match="'found' has no dims"):
        rows.expected([{"found": np.float32(1), "counts": np.zeros(3)}])
    found = rows.expected([{"found": np.full((2, 4), n), "counts": np.full(3, n)} for n in range(3)])
    assert found["found"].shape == (6, 4) and (found["counts"] == 0).all()


def test_the_axis_is_guessed_where_no_inference_tells() -> None:
    """Recurrent networks return [time, batch, classes]."""
    rows = _Rows(["x"], 1, {"y": -1, "flat": -1})
    rows.feeds({"x": np.zeros((2, 4))})
    found = rows.expected([{"y": np.zeros((12, 1, 5)), "flat": np.zeros(3)}] * 2)
    assert {n: v.shape for n, v in found.items()} == {"y": (12, 2, 5), "flat": (6,)}


@pytest.mark.parametrize("size", ["4", "N"])
def test_an_open_batch_without_a_name(size: str) -> None:
    model = parse("g (float[?,4] x) => (float[?,4] y) { y = Relu (x) }")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    got = assert_equivalent(f"set-batch:{size}", model)
    dims = [i.type.tensor_type.shape.dim[0] for i in (*got.graph.input, *got.graph.output)]
    assert [d.dim_param or str(d.dim_value) for d in dims] == [size, size]


def test_a_batch_that_is_no_multiple_is_filled_up() -> None:
    rows = _Rows(["x"], 2, {"y": 0})
    fed = rows.feeds({"x": np.arange(5), "k": np.arange(9)})
    assert [list(f["x"]) for f in fed] == [[0, 1], [2, 3], [4, 4]] and all(len(f["k"]) == 9 for f in fed)
    assert list(rows.expected([{"y": f["x"]} for f in fed])["y"]) == [0, 1, 2, 3, 4]


def test_annotations_that_nobody_can_infer_are_not_left_to_lie() -> None:
    model = parse("""<ir_version: 10, opset_import: ["": 17, "custom": 1]>
      g (float[1,4] x) => (float[1,4] y) <float[1,4] a, float[4] b> {
        a = custom.Mystery (x)  b = Squeeze (a)  y = custom.Mystery (b) }""")
    got, report = run("set-batch:N", model)
    assert report.rewrites
    assert [i.type.tensor_type.HasField("shape") for i in got.graph.value_info] == [False, True]
    assert got.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "N"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "needs size"),
        ("0", "size=0 is no batch"),
        ("-1", "size=-1 is no batch"),
        ("a b", "size=a b is no batch"),
        ("8,inputs=z", "there is no input 'z'; the inputs are x, m"),
        ("8", "the inputs begin with several dims: 'x' (1), 'm' (2); say which with inputs=a+b"),
        ("W,inputs=x", "another dim is called 'W' already"),
        ("8,inputs=x+x", "'x' is given twice"),
    ],
)
def test_what_cannot_be(spec: str, said: str) -> None:
    model = parse("g (float[1,W] x, float[2,3] m) => (float[1,W] y) { y = Relu (x) }")
    with pytest.raises((BadOption, PassFailed)) as caught:
        run(f"set-batch:{spec}", model)
    assert said in str(caught.value)


def test_a_recipe_may_give_a_number() -> None:
    assert SetBatch.from_values({"size": 8}) == SetBatch.from_spec("8") == SetBatch(size="8")


def test_no_input_no_batch() -> None:
    model = parse("g () => (float[2] y) <float[2] w = {1, 2}> { y = Relu (w) }")
    assert run("set-batch:8", model)[0] == model
