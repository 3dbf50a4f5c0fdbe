"""Parsing single ONNX messages, with errors that a person can read."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from graphkit.errors import BadInput
from graphkit.model import wire

_CHECK = "check that the file is the one you mean"
_LFS = b"version https://git-lfs.github.com/spec/"
_NUMBERS, _MESSAGES = frozenset({1, 5}), frozenset({2, 3, 4, 6, 7, 8, 14, 20, 25, 26})  # of a ModelProto
_LARGEST = 1 << 31


def parse(kind: type[Any], view: wire.Buffer) -> Any:
    """Parse one message; BadInput when the bytes are not one."""
    try:
        return kind.FromString(bytes(view))
    except (DecodeError, RecursionError) as error:
        said = f"not an ONNX model: a {kind.__name__} cannot be decoded ({first_line(error)}); {_CHECK}"
        raise BadInput(said) from error


def unreadable(data: wire.Buffer, error: BaseException) -> str:
    """What a file is whose bytes raised ``error``, as far as they tell, and what to do about it."""
    if bytes(data[: len(_LFS)]) == _LFS:
        return "is a Git LFS pointer, not the model itself; run `git lfs pull`"
    if isinstance(error, wire.CutShort) and _is_start_of_model(error):
        return f"is cut short: it has {error.size} of {error.end} bytes or more; download or export it again"
    return f"not an ONNX model ({first_line(error)}); {_CHECK}"


def no_graph() -> str:
    """What to say of a message without a graph."""
    return f"holds no graph; it is not an ONNX model; {_CHECK}"


def _is_start_of_model(error: wire.CutShort) -> bool:
    """Whether all fields before the cut are those of a ModelProto, and the one that is cut is too."""
    fields = [(f.number, f.wire_type) for f in error.before]
    known = all(
        number in _NUMBERS if kind == wire.VARINT else number in _MESSAGES and kind == wire.LEN
        for number, kind in [*fields, (error.number, error.wire_type)]
    )
    return known and bool(fields) and error.end < _LARGEST


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its type."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
