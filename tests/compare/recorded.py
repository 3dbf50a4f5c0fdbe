"""What was recorded of real engines on a GPU: fixtures/captures of fixtures/engines, and the demo's detector.

``python -m fixtures.engines.make_models FOLDER`` makes the models, and the
spoilt ones of which planted/ has captures.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from graphkit import rewrite
from graphkit.compare.engines import RunResult, analyse
from graphkit.compare.flat import Flat, Flattener
from graphkit.engine.kernel import Kernel
from graphkit.run.capture_file import Capture
from graphkit.run.captured import CapturedRun
from tests.compare.planting import Simulated

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "fixtures" / "engines"
CAPTURES = ROOT / "fixtures" / "captures"
PLANTED = CAPTURES / "planted"
DEMO = ROOT / "fixtures" / "demo"

# All that has to be there: a test over files that are missing would pass without a word.
MADE = ("lstm", "residual_fp16", "resnet", "scopes", "vit", "vit_fp16")
HEALTHY = ("detector", *MADE)
NAMES = HEALTHY


@cache
def model_of(name: str) -> Path:
    """The ONNX file of a capture; the detector's is what the demo's rewrite makes."""
    if name != "detector":
        return MODELS / f"{name}.onnx"
    folder = tempfile.mkdtemp(prefix="graphkit-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = Path(folder) / "detector.onnx"
    rewrite(DEMO / "detector.onnx", ["silu"], made, verify=False)
    return made


def capture_of(name: str) -> Path:
    """The capture file of a healthy engine."""
    return (DEMO if name == "detector" else CAPTURES) / f"{name}.capture"


@dataclass(frozen=True)
class Recorded:
    """One capture beside its model."""

    name: str
    model: Path
    path: Path
    capture: Capture
    flat: Flat

    @property
    def run(self) -> CapturedRun:
        return self.capture.runs[0]

    @property
    def kernels(self) -> Sequence[Kernel]:
        assert self.capture.layers is not None
        return self.capture.layers.kernels

    def analysed(self, run: CapturedRun | None = None, **options: Any) -> RunResult:
        """The comparison of the run (or of one like it) with the model."""
        return analyse(self.flat, run or self.run, self.kernels, tf32=True, **options)


@cache
def recorded(name: str) -> Recorded:
    """A capture and its model, loaded once a process."""
    model, path = model_of(name), capture_of(name)
    capture = Capture.load(path)
    flat = Flattener(model).flat({n: a.read() for n, a in capture.runs[0].inputs.items()})
    return Recorded(name, model, path, capture, flat)


@cache
def simulated(name: str) -> Simulated:
    """The engine of a capture, ready to be spoilt."""
    found = recorded(name)
    return Simulated(found.flat, found.run, found.kernels)


def planted() -> list[dict[str, str]]:
    """The recorded faults: {"file", "model", "node", "fault"} of each planted capture."""
    index = PLANTED / "index.json"
    return json.loads(index.read_text()) if index.is_file() else []
