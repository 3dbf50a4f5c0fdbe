"""What an engine's tensor can be of a model's: the same, a view, padded, scaled, several side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from graphkit.compare.samples import positions

__all__ = ["Block", "Form", "Padded", "Scaled", "SideBySide", "View", "crop"]

Array = NDArray[Any]
Shape = tuple[int, ...]


class Form(Protocol):
    """How the values of one or more ONNX tensors are read out of an engine's tensor."""

    @property
    def name(self) -> str:
        """One of the words of LayerDiff.form."""
        ...

    @property
    def tensors(self) -> tuple[str, ...]:
        """The ONNX tensors, each of which it holds whole."""
        ...

    def read(self, value: Array) -> Mapping[str, Array]:
        """The ONNX tensors' values, in their own dims."""
        ...


@dataclass(frozen=True)
class View:
    """All the elements of ``tensor``, in its order: the same tensor, or one reshaped."""

    tensor: str
    dims: Shape
    before_bias: bool = False
    same: bool = True

    @property
    def name(self) -> str:
        return "before bias" if self.before_bias else "same" if self.same else "view"

    @property
    def tensors(self) -> tuple[str, ...]:
        return (self.tensor,)

    def read(self, value: Array) -> Mapping[str, Array]:
        return {self.tensor: value.reshape(self.dims)}


@dataclass(frozen=True)
class Padded:
    """``tensor`` in a corner of the engine's, whose dims were rounded up; ``kept`` of each."""

    tensor: str
    dims: Shape
    kept: Shape

    name = "padded"

    @property
    def tensors(self) -> tuple[str, ...]:
        return (self.tensor,)

    def read(self, value: Array) -> Mapping[str, Array]:
        return {self.tensor: value[tuple(slice(0, k) for k in self.kept)].reshape(self.dims)}


@dataclass(frozen=True)
class Scaled:
    """``tensor`` times a constant of the model, which the builder moved to another place."""

    tensor: str
    dims: Shape
    factor: float

    name = "scaled"

    @property
    def tensors(self) -> tuple[str, ...]:
        return (self.tensor,)

    def read(self, value: Array) -> Mapping[str, Array]:
        wide = value.astype(np.float64) if value.dtype == np.float64 else value.astype(np.float32)
        return {self.tensor: (wide / np.asarray(self.factor, wide.dtype)).reshape(self.dims)}


@dataclass(frozen=True)
class Block:
    """Columns ``start`` to ``stop`` of ``tensor`` along its ``axis``, at ``at`` in the engine's."""

    tensor: str
    dims: Shape
    axis: int
    start: int
    stop: int
    at: int


@dataclass(frozen=True)
class SideBySide:
    """Several tensors, or the blocks of one in the engine's order, joined along one axis of its tensor."""

    blocks: tuple[Block, ...]
    axis: int

    name = "side by side"

    @property
    def tensors(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(b.tensor for b in self.blocks))

    def read(self, value: Array) -> Mapping[str, Array]:
        found: dict[str, Array] = {}
        for block in self.blocks:
            if block.tensor not in found:
                found[block.tensor] = np.empty(block.dims, value.dtype)
            source = np.moveaxis(value, self.axis, -1)[..., block.at : block.at + block.stop - block.start]
            target = np.moveaxis(found[block.tensor], block.axis, -1)[..., block.start : block.stop]
            target[...] = source.reshape(target.shape)
        return found


def crop(wide: Shape, narrow: Shape) -> Shape | None:
    """How much to keep of each dim of ``wide`` to get ``narrow``, dims of 1 aside; None when it does not fit.

    Padding rounds a dim up, so each dim kept is more than half of it, or 1 of a few channels.
    """
    left = [d for d in narrow if d != 1]

    def match(place: int, used: int) -> tuple[int, ...] | None:
        if place == len(wide):
            return () if used == len(left) else None
        if used < len(left) and left[used] <= wide[place] <= max(2 * left[used], left[used] + 7):
            rest = match(place + 1, used + 1)
            if rest is not None:
                return (left[used], *rest)
        if wide[place] <= 8:  # a dim of 1 that was padded to as many as eight channels
            rest = match(place + 1, used)
            if rest is not None:
                return (1, *rest)
        return None

    found = match(0, 0)
    return None if found is None or found == wide else found


def splits(dims: Shape, width: Shape) -> Iterator[tuple[int, int]]:
    """(engine's axis, tensor's axis) along which a tensor could be one piece of another."""
    for axis in range(len(width)):
        before, after = _size(width[:axis]), _size(width[axis + 1 :])
        for own in range(len(dims)):
            if _size(dims[:own]) == before and _size(dims[own + 1 :]) == after:
                yield axis, own


def _size(dims: Sequence[int]) -> int:
    return int(np.prod(dims, dtype=np.int64)) if dims else 1


def block_sample(value: Array, axis: int, block: Block) -> tuple[Array, Array]:
    """Where the tensor's sample falls into ``block``, and the engine's values at those places."""
    count = _size(block.dims)
    where = np.unravel_index(positions(count), block.dims)
    column = where[block.axis]
    inside = (column >= block.start) & (column < block.stop)
    before = (
        np.ravel_multi_index([w[inside] for w in where[: block.axis]], block.dims[: block.axis])
        if block.axis
        else 0
    )
    last = block.dims[block.axis + 1 :]
    after = np.ravel_multi_index([w[inside] for w in where[block.axis + 1 :]], last) if last else 0
    width = _size(value.shape[axis + 1 :])
    flat = (before * value.shape[axis] + column[inside] - block.start + block.at) * width + after
    with np.errstate(over="ignore", invalid="ignore"):
        return inside, value.reshape(-1)[flat].astype(np.float32)
