"""A model against its engine, run here: what is captured is compared; repeats and rows among themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorrt_rtx", exc_type=ImportError)

import graphkit
from graphkit.compare.diff import kind_of
from graphkit.engine.layers import LayerMap, layers_path
from graphkit.errors import BadEngine, BadOption
from graphkit.run.capture import capture
from tests.compare.live import Live, built, put_in

SILU = "__myl_CorrSilu"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return built(tmp_path_factory.mktemp("live"))


@pytest.fixture
def live(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Live:
    engine = Live(files[1])
    put_in(monkeypatch, engine)
    return engine


def gain(name: str, value: Any) -> Any:
    return value * 1.01 if name == "m" else value


def test_a_healthy_engine_matches_and_its_fusion_is_a_plain_builds(
    files: tuple[Path, Path], live: Live
) -> None:
    report = graphkit.diff(*files)
    assert (report.verdict, report.kind, report.first_bad) == ("match", "onnx-engine", None)
    assert report.drift.checked and report.drift.different == ()
    assert report.drift.kernels == len(LayerMap.load(layers_path(files[1])).kernels)
    assert report.coverage.paired == report.coverage.captured - report.coverage.copies == 4
    assert report.versions["device"] == "simulated (compute capability 8.9)"
    assert {"capture", "compare", "drift", "total"} <= set(report.seconds)
    (output,) = report.outputs
    assert output.name == "y" and output.ok and live.runs == 1


def test_a_gain_is_found_in_its_kernel(files: tuple[Path, Path], live: Live) -> None:
    live.fault = gain
    report = graphkit.diff(*files, drift=False)
    assert report.verdict == "mismatch" and report.first_bad is not None
    assert report.first_bad.kernel.startswith(SILU) and "node_of_m" in report.first_bad.onnx_nodes
    assert [x.kernel for x in report.layers if not x.ok] == [report.first_bad.kernel]
    assert not report.drift.checked


def test_every_set_and_shape_is_run(files: tuple[Path, Path], live: Live, tmp_path: Path) -> None:
    three = graphkit.diff(*files, shapes=["x=1x8x16x16/2x8x16x16/4x8x16x16"], drift=False)
    assert [r.shapes["x"][0] for r in three.runs] == [1, 2, 4] and three.ok
    assert [r.shapes["x"][0] for r in graphkit.diff(*files, iterations=2, drift=False).runs] == [2, 2]
    for n in (1, 3):
        np.savez(tmp_path / f"{n}.npz", x=np.full((n, 8, 16, 16), n, np.float32))
    given = graphkit.diff(*files, inputs=[tmp_path / "1.npz", tmp_path / "3.npz"], drift=False)
    assert [r.shapes["x"][0] for r in given.runs] == [1, 3]


def test_the_worst_run_is_told(files: tuple[Path, Path], live: Live) -> None:
    live.fault = lambda name, value: gain(name, value) if len(value) == 4 else value
    report = graphkit.diff(*files, shapes=["x=1x8x16x16/2x8x16x16/4x8x16x16"], drift=False)
    assert [r.verdict for r in report.runs] == ["match", "match", "mismatch"]
    assert report.first_bad is not None and report.first_bad.kernel.startswith(SILU)
    assert report.runs[2].first_bad == report.first_bad.kernel


def test_determinism(files: tuple[Path, Path], live: Live) -> None:
    report = graphkit.diff(*files, determinism=3, drift=False)
    assert report.ok and live.runs == 3
    assert "3 runs on the same inputs agreed in every bit" in report.notes

    def unsteady(name: str, value: Any) -> Any:
        if name == "p" and live.runs % 3 == 0:
            value = value.copy()
            value[0, 0, 0, 0] = np.nextafter(value[0, 0, 0, 0], np.float32(9))
        return value

    live.fault = unsteady
    report = graphkit.diff(*files, determinism=3, drift=False)
    assert not report.ok and report.first_bad is not None
    assert report.first_bad.cause == "nondeterminism" and report.first_bad.onnx_nodes == ("node_of_p",)
    assert "iteration 2" in report.first_bad.cause_evidence


def test_rows_that_differ(files: tuple[Path, Path], live: Live) -> None:
    report = graphkit.diff(*files, same_rows=True, drift=False)
    assert report.ok and any("every row came out alike" in note for note in report.notes)
    alone = live.runs + 1  # the run before the one with equal rows

    def uneven(name: str, value: Any) -> Any:
        if name != "m" or live.runs == alone:
            return value
        return value * (1 + np.arange(len(value)).reshape(-1, 1, 1, 1) / 100)

    live.fault = uneven
    report = graphkit.diff(*files, same_rows=True, drift=False)
    assert not report.ok and report.first_bad is not None
    assert (report.first_bad.cause, report.first_bad.kernel[: len(SILU)]) == ("batch rows differ", SILU)


def test_an_engine_without_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = built(tmp_path, plain=True)
    marked = built_beside(tmp_path)
    names = [k.name for k in LayerMap.load(layers_path(marked)).kernels]
    plain, twin = Live(files[1], gain, names), Live(marked, gain)
    put_in(monkeypatch, twin, plain)
    report = graphkit.diff(*files, drift=False)
    assert not report.ok and [o.ok for o in report.outputs] == [False]
    assert {x.tensor for x in report.layers} == {"y"}
    assert any("without marks" in note for note in report.notes)
    assert any("--rebuild" in advice for advice in report.advice)
    report = graphkit.diff(*files, rebuild=True, drift=False)
    assert report.first_bad is not None and report.first_bad.kernel.startswith(SILU)
    assert f"all {len(names)} kernels are those of m.engine" in report.notes[-1]
    plain.listed = names[:-1]
    with pytest.raises(BadEngine, match="a rebuild with marks has other kernels"):
        graphkit.diff(*files, rebuild=True, drift=False)


def built_beside(folder: Path) -> Path:
    """A marked engine of the same model, in a folder of its own."""
    (folder / "marked").mkdir()
    return built(folder / "marked")[1]


def test_a_capture_says_what_the_engine_does(files: tuple[Path, Path], live: Live, tmp_path: Path) -> None:
    live.fault = gain
    capture(*files, tmp_path / "c.capture")
    offline = graphkit.diff(files[0], tmp_path / "c.capture")
    engine = graphkit.diff(*files, drift=False)
    assert offline.layers == engine.layers and offline.outputs == engine.outputs
    assert offline.kind == "onnx-capture" and not offline.drift.checked and offline.drift.reason


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"inputs": "x.npz", "shapes": ["x=1x8x16x16"]}, "contradict each other"),
        ({"model": "m.onnx"}, "--model: is for two engines or captures"),
    ],
)
def test_what_contradicts_itself(files: tuple[Path, Path], options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadOption, match=says):
        graphkit.diff(*files, **options)
    with pytest.raises(BadOption, match="--determinism, --rebuild: needs an engine"):
        graphkit.diff(files[0], files[0], determinism=2, rebuild=True)


def test_files_are_told_apart_by_what_is_in_them(files: tuple[Path, Path], tmp_path: Path) -> None:
    for source, kind in zip(files, ("onnx", "engine"), strict=True):
        for name in ("file", "file.engine", "file.capture"):
            (tmp_path / name).write_bytes(source.read_bytes())
            assert kind_of(tmp_path / name) == kind
    assert kind_of(tmp_path / "file.engine") == "engine"
