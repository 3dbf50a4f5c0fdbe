"""A result never takes the place of what it was made from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from graphkit.errors import BadOutput, GraphkitError
from graphkit.model.disk import shown
from graphkit.model.model import Model

__all__ = ["check_apart"]

_MODELS = (".onnx", ".onnxtxt", ".onnxtext")


def check_apart(path: Path, read: Mapping[str, Path]) -> None:
    """Raise BadOutput when writing to ``path`` would replace a file that is read, or one in a folder that is.

    ``read`` maps what messages call them to files and folders; of models, their external data counts too.
    """
    target = Path(os.path.realpath(path))
    if not target.is_file():  # a pipe takes what comes, and a file that is not there yet nothing loses
        return
    for role, other in read.items():
        real = Path(os.path.realpath(other))
        if real == target:
            raise BadOutput(f"{shown(path)}: would replace {role}; name another file")
        if (real.is_dir() and target.is_relative_to(real)) or target in _data_of(other):
            raise BadOutput(f"{shown(path)}: would replace a part of {role}; name another file")


def _data_of(path: Path) -> set[Path]:
    """The files with a model's external data; none for anything else."""
    if path.suffix.lower() not in _MODELS:
        return set()
    with suppress(GraphkitError):  # whoever reads it will say what is wrong with it
        return {Path(os.path.realpath(path.parent / name)) for name in Model.load(path).data_files()}
    return set()
