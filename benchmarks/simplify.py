"""What a whole simplification leaves: graphkit's `simplify` beside the other tools.

    python benchmarks/simplify.py --runs 3

Every tool gets the same file and, where a line names one, the same input size. What it wrote is run in ONNX
Runtime beside the original, its optimisations off, on each of the line's sizes: *correct* is a model with the
same inputs and outputs, no operator that the original's domains do not have, and outputs that held at every
size. Nodes are those of all graphs and functions; "of the best" compares them with the best correct peer,
"of the fastest" the seconds with the fastest correct peer.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _harness import Contender, neutral, python, reason, run_all
from _models import find
from _results import save, table

Trial = Mapping[str, Any]  # of one run: {input: its size, or {"value": v} for an array of no dims}


@dataclass(frozen=True)
class Case:
    """A model, the sizes of its input that are fixed before, and the runs that say what is correct."""

    name: str
    file: str
    trials: Sequence[Trial] = ({},)
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def passes(self) -> list[str]:
        """The specs for graphkit."""
        sizes = [f"{name}={'x'.join(map(str, dims))}" for name, dims in self.shapes.items()]
        return [*(["fix-shapes:" + ",".join(sizes)] if sizes else []), "simplify"]


def fixed(name: str, file: str, **shapes: Sequence[int]) -> Case:
    """A case that fixes the size of the inputs."""
    return Case(f"{name}, {'x'.join(map(str, next(iter(shapes.values()))))}", file, (shapes,), shapes)


def sizes(of: str, *dims: Sequence[int]) -> tuple[Trial, ...]:
    """Runs with one input of different sizes."""
    return tuple({of: list(d)} for d in dims)


def speech(window: int) -> tuple[Trial, ...]:
    """Runs of a voice detector: 16 kHz, one stream and three."""
    rate = {"value": 16000}
    return tuple({"input": [n, window], "state": [2, n, 128], "sr": rate} for n in (1, 3))


YOLO, DET, REC, CLS = (
    "yolov5n_op17_dynamic.onnx",
    "ch_PP-OCRv4_det_infer.onnx",
    "ch_PP-OCRv4_rec_infer.onnx",
    "ch_ppocr_mobile_v2.0_cls_infer.onnx",
)
CASES = (
    Case("yolov5n, opset 12", "yolov5n_op12.onnx"),
    Case("yolov5n, dynamic", YOLO, sizes("images", (1, 3, 640, 640), (2, 3, 320, 416))),
    fixed("yolov5n", YOLO, images=(1, 3, 640, 640)),
    Case("ddddocr common_det", "common_det.onnx"),
    Case("PP-OCRv4 det, dynamic", DET, sizes("x", (1, 3, 320, 320), (2, 3, 224, 352))),
    fixed("PP-OCRv4 det", DET, x=(1, 3, 320, 320)),
    Case("PP-OCRv4 rec, dynamic", REC, sizes("x", (1, 3, 48, 320), (2, 3, 48, 200))),
    fixed("PP-OCRv4 rec", REC, x=(1, 3, 48, 320)),
    Case("PP-OCR cls, dynamic", CLS, sizes("x", (1, 3, 48, 192), (3, 3, 48, 192))),
    fixed("PP-OCR cls", CLS, x=(1, 3, 48, 192)),
    Case("densenet121, light", "light_densenet121.onnx"),
    Case("MiniLM", "minilm.onnx"),
    Case("silero_vad", "silero_vad.onnx", speech(576)),
    Case("silero_vad 16k, opset 15", "silero_vad_16k_op15.onnx", speech(576)),
    Case("silero_vad without If", "silero_vad_op18_ifless.onnx", speech(576)),
    Case(
        "transformer, 24 layers",
        "transformer24.onnx",
        ({"input_ids": [1, 16], "attention_mask": [1, 16]}, {"input_ids": [2, 7], "attention_mask": [2, 7]}),
    ),
    Case("ddddocr common", "common.onnx", sizes("input1", (1, 1, 64, 128), (1, 1, 64, 200))),
    fixed("ddddocr common", "common.onnx", input1=(1, 1, 64, 128)),
    Case("ddddocr common_old", "common_old.onnx", sizes("input1", (1, 1, 64, 128), (1, 1, 64, 200))),
    fixed("ddddocr common_old", "common_old.onnx", input1=(1, 1, 64, 128)),
)
OURS = "graphkit"
PEERS = ("onnxslim", "onnxsim", "onnxscript_optimize", "onnxoptimizer", "onnxruntime")
TRANSFORMER = ("--layers", "24", "--hidden", "512", "--heads", "8", "--kv-heads", "4", "--vocab", "8000")


def locate(case: Case, scratch: Path, folder: Path | None = None) -> Path | None:
    """The file of a case: in ``folder``, at hand, in a wheel, in `onnx` itself, or made for the occasion."""
    if folder is not None and (folder / case.file).is_file():
        return folder / case.file
    if case.file == "light_densenet121.onnx":
        import onnx.backend.test

        path = Path(onnx.backend.test.__file__).with_name("data") / "light" / case.file
        return path if path.is_file() else None
    if case.file == "transformer24.onnx":
        target = scratch / case.file
        subprocess.run(
            python("make_transformer.py", str(target), *TRANSFORMER), check=True, stdout=sys.stderr
        )
        return target
    return find(case.file)


def contenders(case: Case) -> list[Contender]:
    """The tools, each with the same input sizes."""
    options: dict[str, Any] = {"passes": case.passes}
    if case.shapes:
        options["shapes"] = {name: list(dims) for name, dims in case.shapes.items()}

    def script(name: str, label: str, **more: Any) -> Contender:
        return Contender(
            label, python("_contenders.py", name, "{model}", "{out}", json.dumps(options | more))
        )

    verified = script("graphkit", "graphkit, verified", verify=True)
    return [script("graphkit", OURS), verified, *(script(name, name) for name in PEERS)]


def held(model: Path, out: Path, case: Case) -> dict[str, Any]:
    """What `_held.py` says of a model that was written: nodes, interface, and whether its outputs held."""
    command = python("_held.py", str(model), str(out), json.dumps([dict(t) for t in case.trials]))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"agrees": False, "why": reason(done.returncode, done.stderr)}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"why": neutral(found["why"])} if "why" in found else found


def measure(case: Case, model: Path, runs: int, only: Sequence[str]) -> dict[str, Any]:
    """All tools on one model."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(shutil.copy(model, folder))
        data = model.with_name(f"{model.name}.data")
        if data.exists():
            shutil.copy(data, folder)
        files = {"model": source, "out": Path(folder, "out.onnx")}

        def outcome(contender: Contender, names: Mapping[str, Path]) -> dict[str, Any]:
            return held(names["model"], names["out"], case)

        tools = [c for c in contenders(case) if not only or c.name in only]
        results = run_all(tools, runs, lambda contender: files, outcome)
        before = held(source, source, case)["nodes"]
    return {"passes": case.passes, "nodes": before, "results": results}


