"""Verdicts: what TensorRT says when it is asked by hand, in whatever state the model's shapes are."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest

import graphkit
from graphkit.report.checks import Verdict
from tests.check.checking import MODELS, ROOT, save
from tests.check.test_check_cli import old, rtx
from tests.tensorrt import judged

pytestmark = rtx

STAGES: dict[str, Verdict] = {
    "": "ok", "parse": "fails-parse", "build": "fails-build", "needs-gpu": "needs-gpu", "crashed": "crashed",
}  # fmt: skip
# What a plug-in's builder says where there is no GPU to run it on.
PLUGIN = "has no runners that implement it"
# A plug-in, and what the builder of 1.4 refuses.
ODD = (
    "test_nonmaxsuppression_two_classes",
    "test_attention_3d",
    "test_div_int8",
    "test_cast_FLOAT8E4M3FN_to_FLOAT",
)
DYNAMIC = "g (float[N,4] x) => (float[N,4] y) { y = Relu (x) }"


@pytest.fixture(scope="module")
def node_tests() -> dict[str, bytes]:
    """ONNX's node tests, with what TensorRT wants as constants made constants."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return dict(importlib.import_module("_baked").baked_node_tests())


def by_hand(models: Mapping[str, bytes]) -> dict[str, Verdict]:
    return {
        name: "needs-gpu" if PLUGIN in said else STAGES[stage]
        for name, (stage, said) in judged(models).items()
    }


def by_check(folder: Path, models: Mapping[str, bytes]) -> dict[str, Verdict]:
    paths = [folder / f"{name}.onnx" for name in models]
    for path in paths:
        path.write_bytes(models[path.stem])
    report = graphkit.check(paths, targets=["sm89"], jobs=2)
    for model in report.models:
        assert (model.verdict != "ok") == any(f.rule in TOLD[model.verdict] for f in model.findings)
    return {Path(m.path).stem: m.verdict for m in report.models}


TOLD: Mapping[str, tuple[str, ...]] = {
    "ok": ("parser", "builder", "needs-gpu", "needs-profile", "crashed"),
    "fails-parse": ("parser",),
    "fails-build": ("builder",),
    **{name: (name,) for name in ("needs-gpu", "needs-profile", "crashed")},
}
"""The rule of the finding that says why; of a model that is ok there is none."""


def test_the_verdict_is_what_it_is_by_hand(tmp_path: Path, node_tests: Mapping[str, bytes]) -> None:
    names = [*sorted(node_tests)[::64], *(n for n in node_tests if "roialign" in n), *ODD]
    some = {name: node_tests[name] for name in names}
    assert len(some) >= 35
    hand = by_hand(some)
    assert by_check(tmp_path, some) == hand
    assert {"ok", "fails-parse", "needs-gpu"} <= set(hand.values())


@pytest.mark.slow
def test_more_verdicts(tmp_path: Path, node_tests: Mapping[str, bytes]) -> None:
    some = {name: node_tests[name] for name in sorted(node_tests)[7::6]}
    found, hand = by_check(tmp_path, some), by_hand(some)
    # by hand there is a profile, but not for inputs whose values are shapes
    odd = {n: (v, hand[n]) for n, v in found.items() if v not in (hand[n], "needs-profile")}
    assert not odd and sum(v == "needs-profile" for v in found.values()) < 20


def test_dynamic_shapes(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", DYNAMIC)
    (asked,) = graphkit.check(model, targets=["sm89", "sm120"]).models
    assert set(asked.verdicts.values()) == {"needs-profile"} and not asked.fails("error")
    (finding,) = asked.findings
    assert finding.targets == ("sm89", "sm120") and "--shapes x=1x4" in finding.message
    for shapes, verdict, rules in (
        ({"x": [(1, 4), (2, 4), (8, 4)]}, "ok", []),
        (["x=1x5"], "needs-profile", [("needs-profile", "error")]),
        (["x=2x4", "z=1"], "ok", [("needs-profile", "note")]),
    ):
        (built,) = graphkit.check(model, shapes=shapes).models
        assert (built.verdict, [(f.rule, f.severity) for f in built.findings]) == (verdict, rules)


def test_an_input_without_a_rank(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", "g (float[] x) => (float[] y) { y = Relu (x) }")
    proto = onnx.load(model)
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(proto, model)
    assert by_check(tmp_path, {"m": model.read_bytes()}) == by_hand({"m": model.read_bytes()})


def test_shapes_of_many_models_are_for_those_that_have_the_input(tmp_path: Path) -> None:
    first = save(tmp_path / "a.onnx", DYNAMIC)
    second = save(tmp_path / "b.onnx", DYNAMIC.replace("x", "z"))
    report = graphkit.check([first, second], shapes=["x=1x4", "z=2x4"])
    assert [m.verdict for m in report.models] == ["ok", "ok"] and report.counts().keys() <= {"note"}


@old
def test_of_what_only_a_gpu_can_tell() -> None:
    path = MODELS / "fp8_conv_gemm.onnx"
    if not path.exists():
        pytest.skip("the model is not here")
    (found,) = graphkit.check(path, targets=["sm89"]).models
    assert found.verdict == "needs-gpu" and not found.fails("error") and found.fails("warning")
    assert [f.rule for f in found.findings] == ["needs-gpu"] and found.findings[0].raw


@old
def test_one_target_and_not_the_other(tmp_path: Path) -> None:
    body = (
        "g (float[2,4] x) => (float[2,4] y) <float s = {0.5}, float8e4m3fn z = {0}> {"
        " q = QuantizeLinear (x, s, z)  y = DequantizeLinear (q, s, z) }"
    )
    (found,) = graphkit.check(save(tmp_path / "m.onnx", body), targets=["sm75", "sm89", "sm120"]).models
    assert set(found.verdicts) == {"sm75", "sm89", "sm120"}
    for finding in found.findings:
        if finding.rule in ("builder", "needs-gpu"):
            assert set(finding.targets) <= {t for t, v in found.verdicts.items() if v != "ok"}
