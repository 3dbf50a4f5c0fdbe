"""Whether a simplified model is still the model: `python _held.py IN OUT [TRIALS]` prints JSON.

Counts the nodes of all graphs and functions of OUT, compares inputs and outputs with those of IN, and runs
both in ONNX Runtime (its optimisations off) on the same seeded inputs, once for each trial. TRIALS is a JSON
list of {input: its size, or {"value": v} for an array without dims}.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from _outcome import TOLERANCE, Arrays, describe, difference, session

_DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


def nodes(found: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """These nodes and all in their subgraphs."""
    for node in found:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from nodes(graph.node)


def all_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Every node of a model, those of its functions too."""
    return [*nodes(model.graph.node), *(n for f in model.functions for n in nodes(f.node))]


def feeds(run: ort.InferenceSession, trial: dict[str, Any]) -> Arrays:
    """Seeded inputs: floats in 0..1, integers 0 or 1 (token ids and masks), and the values of the trial."""
    random = np.random.default_rng(0)
    values = {}
    for wanted in run.get_inputs():
        given = trial.get(wanted.name)
        if isinstance(given, dict):
            values[wanted.name] = np.array(given["value"], np.int64)
            continue
        dims = given or [n if isinstance(n, int) and n > 0 else 1 for n in wanted.shape]
        dtype = _DTYPES.get(wanted.type)
        values[wanted.name] = random.random(dims).astype(dtype) if dtype else random.integers(0, 2, dims)
    return values


def interface(model: onnx.ModelProto) -> dict[str, list[tuple[str, int]]]:
    """Names and element types of what a caller sees: inputs, those with a default value apart, and outputs.

    Before IR 4, every initializer had to be an input too, and was none: no runtime let a caller override it.
    """
    names = {i.name for i in model.graph.initializer}
    defaults = [i.name for i in model.graph.input if i.name in names and model.ir_version >= 4]
    inputs = [i for i in model.graph.input if i.name not in names]
    return {
        "inputs": [(i.name, i.type.tensor_type.elem_type) for i in inputs],
        "inputs with a default": [(n, 0) for n in defaults],
        "outputs": [(o.name, o.type.tensor_type.elem_type) for o in model.graph.output],
    }


def changed(model: onnx.ModelProto, out: onnx.ModelProto) -> str | None:
    """How the interface or the operators in use are others; None when they are not."""
    before, after = interface(model), interface(out)
    for key in before:
        if before[key] != after[key]:
            return f"{key} are {listed(after[key])}, not {listed(before[key])}"
    known = {n.domain for n in all_nodes(model)} | {"", "ai.onnx"}
    foreign = sorted({f"{n.domain}::{n.op_type}" for n in all_nodes(out) if n.domain not in known})
    return f"needs {', '.join(foreign)}" if foreign else None


def listed(ends: list[tuple[str, int]]) -> str:
    """The first few names."""
    names = [name for name, _ in ends]
    return (
        ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") if names else "none"
    )


def compare(model: Path, out: Path, trials: list[dict[str, Any]]) -> dict[str, Any]:
    """The largest difference of any trial; why there is none when one does not run or has other shapes."""
    before = session(model)
    try:
        after = session(out)
    except Exception as failure:  # each runtime error is a finding about the tool that wrote the model
        return {"agrees": False, "why": said(failure)}
    worst = 0.0
    for trial in trials:
        fed = feeds(before, trial)
        expected = run(before, fed)
        try:
            found = run(after, fed)
        except Exception as failure:  # see above
            return {"agrees": False, "why": said(failure)}
        gap = difference(expected, found)
        if not np.isfinite(gap):
            return {"agrees": False, "why": f"outputs are {describe(found)}, not {describe(expected)}"}
        worst = max(worst, gap)
    return {"agrees": bool(worst <= TOLERANCE), "difference": float(f"{worst:.2g}")}


def run(model: ort.InferenceSession, fed: Arrays) -> Arrays:
    """The outputs by name."""
    names = [output.name for output in model.get_outputs()]
    return dict(zip(names, model.run(names, fed), strict=True))


def said(failure: Exception) -> str:
    """An error in one line."""
    return " ".join(str(failure).split())[:200]


def outcome(model: Path, out: Path, trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Nodes, operators, and whether OUT is still the model."""
    was, now = (onnx.load(path, load_external_data=False) for path in (model, out))
    found = all_nodes(now)
    ops = dict(sorted(Counter(n.op_type for n in found).items()))
    result: dict[str, Any] = {"nodes": len(found), "ops": ops, **compare(model, out, trials)}
    other = changed(was, now)
    return result if other is None else {**result, "agrees": False, "why": other}


if __name__ == "__main__":
    given = json.loads(sys.argv[3]) if len(sys.argv) > 3 else [{}]
    print(json.dumps(outcome(Path(sys.argv[1]), Path(sys.argv[2]), given)))
