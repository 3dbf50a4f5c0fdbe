"""Engines that were recorded on a GPU, beside their models: all is paired, only what is wrong is accused."""

from __future__ import annotations

import hashlib

import pytest

import graphkit
from fixtures.engines import make_models
from graphkit.compare.judge import Bounds
from tests.compare.recorded import CAPTURES, HEALTHY, MADE, MODELS, NAMES, capture_of, model_of, recorded


def test_everything_that_was_recorded_is_compared_here() -> None:
    assert {p.stem for p in CAPTURES.glob("*.capture")} == set(MADE)
    assert {p.stem for p in MODELS.glob("*.onnx")} == set(MADE)
    assert sum(p.stat().st_size for p in CAPTURES.rglob("*.capture")) < 6_000_000


@pytest.mark.parametrize("name", MADE)
def test_the_script_reproduces_the_models(name: str) -> None:
    assert make_models.make(name) == (MODELS / f"{name}.onnx").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_capture_says_what_it_is_of(name: str) -> None:
    found = recorded(name)
    assert found.capture.marked and found.kernels
    assert found.capture.meta["onnx"]["sha256"] == hashlib.sha256(found.model.read_bytes()).hexdigest()
    assert found.capture.meta["trt"]["module"] == "tensorrt_rtx" and found.capture.meta["device"]["name"]


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_that_is_no_copy_is_paired(name: str) -> None:
    found = recorded(name).analysed()
    cover = found.coverage
    assert cover.share == 1.0 and cover.paired >= 4
    assert cover.captured == cover.paired + cover.copies
    assert {u.reason for u in found.unmapped} <= {"moves values only"}
    reported = {(t.name, t.call) for t in recorded(name).run.tensors} - {
        (n, 0) for n in recorded(name).run.inputs
    }
    listed = {(layer.tensor, layer.call) for layer in found.layers}
    assert reported <= listed | {(u.tensor, 0) for u in found.unmapped}


@pytest.mark.parametrize("name", HEALTHY)
def test_no_kernel_of_a_healthy_engine_is_accused(name: str) -> None:
    found = recorded(name).analysed()
    assert [layer.kernel for layer in found.layers if not layer.ok] == []
    assert found.first_bad is None and found.outputs and all(o.ok for o in found.outputs)
    shares = [layer.share for layer in found.layers if layer.share is not None]
    assert len(shares) >= found.coverage.paired and max(shares) < 0.8  # not by a hair


@pytest.mark.parametrize("name", HEALTHY)
def test_each_kernel_introduces_less_than_has_accumulated_in_all(name: str) -> None:
    """What a replay measures is the kernel's own: rounding, however far from the inputs it lies."""
    for layer in recorded(name).analysed().layers:
        assert layer.introduced is not None and layer.accumulated is not None, layer.tensor
        assert layer.introduced.misplaced == 0
        assert layer.region and layer.region[-1] == layer.kernel or not layer.kernel


@pytest.mark.parametrize("name", ["resnet", "lstm"])
def test_little_memory_costs_time_alone(name: str) -> None:
    """Where no value of the reference may be kept, it is run again for what has accumulated."""
    assert recorded(name).analysed(memory=1) == recorded(name).analysed()


def test_tolerances_of_the_user_replace_the_automatic_ones() -> None:
    strict = recorded("resnet").analysed(limits=Bounds(1e-9, 0.0))
    assert len([layer for layer in strict.layers if not layer.ok]) > 5
    assert not all(o.ok for o in strict.outputs)
    loose = recorded("resnet").analysed(limits=Bounds(1e38, 1.0))
    assert all(layer.ok for layer in loose.layers) and all(o.ok for o in loose.outputs)


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_diff_says_the_same(name: str) -> None:
    found = graphkit.diff(model_of(name), capture_of(name))
    assert found.kind == "onnx-capture" and found.verdict == ("match" if name in HEALTHY else "mismatch")
    assert found.layers == recorded(name).analysed().layers
    assert found.versions["reference"].startswith("onnxruntime") and "tensorrt_rtx" in found.versions


def test_metrics_of_the_user_are_in_every_row() -> None:
    found = graphkit.diff(
        MODELS / "resnet.onnx",
        CAPTURES / "resnet.capture",
        metrics={"worst": lambda expected, actual: float(abs(expected - actual).max())},
    )
    rows = [layer.introduced for layer in found.layers if layer.introduced is not None]
    assert rows and all(m.custom["worst"] == pytest.approx(m.max_abs, rel=1e-5) for m in rows)
