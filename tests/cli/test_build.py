"""``graphkit build`` as it is typed: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from onnx import parser

from graphkit.cli import main
from tests.corpus import ROOT
from tests.engine.models import scopes

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (pip install 'graphkit[rtx]')")

HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'


def graphkit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in this process, as it is typed in ``folder``."""
    with chdir(folder):
        done = CliRunner().invoke(main, ["build", *arguments])
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def in_a_process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same in one of its own: nothing else may speak there."""
    command = [sys.executable, "-m", "graphkit", "build", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx.save(scopes(), tmp_path / "model.onnx")
    return tmp_path


def test_an_engine_and_its_layers(folder: Path) -> None:
    done = in_a_process(folder, "model.onnx", "-o", "model.engine", "--compute-capability", "8.9")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir(folder)) == ["model.engine", "model.layers.json", "model.onnx"]
    size = (folder / "model.engine").stat().st_size
    first, second, third, fourth = done.stdout.splitlines()
    assert first.startswith(f"model.engine: {size:,} bytes for 8.9, by tensorrt_rtx ")
    assert second == "model.layers.json: 12 kernels with 11 ONNX nodes, read from the build log"
    assert third.startswith("7 nodes got a name of its own")
    assert fourth == "the tensors between kernels are marked: graphkit diff can read them"
    tree = json.loads((folder / "model.layers.json").read_text())
    assert tree["schema"] == "graphkit.layers/1" and len(tree["kernels"]) == 12


def test_verbose_lists_the_kernels_and_quiet_nothing(folder: Path) -> None:
    options = ("model.onnx", "-o", "m.engine", "--compute-capability", "8.9")
    loud = graphkit(folder, *options, "-v").stdout
    assert "  correlation same_myl0_3 -> float32[1, 8, 16, 16]: same\n" in loud
    quiet = graphkit(folder, *options, "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_every_option_reaches_the_build(folder: Path) -> None:
    text = HEAD + "g (float[N,8] x, float[N,8] z) => (float[N,8] y) { y = Add(x, z) }"
    onnx.save(parser.parse_model(text), folder / "d.onnx")
    done = graphkit(
        folder,
        *("d.onnx", "-o", "d.engine", "--trt", "rtx", "--no-tf32", "--workspace", "256M"),
        *("--optimization-level", "1", "--compute-capability", "8.9", "--compute-capability", "12.0"),
        *("--shapes", "x=1x8/2x8/4x8", "--shapes", "z=1x8/2x8/4x8", "--timing-cache", "t.cache"),
    )
    assert done.returncode == 0, done.stderr
    assert "for 8.9, 12.0" in done.stdout
    assert done.stderr.count("warning: ") == 1 and "timing cache" in done.stderr
    assert json.loads((folder / "d.layers.json").read_text())["options"] == {
        "trt": "rtx",
        "plain": False,
        "shapes": ["x=1x8/2x8/4x8", "z=1x8/2x8/4x8"],
        "compute_capabilities": ["8.9", "12.0"],
        "tf32": False,
        "workspace": 256 << 20,
        "optimization_level": 1,
        "timing_cache": True,
    }


def test_plain(folder: Path) -> None:
    done = graphkit(folder, "model.onnx", "-o", "m.engine", "--compute-capability", "8.9", "--plain")
    assert done.returncode == 0 and "are not marked" in done.stdout
    assert "warning: which kernels the engine has is not known" in done.stderr


def test_a_refused_model_exits_with_1_and_lists_each_kind_once(folder: Path) -> None:
    text = HEAD + (
        "g (float[1,3,3] x) => (float[1] y, float[1] z, float[1,3,3] w) "
        "{ [d0] y = Det(x)  [d1] z = Det(x)  [u] w = Unique(x) }"
    )
    onnx.save(parser.parse_model(text), folder / "bad.onnx")
    done = graphkit(folder, "bad.onnx", "-o", "bad.engine", "--compute-capability", "8.9")
    assert done.returncode == 1 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["refused", "refused", "graphkit"]
    assert "Det 'd0' (and 1 more)" in lines[0] and "Unique 'u'" in lines[1]
    assert lines[2].startswith("graphkit: error: bad.onnx: the parser of TensorRT-RTX")
    assert sorted(os.listdir(folder)) == ["bad.onnx", "model.onnx"]
    every = graphkit(folder, "bad.onnx", "-o", "bad.engine", "--compute-capability", "8.9", "-v")
    assert every.stderr.count("refused: ") == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["model.onnx"], "Missing option '-o'"),
        (["none.onnx", "-o", "m.engine"], "none.onnx: there is no such file"),
        (["model.onnx", "-o", "m.engine", "--compute-capability", "5.0"], "builds for 7.5"),
        (["model.onnx", "-o", "m.engine", "--shapes", "x"], "is not NAME=MIN/OPT/MAX"),
        (["model.onnx", "-o", "m.engine", "--trt", "x"], "'x' is not one of"),
        (["model.onnx", "-o", "m.engine", "--optimization-level", "9"], "0<=x<=5"),
        (["model.onnx", "-o", "none/m.engine", "--compute-capability", "8.9"], "there is no folder"),
        (["model.onnx", "-o", ".", "--compute-capability", "8.9"], "is a directory"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(arguments: list[str], said: str, folder: Path) -> None:
    done = graphkit(folder, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and said in done.stderr
    assert os.listdir(folder) == ["model.onnx"]
