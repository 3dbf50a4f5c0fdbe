"""Tensors of one run kept for a later look: in memory up to a bound, past it in a temporary file."""

from __future__ import annotations

import tempfile
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from graphkit.errors import BadInput

__all__ = ["Spool"]

Array = NDArray[Any]


class Spool:
    """Arrays by name; ``memory`` is how many bytes of them stay in memory. A context manager."""

    def __init__(self, memory: int) -> None:
        self._room = memory
        self._near: dict[str, Array] = {}
        self._far: dict[str, tuple[int, np.dtype[Any], tuple[int, ...]]] = {}
        self._file = tempfile.TemporaryFile(prefix="graphkit-", buffering=0)  # noqa: SIM115 (closed on exit)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._near.clear()
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return name in self._near or name in self._far

    def put(self, name: str, array: Array) -> None:
        """Keep an array; one that may be overwritten later is not copied while it is in memory.

        Raises BadInput when the temporary folder is full.
        """
        if array.nbytes <= self._room or array.dtype.kind in "OUS":
            self._room -= array.nbytes
            self._near[name] = array
            return
        start = self._file.seek(0, 2)
        try:
            left = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise BadInput(
                f"the temporary folder {tempfile.gettempdir()} cannot take {array.nbytes} bytes more: "
                f"{error.strerror or error}; point TMPDIR to a larger one"
            ) from error
        self._far[name] = start, array.dtype, array.shape

    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """The dtype of each array."""
        near = {name: array.dtype for name, array in self._near.items()}
        return near | {name: dtype for name, (_, dtype, _) in self._far.items()}

    def get(self, name: str) -> Array | None:
        """The array of that name, read anew when it is in the file; None when there is none."""
        if name in self._near:
            return self._near[name]
        if name not in self._far:
            return None
        start, dtype, shape = self._far[name]
        array = np.empty(shape, dtype)
        target = array.reshape(-1).view(np.uint8).data
        self._file.seek(start)
        while target:
            read = self._file.readinto(target)
            if not read:
                raise BadInput("the temporary file was cut short; free space in the temporary folder")
            target = target[read:]
        return array
