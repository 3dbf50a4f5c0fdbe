"""The layer map of an engine: every kernel beside its ONNX nodes; what ``model.layers.json`` holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import onnx

from graphkit.engine.coverage import coverage
from graphkit.engine.inspector import parse_inspector
from graphkit.engine.kernel import EngineTensor, Kernel
from graphkit.engine.log import parse_log, sections
from graphkit.errors import BadInput
from graphkit.model.atomic import write_atomic
from graphkit.model.disk import reason, shown

__all__ = [
    "SCHEMA",
    "EngineTensor",
    "Kernel",
    "LayerMap",
    "layers_path",
    "load_all",
    "parse_inspector",
    "parse_log",
    "sections",
    "to_bytes",
    "uncovered",
]

SCHEMA = "graphkit.layers/1"


@dataclass(frozen=True)
class LayerMap:
    """The kernels of one engine, in the engine's order.

    ``source`` is where they were read: "log", "inspector", or "profile-N" for the inspector asked about one
    optimization profile. ``meta`` is JSON-ready: versions, hashes and options of the build.
    """

    kernels: tuple[Kernel, ...]
    source: str = "log"
    meta: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The tree of schema graphkit.layers/1."""
        head = {"schema": SCHEMA, "source": self.source, **self.meta}
        return {**head, "kernels": [k.to_json() for k in self.kernels]}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Self:
        """The inverse of to_json. Raises BadInput when ``tree`` is of another schema or lacks a field."""
        schema = tree.get("schema") if isinstance(tree, Mapping) else None
        if schema != SCHEMA:
            raise BadInput(f"not a layer map: its schema is {shown(schema)!r}, not '{SCHEMA}'")
        try:
            kernels = tuple(Kernel.from_json(k) for k in tree["kernels"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"not a whole layer map: {type(error).__name__} {shown(error)}") from error
        own = ("schema", "source", "kernels", "others")
        meta = {k: v for k, v in tree.items() if k not in own}
        return cls(kernels, str(tree.get("source", "")), meta)

    def save(self, path: Path | str) -> None:
        """Write it as JSON, whole or not at all; BadOutput when ``path`` cannot be written."""
        write_atomic(Path(path), [to_bytes([self])])

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what save wrote, the first map of several; BadInput when the file is not that."""
        return cls.from_json(_tree(Path(path)))


def layers_path(engine: Path) -> Path:
    """Where the layer map of an engine lies: ``model.layers.json`` for ``model.engine``."""
    return engine.with_suffix(".layers.json")


def to_bytes(maps: list[LayerMap]) -> bytes:
    """The file of one engine: its map, and under ``others`` those of further targets or profiles."""
    tree = maps[0].to_json()
    if len(maps) > 1:
        tree["others"] = [m.to_json() for m in maps[1:]]
    # Names come from anywhere: half a surrogate pair has no UTF-8, but JSON can spell it.
    return (json.dumps(tree, indent=1, allow_nan=False) + "\n").encode()


def load_all(path: Path | str) -> list[LayerMap]:
    """Every map of a file that ``graphkit build`` wrote; BadInput when the file is not that."""
    tree = _tree(Path(path))
    others = tree.get("others", ()) if isinstance(tree, Mapping) else ()
    return [LayerMap.from_json(t) for t in (tree, *others)]


def _tree(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{shown(path)}: cannot be read: {reason(error)}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{shown(path)}: is not JSON; build the engine again to get its layers") from error


def uncovered(model: onnx.ModelProto, layers: LayerMap) -> tuple[tuple[str, str], ...]:
    """The nodes (name, operator) that survive the build and that no kernel names; see `coverage`."""
    return coverage(model, layers.kernels).uncovered
