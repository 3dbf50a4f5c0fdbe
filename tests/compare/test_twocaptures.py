"""Two engines of one model: kernel beside kernel, on the same inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorrt_rtx", exc_type=ImportError)

import graphkit
from graphkit.errors import BadCapture, BadInput
from graphkit.run.capture import capture
from tests.compare.live import Live, built, model, put_in


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captures of one engine: as it is, with a gain in one kernel, and without marks."""
    folder = tmp_path_factory.mktemp("two")
    files = built(folder)
    with pytest.MonkeyPatch.context() as patch:
        live = Live(files[1])
        put_in(patch, live)
        capture(*files, folder / "good.capture")
        capture(*files, folder / "seed.capture", seed=1)
        live.fault = lambda name, value: value * 1.2 if name == "m" else value
        capture(*files, folder / "bad.capture")
        (folder / "plain").mkdir()
        plain = built(folder / "plain", plain=True)
        put_in(patch, Live(plain[1]))
        capture(*plain, folder / "plain.capture")
    return folder


def test_one_capture_is_itself(folder: Path) -> None:
    report = graphkit.diff(folder / "good.capture", folder / "good.capture")
    assert (report.kind, report.verdict, report.unmapped) == ("engine-engine", "match", ())
    assert report.layers and all(x.accumulated is not None for x in report.layers)
    assert all(x.accumulated.max_abs == 0 for x in report.layers if x.accumulated is not None)
    assert report.versions["b: device"].startswith("simulated")


def test_the_first_kernel_that_differs(folder: Path) -> None:
    report = graphkit.diff(folder / "good.capture", folder / "bad.capture")
    assert not report.ok and report.first_bad is not None
    assert report.first_bad.kernel.startswith("__myl_CorrSilu")
    assert report.first_bad.cause == "the engines differ from here on"
    assert [o.ok for o in report.outputs] == [False]
    before = report.layers[: report.layers.index(report.first_bad)]
    assert before and all(x.ok for x in before)
    assert graphkit.diff(folder / "good.capture", folder / "bad.capture", atol=1e9).ok
    one = graphkit.diff(folder / "good.capture", folder / "bad.capture", atol={"": 1e9, "y": 1e-9})
    assert not one.ok and one.first_bad is None


def test_without_marks_the_outputs_are_compared(folder: Path) -> None:
    report = graphkit.diff(folder / "good.capture", folder / "plain.capture")
    assert report.ok and not report.layers and [o.name for o in report.outputs] == ["y"]
    assert any("without marks" in note for note in report.notes)
    report = graphkit.diff(folder / "plain.capture", folder / "good.capture")
    assert report.unmapped and {u.reason for u in report.unmapped} <= {
        "moves values only",
        "no kernel of the other engine has these nodes and dims",
    }


def test_engines_are_run_on_the_same_inputs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = folder / "m.onnx", folder / "m.engine"
    put_in(monkeypatch, Live(files[1]))
    assert graphkit.diff(files[1], files[1], model=files[0]).ok
    assert graphkit.diff(folder / "good.capture", files[1], model=files[0]).ok
    with pytest.raises(BadInput, match="is an engine; name the model it was built from with --model"):
        graphkit.diff(files[1], folder / "good.capture")


def test_other_inputs_and_other_models_are_refused(folder: Path, tmp_path: Path) -> None:
    import onnx

    with pytest.raises(BadInput, match="run 'run' had other inputs; capture both from the same ones"):
        graphkit.diff(folder / "good.capture", folder / "seed.capture")
    other: Any = model()
    other.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones((8, 8, 3, 3), np.float32), "k"))
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(BadCapture, match="was captured from an engine of another ONNX file .* --other-model"):
        graphkit.diff(folder / "good.capture", folder / "bad.capture", model=tmp_path / "other.onnx")
