"""What an engine computed, in one file: inputs, outputs and kernel-boundary tensors of each run, read lazily.

The file is a .npz: ``numpy.load(path)`` opens it, ``meta`` and ``layers`` are JSON as bytes, and
``meta["runs"]`` says which entry is which tensor. Tensors that are bitwise equal may share one entry.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphkit.model.atomic import write_atomic
from graphkit.model.disk import open_regular
from graphkit.run.capture_reader import SCHEMA, Capture
from graphkit.run.capture_writer import CaptureWriter
from graphkit.run.captured import CapturedRun, CapturedTensor, LazyArray

if TYPE_CHECKING:
    from polygraphy.comparator import RunResults

__all__ = [
    "SCHEMA",
    "Capture",
    "CaptureWriter",
    "CapturedRun",
    "CapturedTensor",
    "LazyArray",
    "capture_to_run_results",
    "is_capture",
    "save_run_results",
]


def is_capture(path: str | os.PathLike[str]) -> bool:
    """Whether the file starts as an archive does; a model, text, or an engine does not."""
    with suppress(OSError, ValueError):
        fd = open_regular(path)
        try:
            return os.read(fd, 4) == b"PK\x03\x04"
        finally:
            os.close(fd)
    return False


def capture_to_run_results(capture: Capture) -> RunResults:
    """Polygraphy's record of the same runs, all in memory: outputs by name, and kernel-boundary tensors too.

    One runner, one iteration for each run. A tensor that came several times gets "#1", "#2", … behind its
    name from the second time on; dtypes that numpy has no name for become float32, which holds them exactly.
    """
    from polygraphy.comparator import IterationResult, RunResults

    iterations = []
    for run in capture.runs:
        values = {name: _plain(array) for name, array in run.outputs.items()}
        for tensor in run.tensors:
            values.setdefault(f"{tensor.name}#{tensor.call}" if tensor.call else tensor.name, _plain(tensor))
        iterations.append(IterationResult(values, runtime=None, runner_name=_RUNNER))
    results = RunResults()
    results.append((_RUNNER, iterations))
    return results


def save_run_results(capture: Capture, path: str | os.PathLike[str]) -> None:
    """Write ``capture_to_run_results`` as Polygraphy's JSON, whole or not at all; BadOutput if that fails."""
    from polygraphy.json import to_json

    write_atomic(Path(path), [to_json(capture_to_run_results(capture)).encode()])


_RUNNER = "graphkit-capture"


def _plain(tensor: LazyArray) -> NDArray[Any]:
    array = tensor.read()
    return array.astype(np.float32) if array.dtype.kind == "V" else array
