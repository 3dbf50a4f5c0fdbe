"""The ONNX file as TensorRT's parser is given it: nodes under names of their own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphkit.engine.naming import named_parts
from graphkit.errors import BadInput
from graphkit.model.external import DataRef, read_external
from graphkit.model.model import Model

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """A model that graphkit has read, and so is one: ``data`` are its bytes for the parser, or None when
    the file can be parsed as it is; ``renamed`` are the nodes whose name is not the file's."""

    path: Path
    data: bytes | None = field(repr=False)
    renamed: dict[str, str]
    model: Model = field(repr=False)

    @classmethod
    def load(cls, path: Path | str) -> Source:
        """Read the model; BadInput says in one line what is wrong with it."""
        model = Model.load(path)
        file = model.file
        if file.path is None:
            raise BadInput(f"{file.name}: is in memory; save the model first")
        parts, renamed = named_parts(file.data)
        if parts is None and file.text is not None:
            parts = [file.data]
        return cls(file.path, None if parts is None else b"".join(parts), renamed, model)

    @property
    def name(self) -> str:
        """The path as it was given, for messages."""
        return self.model.where

    def record(self) -> dict[str, Any]:
        """Which file it was: name and SHA-256 of its bytes, and of each data file that it names."""
        file = self.model.file
        data = {}
        for location in sorted(self.model.data_files()):
            assert file.folder is not None  # else the model would not have been read
            data[location] = hashlib.sha256(
                read_external(file.folder, DataRef(location), location)
            ).hexdigest()
        digest = hashlib.sha256(file.data if file.text is None else file.text).hexdigest()
        record: dict[str, Any] = {"name": self.path.name, "sha256": digest}
        return {**record, "external_data": data} if data else record
