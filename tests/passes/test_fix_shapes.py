"""``fix-shapes``: what its options say, which of them are refused, and what becomes of the annotations."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, parser

from graphkit import BadOption, Size, rewrite
from graphkit.testing import run
from graphkit_passes.fix_shapes import FixShapes

HEAD = '<ir_version: 10, opset_import: ["": 21]>\n'
TWO = "g (float[batch,3,h,w] x, float[batch,k] z, float[?] f) => (float[batch,3,h,w] y) { y = Relu (x) }"


def model(text: str) -> onnx.ModelProto:
    return parser.parse_model(HEAD + text)


def fix(before: onnx.ModelProto, spec: str) -> tuple[onnx.ModelProto, Any]:
    return run(FixShapes.from_spec(spec), before)


def dims(info: onnx.ValueInfoProto) -> list[int | str]:
    return [
        d.dim_param or (d.dim_value if d.HasField("dim_value") else "?")
        for d in info.type.tensor_type.shape.dim
    ]


def shapes(proto: onnx.ModelProto) -> dict[str, list[int | str]]:
    return {i.name: dims(i) for i in (*proto.graph.input, *proto.graph.output)}


@pytest.mark.parametrize(
    ("spec", "x", "z"),
    [
        ("x=1x3x8x9", [1, 3, 8, 9], [1, "k"]),
        ("batch=2,w=5", [2, 3, "h", 5], [2, "k"]),
        ("x=?x3xhx7,k=4", ["batch", 3, "h", 7], ["batch", 4]),
        ("z=2x?,h=6", [2, 3, 6, "w"], [2, "k"]),
        ("x=2x?x?x?,batch=2", [2, 3, "h", "w"], [2, "k"]),
        ("x=1X3X8X9", [1, 3, 8, 9], [1, "k"]),
        ("x=?X3xhX7", ["batch", 3, "h", 7], ["batch", "k"]),
        ("", ["batch", 3, "h", "w"], ["batch", "k"]),
    ],
)
def test_inputs_and_symbols(spec: str, x: list[int | str], z: list[int | str]) -> None:
    after, _ = fix(model(TWO), spec)
    found = shapes(after)
    assert (found["x"], found["y"], found["z"]) == (x, x, z)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            "nope=5",
            "'nope' is neither an input nor a symbol; inputs are x (batchx3xhxw), z (batchxk), f (?); s",
        ),
        ("x=1x3x8", "input 'x' has 4 dims (batchx3xhxw), not 3"),
        ("x=scalar", "not 0"),
        ("x=1x4x8x9", "dim 1 of 'x' is 3 in the model, not 4"),
        ("x=1x3x8x9,z=2x2", "symbol 'batch' is 1 by 'x=1x3x8x9' and 2 by 'z=2x2'"),
        ("x=1x3x8x9,batch=2", "symbol 'batch' is 1"),
        ("x=1xcx8x9", "dim 1 of 'x' is 3; write a size"),
        ("x=bx3x8x9", "dim 0 of 'x' is 'batch'"),
        ("f=n", "dim 0 of 'f' has no symbol"),
        ("x=1xx8x9", "is no shape"),
        ("x=", "is no shape"),
        ("batch=0", "is no size"),
        ("batch=-1", "is no size"),
        ("batch=1x2", "is no size"),
    ],
)
def test_what_is_refused(spec: str, said: str) -> None:
    with pytest.raises(BadOption) as error:
        fix(model(TWO), spec)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("bacth=5", "did you mean 'batch'?"),
        ("batch=1,k=1,height=5", "neither an input nor a symbol"),
        ("max_size=1M", "did you mean 'max-size'?"),
        ("nope=1x3", "neither an input nor a symbol"),
        ("nope=0", "neither an input nor a symbol"),
    ],
)
def test_a_name_that_the_model_does_not_have(spec: str, said: str) -> None:
    with pytest.raises(BadOption) as error:
        fix(model(TWO), spec)
    assert said in str(error.value)


def test_a_symbol_that_has_its_size_already_is_a_note() -> None:
    before = model("g (float[n,m] x) => (float[n,m] y) { y = Relu (x) }")
    once, _ = fix(before, "n=2")
    again, report = fix(once, "n=2")
    assert again.SerializeToString() == once.SerializeToString()
    assert report.rewrites == 0
    assert report.notes == ("no input has a dim 'n' (any more), so nothing is done for it",)
    with pytest.raises(BadOption, match="symbols are m"):
        fix(once, "n=3")
    both, _ = fix(before, "n=2,m=3")
    again, report = fix(both, "n=2,m=3")
    assert (again.SerializeToString(), len(report.notes)) == (both.SerializeToString(), 2)
    assert fix(both, "other=9")[1].rewrites == 0


def test_max_size_is_a_name_and_max_size_with_a_dash_the_option() -> None:
    made = FixShapes.from_spec("max_size=3,max-size=1k")
    assert made == FixShapes(max_size=Size(1024), sizes={"max_size": "3"})
    assert FixShapes.from_spec(str(made).partition(":")[2]) == made
    assert FixShapes.from_values({"max_size": 3}) == FixShapes(sizes={"max_size": "3"})
    after, _ = fix(model("g (float[max_size] x) => (float[max_size] y) { y = Relu (x) }"), "max_size=3")
    assert shapes(after) == {"x": [3], "y": [3]}


def test_dims_called_question_mark_are_not_one_symbol() -> None:
    before = model("g (float[a,b] x) => (float[a,b] y) { y = Relu (x) }")
    for dim in before.graph.input[0].type.tensor_type.shape.dim:
        dim.dim_param = "?"
    after, _ = fix(before, "x=2x3")
    assert shapes(after)["x"] == [2, 3]


def test_a_negative_dim_is_open() -> None:
    before = model("g (float[a,3] x) => (float[a,3] y) { y = Relu (x) }")
    before.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    after, _ = fix(before, "x=2x3")
    assert shapes(after)["x"] == [2, 3]


def test_scalars_and_inputs_of_unknown_rank() -> None:
    before = model("g (float[n] x, float s) => (float[n] y) { y = Mul (x, s) }")
    before.graph.input[0].type.tensor_type.ClearField("shape")
    after, _ = fix(before, "x=2x3,s=scalar")
    assert shapes(after)["x"] == [2, 3]
    after, _ = fix(before, "x=scalar")
    assert shapes(after)["x"] == []
    assert after.graph.input[0].type.tensor_type.HasField("shape")


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("in:0", "in:0=2x3"),
        ("a=b", "a=b=2x3"),
        ("a=b", r"a\=b=2x3"),
        ("a,b", r"a\,b=2x3"),
        ("size", "size=2x3"),
    ],
)
def test_names_with_separators_in_them(name: str, spec: str) -> None:
    node = helper.make_node("Relu", [name], ["y"])
    info = helper.make_tensor_value_info
    ends = [info(name, TensorProto.FLOAT, ["n", 3])], [info("y", TensorProto.FLOAT, ["n", 3])]
    before = helper.make_model(
        helper.make_graph([node], "g", *ends), opset_imports=[helper.make_opsetid("", 21)]
    )
    after, _ = fix(before, spec)
    assert shapes(after) == {name: [2, 3], "y": [2, 3]}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("images=1,3,640,640", "fix-shapes:images=1x3x640x640"),
        ("images=[1,3,640,640]", "fix-shapes:images=1x3x640x640"),
        ("max-size=1k,images=(1, 3, 640, 640),batch=1", "fix-shapes:images=1x3x640x640"),
        ("images:1x3x640x640", "fix-shapes:images=1x3x640x640"),
        ("images:0:1x3", "fix-shapes:images:0=1x3"),
        ("images=batch,3,?,640", "fix-shapes:images=batchx3x?x640"),
        ("1x3x640x640", "fix-shapes:images=1x3x640x640"),
        ("images=1,3/2", "fix-shapes:images=1x3x640x640"),
    ],
)
def test_a_shape_written_in_another_way_is_told_how_it_is_written(spec: str, said: str) -> None:
    with pytest.raises(BadOption) as error:
        FixShapes.from_spec(spec)
    assert str(error.value) == f"a shape is written 1x3x640x640: --pass {said}"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("batch=1,width", "'width' needs a value: write width=640"),
        ("batch", "'batch' needs a value: write batch=640"),
        ("x=1x3,x=1x3", "has option 'x' twice"),
        ("max-size", "needs a value: write max-size="),
        ("max-size=lots", "must be"),
    ],
)
def test_options_that_are_no_shape(spec: str, said: str) -> None:
    with pytest.raises(BadOption, match=said):
        FixShapes.from_spec(spec)


@pytest.mark.parametrize("text", ["x=[1x3x8x9]", "x=1 x 3 x 8 x 9", "x=(1x3x8x9"])
def test_brackets_and_spaces_are_no_shape(text: str) -> None:
    with pytest.raises(BadOption, match="is no shape; write sizes with x between them"):
        fix(model(TWO), text)


def test_a_recipe_may_write_a_list_or_a_number() -> None:
    values = {"x": [1, 3, "h", 9], "k": 4, "max-size": "1k", "f": []}
    assert FixShapes.from_values(values) == FixShapes(
        max_size=Size(1024), sizes={"x": "1x3xhx9", "k": "4", "f": "scalar"}
    )
    with pytest.raises(BadOption, match="must be text"):
        FixShapes.from_values({"k": 1.5})
    with pytest.raises(BadOption, match="must be text"):
        FixShapes.from_values({"k": True})


def test_without_sizes_a_note_says_so() -> None:
    assert "no sizes were given" in fix(model(TWO), "")[1].notes[0]
    assert not fix(model(TWO), "batch=1")[1].notes


def test_a_symbol_with_an_x_in_its_name() -> None:
    before = model("g (float[max_len,hidden] x) => (float[max_len,hidden] y) { y = Relu (x) }")
    after, _ = fix(before, "x=max_lenx4")
    assert shapes(after)["x"] == ["max_len", 4]


def test_a_sequence_has_no_shape() -> None:
    before = model("g (seq(float[n]) x) => (int64 y) { y = SequenceLength (x) }")
    with pytest.raises(BadOption, match="which has no shape"):
        fix(before, "x=3")


def test_a_wrong_declaration_of_an_output_stays_and_is_told() -> None:
    before = model("g (float[n,4] x) => (float[7,n] y) <int64[3] s = {1, 2, 4}> { y = Reshape (x, s) }")
    after, report = fix(before, "x=2x4")
    assert dims(after.graph.output[0]) == [7, "n"]
    assert report.notes == ("'y' is declared 7xn, and is 1x2x4: the declaration stays",)


def test_annotations_of_what_is_not_known_get_the_symbols() -> None:
    before = model("g (float[n,m] x) => (int64[2,n] y) <int64[2,n] i> { i = NonZero (x) y = Identity (i) }")
    after, _ = fix(before, "n=5")
    assert dims(after.graph.value_info[0]) == [2, 5]
    assert shapes(after)["y"] == [2, 5]


def test_the_arithmetic_of_a_resize_is_folded() -> None:
    before = model(
        "g (float[n,3,h,w] x) => (float[n,3,hh,ww] y) <int64[1] zero = {0}, int64[1] two = {2},"
        " int64[1] four = {4},"
        " int64 z = {0}, int64 one = {1}> {"
        " s = Shape (x) nc = Slice (s, zero, two, zero) hw = Slice (s, two, four, zero) d = Mul (hw, two)"
        ' size = Concat <axis = 0> (nc, d) r = Resize <mode = "nearest"> (x, , , size)'
        " c = Size (s) g = Range (z, c, one) k = ConstantOfShape <value = int64[1] {1}> (two)"
        " e = Expand (one, k) q = Equal (e, one) v = Where (q, e, one) t = Cast <to = 1> (v) y = Add (r, t) }"
    )
    after, report = fix(before, "x=1x3x4x5")
    assert [
        n.op_type for n in after.graph.node if n.op_type in ("Shape", "Slice", "Concat", "Mul", "Size")
    ] == []
    assert shapes(after)["y"] == [1, 3, 8, 10]
    assert rewrite(before, [FixShapes(sizes={"x": "1x3x4x5"})]).verification.status == "held"
    assert not report.refusals


DIMS = st.sampled_from(["a", "b", 3, 4])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(DIMS, min_size=1, max_size=4),
    st.lists(DIMS, min_size=1, max_size=4),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_every_shape_that_fits_is_taken(x: list[Any], z: list[Any], a: int, b: int) -> None:
    """Fixing by input and by symbol gives one result, keeps the numbers, and a second run changes nothing."""
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Reshape", ["r", "s"], ["y"]),
        helper.make_node("Neg", ["z"], ["w"]),
    ]
    nodes.insert(0, helper.make_node("Relu", ["x"], ["r"]))
    ends = [info("x", 1, x), info("z", 1, z)], [info("y", 1, x), info("w", 1, z)]
    before = helper.make_model(
        helper.make_graph(nodes, "g", *ends), opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    )
    size = {"a": a, "b": b}
    by_input = ",".join(f"{n}=" + "x".join(str(size.get(d, d)) for d in t) for n, t in (("x", x), ("z", z)))
    after, _ = fix(before, by_input)
    assert shapes(after)["y"] == shapes(after)["x"] == [size.get(d, d) for d in x]
    assert [n.op_type for n in after.graph.node] == ["Relu", "Reshape", "Neg"]
    again, second = fix(after, by_input)
    assert second.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()
    used = [f"{s}={size[s]}" for s in ("a", "b") if s in (*x, *z)]
    other, _ = fix(before, ",".join(used))
    assert other.graph.SerializeToString() == after.graph.SerializeToString()
    assert rewrite(before, [FixShapes.from_spec(by_input)]).verification.status in ("held", "unchanged")


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_the_spec_builds_the_pass_again(sizes: dict[str, str]) -> None:
    known = {"max-size", "sizes"}
    kept = {k: v for k, v in sizes.items() if k.strip() not in known}
    made = FixShapes(sizes=kept)
    assert FixShapes.from_spec(str(made).partition(":")[2]) == made