def judged(results: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The best of the correct peers: nodes, and seconds of the whole process and of the work alone."""
    peers = [r for name, r in results.items() if name in PEERS and r.get("agrees")]
    if not peers:
        return {}
    return {key: min(r[key] for r in peers) for key in ("nodes", "wall_s", "cpu_s", "work_s")}


def rows(found: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """A line for each model and tool, and how ours stands beside the best."""
    lines: list[list[Any]] = []
    for name, case in found.items():
        best = judged(case["results"])
        lines.append([f"**{name}**", case["nodes"], *[None] * 5])
        for tool, r in case["results"].items():
            if "failed" in r:
                lines.append([tool, "fails", *[None] * 4, r["failed"]])
                continue
            verdict = "yes" if r["agrees"] else "NO"
            note = beside(r, best) if tool == OURS and best else r.get("why")
            lines.append([tool, r.get("nodes"), verdict, r["wall_s"], r["cpu_s"], r["work_s"], note])
    return lines


def beside(ours: Mapping[str, Any], best: Mapping[str, float]) -> str:
    """Ours, over the best of the correct peers."""
    process, cpu, work = (ours[key] / best[key] for key in ("wall_s", "cpu_s", "work_s"))
    nodes = f"{ours.get('nodes', 0) - best['nodes']:+g} nodes, " if "nodes" in ours else ""
    why = f"; {ours['why']}" if "why" in ours else ""
    return f"{nodes}{process:.2f}x process, {cpu:.2f}x cpu, {work:.2f}x work{why}"


def show(content: Mapping[str, Any]) -> str:
    """The results as a table, and what could not be measured."""
    missing = "".join(f"\n\nNot measured, no such file: {name}" for name in content["missing"])
    header = [
        "model, tool",
        "nodes",
        "correct",
        "process s",
        "cpu s",
        "work s",
        "beside the best correct peer",
    ]
    return table(header, rows(content["models"])) + missing


def main() -> None:
    """Options, the runs, the table and results/simplify.json."""
    parser = argparse.ArgumentParser(description="Nodes left after a whole simplification.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="models whose name holds one of these")
    parser.add_argument("--tools", nargs="+", default=(), help="only these tools")
    parser.add_argument(
        "--models", type=Path, help="folder with models that no wheel has: minilm.onnx (gpu/make_models.py)"
    )
    parser.add_argument("--results", type=Path, help="folder for simplify.json")
    options = parser.parse_args()
    found, missing = {}, []
    with tempfile.TemporaryDirectory() as scratch:
        for case in CASES:
            if options.only and not any(word in case.name for word in options.only):
                continue
            if (model := locate(case, Path(scratch), options.models)) is None:
                missing.append(case.file)
                continue
            print(f"-- {case.name}", file=sys.stderr, flush=True)
            found[case.name] = measure(case, model, options.runs, options.tools)
    content = {"runs": options.runs, "missing": missing, "models": found}
    save("simplify", content, options.results)
    print(show(content))


if __name__ == "__main__":
    main()
