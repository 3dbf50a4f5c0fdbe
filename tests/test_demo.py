"""The demo: its model comes from its script, the rewrite mends it, and TensorRT-RTX agrees."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import onnx
import pytest

from fixtures.demo import make_detector
from fixtures.demo import verdict as rtx

ROOT = Path(__file__).resolve().parent.parent
DETECTOR = ROOT / "fixtures" / "demo" / "detector.onnx"
needs_rtx = pytest.mark.skipif(not rtx.installed(), reason=rtx.INSTALL)


def op_counts(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``make demo`` would fill."""
    folder = tmp_path_factory.mktemp("demo")
    graphkit = [sys.executable, "-m", "graphkit.cli"] if not shutil.which("graphkit") else ["graphkit"]
    command = [*graphkit, "rewrite", DETECTOR, "--pass", "silu", "-o", folder / "detector.onnx"]
    subprocess.run([*command, "--report", folder / "report.json"], check=True, stdin=subprocess.DEVNULL)
    return folder


def test_the_script_reproduces_the_file() -> None:
    assert make_detector.detector() == DETECTOR.read_bytes()


def test_the_model_is_the_size_of_a_fixture_and_the_shape_of_yolov5n() -> None:
    assert DETECTOR.stat().st_size < 400_000
    counts = op_counts(DETECTOR)
    assert (counts.total(), counts["Swish"], counts["Conv"], counts["Resize"]) == (179, 57, 60, 2)


def test_every_swish_becomes_a_sigmoid_and_a_mul(rewritten: Path) -> None:
    before, after = op_counts(DETECTOR), op_counts(rewritten / "detector.onnx")
    assert after["Swish"] == 0
    assert after - before == Counter(Sigmoid=57, Mul=57)


def test_the_report_says_the_numbers_held(rewritten: Path) -> None:
    report = json.loads((rewritten / "report.json").read_text())
    assert report["schema"] == "graphkit.rewrite/1"
    assert report["written"] is True
    assert report["verification"]["status"] == "held"
    assert report["verification"]["worst"]["relative"] <= 1e-5
    assert [entry["rewrites"] for entry in report["passes"]] == [57]


@needs_rtx
def test_tensorrt_rtx_refuses_the_original_and_builds_the_result(rewritten: Path) -> None:
    before, after = rtx.verdict(DETECTOR), rtx.verdict(rewritten / "detector.onnx")
    assert not before.builds
    assert "Swish is not supported" in before.detail
    assert after.builds, after.detail


def test_a_verdict_without_tensorrt_rtx_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rtx, "installed", lambda: False)
    assert rtx.main([str(DETECTOR)]) == 0
    assert "pip install" in capsys.readouterr().out
