"""Passes in files: classes, plain functions, and everything that can be wrong with them."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from graphkit import BadOption, BadPass, Model, PassFailed, apply, load_pass
from graphkit.rewrite.script import function_pass, is_script, load_script
from tests.rewrite.helpers import SILU_TWICE, ops, proto

SCRIPT = Path(__file__).with_name("script.py")


def test_which_specs_are_scripts() -> None:
    assert all(map(is_script, ["./a.py", "a.py:f", "/x/y.py:f:k=v", "../a.py", "dir/a.py:f"]))
    assert not any(map(is_script, ["silu", "silu:file=a.py", "silu:a=b", "a.pyx"]))


def test_a_class_prints_a_spec_that_finds_it_again() -> None:
    made = load_pass(f"{SCRIPT}:Doubling:times=2")
    assert str(made) == f"{SCRIPT}:Doubling:times=2"
    assert load_pass(str(made)) == made
    assert ops(apply(proto(SILU_TWICE), made))["Add"] == 1


def test_a_function_with_options() -> None:
    step = load_pass(f"{SCRIPT}:tag:prefix=q,count=2,colour=red")
    assert str(step) == f"{SCRIPT}:tag:prefix=q,count=2,colour=red"
    model = Model.from_proto(proto(SILU_TWICE))
    report = step.run(model)
    assert report.rewrites == 2
    assert [n.name for n in model.main.nodes][:2] == ["q0.colour=red", "q1.colour=red"]
    with pytest.raises(BadOption, match="count must be integer"):
        load_pass(f"{SCRIPT}:tag:count=x")


def test_a_function_that_changes_nothing() -> None:
    model = Model.from_proto(proto(SILU_TWICE))
    assert load_pass(f"{SCRIPT}:nothing").run(model).rewrites == 0
    assert model.to_bytes() == model.file.data


def test_a_function_that_returns_another_graph() -> None:
    made = apply(proto(SILU_TWICE), f"{SCRIPT}:copied")
    assert made.graph.node[0].name == "copied" and len(made.graph.node) == 4
    onnx.checker.check_model(made)


def test_a_function_that_leaves_the_nodes_out_of_order() -> None:
    made = apply(proto(SILU_TWICE), f"{SCRIPT}:backwards")
    onnx.checker.check_model(made)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("crash", r"crash' failed: KeyError: 'axis' \(script.py:\d+\)"),
        ("leave", r"leave' failed: SystemExit: 3 \(script.py:\d+\)"),
        ("number", "returned an int, not a graph or None"),
        ("Cyclic", "left a graph that is not valid: main has a cycle: "),
        ("Restless", "does not come to rest"),
    ],
)
def test_a_failure_names_the_pass_and_the_line(name: str, said: str) -> None:
    with pytest.raises(PassFailed, match=said) as caught:
        apply(proto(SILU_TWICE), f"{SCRIPT}:{name}")
    assert f"{SCRIPT}:{name}" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "spec", "said"),
    [
        (None, "{}:f", "cannot be read"),
        ("def f(:", "{}:f", r"SyntaxError: .*:1\)"),
        ("import no_such_module_at_all", "{}:f", "ModuleNotFoundError"),
        ("raise SystemExit(1)", "{}:f", "SystemExit"),
        ("x = 1", "{}:x", "is no pass class and no function"),
        ("x = 1", "{}:y", "has no 'y'; it has no pass and no function"),
        ("def f(g): pass\ndef h(g): pass", "{}", "say which pass"),
        ("def f(): pass", "{}:f", "must take a graph"),
        ("def f(*, graph): pass", "{}:f", "must take a graph"),
        ("def f(g: Nothing): pass", "{}:f", "NameError"),
        ("def f(g, x: 'Nothing'): pass", "{}:f", "cannot be a pass"),
    ],
)
def test_a_script_that_cannot_be_used(tmp_path: Path, text: str | None, spec: str, said: str) -> None:
    file = tmp_path / "bad.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(BadPass, match=said) as caught:
        load_pass(spec.format(file))
    assert "\n" not in str(caught.value)


def test_the_only_pass_of_a_file_needs_no_name(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text("from math import floor\nimport helper\ndef f(graph, x, y=None, *more): pass\n")
    (tmp_path / "helper.py").write_text("")
    cls, arguments = load_script(f"{file}::x=1")
    assert arguments == "x=1" and [f.name for f in cls.options()] == ["x", "y"]
    assert str(cls.from_spec(arguments)) == f"{file}:x=1" or str(cls.from_spec(arguments)) == f"{file}::x=1"
    file.write_text("def other(graph): pass\n")
    assert load_script(str(file))[0].name == "other", "a changed file is read again"


def test_a_builtin_is_no_pass() -> None:
    with pytest.raises(BadPass):
        function_pass(type)


CLASSES = """
from graphkit import PatternPass
class Merge(PatternPass):
    "Merges."
    name = "merge-scales"
    def pattern(self, op, x): return op.Mul(x, 2.0)
    def rewrite(self, op, m): {body}
