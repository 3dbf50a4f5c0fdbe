"""Writes arrays one at a time into a .npz that numpy can open, and reads them back lazily, trusting nothing.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html inside
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (stored or deflated entries, ZIP64 where needed).
"""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from graphkit.model.disk import forget, mapped, reason, shown

Shape = tuple[int, ...]

_ALIGN = 64  # bytes: data start there in the file, so that a mapped array is aligned as numpy's own are
_BIG = 1 << 30  # bytes from which an entry gets ZIP64 fields
_DEFLATE_RATIO = 1040  # deflate cannot do better than 1032 to 1; an entry that claims more lies
_LARGE = 1 << 20  # bytes of an entry that is copied out of the mapping
_HEADER = 4096  # bytes of a deflated entry that are unpacked to look at its header
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\.npy")
_MAGIC = b"\x93NUMPY\x01\x00"
_WHEN = (1980, 1, 1, 0, 0, 0)  # no clock in the file: the same arrays give the same bytes


class Damaged(ValueError):
    """The archive cannot be read; the message says why, without the file's name."""


class NpzWriter:
    """Appends arrays to an open, seekable stream, uncompressed unless ``compress``."""

    def __init__(self, stream: IO[bytes], *, compress: bool = False) -> None:
        method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
        self._zip = zipfile.ZipFile(stream, "w", method, compresslevel=6 if compress else None)
        self._stream, self._method = stream, method

    def add(self, key: str, array: NDArray[Any]) -> None:
        """Write ``array`` (C order, a dtype that numpy has) as the entry ``key``."""
        array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
        info = zipfile.ZipInfo(f"{key}.npy", _WHEN)
        info.compress_type, info.external_attr = self._method, 0o600 << 16
        with self._zip.open(info, "w", force_zip64=array.nbytes >= _BIG) as entry:
            entry.write(_header(array.dtype, array.shape, self._stream.tell()))
            if array.nbytes:
                entry.write(array.reshape(-1).view(np.uint8).data)

    def close(self) -> None:
        """Write the directory; the stream stays open."""
        self._zip.close()


def _header(dtype: np.dtype[Any], shape: Shape, at: int) -> bytes:
    """The .npy header, padded so that data follow on a multiple of 64 bytes when it is written at ``at``."""
    text = _said(dtype, shape)
    pad = -(at + len(_MAGIC) + 2 + len(text) + 1) % _ALIGN
    return _MAGIC + struct.pack("<H", len(text) + pad + 1) + text + b" " * pad + b"\n"


