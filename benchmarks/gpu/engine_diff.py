"""Measures `graphkit build` + `graphkit diff` beside `polygraphy run … mark all` on a GPU, model by model.

    python benchmarks/gpu/engine_diff.py OUT.json MODEL.onnx[:NAME=1x3x64x96] … [--fp16] [--seconds N]

Each row says what the diff found (tensors captured and paired, pairings that another tensor fits better,
fusion drift, accused kernels) and how long both took as whole processes, one after the other. With
``--fp16`` each model is converted first, by onnxruntime's converter. After ``--seconds`` no peer is started.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PEER_LIMIT = 240  # seconds


def timed(command: list[str], limit: float) -> tuple[float, int, str]:
    """(seconds, exit code, the end of what it printed); exit code 124 when it took longer."""
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        code, text = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        code, text = 124, f"stopped after {limit:.0f} s"
    return time.perf_counter() - start, code, text[-600:]


def ours(model: Path, shapes: str, work: Path) -> dict[str, Any]:
    """Build and diff, each as a user would start it; what the report says."""
    engine, report = work / "model.engine", work / "report.json"
    python = [sys.executable, "-m", "graphkit"]
    given = ["--shapes", shapes] if shapes else []
    build_s, code, text = timed([*python, "build", str(model), "-o", str(engine), *given], 300)
    row: dict[str, Any] = {"build_s": round(build_s, 3), "build_exit": code}
    if code:
        return row | {"error": text}
    diff_s, code, text = timed([*python, "diff", str(model), str(engine), "--report", str(report)], 300)
    row |= {"diff_s": round(diff_s, 3), "diff_exit": code, "total_s": round(build_s + diff_s, 3)}
    if code == 2 or not report.exists():
        return row | {"error": text}
    found = json.loads(report.read_text())
    report.unlink()
    coverage, bad = found["coverage"], found["first_bad"]
    work_tensors = coverage["captured"] - coverage["copies"]
    return row | {
        "verdict": found["verdict"],
        "kernels": found["drift"]["kernels"],
        "captured": coverage["captured"],
        "copies": coverage["copies"],
        "paired": coverage["paired"],
        "paired_share": round(coverage["paired"] / work_tensors, 4) if work_tensors else None,
        "drift": len(found["drift"]["different"]) if found["drift"]["checked"] else found["drift"]["reason"],
        "first_bad": bad and [bad[k] for k in ("kernel", "cause", "cause_evidence")],
        "accused": [layer["kernel"] for layer in found["layers"] if not layer["ok"]],
        "unmapped": [u["tensor"] for u in found["unmapped"] if u["reason"] != "moves values only"],
        "outputs": {o["name"]: o["metrics"] and o["metrics"]["rms_rel"] for o in found["outputs"]},
        "stages": {k: round(v, 3) for k, v in found["seconds"].items()},
    }


def wrong_pairings(model: Path, engine: Path) -> dict[str, int]:
    """Pairings by value checked against every tensor of the model: how many fit another one better."""
    import numpy as np

    from graphkit.compare.engines import Analysis
    from graphkit.compare.flat import Flattener
    from graphkit.compare.forms import View
    from graphkit.compare.judge import Bounds
    from graphkit.compare.samples import distance
    from graphkit.run.capture import capture

    made = capture(model, engine)
    run = made.runs[0]
    flat = Flattener(model).flat({name: array.read() for name, array in run.inputs.items()})
    kernels = made.layers.kernels if made.layers is not None else ()
    analysis = Analysis(flat, run, kernels, True, Bounds(), {}, 4 << 30)
    analysis.result()
    checked = wrong = 0
    for boundary, link in analysis._links.items():
        sample = analysis._linker.sample(boundary)
        if not isinstance(link.form, View) or sample.count < 8 or float(np.std(sample.values)) == 0:
            continue
        mine = distance(sample.values, analysis._samples[link.form.tensor].values)
        best = min(
            distance(sample.values, other.values)
            for other in analysis._samples.values()
            if other.count == sample.count
        )
        checked += 1
        wrong += bool(mine > 1.05 * best + 1e-6)
    return {"checked": checked, "wrong": wrong}


def peer(model: Path, shapes: str, limit: float) -> dict[str, Any]:
    """Polygraphy with every tensor of both sides marked as an output."""
    start = (
        "import sys; from polygraphy.tools import main; sys.exit(main())"  # what the polygraphy command does
    )
    command = [sys.executable, "-c", start, "run", str(model), "--trt", "--onnxrt"]
    command += ["--trt-outputs", "mark", "all", "--onnx-outputs", "mark", "all"]
    if shapes:
        name, _, dims = shapes.partition("=")
        said = f"{name}:[{dims.replace('x', ',')}]"
        for option in ("--input-shapes", "--trt-min-shapes", "--trt-opt-shapes", "--trt-max-shapes"):
            command += [option, said]
    seconds, code, text = timed(command, limit)
    return {"seconds": round(seconds, 3), "exit": code, "said": text[-200:] if code not in (0, 1) else ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--fp16", action="store_true")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--no-check", action="store_true", help="do not check the pairings")
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--work", type=Path, default=Path("engine-diff-work"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    begun, rows = time.perf_counter(), []
    for spec in args.models:
        path, _, shapes = spec.partition(":")
        model, name = Path(path), Path(path).stem
        row: dict[str, Any] = {
            "model": name,
            "precision": "float16" if args.fp16 else "float32",
            "shapes": shapes,
        }
        if args.fp16:
            half = args.work / f"{name}_fp16.onnx"
            _, code, text = timed([sys.executable, str(HERE / "fill.py"), "--fp16", path, str(half)], 120)
            model = half
            if code:
                rows.append(row | {"error": text})
                continue
        row |= ours(model, shapes, args.work)
        try:
            if "verdict" in row and not args.no_check:
                row["pairing"] = wrong_pairings(model, args.work / "model.engine")
        except Exception as error:  # what is measured must not stop the table
            row["pairing"] = f"{type(error).__name__}: {error}"[:300]
        left = args.seconds - (time.perf_counter() - begun)
        if not args.no_peer and left > 20:
            row["polygraphy"] = peer(model, shapes, min(PEER_LIMIT, left))
            if "total_s" in row:
                row["times_faster"] = round(row["polygraphy"]["seconds"] / row["total_s"], 2)
        rows.append(row)
        print(json.dumps(row), flush=True)
        write(args.out, rows)


def write(out: Path, rows: list[dict[str, Any]]) -> None:
    """The table so far, with what made it."""
    import tensorrt_rtx as trt
    import torch

    record = {
        "command": f"benchmarks/gpu/engine_diff.py {' '.join(Path(a).name for a in sys.argv[1:])}",
        "device": torch.cuda.get_device_name(0),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {n: version(n) for n in ("graphkit", "onnx", "onnxruntime", "polygraphy", "numpy")}
        | {"tensorrt_rtx": trt.__version__},
        "rows": rows,
    }
    out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
