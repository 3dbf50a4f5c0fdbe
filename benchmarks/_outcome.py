"""What a tool wrote, beside what it was given: `python _outcome.py IN OUT [SHAPES]` prints JSON.

Counts nodes, and runs both models in ONNX Runtime (its optimisations off) on the same seeded inputs. The
outputs agree when the largest difference is at most 1e-4 of the output's range, taken as at least 0.01.
SHAPES is JSON, {input: sizes}; an input that it does not name has its own sizes, 1 where one is dynamic.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

TOLERANCE = 1e-4
NARROW = 1e-2  # a text detector finds nothing in noise: all of its output is below 1e-5, and differs by 1e-7
Arrays = dict[str, np.ndarray]


def session(model: Path) -> ort.InferenceSession:
    """A session that runs the model as it is written."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def feeds(run: ort.InferenceSession, shapes: dict[str, list[int]]) -> Arrays:
    """Seeded inputs: floats in 0..1, integers 0 or 1 (token ids and masks)."""
    random = np.random.default_rng(0)
    values = {}
    for wanted in run.get_inputs():
        dims = shapes.get(wanted.name) or [n if isinstance(n, int) and n > 0 else 1 for n in wanted.shape]
        floats = wanted.type == "tensor(float)"
        values[wanted.name] = random.random(dims, np.float32) if floats else random.integers(0, 2, dims)
    return values


def outputs(model: Path, inputs: Arrays | None, shapes: dict[str, list[int]]) -> tuple[Arrays, Arrays]:
    """The inputs used and the outputs by name."""
    run = session(model)
    inputs = inputs or feeds(run, shapes)
    names = [output.name for output in run.get_outputs()]
    return inputs, dict(zip(names, run.run(names, inputs), strict=True))


def difference(expected: Arrays, found: Arrays) -> float:
    """The largest difference of any output, over the range of that output; infinite for other shapes."""
    if list(expected) != list(found):
        return float("inf")
    worst = 0.0
    for name, want in expected.items():
        got = found[name]
        if want.shape != got.shape or want.dtype != got.dtype:
            return float("inf")
        if want.size:
            gap = np.abs(want.astype(np.float64) - got.astype(np.float64)).max()
            worst = max(worst, float(gap / max(np.ptp(want.astype(np.float64)), NARROW)))
    return worst


def outcome(model: Path, out: Path, shapes: dict[str, list[int]]) -> dict[str, Any]:
    """Nodes, the commonest activations, bytes written, and how the outputs compare."""
    proto = onnx.load(out, load_external_data=False)
    counts = Counter(node.op_type for node in proto.graph.node)
    result: dict[str, Any] = {"nodes": len(proto.graph.node), "swish": counts["Swish"]}
    written = [path for path in out.parent.iterdir() if path.name.startswith(out.name)]
    result["bytes_written"] = sum(path.stat().st_size for path in written)
    inputs, expected = outputs(model, None, shapes)
    try:
        _, found = outputs(out, inputs, shapes)
    except Exception as failure:  # each runtime error is a finding about the tool that wrote the model
        return {**result, "agrees": False, "why": " ".join(str(failure).split())[:200]}
    worst = difference(expected, found)
    result["agrees"] = bool(worst <= TOLERANCE)
    if np.isfinite(worst):
        return {**result, "difference": float(f"{worst:.2g}")}
    return {**result, "why": f"outputs are {describe(found)}, not {describe(expected)}"}


def describe(values: Arrays) -> str:
    """Names, types and shapes."""
    return ", ".join(f"{name} {value.dtype}{list(value.shape)}" for name, value in values.items())


if __name__ == "__main__":
    shapes_given = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    print(json.dumps(outcome(Path(sys.argv[1]), Path(sys.argv[2]), shapes_given)))
