"""The ``simplify`` pass: real models beside what others make of them, parts left out, and its report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphkit import BadOption, Model, PassFailed, load_pass
from graphkit.run.session import OrtModel
from graphkit.testing import assert_equivalent, run
from graphkit_passes._simplify import NAMES, STEPS
from tests import corpus
from tests.passes.scoped_models import models

HEADER = '<ir_version: 8, opset_import: ["": 17]>\n'
slowly = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def simplified(path: Path, spec: str = "simplify") -> Model:
    model = Model.load(path)
    load_pass(spec).run(model)
    return model


def package_model(package: str, name: str) -> Path:
    return next(p for p in corpus.package_models(package) if p.name == name)


def count(model: Model) -> int:
    return sum(model.main.counts().values())


@pytest.mark.parametrize("width", [64, 128, 200])
def test_wrong_annotations_are_not_believed(width: int) -> None:
    """ddddocr's recogniser declares a shape that it does not have; the result has the right one."""
    path = package_model("ddddocr", "common.onnx")
    feed = {"input1": np.random.default_rng(0).random((1, 1, 64, width), np.float32)}
    want = OrtModel(path.read_bytes()).run(feed)["387"]
    got = OrtModel(simplified(path).to_bytes()).run(feed)["387"]
    assert got.shape == want.shape == (width // 8, 1, 8210)
    assert np.abs(got - want).max() <= 1e-4 * np.ptp(want)


MOST = {  # nodes of all graphs: the fewest that another tool leaves with the outputs as they were
    ("ddddocr", "common.onnx"): 63,
    ("ddddocr", "common_det.onnx"): 272,
    ("ddddocr", "common_old.onnx"): 257,
    ("rapidocr-onnxruntime", "ch_PP-OCRv4_det_infer.onnx"): 326,
    ("rapidocr-onnxruntime", "ch_PP-OCRv4_rec_infer.onnx"): 393,
    ("rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx"): 179,
    ("silero-vad", "silero_vad.onnx"): 116,
    ("silero-vad", "silero_vad_16k_op15.onnx"): 60,
    ("silero-vad", "silero_vad_op18_ifless.onnx"): 90,
}


@pytest.mark.parametrize(("package", "name"), MOST)
def test_no_more_nodes_than_the_best_of_others(package: str, name: str) -> None:
    model = simplified(package_model(package, name))
    assert count(model) <= MOST[package, name]
    again = Model.from_proto(model.to_proto())
    assert load_pass("simplify").run(again).rewrites == 0
    assert again.to_bytes() == bytes(again.file.data)


@given(model=models())
@slowly
def test_subgraphs_and_functions(model: onnx.ModelProto) -> None:
    done = assert_equivalent("simplify", model)
    assert run("simplify", done)[1].rewrites == 0


@given(skipped=st.sets(st.sampled_from(NAMES), max_size=len(NAMES) - 2))
@slowly
def test_without_some_of_its_passes(skipped: set[str]) -> None:
    """Whatever is left out, the others come to rest, and nothing that they make is wrong."""
    model = onnx.parser.parse_model(
        HEADER + "g (float[n,2,4,4] x) => (float[n,a] y, float[n,2,4,4] z) "
        "<float[2,2,1,1] w = {1, 2, 3, 4}, float two = {2}, int64[1] axes = {0}, int64 first = {0}, "
        "int64[1] minus = {-1}, float[32,3] m = {"
        + ", ".join(["0.25"] * 96)
        + "}, float[3] b = {1, 2, 3}> {\n"
        "r = Relu (x) r2 = Relu (x) c = Conv (r, w) d = Mul (c, two) i = Identity (d)\n"
        "t = Transpose <perm = [0, 2, 3, 1]> (i) u = Transpose <perm = [0, 3, 1, 2]> (t)\n"
        "s = Shape (u) k = Gather (s, first) l = Unsqueeze (k, axes) o = Concat <axis = 0> (l, minus)\n"
        "f = Reshape (u, o) g = MatMul (f, m) y = Add (b, g) z = Add (r2, i) }"
    )
    spec = "simplify" + (f":skip={'+'.join(sorted(skipped))}" if skipped else "")
    done = assert_equivalent(spec, model)
    assert run(spec, done)[1].rewrites == 0


def test_a_name_in_skip_that_is_no_part_of_it() -> None:
    model = onnx.parser.parse_model(HEADER + "g (float[2] x) => (float[2] y) { y = Relu (x) }")
    with pytest.raises(BadOption, match="no pass 'silu' in it"):
        run("simplify:skip=silu", model)


def test_the_report_says_how_many_by_which_pass() -> None:
    model = onnx.parser.parse_model(
        HEADER
        + "g (float[2] x) => (float[2] y) { a = Identity (x) b = Relu (a) c = Relu (x) y = Add (b, c) }"
    )
    report = run("simplify", model)[1]
    assert report.notes == ("remove-identity 1, cse 1",)
    assert report.rewrites == 2


def test_every_place_is_told_once() -> None:
    """Two passes refuse one node, and the report has it once."""
    model = onnx.parser.parse_model(
        HEADER + "g (float[2] x, float[2] k) => (float[2] y) <float[2] k = {1, 2}, float[2] w = {3, 4}> {\n"
        "s = Add (w, k) y = Mul (x, s) }"
    )
    places = [(r.graph, r.node) for r in run("simplify", model)[1].refusals]
    assert len(places) == len(set(places)) == 1


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_its_parts_are_passes_of_their_own(step: object) -> None:
    from graphkit_passes._simplify import Step

    assert isinstance(step, Step)
    assert step.make().name == step.name


def test_parts_that_undo_each_other_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphkit import Tally
    from graphkit_passes import _simplify

    class Restless:
        def apply(self, graph: object, tally: Tally) -> None:
            tally.rewrite()

    monkeypatch.setattr(_simplify.Step, "make", lambda self: Restless())
    model = onnx.parser.parse_model(HEADER + "g (float[2] x) => (float[2] y) { y = Relu (x) }")
    with pytest.raises(PassFailed, match="does not come to rest"):
        run("simplify", model)
