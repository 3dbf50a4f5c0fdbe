"""Equal rows of a batch have to come out equal: a check of the engine that needs no reference."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from graphkit.compare.bounds import Noise, judge
from graphkit.compare.measures import measure
from graphkit.errors import BadInput
from graphkit.run.captured import CapturedRun

__all__ = ["rows_differ", "same_rows"]


@contextmanager
def same_rows(run: CapturedRun) -> Iterator[Path]:
    """A file of the run's inputs with their first row repeated along the batch; BadInput without a batch."""
    batch = _batch(run)
    if batch < 2:
        raise BadInput("same rows: no input has a batch of more than one row; give larger --shapes")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npz"
        values = {name: array.read() for name, array in run.inputs.items()}
        np.savez(
            path,
            allow_pickle=False,
            **{
                name: np.repeat(value[:1], batch, axis=0) if value.ndim and len(value) == batch else value
                for name, value in values.items()
            },
        )
        yield path


def _batch(run: CapturedRun) -> int:
    return max((array.dims[0] for array in run.inputs.values() if array.dims), default=0)


def rows_differ(run: CapturedRun) -> tuple[str, int, float] | None:
    """The first tensor of which some row is not as the first, that row, and how far off over the range.

    Rows may be summed in another order: what rounding to the tensor's dtype can do is no difference.
    """
    batch = _batch(run)
    for tensor in (*run.tensors, *run.outputs.values()):
        if len(tensor.dims) < 1 or tensor.dims[0] != batch or tensor.name in run.inputs:
            continue
        value = tensor.read()
        bound = judge(tensor.dtype, Noise(), length=4096, tf32=False, quantised=False, size=value[0].size)
        for row in range(1, batch):
            found = measure(value[0], value[row], dtype=tensor.dtype)
            if found.misplaced or bound.share(found) > 1:
                return tensor.name, row, found.to_range
    return None
