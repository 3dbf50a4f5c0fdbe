"""The ``rename`` pass: every name that matches changes, in every scope, unless its meaning would."""

from __future__ import annotations

import re
import time
from pathlib import Path

import onnx
import onnx.checker
import onnx.helper as h
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkit import BadOption, Model, PassReport
from graphkit.model.file import ModelFile
from graphkit.rewrite.pipeline import rewrite
from graphkit_passes.rename import Rename
from tests.passes.scoped_models import graphs, models, shape_of, tensors, values

HEADER = '<ir_version: 10, opset_import: ["": 21, "local": 1]>\n'


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEADER + text)


def renamed(
    model: onnx.ModelProto | str, pattern: str, to: str, **options: object
) -> tuple[Model, PassReport]:
    """The model after one rename, and the report."""
    twin = Model.from_proto(parse(model) if isinstance(model, str) else model)
    return twin, Rename(pattern=pattern, to=to, **options).run(twin)  # type: ignore[arg-type]


def reasons(report: PassReport) -> list[str]:
    return [str(r) for r in report.refusals]


TWO = "g (float[2] x) => (float[2] y) { [n1] h = Relu (x)  [n2] y = Neg (h) }"


@pytest.mark.parametrize("pattern", ["(", "a**", "(?P<n>a)(?P<n>b)", "[z-a]", "a{99999999999999999999}"])
def test_bad_pattern(pattern: str) -> None:
    with pytest.raises(BadOption, match=r"^rename:pattern="):
        Rename(pattern=pattern, to="x")


@pytest.mark.parametrize("to", [r"\1", r"\g<no>", "\\", r"\g<1", r"\q"])
def test_bad_replacement(to: str) -> None:
    with pytest.raises(BadOption, match=r"^rename:to="):
        Rename(pattern="a", to=to)


def test_text_that_is_no_unicode() -> None:
    with pytest.raises(BadOption, match="cannot be used"):
        Rename(pattern="a", to="\udc80")


@pytest.mark.parametrize(
    "spec", ["", "pattern=a", "to=a", "pattern=a,to=b,what=all", "pattern=a,to=b,io=maybe"]
)
def test_bad_spec(spec: str) -> None:
    with pytest.raises(BadOption):
        Rename.from_spec(spec)


@given(st.text(max_size=8).map(re.escape), st.text(max_size=8).map(lambda t: t.replace("\\", r"\\")))
def test_spec_round_trip(pattern: str, to: str) -> None:
    if to.isprintable() and pattern.isprintable():
        made = Rename(pattern=pattern, to=to)
        assert Rename.from_spec(str(made).partition(":")[2]) == made


@pytest.mark.parametrize("what, nodes, inner", [("both", 1, 1), ("nodes", 1, 0), ("tensors", 0, 1)])
def test_what(what: str, nodes: int, inner: int) -> None:
    model, report = renamed(TWO.replace("n1", "h"), "^h$", "k", what=what)
    (first, _) = model.to_proto().graph.node
    assert (first.name, first.output[0]) == ("hk"[nodes], "hk"[inner])
    assert report.rewrites == nodes + inner


def test_unnamed_nodes_stay_unnamed() -> None:
    model, report = renamed("g (float[2] x) => (float[2] y) { y = Relu (x) }", "^", "p/", what="nodes")
    assert report.rewrites == 0 and model.to_bytes() == bytes(model.file.data)


def test_swap_and_chain_at_once() -> None:
    text = (
        "g (float[2] x) => (float[2] y) { t1 = Relu (x)  t1b = Neg (t1)  t1bb = Abs (t1b)  y = Neg (t1bb) }"
    )
    model, report = renamed(text, "^t1", "t1b")
    assert [n.output[0] for n in model.to_proto().graph.node] == ["t1b", "t1bb", "t1bbb", "y"]
    assert report.rewrites == 3
    assert "another run would rename 't1b' again" in report.notes[0]


