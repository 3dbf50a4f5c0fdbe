"""A pass that rewrites every layer of a 2.2 GB transformer: graphkit beside the other tools, in one run.

    python benchmarks/transformer.py --runs 3

Makes the model first when it is not there (in build/benchmarks; --model names another). Each contender gets a
process of its own; IN and OUT lie in one folder, the data file is in the page cache. The rewrite is
Mul(x, Sigmoid(x)) -> Swish in each of the 40 MLPs; tools that have no such rewrite do what they do.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _harness import ROOT, Contender, graphkit, inspect, polygraphy, python, run_all
from _results import save, table

PASS = "fuse-silu"
TARGETS = {"wall_s": 1.5, "peak_mb": 200}


def contenders(spec: str) -> list[Contender]:
    """The commands to measure, graphkit first."""

    def script(name: str, label: str, note: str, **options: Any) -> Contender:
        return Contender(label, python("_contenders.py", name, "{model}", "{out}", json.dumps(options)), note)

    rewrite = [*graphkit(), "rewrite", "{model}", "--pass", spec, "-o", "{out}"]
    sanitize = [*polygraphy(), "surgeon", "sanitize", "{model}", "-o", "{out}", "--fold-constants"]
    return [
        Contender("graphkit (command)", [*rewrite, "--no-verify"], "rewrites each layer"),
        script("graphkit", "graphkit (function)", "rewrites each layer", passes=[spec]),
        Contender("graphkit (command, verified)", rewrite, "rewrites each layer, then runs both models"),
        script("onnxscript_swish", "onnxscript rewriter", "rewrites each layer; weights stay"),
        script("graphsurgeon_swish", "graphsurgeon script", "rewrites each layer; weights stay"),
        script("onnx_structure", "onnx load + save, graph only", "no rewrite; weights stay"),
        script("onnx_copy", "onnx load + save", "no rewrite"),
        script("graphsurgeon_copy", "graphsurgeon round trip", "no rewrite"),
        script("onnxscript_optimize", "onnxscript optimize", "its own rewrites; weights stay"),
        script("onnxslim", "onnxslim", "its own rewrites"),
        script("onnxsim", "onnxsim", "its own rewrites"),
        script("onnxoptimizer", "onnxoptimizer", "its own rewrites"),
        Contender(
            "polygraphy sanitize", [*sanitize, "--save-external-data", "out.onnx.data"], "its own rewrites"
        ),
    ]


def ensure(model: Path) -> None:
    """Makes the model when it is not there, and reads its data once, into the page cache."""
    if not model.exists():
        model.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(python("make_transformer.py", str(model)), check=True)
    data = model.with_name(f"{model.name}.data")
    if data.stat().st_nlink > 1:
        sys.exit(f"{data}: has hard links, which onnx refuses to load; make a copy of its own")
    with data.open("rb", buffering=0) as file:
        while file.read(16 << 20):
            pass


def outcome(contender: Contender, files: Mapping[str, Path]) -> dict[str, Any]:
    """What the contender wrote, and whether its outputs are those of the original."""
    return inspect(files["model"], files["out"], {"input_ids": [1, 6], "attention_mask": [1, 6]})


def rows(results: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """The table: a line for each contender."""
    lines = []
    for name, r in results.items():
        if "failed" in r:
            lines.append([name, "fails", None, None, r["peak_mb"], None, None, None, r["failed"]])
            continue
        verdict = "" if "agrees" not in r else "yes" if r["agrees"] else "NO"
        written = f"{r['bytes_written'] / 1e6:,.1f}" if "bytes_written" in r else None
        cells = [name, r["wall_s"], r["cpu_s"], r.get("work_s"), r["peak_mb"], written, r.get("nodes")]
        lines.append([*cells, verdict, r.get("why") or r.get("note")])
    return lines


def show(content: Mapping[str, Any]) -> str:
    """The results as a table."""
    header = ["", "process s", "cpu s", "work s", "peak MB", "written MB", "nodes", "outputs held", ""]
    return table(header, rows(content["results"]))


def main() -> None:
    """Options, the runs, the table and results/transformer.json."""
    parser = argparse.ArgumentParser(description="A rewrite of a 2.2 GB model, graphkit beside other tools.")
    parser.add_argument("--model", type=Path, default=ROOT / "build" / "benchmarks" / "transformer.onnx")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--pass", dest="spec", default=PASS, help=f"graphkit's pass, default: {PASS}")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="contenders whose name holds one of these")
    parser.add_argument("--no-check", action="store_true", help="do not run the models that were written")
    parser.add_argument("--results", type=Path, help="folder for transformer.json")
    options = parser.parse_args()
    model = options.model.resolve()
    ensure(model)
    chosen = [
        c for c in contenders(options.spec) if not options.only or any(w in c.name for w in options.only)
    ]
    results = run_all(
        chosen,
        options.runs,
        lambda contender: {"model": model, "out": model.with_name("out.onnx")},
        None if options.no_check else outcome,
        settle=True,
    )
    size = {"bytes": model.stat().st_size, "data_bytes": model.with_name(f"{model.name}.data").stat().st_size}
    save(
        "transformer",
        {"model": size, "targets": TARGETS, "runs": options.runs, "results": results},
        options.results,
    )
    print(show({"results": results}))


if __name__ == "__main__":
    main()
