"""A real detector with 57 Swish: TensorRT-RTX refuses it, and builds what the ``silu`` pass makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphkit
from graphkit.errors import BuildFailed

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT.parent / "shared" / "models" / "yolov5n_swish24.onnx"

pytestmark = pytest.mark.skipif(
    not MODEL.exists(), reason=f"the model {MODEL.name} is not beside the repository"
)


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the result of the command, and its report."""
    folder = tmp_path_factory.mktemp("yolov5")
    command = [
        sys.executable,
        "-m",
        "graphkit",
        "rewrite",
        MODEL,
        "--pass",
        "silu",
        "-o",
        folder / "out.onnx",
    ]
    subprocess.run(
        [*command, "--report", folder / "report.json"], check=True, stdin=subprocess.DEVNULL, cwd=ROOT
    )
    return folder


def test_each_swish_becomes_a_sigmoid_and_a_mul(rewritten: Path) -> None:
    before, after = (
        Counter(n.op_type for n in onnx.load(p).graph.node) for p in (MODEL, rewritten / "out.onnx")
    )
    assert before["Swish"] == 57
    assert after["Swish"] == 0
    assert after - before == Counter(Sigmoid=57, Mul=57)


def test_every_other_node_keeps_its_bytes(rewritten: Path) -> None:
    before, after = (
        [
            n.SerializeToString()
            for n in onnx.load(p).graph.node
            if n.op_type not in ("Swish", "Sigmoid", "Mul")
        ]
        for p in (MODEL, rewritten / "out.onnx")
    )
    assert before == after


def test_onnxruntime_gives_the_same_to_1e_5_of_the_range(rewritten: Path) -> None:
    import onnxruntime as ort

    feeds = {"images": np.random.default_rng(0).random((1, 3, 640, 640), np.float32)}
    plain = ort.SessionOptions()
    plain.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    want, got = (
        ort.InferenceSession(str(p), plain, providers=["CPUExecutionProvider"]).run(None, feeds)
        for p in (MODEL, rewritten / "out.onnx")
    )
    for a, b in zip(want, got, strict=True):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()
    report = json.loads((rewritten / "report.json").read_text())
    assert report["verification"]["status"] == "held"
    assert report["verification"]["worst"]["relative"] <= 1e-5


def test_tensorrt_rtx_refuses_the_original_and_builds_the_result(rewritten: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (pip install 'graphkit[rtx]')")
    assert graphkit.build(rewritten / "out.onnx", compute_capabilities=["8.9"]).size
    try:
        graphkit.build(MODEL, compute_capabilities=["8.9"])
    except BuildFailed as error:
        assert "Swish" in str(error)
    else:
        pytest.skip("this TensorRT-RTX knows Swish; 1.4 does not")
