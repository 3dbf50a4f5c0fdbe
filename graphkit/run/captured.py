"""The tensors and runs that a capture holds: what is known of each, and where its bytes are read from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from graphkit.errors import BadCapture
from graphkit.model.disk import reason, shown
from graphkit.run import storage
from graphkit.run.npz import Damaged, NpzReader

Shape = tuple[int, ...]

_MOST_RANK = 64  # numpy's own limit
_MOST_ELEMENTS = 1 << 48


class Source:
    """Where tensors' bytes are: arrays in memory, entries of an archive, or both."""

    def __init__(self, name: str) -> None:
        """``name`` is what messages call it."""
        self.name = name
        self.arrays: dict[str, NDArray[Any]] = {}
        self.archive: NpzReader | None = None

    def raw(self, tensor: LazyArray) -> NDArray[Any]:
        """The raw array of a tensor (see run/storage.py)."""
        if tensor.key in self.arrays:
            return self.arrays[tensor.key]
        dtype, shape = storage.raw_dtype(tensor.dtype), storage.raw_shape(tensor.dtype, tensor.dims)
        with self.bad():
            if self.archive is None:
                raise Damaged(f"entry '{tensor.key}' is missing")
            return self.archive.read(tensor.key, dtype, shape)

    @contextmanager
    def bad(self) -> Iterator[None]:
        """Turns Damaged and system errors into BadCapture that names the file."""
        try:
            yield
        except Damaged as error:
            advice = "" if ";" in str(error) else "; copy the file again, or capture again"
            raise BadCapture(f"{self.name}: {error}{advice}") from error
        except OSError as error:
            raise BadCapture(f"{self.name}: cannot be read: {reason(error)}; name a capture file") from error


@dataclass(frozen=True)
class LazyArray:
    """One tensor of a capture, read when asked for; ``dtype`` is numpy's or ml_dtypes' name.

    ``key`` names the entry that holds it: two tensors of one capture with the same key are bitwise equal.
    """

    name: str
    dtype: str
    dims: Shape
    key: str
    source: Source = field(repr=False, compare=False)

    @property
    def nbytes(self) -> int:
        """Bytes it takes in the file, two elements of a 4-bit dtype to each."""
        return storage.nbytes(self.dtype, self.dims)

    def read(self) -> NDArray[Any]:
        """The tensor of ``dims`` and ``dtype``; BadCapture when its bytes are not those written."""
        return storage.from_raw(self.source.raw(self), self.dtype, self.dims)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """What ``numpy.asarray(tensor)`` calls."""
        return np.array(self.read(), dtype, copy=copy)


@dataclass(frozen=True)
class CapturedTensor(LazyArray):
    """A kernel-boundary tensor: callback ``order`` of its run, and call number ``call`` of its name."""

    call: int = 0
    order: int = 0


@dataclass(frozen=True)
class CapturedRun:
    """One execution: inputs and outputs by name, kernel-boundary tensors in the order they came."""

    label: str
    inputs: Mapping[str, LazyArray]
    outputs: Mapping[str, LazyArray]
    tensors: Sequence[CapturedTensor]

    @property
    def shapes(self) -> dict[str, Shape]:
        """The inputs' dims by name."""
        return {name: array.dims for name, array in self.inputs.items()}

    def arrays(self) -> Iterator[LazyArray]:
        """All that it holds: inputs, outputs, tensors."""
        yield from (*self.inputs.values(), *self.outputs.values(), *self.tensors)

    def to_json(self) -> dict[str, Any]:
        """What a capture's ``meta`` says of this run."""
        return {
            "label": self.label,
            "inputs": [_record(a) for a in self.inputs.values()],
            "outputs": [_record(a) for a in self.outputs.values()],
            "tensors": [_record(a) | {"call": a.call} for a in self.tensors],
        }

    @classmethod
    def from_json(cls, document: object, source: Source) -> CapturedRun:
        """The run that ``to_json`` described; Damaged when that is no such description."""
        run = _typed(document, dict, "a run")
        lists = {key: _typed(run.get(key), list, f"'{key}' of a run") for key in _LISTS}
        return cls(
            _typed(run.get("label"), str, "the label of a run"),
            _by_name(LazyArray(**_fields(r, source)) for r in lists["inputs"]),
            _by_name(LazyArray(**_fields(r, source)) for r in lists["outputs"]),
            tuple(
                CapturedTensor(**_fields(r, source), call=_count(r.get("call"), "call"), order=n)
                for n, r in enumerate(lists["tensors"])
            ),
        )


_LISTS = ("inputs", "outputs", "tensors")


def _record(array: LazyArray) -> dict[str, Any]:
    return {"name": array.name, "dtype": array.dtype, "dims": list(array.dims), "key": array.key}


def _fields(document: object, source: Source) -> dict[str, Any]:
    """The fields of a LazyArray, checked."""
    record = _typed(document, dict, "a tensor")
    name = _typed(record.get("name"), str, "the name of a tensor")
    dtype = _typed(record.get("dtype"), str, f"the dtype of '{shown(name, 60)}'")
    dims = _typed(record.get("dims"), list, f"the dims of '{shown(name, 60)}'")
    if dtype not in storage.DTYPES:
        raise Damaged(
            f"tensor '{shown(name, 60)}' has the dtype '{shown(dtype, 30)}', which is not known here"
        )
    if len(dims) > _MOST_RANK:
        raise Damaged(f"tensor '{shown(name, 60)}' has {len(dims)} dims; numpy has no more than {_MOST_RANK}")
    sizes = tuple(_count(d, f"a dim of '{shown(name, 60)}'") for d in dims)
    key = _typed(record.get("key"), str, f"the key of '{shown(name, 60)}'")
    return {"name": name, "dtype": dtype, "dims": sizes, "key": key, "source": source}


def _by_name(arrays: Iterable[LazyArray]) -> dict[str, LazyArray]:
    found: dict[str, LazyArray] = {}
    for array in arrays:
        if found.setdefault(array.name, array) is not array:
            raise Damaged(f"a run has '{shown(array.name, 60)}' twice")
    return found


def _count(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value < _MOST_ELEMENTS:
        raise Damaged(f"has {shown(value, 30)} for {what}, where a size was expected")
    return value


def _typed(value: object, kind: type[Any], what: str) -> Any:
    if not isinstance(value, kind):
        raise Damaged(f"has {type(value).__name__} for {what}, where {kind.__name__} was expected")
    return value
