"""Model files, .onnx and .onnxtxt: their bytes, and the folder in which their external data lies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from graphkit.errors import BadInput
from graphkit.model import text as onnx_text
from graphkit.model.atomic import write_atomic
from graphkit.model.disk import mapped, open_regular, read_all, reason, shown
from graphkit.model.external import DataRef, data_ref, read_external, resolve
from graphkit.model.save import LARGEST_MODEL, TEXT_SUFFIXES, check_out, save

if TYPE_CHECKING:
    import onnx

__all__ = [
    "DataRef",
    "ModelFile",
    "check_out",
    "data_ref",
    "read_external",
    "resolve",
    "same_bytes",
    "save",
    "write_atomic",
]

MAP_OVER = 64 << 20  # bytes; larger files are mapped instead of read


@dataclass(frozen=True, eq=False)
class ModelFile:
    """The wire bytes of a ModelProto, not parsed, and where they came from.

    ``path`` is absolute, with symlinks as given, and None for a model made in memory; ``folder`` is where
    its external data lies. ``data`` is read-only. ``text`` is the exact text of an .onnxtxt
    file, of which ``data`` was parsed; ``name`` is the path as it was given, for messages.
    """

    path: Path | None
    folder: Path | None
    data: memoryview = field(repr=False)
    text: bytes | None = field(default=None, repr=False)
    name: str = ""

    @classmethod
    def load(cls, path: Path | str) -> ModelFile:
        """Reads ``path``; a file over 64 MiB is mapped, so that only what is looked at enters memory.

        Raises BadInput when it is missing, empty, unreadable, not a regular file, over 2 GiB, or text
        (.onnxtxt, .onnxtext) that does not parse. Whether the bytes are a model is for their reader to say.
        """
        name = shown(path)
        data = _read(path, name)
        absolute = Path(path).absolute()
        if absolute.suffix.lower() not in TEXT_SUFFIXES:
            return cls(absolute, absolute.parent, data, name=str(path))
        text = bytes(data)
        return cls(absolute, absolute.parent, memoryview(onnx_text.parse(text, name)), text, str(path))

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, folder: Path | None = None) -> ModelFile:
        """A model in memory from its wire bytes; its external data, if it has any, lies in ``folder``."""
        return cls(None, folder, memoryview(data).toreadonly())

    @classmethod
    def from_proto(cls, model: onnx.ModelProto, folder: Path | None = None) -> ModelFile:
        """A model in memory from its message; BadInput when that is over protobuf's 2 GiB."""
        try:
            return cls.from_bytes(model.SerializeToString(), folder)
        except Exception as error:  # protobuf's own, whose class depends on its implementation
            raise BadInput(f"model in memory: {reason(error)}; keep its weights as external data") from error


def _read(path: Path | str, name: str) -> memoryview:
    try:
        fd = open_regular(path)
        try:
            size = os.fstat(fd).st_size
            if size > LARGEST_MODEL:
                raise BadInput(
                    f"{name}: {size} bytes are over the 2 GiB that a model file can hold; not an ONNX model"
                )
            data = mapped(fd) if size > MAP_OVER else memoryview(read_all(fd, size))
        finally:
            os.close(fd)
    except FileNotFoundError as error:
        raise BadInput(f"{name}: there is no such file; check the path") from error
    except IsADirectoryError as error:
        raise BadInput(f"{name}: is a directory; name the model file in it") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{name}: cannot be read: {reason(error)}; check the file") from error
    if not data:
        raise BadInput(f"{name}: is empty; export or download the model again")
    return data


_CHUNK = 1 << 20


def same_bytes(parts: Sequence[bytes | memoryview], data: memoryview) -> bool:
    """Whether the joined parts are ``data``, without joining them."""
    if sum(len(p) for p in parts) != len(data):
        return False
    if len(parts) == 1 and parts[0] is data:
        return True
    position = 0
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), _CHUNK):
            chunk = bytes(view[start : start + _CHUNK])
            if chunk != bytes(data[position : position + len(chunk)]):
                return False
            position += len(chunk)
    return True
