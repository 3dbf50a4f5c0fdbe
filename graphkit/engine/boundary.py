"""What an engine reports at its kernels' borders, each tensor with the kernel that wrote it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from graphkit.engine.kernel import Kernel

__all__ = ["Boundary", "EngineGraph"]

# A piece of a buffer that several kernels fill: `buffer__mye14532_12601^deref_myl0` of `buffer_myl0`.
_PIECE = re.compile(r"^(?P<buffer>.+?)__mye\d+_\d+\^deref(?P<end>_myl\d+)?$")


class Reported(Protocol):
    """A captured tensor: its name, the how-manieth of that name, its place in time, and what it holds."""

    @property
    def name(self) -> str: ...
    @property
    def call(self) -> int: ...
    @property
    def order(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def dims(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class Boundary:
    """One reported tensor; ``kernel`` is the place of its writer among the kernels, None when not known.

    ``copy`` says that it only moves values: its kernel has no ONNX node and computes nothing.
    """

    name: str
    call: int
    order: int
    dtype: str
    dims: tuple[int, ...]
    kernel: int | None
    copy: bool


class EngineGraph:
    """The kernels in order, and which reported tensors each reads and writes."""

    def __init__(self, kernels: Sequence[Kernel], reported: Iterable[Reported]) -> None:
        self.kernels = kernels
        self._writers: dict[str, list[int]] = defaultdict(list)
        for place, kernel in enumerate(kernels):
            for name in dict.fromkeys(t.name for t in kernel.outputs):
                self._writers[name].append(place)
        self.boundaries = tuple(self._placed(reported))
        self._by_name: dict[str, list[Boundary]] = defaultdict(list)
        for boundary in self.boundaries:
            self._by_name[self._buffer(boundary.name)].append(boundary)

    def _placed(self, reported: Iterable[Reported]) -> Iterable[Boundary]:
        seen: Mapping[str, list[str]] = defaultdict(list)
        for tensor in reported:
            buffer = self._buffer(tensor.name)
            writers = self._fitting(buffer, tensor)
            if tensor.name != buffer:  # each piece is the next kernel's share of the buffer
                if tensor.call == 0:
                    seen[buffer].append(tensor.name)
                turn = seen[buffer].index(tensor.name) if tensor.name in seen[buffer] else 0
            else:
                turn = tensor.call
            kernel = writers[turn % len(writers)] if writers else None
            copy = kernel is None or self._moves(kernel)
            yield Boundary(
                tensor.name, tensor.call, tensor.order, tensor.dtype, tuple(tensor.dims), kernel, copy
            )

    def _fitting(self, buffer: str, tensor: Reported) -> list[int]:
        """The kernels that write the buffer, those that write these dims first of all."""
        writers = self._writers.get(buffer, [])
        exact = [
            place
            for place in writers
            if any(t.name == buffer and t.dims == tuple(tensor.dims) for t in self.kernels[place].outputs)
        ]
        return exact or writers

    def _moves(self, place: int) -> bool:
        kernel = self.kernels[place]
        return kernel.is_copy or kernel.is_sync

    def _buffer(self, name: str) -> str:
        if name in self._writers:
            return name
        piece = _PIECE.match(name)
        if piece is None:
            return name
        whole = piece["buffer"] + (piece["end"] or "")
        return whole if whole in self._writers else name

    def read_by(self, place: int) -> list[tuple[str, list[Boundary], list[int]]]:
        """For each tensor that a kernel reads: its name, its reported values, the kernels that wrote it."""
        found = []
        for name in dict.fromkeys(t.name for t in self.kernels[place].inputs):
            writers = [w for w in self._writers.get(name, ()) if w != place]
            earlier = [w for w in writers if w < place] or writers
            found.append((name, self._by_name.get(name, []), earlier))
        return found