def test_a_refusal_blocks_the_names_behind_it() -> None:
    """y stays, so what would be y stays, and what would have its name, and so on."""
    text = "g (float[2] x) => (float[2] t) { ttt = Relu (x)  tt = Neg (ttt)  t = Abs (tt) }"
    model, report = renamed(text, "^t(?=t)", "")
    assert report.rewrites == 0 and model.to_bytes() == bytes(model.file.data)
    assert reasons(report) == [
        "tensor 'ttt': the new name, 'tt', would be that of 'tt' too",
        "tensor 'tt': the new name, 't', is that of another tensor",
    ]


def test_name_that_is_no_text() -> None:
    """A node's name in the file may be bytes that are no UTF-8; it is left alone."""
    model = parse(TWO.replace("n1", "n_"))
    twin = Model.from_file(ModelFile.from_bytes(model.SerializeToString().replace(b"n_", b"n\xff")))
    report = Rename(pattern="^n", to="m").run(twin)
    assert report.rewrites == 1 and "is no text" in report.refusals[0].reason


def test_nodes_that_share_a_name_keep_sharing_it() -> None:
    text = "g (float[2] x) => (float[2] y) { [n] h = Relu (x)  [n] y = Neg (h) }"
    model, report = renamed(text, "^n$", "m")
    assert [n.name for n in model.to_proto().graph.node] == ["m", "m"] and report.rewrites == 2


SHADOWS = """g (float[2] x, bool c) => (float[2] y) {
    outer = Relu (x)
    y = If (c) <
        then_branch = t () => (float[2] a) { inner = Neg (outer)  a = Abs (inner) },
        else_branch = e () => (float[2] a) { other = Neg (outer)  a = Abs (other) }
    >
}"""


@pytest.mark.parametrize(
    "pattern, to, reason",
    [
        (
            "^outer$",
            "inner",
            "tensor 'outer': the new name, 'inner', is that of another tensor in main/y.then_branch",
        ),
        ("^inner$", "outer", "the new name, 'outer', is that of another tensor in main"),
        ("^inner$", "x", "the new name, 'x', is that of another tensor in main"),
        (
            "^inner$",
            "a",
            "tensor 'inner' in main/y.then_branch: the new name, 'a', is that of another tensor",
        ),
    ],
)
def test_what_is_visible_is_not_captured(pattern: str, to: str, reason: str) -> None:
    model, report = renamed(SHADOWS, pattern, to)
    assert report.rewrites == 0 and model.to_bytes() == bytes(model.file.data)
    assert len(report.refusals) == 1 and reason in reasons(report)[0]


def test_siblings_may_share_names() -> None:
    model, report = renamed(SHADOWS, "^(inner|other)$", "same")
    assert report.rewrites == 2 and not report.refusals
    assert shape_of(model.to_proto()) == shape_of(parse(SHADOWS))


def test_twins_of_one_name_move_together() -> None:
    """A file whose subgraph hides an outer name keeps that meaning under the new name."""
    text = SHADOWS.replace("inner", "outer").replace("Neg (outer)  a", "Neg (x)  a")
    model, report = renamed(text, "^outer$", "new")
    assert report.rewrites == 2 and shape_of(model.to_proto()) == shape_of(parse(text))


def test_interface_of_functions_and_branches_is_free() -> None:
    text = """g (float[2] x, bool c) => (float[2] y) {
        y = If (c) <
            then_branch = t () => (float[2] a) { a = local.f (x) },
            else_branch = e () => (float[2] a) { a = Neg (x) }
        >
    }
    <domain: "local", opset_import: ["": 21]> f (x) => (y) { y = Relu (x) }"""
    model, report = renamed(text, "^([axy])$", r"new_\1")
    got = model.to_proto()
    assert list(got.functions[0].input) == ["new_x"] and list(got.functions[0].output) == ["new_y"]
    assert [a.g.output[0].name for a in got.graph.node[0].attribute] == ["new_a", "new_a"]
    assert [i.name for i in got.graph.input] == ["x", "c"] and [o.name for o in got.graph.output] == ["y"]
    assert len(report.refusals) == 2
    onnx.checker.check_model(got, full_check=True)