def _said(dtype: np.dtype[Any], shape: Shape) -> bytes:
    return (
        f"{{'descr': {dtype.newbyteorder('<').str!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    )


@dataclass(frozen=True)
class _Entry:
    """Where an entry's bytes lie in the file, and what the directory says of them."""

    at: int
    packed: int
    size: int
    crc: int
    deflated: bool


class NpzReader:
    """The arrays of an archive, mapped: stored ones are read in place, deflated ones unpacked when asked for.

    Raises Damaged for what is not such an archive, or was cut short.
    """

    def __init__(self, fd: int) -> None:
        """Reads the directory of the file behind ``fd``; the descriptor may be closed afterwards."""
        with _damage(), os.fdopen(os.dup(fd), "rb") as stream:
            if os.fstat(fd).st_size == 0:
                raise Damaged("is empty")
            with zipfile.ZipFile(stream) as archive:
                infos = archive.infolist()
            self._file = mapped(fd)
            self._entries = {info.filename.removesuffix(".npy"): self._entry(info) for info in infos}
        if len(self._entries) != len(infos):
            raise Damaged("has two entries of one name")
        self._sound: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def text(self, key: str, most: int) -> bytes:
        """The entry's bytes when it is a row of uint8, ``most`` of them at most."""
        if key not in self._entries:
            raise Damaged(f"entry '{key}' is missing")
        entry = self._entries[key]
        with _damage():
            begin = _begin(self._head(entry))
        if entry.size - begin > most:
            raise Damaged(f"entry '{key}' is {entry.size} bytes long, too much for a description")
        return self.read(key, np.dtype(np.uint8), (max(0, entry.size - begin),)).tobytes()

    def check(self, key: str, dtype: np.dtype[Any], shape: Shape) -> int:
        """Raise Damaged unless the entry holds an array of this dtype and shape; returns where data start."""
        if key not in self._entries:
            raise Damaged(f"entry '{shown(key, 80)}' is missing")
        entry = self._entries[key]
        with _damage():
            start = self._head(entry)
        begin = _begin(start)
        text = start[len(_MAGIC) + 2 : begin].rstrip()
        if start[: len(_MAGIC)] != _MAGIC or text != _said(dtype, shape):
            says = shown(text.decode("latin-1"), 120)
            raise Damaged(
                f"entry '{key}' should hold {dtype.name} {list(shape)}, but its header says: {says}"
            )
        if entry.size != begin + math.prod(shape) * dtype.itemsize:
            raise Damaged(f"entry '{key}' is {entry.size} bytes long, which does not fit its header")
        return begin

    def read(self, key: str, dtype: np.dtype[Any], shape: Shape) -> NDArray[Any]:
        """The entry's array, read-only; raises Damaged when it is not what was asked for or bytes changed."""
        begin = self.check(key, dtype, shape)
        entry = self._entries[key]
        data = self._file[entry.at : entry.at + entry.packed]
        if entry.deflated:
            with _damage():
                data = memoryview(_inflate(data, entry.size))
        if key not in self._sound:
            if len(data) != entry.size or zlib.crc32(data) != entry.crc:
                raise Damaged(f"entry '{key}' does not have the checksum that was written with it")
            self._sound.add(key)
        if not entry.deflated and entry.size >= _LARGE:  # a process that reads many keeps none of their pages
            data = memoryview(bytes(data))
            forget(self._file, entry.at, entry.packed)
        return np.frombuffer(data[begin:], dtype.newbyteorder("<")).reshape(shape)

    def _head(self, entry: _Entry) -> bytes:
        data = self._file[entry.at : entry.at + entry.packed]
        return zlib.decompressobj(-15).decompress(data, _HEADER) if entry.deflated else bytes(data[:_HEADER])

    def _entry(self, info: zipfile.ZipInfo) -> _Entry:
        name = shown(info.filename, 80)
        if not _KEY.fullmatch(info.filename):
            raise Damaged(f"has an entry '{name}', which is no array of a capture")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Damaged(f"entry '{name}' is encrypted, or packed in an unusual way")
        deflated = info.compress_type == zipfile.ZIP_DEFLATED
        local = bytes(self._file[info.header_offset : info.header_offset + 30])
        if local[:4] != b"PK\x03\x04":
            raise Damaged(f"entry '{name}' is not where the directory says")
        at = info.header_offset + 30 + sum(struct.unpack_from("<HH", local, 26))
        if at + info.compress_size > len(self._file):
            raise Damaged(f"ends before entry '{name}' does")
        most = info.compress_size * _DEFLATE_RATIO if deflated else info.compress_size
        if info.file_size > most or (not deflated and info.file_size != info.compress_size):
            raise Damaged(f"entry '{name}' claims {info.file_size} bytes, more than it can hold")
        return _Entry(at, info.compress_size, info.file_size, info.CRC, deflated)


def _begin(start: bytes) -> int:
    """Where data follow the .npy header that an entry starts with."""
    length = struct.unpack_from("<H", start, len(_MAGIC))[0] if len(start) > len(_MAGIC) + 1 else 0
    return len(_MAGIC) + 2 + int(length)


def _inflate(data: memoryview, size: int) -> bytes:
    """The unpacked bytes: never more than one above ``size``, however much is packed."""
    return zlib.decompressobj(-15).decompress(data, size + 1) if size else b""


@contextmanager
def _damage() -> Iterator[None]:
    """Turns what zipfile and zlib raise over bad bytes into Damaged."""
    try:
        yield
    except Damaged:
        raise
    except zipfile.BadZipFile as error:
        raise Damaged(f"is cut short, or not a .npz: {shown(error)}") from error
    except (zlib.error, struct.error, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise Damaged(f"is damaged: {reason(error)}") from error
