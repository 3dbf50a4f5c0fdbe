"""Passes that change the interface: each is held to what it says of the model that it was given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import graphkit
from graphkit import Bridge, Graph, Pass, Tally
from graphkit.errors import RewriteRefused

MODEL = """
<ir_version: 10, opset_import: ["": 20]>
g (float[N,4] x) => (float[N,4] y, float[N,4] z) <float[4] w = {1.0, 2.0, -3.0, 0.5}> {
  a = Mul (x, w)
  y = Sigmoid (a)
  z = Exp (a)
}
"""


class _Edit(Pass):
    name = "edit"
    factor = 1.0

    def apply(self, graph: Graph, tally: Tally) -> None:
        raise NotImplementedError


class TakesInner(_Edit):
    """The model from ``a`` on."""

    def apply(self, graph: Graph, tally: Tally) -> None:
        a = next(t for n in graph.nodes for t in n.outputs if t.name == "a")
        if a in graph.inputs:
            return
        maker = graph.producer(a)
        graph.remove([maker])
        a.dtype, a.shape = np.float32, ["N", 4]
        graph.inputs[:] = [a]
        tally.rewrite()
        tally.bridge(Bridge(says="'a' is the input", taken={"a": "a"}))


class TakesWrong(TakesInner):
    """The same, with another operator behind it."""

    def apply(self, graph: Graph, tally: Tally) -> None:
        super().apply(graph, tally)
        next(n for n in graph.nodes if n.op == "Exp").op = "Sqrt"


class Bytes(_Edit):
    """The input becomes uint8."""

    def apply(self, graph: Graph, tally: Tally) -> None:
        (x,) = graph.inputs
        first = graph.nodes[0]
        (cast,) = graph.add("Cast", [x], {"to": 1}, before=first)
        graph.rewire(first, x, cast)
        x.dtype = np.uint8
        tally.rewrite()
        tally.bridge(
            Bridge(
                says="'x' is uint8",
                feeds=lambda f: [{"x": f["x"].astype(np.float32) * np.float32(self.factor)}],
            )
        )


class BytesWrong(Bytes):
    """The same, said wrongly."""

    factor = 2.0


class Drops(_Edit):
    """``z`` is no output any more."""

    def apply(self, graph: Graph, tally: Tally) -> None:
        del graph.outputs[1]
        tally.rewrite()
        tally.bridge(Bridge(says="'z' is no output any more"))


class Silent(_Edit):
    """Drops ``z``, and does not say so."""

    def apply(self, graph: Graph, tally: Tally) -> None:
        del graph.outputs[1]
        tally.rewrite()


class Renews(_Edit):
    """A plug-in that nobody can run makes ``z``."""

    def apply(self, graph: Graph, tally: Tally) -> None:
        exp = next(n for n in graph.nodes if n.op == "Exp")
        exp.op, exp.domain = "MyExp", "plugin"
        graph.gs.import_domains.append(onnx.helper.make_opsetid("plugin", 1))
        tally.rewrite()
        tally.bridge(Bridge(says="'z' comes from MyExp", unproven={"z": "MyExp is a plug-in"}))


class Spoils(_Edit):
    """An ordinary pass that computes something else."""

    def apply(self, graph: Graph, tally: Tally) -> None:
        next(n for n in graph.nodes if n.op == "Sigmoid").op = "Tanh"
        tally.rewrite()


def run(*passes: Pass, tmp: Path) -> graphkit.RewriteReport:
    return graphkit.rewrite(onnx.parser.parse_model(MODEL), list(passes), tmp / "out.onnx")


@pytest.mark.parametrize("step", [TakesInner(), Bytes(), Drops()])
def test_an_edit_that_keeps_its_word_is_written(step: Pass, tmp_path: Path) -> None:
    report = run(step, tmp=tmp_path)
    assert report.verification.status == "held"
    assert report.verification.compared >= 1
    assert report.verification.reason.startswith("'")
    assert (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    ("step", "culprit"), [(TakesWrong(), "z"), (BytesWrong(), "differs at"), (Silent(), "outputs")]
)
def test_an_edit_that_does_not_is_refused(step: Pass, culprit: str, tmp_path: Path) -> None:
    with pytest.raises(RewriteRefused, match=culprit):
        run(step, tmp=tmp_path)
    assert not (tmp_path / "out.onnx").exists()


def test_what_no_runtime_knows_is_named_and_the_rest_is_compared(tmp_path: Path) -> None:
    proof = run(Renews(), tmp=tmp_path).verification
    assert proof.status == "held"
    assert "MyExp is a plug-in" in proof.reason
    assert proof.compared == 1


def test_passes_around_an_edit_are_proven_on_their_own(tmp_path: Path) -> None:
    assert (
        run(Drops(), graphkit.load_pass("remove-dead"), Bytes(), tmp=tmp_path).verification.status == "held"
    )
    for steps in (
        [Spoils(), Drops()],
        [Drops(), Spoils()],
        [Drops(), graphkit.load_pass("remove-dead"), Spoils()],
    ):
        with pytest.raises(RewriteRefused) as caught:
            run(*steps, tmp=tmp_path)
        assert caught.value.report.verification.culprit == str(Spoils())
