"""Models of a few megabytes: graphkit's silu, rename and no pass at all, beside the peers' load and save.

python benchmarks/rewrite_small.py --runs 5
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _harness import Contender, graphkit, python, run_all
from _models import find
from _results import save, table

CASES: dict[str, dict[str, list[str]]] = {  # model: what graphkit does with it
    "yolov5n_swish24.onnx": {"silu": ["silu"]},
    "yolov5n_op12.onnx": {"no pass": [], "rename": ["rename:pattern=^/model,to=/net"]},
    "ch_PP-OCRv4_rec_infer.onnx": {"no pass": [], "rename": ["rename:pattern=^,to=ocr."]},
}
PEERS = ("onnx_copy", "graphsurgeon_copy", "onnxscript_copy")


def contenders(work: Mapping[str, list[str]]) -> list[Contender]:
    """graphkit's works, each with and without verification, then the peers."""

    def script(name: str, label: str, **options: Any) -> Contender:
        return Contender(label, python("_contenders.py", name, "{model}", "{out}", json.dumps(options)))

    found = []
    for label, passes in work.items():
        specs = [part for spec in passes for part in ("--pass", spec)]
        command = [*graphkit(), "rewrite", "{model}", *specs, "-o", "{out}"]
        found += [
            Contender(f"graphkit {label} (command)", command),
            Contender(f"graphkit {label} (command, --no-verify)", [*command, "--no-verify"]),
            script("graphkit", f"graphkit {label} (function, no verification)", passes=passes),
        ]
    return found + [script(name, f"{name.replace('_copy', '')} load + save") for name in PEERS]


def measure(model: Path, work: Mapping[str, list[str]], runs: int) -> dict[str, Any]:
    """All of it on one model."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(shutil.copy(model, folder))
        files = {"model": source, "out": Path(folder, "out.onnx")}
        return run_all(contenders(work), runs, lambda contender: files, same)


def same(contender: Contender, files: Mapping[str, Path]) -> dict[str, Any]:
    """Whether the output is the input, byte for byte."""
    return {"same_bytes": files["model"].read_bytes() == files["out"].read_bytes()}


def rows(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[list[Any]]:
    """A line for each model and contender."""
    lines: list[list[Any]] = []
    for model, results in found.items():
        for name, r in results.items():
            cells = [r.get(key) for key in ("wall_s", "work_s", "peak_mb")]
            verdict = r["failed"] if "failed" in r else "yes" if r["same_bytes"] else "no"
            lines.append([f"{model}: {name}", *cells, verdict])
    return lines


def show(content: Mapping[str, Any]) -> str:
    """The results as a table, and what could not be measured."""
    missing = "".join(f"\n\nNot measured, no such file: {name}" for name in content["missing"])
    return (
        table(["model: work", "process s", "work s", "peak MB", "same bytes"], rows(content["models"]))
        + missing
    )


def main() -> None:
    """Options, the runs, the table and results/rewrite_small.json."""
    parser = argparse.ArgumentParser(description="Small models: graphkit beside load and save.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--results", type=Path, help="folder for rewrite_small.json")
    options = parser.parse_args()
    found, missing = {}, []
    for name, work in CASES.items():
        if (model := find(name)) is None:
            missing.append(name)
        else:
            found[name] = measure(model, work, options.runs)
    content = {"runs": options.runs, "missing": missing, "models": found}
    save("rewrite_small", content, options.results)
    print(show(content))


if __name__ == "__main__":
    main()
