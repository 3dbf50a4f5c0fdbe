"""A diff report with something of everything, and a checker of JSON against the shipped schemas."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import graphkit.report
from graphkit.report.diffs import (
    Coverage,
    DiffReport,
    Drift,
    LayerDiff,
    Metrics,
    OutputDiff,
    RunSummary,
    Unmapped,
)

NASTY = "a<b>&\"'\x1b[31m\x00\x0b\u202e"
SMALL = Metrics(
    max_abs=1e-6, rms_rel=1e-6, to_range=1e-6, snr_db=120.0, size=4, different=4, range_ref=(-1.0, 1.0)
)
BIG = replace(
    SMALL, rms_rel=0.01, to_range=0.02, gain=1.01, nan=(0, 3), misplaced=3, max_rel=math.inf, different=4
)
GOOD = LayerDiff("__myl_a", "fusion", ("conv0", "sig0"), "t0", 0, "float32", (1, 2), ("conv0_out",),
                 "same", 1.0, "metadata", SMALL, SMALL, 1e-3, 0.001, region=("__myl_a",))  # fmt: skip
BAD = replace(GOOD, kernel="__myl_b", onnx_nodes=("conv1", NASTY), tensor="t1", call=2, accumulated=BIG,
              introduced=BIG, share=20.0, ok=False, cause="scaled by 1.01", cause_evidence="gain",
              region=("__myl_b", "__myl_c"))  # fmt: skip

MISMATCH = DiffReport(
    "model.onnx",
    f"{NASTY}.engine",
    "onnx-engine",
    "mismatch",
    BAD,
    (GOOD, BAD, replace(GOOD, kernel=NASTY, tensor="t2", introduced=None, share=None)),
    tuple(Unmapped(f"u{n}", "__myl_c", (3, -1), "float16", f"why {n}") for n in range(8)),
    (OutputDiff("y", BIG, 1e-4, False, "error 0.02 of the range"), OutputDiff("z", SMALL, 1e-4)),
    Drift(True, 12, ("__myl_q",)),
    Coverage(13, 3, 2),
    ("a note",),
    ("do this next",),
    (RunSummary("1", {"x": (1, 2)}, "mismatch", "__myl_b"), RunSummary("2", {"x": (2, 2)})),
    {"tensorrt_rtx": "1.4"},
    {"build": 1.0, "total": 2.5},
    {"seed": 0},
)
MATCH = DiffReport(
    "a.onnx", "b.onnx", "onnx-onnx", "match", layers=(GOOD,), outputs=(OutputDiff("y", SMALL, 1e-4),)
)


def complaints(value: Any, name: str) -> list[str]:
    """What is wrong with a JSON tree by the schema of that name, for the keywords our schemas use."""
    path = Path(graphkit.report.__path__[0]) / "schemas" / f"{name}.json"
    root = json.loads(path.read_text("utf-8"))
    return list(_wrong(value, root, root, "$"))


_TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int,
                          "number": (int, float), "boolean": bool, "null": type(None)}  # fmt: skip


KEYWORDS = {
    "$schema", "$defs", "$ref", "title", "description", "type", "enum", "const", "anyOf", "required", "items",
    "properties", "additionalProperties", "minItems", "maxItems", "minimum", "maximum", "pattern",
}  # fmt: skip


def _wrong(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str) -> Any:
    assert set(schema) <= KEYWORDS, set(schema) - KEYWORDS
    if "$ref" in schema:
        yield from _wrong(value, root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root, at)
    kind = schema.get("type")
    if kind and (not isinstance(value, _TYPES[kind]) or (kind != "boolean" and isinstance(value, bool))):
        yield f"{at}: {value!r} is no {kind}"
        return
    if "enum" in schema and value not in schema["enum"] or value != schema.get("const", value):
        yield f"{at}: {value!r} is not allowed"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{at}: {value!r} does not match"
    if "anyOf" in schema and all(list(_wrong(value, s, root, at)) for s in schema["anyOf"]):
        yield f"{at}: {value!r} fits no alternative"
    if isinstance(value, dict):
        yield from (f"{at}: lacks {n}" for n in schema.get("required", ()) if n not in value)
        for key, inner in value.items():
            rule = schema.get("properties", {}).get(key, schema.get("additionalProperties", {}))
            if rule is False:
                yield f"{at}: has {key}"
            else:
                yield from _wrong(inner, rule, root, f"{at}.{key}")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{at}: has {len(value)} items"
        for n, inner in enumerate(value):
            yield from _wrong(inner, schema.get("items", {}), root, f"{at}[{n}]")
    if isinstance(value, int | float) and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
    ):
        yield f"{at}: {value} is out of range"


def is_plain(text: str) -> bool:
    """Whether text has nothing in it that a terminal or an XML reader would choke on."""
    return re.search("[^\n\x20-\x7e\u00a0-\ud7ff]|\u202e", text) is None
