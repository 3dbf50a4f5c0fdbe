"""Every fixture of every built-in pass, and every pass has fixtures that fire and that refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphkit.rewrite import registry
from graphkit.testing import Case, case, cases, check, run

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
BUILTIN = [name for name, one in registry.installed().items() if one.module.startswith("graphkit_passes.")]


@pytest.mark.parametrize("one", [c for name in BUILTIN for c in cases(FIXTURES / name)], ids=str)
def test_fixture(one: Case) -> None:
    check(one)


@pytest.mark.parametrize("name", BUILTIN)
def test_every_pass_fires_once_and_refuses_once(name: str) -> None:
    own = list(cases(FIXTURES / name))
    assert any(c.after is not None for c in own), "no fixture in which it changes something"
    assert any(c.refuses for c in own), "no fixture that says why it refuses"


def test_every_fixture_lies_in_the_folder_of_its_pass() -> None:
    for folder in (f for f in FIXTURES.iterdir() if f.is_dir() and f.name != "rules"):
        for one in cases(folder):
            assert one.spec.partition(":")[0] == one.path.parent.name


SWISH = '<ir_version: 10, opset_import: ["": 24]>\ng (float[2] x) => (float[2] y) {{ {} }}\n'
BEFORE = SWISH.format("y = Swish (x)")
AFTER = SWISH.format("y_sigmoid = Sigmoid (x) y = Mul (x, y_sigmoid)")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"# pass: silu\n{BEFORE}", "must not change"),
        (f"# pass: silu\n{BEFORE}# output\n{BEFORE}", "not what is expected"),
        (f"# pass: silu\n# refuses: because\n{BEFORE}# output\n{AFTER}", "no refusal says 'because'"),
        (f"# pass: silu\n# not-run: no runtime\n{BEFORE}# output\n{AFTER}", "held"),
    ],
)
def test_a_wrong_fixture_fails(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "wrong.onnxtxt"
    path.write_text(text)
    with pytest.raises(AssertionError, match=problem):
        check(case(path))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (BEFORE, "needs one line '# pass: spec'"),
        (f"# pass: silu\n# pass: silu\n{BEFORE}", "needs one line '# pass: spec'"),
        ("# pass: silu\nno model\n", "wrong.onnxtxt"),
    ],
)
def test_what_is_no_fixture(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "wrong.onnxtxt"
    path.write_text(text)
    with pytest.raises(ValueError, match=problem):
        case(path)


BAD_PASSES = '''
from graphkit import Pass


class Doubles(Pass):
    """Makes of every Relu twice the Relu."""

    name = "doubles"

    def apply(self, graph, tally):
        for node in [n for n in graph.nodes if n.op == "Relu"]:
            (twice,) = graph.add("Add", [node.inputs[0], node.inputs[0]], outputs=["twice"], before=node)
            node.inputs[0] = twice
            tally.rewrite()


class Swaps(Pass):
    """Swaps the outputs."""

    name = "swaps"

    def apply(self, graph, tally):
        graph.outputs.reverse()
        tally.rewrite()


class Restless(Pass):
    """Puts one Identity more in front of every Relu, and does not count it."""

    name = "restless"

    def apply(self, graph, tally):
        for node in [n for n in graph.nodes if n.op == "Relu"]:
            (same,) = graph.add("Identity", [node.inputs[0]], outputs=["same"], before=node)
            node.inputs[0] = same


class Breaks(Pass):
    """Makes every Relu an operator that is none."""

    name = "breaks"

    def apply(self, graph, tally):
        for node in graph.nodes:
            node.op = "Rleu" if node.op == "Relu" else node.op


class Counts(Pass):
    """Counts what it does not do."""

    name = "counts"

    def apply(self, graph, tally):
        tally.rewrite()
'''
RELU = '<ir_version: 10, opset_import: ["": 21]>\ng (float[8] x) => (float[8] y, float[8] z) {{ {} }}\n'


@pytest.mark.parametrize(
    ("name", "body", "outputs", "problem"),
    [
        ("Doubles", "twice = Add (x, x) y = Relu (twice) z = Neg (x)", "y, float[8] z", "second run makes 1"),
        ("Swaps", "y = Relu (x) z = Neg (x)", "z, float[8] y", "second run makes 1"),
        (
            "Restless",
            "same = Identity (x) y = Relu (same) z = Neg (x)",
            "y, float[8] z",
            "second run changes the",
        ),
        ("Breaks", "y = Rleu (x) z = Neg (x)", "y, float[8] z", "the result is not valid"),
        ("Counts", "", "", "1 rewrites reported, and nothing changed"),
    ],
)
def test_a_wrong_pass_fails(tmp_path: Path, name: str, body: str, outputs: str, problem: str) -> None:
    (tmp_path / "bad.py").write_text(BAD_PASSES)
    text = f"# pass: {tmp_path / 'bad.py'}:{name}\n" + RELU.format("y = Relu (x) z = Neg (x)")
    if body:
        text += "# output\n" + RELU.format(body).replace("y, float[8] z", outputs)
    (tmp_path / "wrong.onnxtxt").write_text(text)
    with pytest.raises(AssertionError, match=problem):
        check(case(tmp_path / "wrong.onnxtxt"))


def test_twice_a_relu_is_no_relu_and_swapped_outputs_are_no_outputs(tmp_path: Path) -> None:
    import onnx.parser

    from graphkit.testing import assert_equivalent

    (tmp_path / "bad.py").write_text(BAD_PASSES)
    model = onnx.parser.parse_model(RELU.format("y = Relu (x) z = Neg (x)"))
    with pytest.raises(AssertionError, match="differs"):
        assert_equivalent(f"{tmp_path / 'bad.py'}:Doubles", model)
    with pytest.raises(AssertionError, match="outputs are"):
        assert_equivalent(f"{tmp_path / 'bad.py'}:Swaps", model)
    assert run("silu", model)[0] == assert_equivalent("silu", model) == model
