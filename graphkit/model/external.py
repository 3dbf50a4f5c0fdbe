"""Tensors whose data lies in a file beside the model: where it is, and that this is in the model's folder.

The format is TensorProto.external_data of onnx.proto: ``location`` is a POSIX path relative to the model's
folder, ``offset`` and ``length`` are decimal numbers of bytes.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from graphkit.errors import BadInput
from graphkit.model.disk import mapped, open_regular, reason, shown

if TYPE_CHECKING:
    import onnx

_EXTERNAL = 1  # TensorProto.EXTERNAL
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_LARGEST = (1 << 63) - 1  # what a file offset can be


@dataclass(frozen=True)
class DataRef:
    """Where a tensor's bytes are: ``offset`` and ``length`` in bytes; no length is to the end of the file."""

    location: str
    offset: int = 0
    length: int | None = None


def data_ref(tensor: onnx.TensorProto) -> DataRef | None:
    """Where ``tensor`` keeps its data, or None when it holds the data itself.

    Raises BadInput when the location is missing, or offset or length is not a number from 0 to 2**63 - 1.
    """
    if tensor.data_location != _EXTERNAL:
        return None
    # The last of several entries with one key counts, as in onnx. Text that is not UTF-8 arrives as bytes.
    entries = {os.fsdecode(entry.key): os.fsdecode(entry.value) for entry in tensor.external_data}
    name = shown(os.fsdecode(tensor.name))
    location = entries.get("location")
    if not location:
        raise BadInput(
            f"tensor '{name}': its data is external but no location is given; export the model again"
        )
    offset = _number(entries.get("offset"), "offset", name)
    return DataRef(location, offset or 0, _number(entries.get("length"), "length", name))


def _number(text: str | None, key: str, name: str) -> int | None:
    if text is None:
        return None
    if _NUMBER.fullmatch(text) is None or int(text) > _LARGEST:
        raise BadInput(
            f"tensor '{name}': {key} '{shown(text, 40)}' of its external data is not a number of bytes; "
            "export the model again"
        )
    return int(text)


def inside(folder: Path, location: str, what: str) -> Path:
    """The real path of ``location`` in ``folder``, whether or not it exists.

    ``what`` begins the message of the BadInput that is raised for an absolute path, a Windows path (drive or
    backslash), a NUL, or a path that leaves the folder by ``..`` or a symlink.
    """
    where = f"{what}: data file '{shown(location)}'"
    if "\0" in location or location.rpartition("/")[2] in ("", ".", ".."):
        raise BadInput(f"{where} is not a file name; export the model again")
    if "\\" in location or PureWindowsPath(location).drive:
        raise BadInput(
            f"{where} is a Windows path; a location is relative to the model and has '/' between folders"
        )
    if location.startswith("/"):
        raise BadInput(
            f"{where} is an absolute path; put the file beside the model and name it relative to that"
        )
    try:
        root = os.path.realpath(folder)
        path = os.path.realpath(os.path.join(root, location))
        # A path that climbs out and comes back depends on the name of the folder: it leaves it all the same.
        climbs = PurePosixPath(os.path.normpath(location)).parts[0] == ".."
        within = not climbs and path != root and os.path.commonpath([root, path]) == root
    except (OSError, ValueError) as error:
        raise BadInput(f"{where} cannot be found: {reason(error)}; export the model again") from error
    if not within:
        raise BadInput(
            f"{where} is outside the model's folder {shown(folder)}; copy the file into that folder"
        )
    return Path(path)


def resolve(folder: Path, ref: DataRef, tensor: str, nbytes: int | None = None) -> Path:
    """The real path of the file that holds ``tensor``'s data; the file is looked at, not read.

    ``nbytes`` is what the tensor's shape and dtype need, when known. Raises BadInput for a path that `inside`
    refuses, a file that is missing, unreadable or not a regular file, and one too short for the tensor.
    """
    path, fd = _open(folder, ref, tensor, nbytes)
    os.close(fd)
    return path


def read_external(folder: Path, ref: DataRef, tensor: str) -> memoryview:
    """The bytes of ``tensor``: a read-only view of the mapped file, of which only pages in use enter memory.

    Raises BadInput where `resolve` does.
    """
    _, fd = _open(folder, ref, tensor, None)
    try:
        size = os.fstat(fd).st_size
        end = size if ref.length is None else ref.offset + ref.length
        return mapped(fd)[ref.offset : end] if size else memoryview(b"")
    except OSError as error:
        where = f"tensor '{shown(tensor)}': data file '{shown(ref.location)}'"
        raise BadInput(f"{where} cannot be read: {reason(error)}; check the file") from error
    finally:
        os.close(fd)


def _open(folder: Path, ref: DataRef, tensor: str, nbytes: int | None) -> tuple[Path, int]:
    what = f"tensor '{shown(tensor)}'"
    path = inside(folder, ref.location, what)
    fd = open_data(path, ref.location, what)
    try:
        _check_size(os.fstat(fd).st_size, ref, what, nbytes)
    except BaseException:
        os.close(fd)
        raise
    return path, fd


def open_data(path: Path, location: str, what: str) -> int:
    """A descriptor of the data file that `inside` found, or BadInput begun with ``what``."""
    where = f"{what}: data file '{shown(location)}'"
    try:
        return open_regular(path, follow=False)
    except FileNotFoundError as error:
        raise BadInput(f"{where} is missing from {shown(path.parent)}; put it beside the model") from error
    except (IsADirectoryError, NotADirectoryError) as error:
        raise BadInput(f"{where} is a directory or lies in no directory; put the data file there") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{where} cannot be read: {reason(error)}; check the file") from error


def _check_size(size: int, ref: DataRef, what: str, nbytes: int | None) -> None:
    if ref.offset < 0 or (ref.length or 0) < 0:
        raise BadInput(f"{what}: offset or length of its external data is negative; export the model again")
    if ref.length is not None and nbytes is not None and ref.length < nbytes:
        raise BadInput(
            f"{what}: its external data is {ref.length} bytes but its shape needs {nbytes}; "
            "export the model again"
        )
    end = ref.offset + max(ref.length or 0, nbytes or 0)
    if end > size:
        raise BadInput(
            f"{what}: data file '{shown(ref.location)}' has {size} bytes but {end} are needed; "
            "it is truncated, get it again"
        )