class Bad(PatternPass):
    name = "bad"
    def pattern(self, op, x): return op.Mul(x, 2.0)
def swish_to_sig(graph, path): pass
"""


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(CLASSES.format(body="return op.Add(m.x, m.x)"))
    return file


def test_the_name_of_a_pass_names_it_too(classes: Path) -> None:
    step = load_pass(f"{classes}:merge-scales")
    assert str(step) == f"{classes}:merge-scales" and type(step) is type(load_pass(f"{classes}:Merge"))


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("merge_scale", BadPass, "did you mean merge-scales"),
        ("Swish_to_sig", BadPass, "did you mean swish_to_sig"),
        ("zzz", BadPass, "has no 'zzz'; it has Merge, swish_to_sig"),
        ("Bad", BadPass, "pass class Bad in .* has no method rewrite"),
        ("swish_to_sig", BadOption, r"needs path=…; see `graphkit explain .*mine.py:swish_to_sig`"),
        ("merge-scales:limit=10", BadOption, "has no option 'limit'"),
    ],
)
def test_a_wrong_name_in_a_file(classes: Path, name: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        load_pass(f"{classes}:{name}")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("op.Add(m.x, m.x)", "rewrite returned None; return what replaces the pattern$"),
        ("return 3", "rewrite returned 3, of type int; return a tensor"),
        ("return m.x, None", "returned 2 results; the pattern makes 1 tensor$"),
        ("return m.value('c')", r"the pattern binds no 'c'; it binds x \(mine.py:7\)"),
        ("return m['c']", r"the pattern binds no 'c'; it binds x"),
        ("return m.c", r"the pattern binds no 'c'; it binds x \(mine.py:7\)"),
        ("import json; json.loads('{')", r"JSONDecodeError: .* \(mine.py:7\)"),
    ],
)
def test_mistakes_in_a_pattern_class(classes: Path, body: str, said: str) -> None:
    classes.write_text(CLASSES.format(body=body))
    with pytest.raises(PassFailed, match=said):
        apply(proto(SILU_TWICE), f"{classes}:Merge")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "from graphkit import *\nclass A(Pass):\n  x: object = option(default=[], help='')",
            r"list.*a.py:3\)",
        ),
        ("from graphkit import *\nclass A(Pass):\n  x: object = []", r"class A: mutable default.*\(a.py:2\)"),
        ("def f(g, names=()): pass", "option 'names' of .*a.py:f needs an annotation"),
        ("def f(g, names=[]): pass", "option 'names' of .*a.py:f has a list for its default"),
    ],
)
def test_defaults_that_are_no_option(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.py").write_text(text)
    with pytest.raises(BadPass, match=said):
        load_pass(f"{tmp_path}/a.py:f")


def test_a_tuple_without_annotation_is_a_list_of_its_kind(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f(g, names=('a',), sizes=dict): pass")
    assert load_pass(f"{tmp_path}/a.py:f:names=b+c").names == ("b", "c")  # type: ignore[attr-defined]
    with pytest.raises(BadPass, match="f:sizes is of type type, which cannot be spelled"):
        load_pass(f"{tmp_path}/a.py:f:sizes=3")


def test_functions_as_people_have_them(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "import onnx_graphsurgeon as gs\n"
        "def f(graph: 'Graph', run='a', types=1, name='n', function=2, parameters=3) -> 'Graph':\n"
        "    graph.nodes[0].name = f'{run}{types}{name}{function}{parameters}'\n"
        "    return gs.export_onnx(graph)\n"
    )
    step = load_pass(f"{tmp_path}/a.py:f:run=b,name=m")
    assert str(step) == f"{tmp_path}/a.py:f:run=b,name=m"
    made = apply(proto(SILU_TWICE), step)
    assert made.graph.node[0].name == "b1m23" and len(made.graph.node) == 4
    onnx.checker.check_model(made)


def test_what_is_no_node_is_counted_too(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f(graph): graph.inputs[0].shape = ['n', 3]\n")
    model = Model.from_proto(proto(SILU_TWICE))
    assert load_pass(f"{tmp_path}/a.py:f").run(model).rewrites == 1
    assert load_pass(f"{tmp_path}/a.py:f").run(model).rewrites == 0
