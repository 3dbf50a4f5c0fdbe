"""A report as JSON: stable, with a ``schema`` field, written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from graphkit.errors import BadOutput

__all__ = ["check_report", "dumps", "write"]


class Record(Protocol):
    """Anything that can show itself as a JSON-ready tree."""

    def to_json(self) -> dict[str, Any]: ...


def dumps(report: Record) -> str:
    """The report as JSON text; NaN and infinities, which JSON lacks, are "nan", "inf" and "-inf"."""
    return json.dumps(_plain(report.to_json()), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
    return value.item() if hasattr(value, "item") else str(value)


def check_report(path: Path) -> None:
    """Raise BadOutput, before any work, when a report could not be written to ``path``."""
    folder = path.absolute().parent
    if path.is_dir():
        raise BadOutput(f"--report {path}: is a directory; name a file in it")
    if not folder.is_dir():
        raise BadOutput(f"--report {path}: there is no folder {folder}; create it first")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=folder)
    except OSError as error:
        raise BadOutput(f"--report {path}: cannot be written: {error.strerror or error}") from error
    os.close(handle)
    os.unlink(name)


def write(report: Record, path: Path) -> None:
    """Write the report to ``path``; BadOutput when that fails, with what was there intact."""
    target = Path(os.path.realpath(path))
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(dumps(report))
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise BadOutput(f"--report {path}: cannot be written: {error.strerror or error}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
