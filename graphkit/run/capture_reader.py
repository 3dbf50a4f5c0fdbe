"""Opens a capture file, trusting nothing in it: every tensor's record is checked against its entry."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphkit.model.disk import open_regular, reason, shown
from graphkit.run import storage
from graphkit.run.captured import CapturedRun, Source
from graphkit.run.npz import Damaged, NpzReader

if TYPE_CHECKING:
    from graphkit.engine.layers import LayerMap

SCHEMA = "graphkit.capture/1"
_MOST_TEXT = 1 << 28  # bytes of JSON: far above what a million tensors need


@dataclass(frozen=True)
class Capture:
    """Runs of one engine, with what is known of the engine; ``path`` is None when there is no file of it.

    ``meta``: "schema", "trt" (module, version), "device" (name, compute_capability), "onnx" and "engine"
    (name, sha256, bytes), "options", "marked" (whether kernel boundaries were captured), "specialization".
    """

    path: Path | None
    meta: Mapping[str, Any]
    layers: LayerMap | None
    runs: Sequence[CapturedRun]

    @property
    def marked(self) -> bool:
        """Whether the engine reports kernel-boundary tensors; else there are inputs and outputs only."""
        return bool(self.meta.get("marked"))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Capture:
        """Open a capture file; reads no tensor yet, but checks that each is there.

        Raises BadCapture, in one line, for a file that is missing, cut short, damaged, of a newer format, or
        no capture at all.
        """
        path = Path(path)
        source = Source(shown(path))
        with source.bad():
            fd = open_regular(path)
            try:
                source.archive = archive = NpzReader(fd)
            finally:
                os.close(fd)
            meta = _checked(_json(archive, "meta"))
            layers = _layers(_json(archive, "layers")) if "layers" in archive else None
            runs = tuple(CapturedRun.from_json(run, source) for run in meta.pop("runs"))
            for array in (a for run in runs for a in run.arrays()):
                shape = storage.raw_shape(array.dtype, array.dims)
                archive.check(array.key, storage.raw_dtype(array.dtype), shape)
        return cls(path, meta, layers, runs)


def _json(archive: NpzReader, key: str) -> Any:
    if key not in archive:
        raise Damaged(f"is an archive, but not a capture of graphkit: it has no entry '{key}'")
    try:
        return json.loads(archive.text(key, _MOST_TEXT))
    except Damaged:
        raise
    except (ValueError, RecursionError) as error:
        raise Damaged(f"has no JSON in its entry '{key}': {reason(error)}") from error


def _checked(meta: Any) -> dict[str, Any]:
    """``meta`` when it is of this format; Damaged says what is wrong with it."""
    name, _, version = str(meta.get("schema") if isinstance(meta, dict) else None).partition("/")
    if name != SCHEMA.partition("/")[0]:
        raise Damaged("is an archive, but not a capture of graphkit: its meta has another schema")
    if not (version.isascii() and version.isdigit() and len(version) < 9):
        raise Damaged(f"has the schema version '{shown(version, 30)}', which is no number")
    if int(version) > 1:
        raise Damaged(f"has the newer format {version}, and this graphkit reads up to 1; update graphkit")
    if not isinstance(meta.get("runs"), list):
        raise Damaged("has no list of runs in its meta")
    return dict(meta)


def _layers(document: Any) -> LayerMap:
    from graphkit.engine.layers import LayerMap

    try:
        return LayerMap.from_json(document)
    except Exception as error:  # whatever a wrong document trips over
        raise Damaged(f"has a layer map that cannot be read: {reason(error)}") from error
