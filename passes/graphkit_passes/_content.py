"""What nodes, attributes and constants are made of, as keys: two things with one key compute the same."""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message

from graphkit import BadInput
from graphkit.model import wire
from graphkit.model.surgeon import (
    AttributeRef,
    Constant,
    GsGraph,
    Stored,
    StoredSparse,
    Surgeon,
    onnx_dtype,
)

Key = Hashable | None
"""None: nothing else is known to be the same."""

_SMALL = 4096  # bytes of a message that the reader parses whole
_SAMPLES, _SAMPLE = 8, 32
_DATA = frozenset({4, 5, 7, 9, 10, 11})  # the fields of a TensorProto that hold numbers


class Large:
    """The bytes of a large constant: told apart by samples, and read whole only when those agree."""

    def __init__(self, dtype: int, shape: tuple[int, ...], field: int, data: memoryview) -> None:
        self._data = data
        step = max(1, (len(data) - _SAMPLE) // (_SAMPLES - 1))
        samples = b"".join(data[i * step : i * step + _SAMPLE] for i in range(_SAMPLES))
        self._key = dtype, shape, field, len(data), samples, bytes(data[-_SAMPLE:])

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Large) and self._key == other._key and self._data == other._data


def values_key(held: Any) -> Key:
    """Constants of one dtype, shape and content have one key; sparse ones and those in data files none."""
    if isinstance(held, StoredSparse):
        return None
    if isinstance(held, Stored):
        return _stored_key(held)
    if not isinstance(held, np.ndarray) or held.dtype == object:
        return None
    dtype, shape = onnx_dtype(held.dtype), tuple(held.shape)
    if held.nbytes <= _SMALL:
        return dtype, shape, held.tobytes()
    raw: Any = np.ascontiguousarray(held).reshape(-1).view(np.uint8)
    return Large(dtype, shape, 9, memoryview(raw))


def _stored_key(held: Stored) -> Key:
    header = held.header
    if header.data_location == onnx.TensorProto.EXTERNAL or header.external_data:
        return None
    dtype, shape = int(header.data_type), tuple(header.dims)
    if dtype == onnx.TensorProto.STRING:
        return (dtype, shape, tuple(header.string_data)) if len(held.view) <= _SMALL else None
    if len(held.view) <= _SMALL:
        try:
            return dtype, shape, header.raw_data or held.read().tobytes()
        except BadInput:
            return None
    try:
        fields = [f for f in wire.scan(held.view, 64) if f.number in _DATA]
    except wire.WireError:
        return None
    if len(fields) != 1 or fields[0].wire_type != wire.LEN:
        return None
    data = memoryview(held.view)[fields[0].payload : fields[0].end]
    return Large(dtype, shape, 9 if fields[0].number in (4, 10) else fields[0].number, data)


def attribute_key(value: Any, graph_key: Callable[[Surgeon], Key]) -> Key:
    """The key of an attribute's value, floats by their bits; ``graph_key`` is asked for subgraphs."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, int | str | bytes):
        return value
    if isinstance(value, list | tuple):
        keys = tuple(attribute_key(v, graph_key) for v in value)
        return None if None in keys else keys
    if isinstance(value, Constant):
        return values_key(value._values)
    if isinstance(value, GsGraph):
        return graph_key(value)
    if isinstance(value, AttributeRef):
        return "reference", value.name
    if isinstance(value, np.ndarray):
        return values_key(value)
    return value.SerializeToString(deterministic=True) if isinstance(value, Message) else None
