"""Gathers what runs of an engine computed into a capture, in memory or as a file that appears whole."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from graphkit.errors import BadOutput
from graphkit.model.atomic import check_target, temporary, transaction
from graphkit.model.disk import shown
from graphkit.run import storage
from graphkit.run.capture_reader import SCHEMA, Capture
from graphkit.run.captured import CapturedRun, CapturedTensor, LazyArray, Shape, Source
from graphkit.run.npz import NpzReader, NpzWriter

if TYPE_CHECKING:
    from graphkit.engine.layers import LayerMap

_MEMORY = 512 << 20  # bytes


class CaptureWriter:
    """Gathers runs into a capture: a file that appears whole on leaving the ``with`` block, or not at all.

    Tensors stay in memory up to ``memory`` bytes, and go to the file whenever there are more; without
    ``path`` to a temporary one. ``share`` keeps tensors that are bitwise equal once (inputs of repeated runs,
    an engine that answers the same again). Arrays are kept, not copied: leave them alone afterwards.
    ``meta`` may be added to until the end; ``capture`` is the result from then on. Raises BadOutput.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        meta: Mapping[str, Any],
        layers: LayerMap | None = None,
        *,
        memory: int = _MEMORY,
        compress: bool = False,
        share: bool = False,
    ) -> None:
        self._path = None if path is None else Path(path)
        self.meta, self._layers = dict(meta), layers
        self._memory, self._compress, self._held = memory, compress, 0
        self._seen: dict[tuple[str, Shape, bytes], str] | None = {} if share else None
        self._runs: list[CapturedRun] = []
        self._calls: Counter[str] = Counter()
        self._stack = ExitStack()
        self._source = Source("the capture in memory")
        self._out: NpzWriter | None = None
        self._count = 0

    def __enter__(self) -> Self:
        if self._path is not None:
            self._file = self._stack.enter_context(_file(self._path))
            self._out = NpzWriter(self._file, compress=self._compress)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is not None:
            with suppress(Exception):  # what it writes now goes with its file
                if self._out is not None:
                    self._out.close()
            return self._stack.__exit__(kind, error, trace)
        with self._stack:
            self._finish()
        self.capture = (
            Capture(None, self.meta | {"schema": SCHEMA}, self._layers, tuple(self._runs))
            if self._path is None
            else Capture.load(self._path)
        )
        return None

    def begin_run(self, label: str) -> None:
        """What is added from here on belongs to a new run."""
        self._runs.append(CapturedRun(label, {}, {}, []))
        self._calls.clear()

    def add_input(self, name: str, array: NDArray[Any]) -> None:
        """An input of the present run, of any dtype that storage.DTYPES names."""
        self._named(self._runs[-1].inputs, name, array, None, None)

    def add_output(
        self, name: str, array: NDArray[Any], dtype: str | None = None, dims: Shape | None = None
    ) -> None:
        """An output of the present run; ``array`` is raw (see run/storage.py) where ``dtype`` is given."""
        self._named(self._runs[-1].outputs, name, array, dtype, dims)

    def add_tensor(
        self, name: str, array: NDArray[Any], dtype: str | None = None, dims: Shape | None = None
    ) -> None:
        """The next kernel-boundary tensor; a name that comes again in one run counts as its next call."""
        tensors = self._runs[-1].tensors
        assert isinstance(tensors, list)
        fields = self._stored(name, array, dtype, dims)
        tensors.append(CapturedTensor(**fields, call=self._calls[name], order=len(tensors)))
        self._calls[name] += 1

    def _named(
        self,
        arrays: Mapping[str, LazyArray],
        name: str,
        array: NDArray[Any],
        dtype: str | None,
        dims: Shape | None,
    ) -> None:
        assert isinstance(arrays, dict)
        arrays[name] = LazyArray(**self._stored(name, array, dtype, dims))

    def _stored(
        self, name: str, array: NDArray[Any], dtype: str | None, dims: Shape | None
    ) -> dict[str, Any]:
        """Keeps the array; returns the fields of its record."""
        array = np.asarray(array)
        dtype, dims = dtype or array.dtype.name, array.shape if dims is None else tuple(dims)
        if dtype not in storage.DTYPES:
            raise BadOutput(f"tensor '{shown(name)}' has the dtype '{dtype}', which a capture cannot hold")
        raw = storage.to_raw(array) if array.dtype.name == dtype else array
        if raw.shape != storage.raw_shape(dtype, dims) or raw.dtype != storage.raw_dtype(dtype):
            raise ValueError(f"{name}: {raw.dtype} {raw.shape} does not hold {dtype} {dims}")
        seen = self._same(raw, dtype, dims)
        key = seen or f"r{len(self._runs) - 1}.t{self._count}"
        self._count += 1
        if seen is None:
            self._keep(key, raw)
        return {"name": name, "dtype": dtype, "dims": dims, "key": key, "source": self._source}

    def _same(self, raw: NDArray[Any], dtype: str, dims: Shape) -> str | None:
        """The key of an equal array kept before; notes this one when there is none."""
        if self._seen is None:
            return None
        digest = hashlib.sha256(np.ascontiguousarray(raw).reshape(-1).view(np.uint8).data).digest()
        name = f"r{len(self._runs) - 1}.t{self._count}"
        found = self._seen.setdefault((dtype, dims, digest), name)
        return None if found == name else found

    def _keep(self, key: str, raw: NDArray[Any]) -> None:
        held = raw.view()
        held.flags.writeable = False
        self._source.arrays[key] = held
        self._held += raw.nbytes
        if self._held > self._memory:
            self._spill()

    def _spill(self) -> NpzWriter:
        """Moves what is in memory to the file; if there is none, to one that goes with the Capture."""
        if self._out is None:
            unnamed = tempfile.TemporaryFile(prefix="graphkit-")  # noqa: SIM115
            self._file = self._stack.enter_context(unnamed)
            self._out = NpzWriter(self._file)
        for key in list(self._source.arrays):
            self._out.add(key, self._source.arrays.pop(key))
        self._held = 0
        return self._out

    def _finish(self) -> None:
        if self._path is not None:
            out = self._spill()
            meta = self.meta | {"schema": SCHEMA, "runs": [run.to_json() for run in self._runs]}
            out.add("meta", _json(meta))
            if self._layers is not None:
                out.add("layers", _json(self._layers.to_json()))
        if self._out is not None:
            self._out.close()
            self._file.flush()
            if self._path is None:
                self._source.archive = NpzReader(self._file.fileno())


def _json(document: object) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(document).encode(), np.uint8)


@contextmanager
def _file(path: Path) -> Iterator[IO[bytes]]:
    """A stream that becomes the file ``path`` when the block succeeds; BadOutput when it cannot."""
    target = check_target(path)
    with transaction(path) as undo:
        with temporary(undo, target.parent) as (fd, new):
            with os.fdopen(os.dup(fd), "w+b", buffering=1 << 16) as stream:
                yield stream
                stream.flush()
            with suppress(FileNotFoundError):
                os.chmod(new, stat.S_IMODE(os.stat(target).st_mode) & 0o777)
        # No fsync, which may take longer than the run: a capture can be made again, and says when it is cut.
        os.replace(new, target)
