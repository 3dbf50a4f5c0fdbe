"""Nodes left once the input sizes are fixed and the constants folded: graphkit beside the other tools.

    python benchmarks/nodes.py --runs 3

graphkit runs `fix-shapes` and `fold-constants`, the others their whole simplification. What each tool wrote
is run in ONNX Runtime beside the original, on the same inputs: fewer nodes count only when the outputs held.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _harness import Contender, inspect, python, run_all
from _models import find
from _results import save, table


@dataclass(frozen=True)
class Case:
    """A model and the sizes of its input."""

    file: str
    input: str
    shape: Sequence[int]

    @property
    def passes(self) -> list[str]:
        """The specs for graphkit."""
        return [f"fix-shapes:{self.input}={'x'.join(map(str, self.shape))}", "fold-constants"]


CASES = (
    Case("yolov5n_op17_dynamic.onnx", "images", (1, 3, 640, 640)),
    Case("ch_PP-OCRv4_det_infer.onnx", "x", (1, 3, 320, 320)),
    Case("ch_PP-OCRv4_rec_infer.onnx", "x", (1, 3, 48, 320)),
    Case("ch_ppocr_mobile_v2.0_cls_infer.onnx", "x", (1, 3, 48, 192)),
    Case("common_det.onnx", "images", (1, 3, 416, 416)),
    Case("common.onnx", "input1", (1, 1, 64, 128)),
    Case("common_old.onnx", "input1", (1, 1, 64, 128)),
)
PEERS = ("onnxslim", "onnxsim", "onnxscript_optimize", "onnxoptimizer", "onnxruntime")


def contenders(case: Case) -> list[Contender]:
    """The tools, each with the same input sizes."""
    options = {"shapes": {case.input: list(case.shape)}, "passes": case.passes}

    def script(name: str, label: str, **more: Any) -> Contender:
        return Contender(
            label, python("_contenders.py", name, "{model}", "{out}", json.dumps(options | more))
        )

    verified = script("graphkit", "graphkit, verified", verify=True)
    return [script("graphkit", "graphkit"), verified, *(script(name, name) for name in PEERS)]


def measure(case: Case, model: Path, runs: int) -> dict[str, Any]:
    """All tools on one model."""
    shapes = {case.input: list(case.shape)}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(shutil.copy(model, folder))
        files = {"model": source, "out": Path(folder, "out.onnx")}

        def outcome(contender: Contender, names: Mapping[str, Path]) -> dict[str, Any]:
            return inspect(names["model"], names["out"], shapes)

        results = run_all(contenders(case), runs, lambda contender: files, outcome)
    return {"passes": case.passes, "results": results}


def rows(found: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """A line for each model and tool."""
    lines: list[list[Any]] = []
    for file, case in found.items():
        for name, r in case["results"].items():
            if "failed" in r:
                lines.append([f"{file}: {name}", "fails", None, None, r["failed"]])
                continue
            verdict = "yes" if r["agrees"] else "NO"
            lines.append([f"{file}: {name}", r.get("nodes"), r["work_s"], verdict, r.get("why")])
    return lines


def show(content: Mapping[str, Any]) -> str:
    """The results as a table, and what could not be measured."""
    missing = "".join(f"\n\nNot measured, no such file: {name}" for name in content["missing"])
    return table(["model: tool", "nodes", "work s", "outputs held", ""], rows(content["models"])) + missing


def main() -> None:
    """Options, the runs, the table and results/nodes.json."""
    parser = argparse.ArgumentParser(description="Nodes left after fixing shapes and folding constants.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="models whose name holds one of these")
    parser.add_argument("--results", type=Path, help="folder for nodes.json")
    options = parser.parse_args()
    found, missing = {}, []
    for case in CASES:
        if options.only and not any(word in case.file for word in options.only):
            continue
        if (model := find(case.file)) is None:
            missing.append(case.file)
        else:
            found[case.file] = measure(case, model, options.runs)
    content = {"runs": options.runs, "missing": missing, "models": found}
    save("nodes", content, options.results)
    print(show(content))


if __name__ == "__main__":
    main()
