"""A report as JSON: stable, with a ``schema`` field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["dumps"]


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