def test_default_of_an_input_is_interface_from_ir_4() -> None:
    text = "g (float[2] x, float[2] d = {1, 2}) => (float[2] y) { y = Add (x, d) }"
    model, report = renamed(text, "^d$", "e")
    assert reasons(report) == ["tensor 'd': it is a graph input; io=true renames those too"]
    model, report = renamed(text, "^d$", "e", io=True)
    got = model.to_proto().graph
    assert [i.name for i in got.input] == ["x", "e"] and got.initializer[0].name == "e"
    assert got.node[0].input == ["x", "e"]
    old = parse(text)
    old.ir_version = 3
    model, report = renamed(old, "^d$", "e")
    assert report.rewrites == 1 and [i.name for i in model.to_proto().graph.input] == ["x", "e"]


def test_io_through_the_pipeline(tmp_path: Path) -> None:
    """Outputs under new names are paired with those of the original, and the numbers are compared."""
    onnx.save(parse(TWO), tmp_path / "in.onnx")
    done = rewrite(tmp_path / "in.onnx", ["rename:pattern=^([xyh])$,to=new_\\1,io"], tmp_path / "out.onnx")
    assert done.written and done.verification.status == "held"
    got = onnx.load(tmp_path / "out.onnx").graph
    assert (got.input[0].name, got.output[0].name) == ("new_x", "new_y")


def with_training(text: str, *reads: str) -> onnx.ModelProto:
    model = parse(text)
    step = model.training_info.add().algorithm
    step.node.append(h.make_node("Identity", list(reads), ["t"]))
    return model


def test_pinned_names() -> None:
    model, report = renamed(with_training(TWO, "h"), "^h$", "k")
    assert report.rewrites == 0 and "refers to it" in reasons(report)[0]
    model, report = renamed(with_training(TWO, "k"), "^h$", "k")
    assert report.rewrites == 0 and "uses the new name, 'k'" in reasons(report)[0]
    assert model.to_bytes() == bytes(model.file.data)


def test_graphs_attribute_pins() -> None:
    model = parse(TWO)
    inner = h.make_graph(
        [h.make_node("Relu", ["h"], ["q"])], "s", [], [h.make_tensor_value_info("q", 1, [2])]
    )
    model.graph.node[1].attribute.append(h.make_attribute("bodies", [inner]))
    _, report = renamed(model, "^h$", "k")
    assert report.rewrites == 0 and "a list of graphs refers to it" in reasons(report)[0]


def annotated() -> onnx.ModelProto:
    model = parse("g (float[2] x) => (float[2] y) <float s = {1}> { h = Relu (x)  y = Neg (h) }")
    note = model.graph.quantization_annotation.add(tensor_name="h")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    model.graph.value_info.append(h.make_tensor_value_info("h", onnx.TensorProto.FLOAT, [2]))
    model.graph.value_info[0].doc_string = "kept"
    devices = model.graph.node[1].device_configurations.add(configuration_id="d")
    devices.sharding_spec.add(tensor_name="h")
    return model


def test_what_names_tensors_follows() -> None:
    model, report = renamed(annotated(), "^([hs])$", r"new_\1")
    got = model.to_proto().graph
    assert report.rewrites == 2
    assert (got.value_info[0].name, got.value_info[0].doc_string) == ("new_h", "kept")
    assert got.quantization_annotation[0].tensor_name == "new_h"
    assert got.quantization_annotation[0].quant_parameter_tensor_names[0].value == "new_s"
    assert got.node[1].device_configurations[0].sharding_spec[0].tensor_name == "new_h"
    assert got.initializer[0].name == "new_s"


def test_types_of_what_is_not_there_take_their_names() -> None:
    model = parse(TWO)
    model.graph.value_info.append(h.make_tensor_value_info("stale", onnx.TensorProto.INT64, [7]))
    _, report = renamed(model, "^h$", "stale")
    assert report.rewrites == 0 and "is that of another tensor" in reasons(report)[0]
    twin, report = renamed(model, "^stale$", "new")
    assert report.rewrites == 0 and not report.refusals and twin.to_bytes() == bytes(twin.file.data)


