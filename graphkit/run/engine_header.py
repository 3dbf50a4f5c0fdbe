"""What the first bytes of a file say of an engine: that it is one, of which TensorRT, and how long it is.

The version in bytes 24 to 27: https://github.com/NVIDIA/TensorRT/issues/3073. The length in bytes 16 to 23,
and the three words before it, are what TensorRT-RTX 1.4 and 1.7 write; nothing is claimed of other headers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["LEAST", "EngineHeader", "is_engine", "other_kind"]

_HEAD = struct.Struct("<4sIIIQ4B")
LEAST = _HEAD.size  # bytes of any engine
_RTX, _RTX_WORDS = b"vtrt", (0, 2, 0)
_MOST_TEXT = 1 << 12


@dataclass(frozen=True)
class EngineHeader:
    """``rtx``: which TensorRT wrote it; ``version`` like (1, 4, 0, 76) and ``size`` in bytes where known."""

    rtx: bool
    version: tuple[int, ...] = ()
    size: int | None = None

    @classmethod
    def of(cls, data: memoryview | bytes) -> EngineHeader | None:
        """The header of a file that begins with ``data``; None when it is no engine."""
        if not is_engine(data):
            return None
        rtx = bytes(data[:4]) == _RTX
        if len(data) < _HEAD.size:
            return cls(rtx)
        _, *words, size, major, minor, patch, build = _HEAD.unpack_from(data)
        if not rtx:
            return cls(rtx, (major, minor, patch, build) if 8 <= major < 30 else ())
        known = tuple(words) == _RTX_WORDS and size >= _HEAD.size
        return cls(rtx, (major, minor, patch, build), size) if known else cls(rtx)


def is_engine(data: memoryview | bytes) -> bool:
    """Whether a file that begins with ``data`` is a TensorRT engine: "ptrt", "ftrt" or, of RTX, "vtrt"."""
    return bytes(data[1:4]) == b"trt"


def other_kind(data: memoryview | bytes) -> str:
    """What a file that begins with ``data``, and is no engine, plainly is, with a next step; else nothing."""
    start = bytes(data[:_MOST_TEXT])
    if start.startswith(b"version https://git-lfs."):
        return "is a Git LFS pointer, not the file itself; run `git lfs pull`"
    if start[:4] == b"PK\x03\x04":
        return "is an archive, such as a capture, and no engine; give the file that graphkit build wrote"
    length = int.from_bytes(start[:4], "little") + 4
    if start[4:5] == b"{" and is_engine(bytes(data[length : length + 4])):
        return (
            f"has {length} bytes of metadata before the engine, as Ultralytics writes them; "
            f"give what follows: tail -c +{length + 1} FILE > model.engine"
        )
    if not set(start) - _TEXT:
        return "is text, and no engine; give a file that graphkit build or trtexec wrote"
    return ""


_TEXT = frozenset((*range(32, 127), *b"\t\n\r\f"))
