"""What the tests of check share: the command, small models, and a place where no TensorRT is installed."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

from graphkit.cli import main

ROOT = Path(__file__).resolve().parents[2]
DETECTOR = ROOT / "fixtures" / "demo" / "detector.onnx"
MODELS = ROOT.parent / "shared" / "models"


def run(*arguments: object) -> Result:
    """``graphkit check``, as a person types it."""
    return CliRunner().invoke(main, ["check", *map(str, arguments)])


def save(path: Path, body: str, *, opset: int = 20, domain: str = "") -> Path:
    """A model in ONNX's text syntax, saved; ``body`` is its graph."""
    other = f', "{domain}": 1' if domain else ""
    text = f'<ir_version: 10, opset_import: ["": {opset}{other}]> {body}'
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def fine(path: Path) -> Path:
    """One that TensorRT builds."""
    return save(path, "g (float[2] x) => (float[2] y) { y = Relu (x) }")


def swish(path: Path) -> Path:
    """One that the parser of TensorRT-RTX 1.4 refuses, and `silu` mends."""
    return save(path, "g (float[2] x) => (float[2] y) { y = Swish (x) }", opset=24)


def hopeless(path: Path) -> Path:
    """One that the parser refuses, and that no pass mends."""
    return save(path, "g (float[2] x) => (float[2] y) { y = acme.Magic (x) }", domain="acme")


def without_tensorrt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on no process that is started has a TensorRT to import."""
    folder.mkdir()
    hidden = "import sys\nsys.modules['tensorrt'] = sys.modules['tensorrt_rtx'] = None\n"
    (folder / "sitecustomize.py").write_text(hidden)
    old = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *([old] if old else [])]))