def test_constants_of_an_earlier_pass() -> None:
    import numpy as np

    twin = Model.from_proto(parse(TWO))
    twin.main.rewire(
        twin.main.nodes[1], twin.main.nodes[1].inputs[0], twin.main.constant(np.ones(2, "f4"), "made")
    )
    report = Rename(pattern="^made$", to="h").run(twin)
    assert report.rewrites == 0 and "is that of another tensor" in reasons(report)[0]
    assert Rename(pattern="^made$", to="kept").run(twin).rewrites == 1
    assert [i.name for i in twin.to_proto().graph.initializer] == ["kept"]


def test_ten_thousand_nodes() -> None:
    nodes = [h.make_node("Neg", [f"/t{i}"], [f"/t{i + 1}"], name=f"/n{i}") for i in range(10_000)]
    ends = [h.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in ("/t0", "/t10000")]
    twin = Model.from_proto(h.make_model(h.make_graph(nodes, "g", ends[:1], ends[1:])))
    start = time.perf_counter()
    assert Rename(pattern="^/", to="x/").run(twin).rewrites == 19_999
    assert Rename(pattern="[0-9]+$", to="").run(twin).rewrites == 0
    assert time.perf_counter() - start < 10


PATTERNS = ["^", "^/", "a", "[0-9]$", "^(.)(.?)$", "h1|h2", "^a$", "_1$", "^x/"]
REPLACEMENTS = ["", "x/", "b", "a", "w", r"\g<0>_1", "h1"]


@settings(max_examples=150, deadline=None)
@given(models(), st.sampled_from(PATTERNS), st.sampled_from(REPLACEMENTS), st.booleans())
def test_any_rename_keeps_the_model(model: onnx.ModelProto, pattern: str, to: str, io: bool) -> None:
    twin, report = renamed(model, pattern, to, io=io)
    got = twin.to_proto()
    onnx.checker.check_model(got, full_check=True)
    assert shape_of(got) == shape_of(model)
    assert [v.tolist() for v in values(got)] == [v.tolist() for v in values(model)]
    changed = refused = 0
    for was, now in zip(graphs(model), graphs(got), strict=True):
        nodes = ((a.name, b.name) for a, b in zip(was.node, now.node, strict=True))
        for before, after in (*zip(tensors(was), tensors(now), strict=True), *nodes):
            wanted = re.sub(pattern, to, before) if before else ""
            assert after in (before, wanted)
            changed += after != before
            refused += after != wanted
    assert (report.rewrites, len(report.refusals)) == (changed, refused)
    if not changed:
        assert twin.to_bytes() == bytes(twin.file.data)
    if io is False:
        assert [t.name for t in (*got.graph.input, *got.graph.output)] == [
            t.name for t in (*model.graph.input, *model.graph.output)
        ]


@settings(max_examples=60, deadline=None)
@given(models(), st.sampled_from([("^/", "x/"), ("^(?!q/)", "q/"), ("a", "b"), ("^a$", "w")]))
def test_a_second_run_changes_nothing(model: onnx.ModelProto, expression: tuple[str, str]) -> None:
    twin, _ = renamed(model, *expression)
    first = twin.to_bytes()
    assert Rename(pattern=expression[0], to=expression[1]).run(twin).rewrites == 0
    again, report = renamed(onnx.ModelProto.FromString(first), *expression)
    assert report.rewrites == 0 and again.to_bytes() == first


# -- exact names


def exactly(text: str, *pairs: str, **options: object) -> tuple[Model, PassReport]:
    twin = Model.from_proto(parse(text))
    return twin, Rename(map=pairs, **options).run(twin)  # type: ignore[arg-type]


def test_exact_names_reach_nodes_tensors_and_both_ends() -> None:
    model, report = exactly(TWO, "x->images", "h->hidden", "n2->last", "y->scores")
    graph = model.to_proto().graph
    assert ([i.name for i in graph.input], [o.name for o in graph.output]) == (["images"], ["scores"])
    assert [n.name for n in graph.node] == ["n1", "last"] and report.rewrites == 4
    again = Model.from_proto(model.to_proto())
    assert Rename(map=("x->images", "h->hidden")).run(again).rewrites == 0


@settings(max_examples=25, deadline=None)
@given(models(), st.data())
def test_exact_renames_keep_the_meaning(model: onnx.ModelProto, data: st.DataObject) -> None:
    names = sorted({t for g in graphs(model) for t in tensors(g)})
    old = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))
    pairs = tuple(f"{n}->q/{n}" for n in old)
    twin = Model.from_proto(model)
    report = Rename(map=pairs, what="tensors").run(twin)
    got = twin.to_proto()
    assert not report.refusals
    assert shape_of(got) == shape_of(model)
    onnx.checker.check_model(got, full_check=True)
    for before, after in zip(values(model), values(got), strict=True):
        assert (before == after).all()


def test_ends_that_swap_their_names_are_a_bridge() -> None:
    """By their names alone, each would be taken for the other."""
    text = "g (float[2] x, float[2] z) => (float[2] y, float[2] q) { y = Neg (x)  q = Sub (x, z) }"
    for pairs in (("x->z", "z->x"), ("y->q", "q->y"), ("x->z", "z->w", "y->q", "q->p")):
        report = rewrite(parse(text), [Rename(map=pairs)])
        assert report.verification.status == "held", report.verification.reason


def test_names_from_files(tmp_path: Path) -> None:
    texts = {
        "n.toml": 'x = "a"\n"h" = "b"\n[nodes]\nn1 = "first"\n[tensors]\ny = "c"\n',
        "n.json": '{"x": "a", "h": "b", "nodes": {"n1": "first"}, "tensors": {"y": "c"}}',
        "n.csv": "old,new\nx,a\nh,b\n\nn1,first,nodes\ny,c,tensors\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        twin = Model.from_proto(parse(TWO))
        Rename(file=str(tmp_path / name)).run(twin)
        nodes = twin.to_proto().graph.node
        assert [n.name for n in nodes] == ["first", "n2"]
        assert [(list(n.input), list(n.output)) for n in nodes] == [(["a"], ["b"]), (["b"], ["c"])]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("n.txt", "", "must end in .toml, .json or .csv"),
        ("n.toml", "x = ", "Invalid value"),
        ("n.toml", "x = 3", "'x' is neither a new name nor one of the tables"),
        ("n.toml", "[nodes]\nx = 3", "the new name of 'x' is no text"),
        ("n.toml", 'x = ""', "has an empty name"),
        ("n.json", "[1]", "must hold old names with their new ones"),
        ("n.json", "{", "Expecting property name"),
        ("n.csv", "x", "line 1 is not old,new"),
        ("n.csv", "x,y,tensor", "line 1 is not old,new"),
        ("n.csv", "x,a\nx,b", "'x' gets two names, 'a' and 'b'"),
        ("n.csv", b"\xff", "is not UTF-8"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, text: str | bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadOption, match=re.escape(problem)) as caught:
        Rename(file=str(tmp_path / name)).run(Model.from_proto(parse(TWO)))
    assert str(caught.value).startswith("rename:file=") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"map": ("h",)}, "'h' is no rename; write old->new"),
        ({"map": ("->h",)}, "has an empty name"),
        ({"map": ("h->a", "h->b")}, "'h' gets two names"),
        ({"map": ("h->a",), "pattern": "a", "to": "b"}, "not both"),
        ({"file": "none.toml"}, "cannot be read"),
        ({"map": ("hh->a",)}, "there is no node or tensor 'hh'; did you mean h?"),
        ({"map": ("h->a",), "what": "nodes"}, "there is no node 'h'"),
        ({}, "needs pattern=… and to=…, or map=old->new, or file=…"),
    ],
)
def test_exact_renames_that_cannot_be(options: dict, problem: str) -> None:
    with pytest.raises(BadOption, match=re.escape(problem)):
        Rename(**options).run(Model.from_proto(parse(TWO)))
