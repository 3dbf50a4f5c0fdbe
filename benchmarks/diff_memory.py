"""Peak memory of `graphkit diff` on a model whose tensors take gigabytes: model and capture are made here.

    python benchmarks/diff_memory.py [--gigabytes 4] [--folder DIR]

The model is a chain of 1x1 convolutions and Relus on 1x64x512x512. The capture has the kernels of a build
for compute capability 8.9, and values of a run with TF32 rounding: 64 MB a tensor, on disk.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphkit.compare.flat import Flattener
from graphkit.run.build import build
from graphkit.run.capture_file import CaptureWriter
from graphkit.run.stream import Rounding

SHAPE = (1, 64, 512, 512)
BYTES = 4 * int(np.prod(SHAPE))


def model(layers: int) -> onnx.ModelProto:
    """``layers`` times Conv 1x1 and Relu, seeded, of unit gain."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for n in range(layers):
        weight = rng.standard_normal((64, 64, 1, 1)).astype(np.float32) * np.float32((2 / 64) ** 0.5)
        weights.append(numpy_helper.from_array(weight, f"w{n}"))
        nodes.append(helper.make_node("Conv", [last, f"w{n}"], [f"c{n}"], name=f"conv{n}"))
        nodes.append(helper.make_node("Relu", [f"c{n}"], [f"r{n}"], name=f"relu{n}"))
        last = f"r{n}"
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, SHAPE) for n in ("x", last)]
    graph = helper.make_graph(nodes, "chain", value[:1], value[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def capture(path: Path, out: Path) -> int:
    """Write a capture as an engine of the model would give it; how many bytes of tensors it holds."""
    layers = build(path, compute_capabilities=["8.9"]).layers[0]
    rng = np.random.default_rng(1)
    feed = {"x": rng.random(SHAPE, np.float32)}
    flat = Flattener(path).flat(feed)
    of = {}  # the engine's tensor that is a Relu of the model
    for kernel in layers.kernels:
        last = [n for n in kernel.onnx_nodes if n.startswith("relu")]
        if last and kernel.outputs:
            of[f"r{last[-1].removeprefix('relu')}"] = kernel.outputs[0].name
    total = 0
    meta = {
        "trt": {"module": "tensorrt_rtx", "version": "simulated"},
        "device": {"name": "none", "compute_capability": "8.9"},
        "onnx": {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
        "engine": {"name": "", "sha256": "", "bytes": 0},
        "options": {},
        "marked": True,
        "specialization": "none",
    }
    with CaptureWriter(out, meta, layers, memory=64 << 20) as writer:
        writer.begin_run("")
        writer.add_input("x", feed["x"])
        output = flat.structure.outputs[0]

        def seen(name: str, value: np.ndarray) -> None:
            nonlocal total
            if name == output:
                writer.add_output(name, value)
            elif name in of:
                writer.add_tensor(of[name], value)
                total += value.nbytes

        flat.program.run(flat.feed, seen, wanted={*of, output}, rounding=Rounding(tf32=True))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path, out = Path(folder, "chain.onnx"), Path(folder, "chain.capture")
        layers = round(args.gigabytes * 2**30 / BYTES / 2)
        onnx.save(model(layers), path)
        captured = capture(path, out)
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "graphkit", "diff", path, out], capture_output=True, text=True
        )
        found = {
            "activations_bytes": 2 * layers * BYTES,
            "captured_bytes": captured,
            "weights_bytes": path.stat().st_size,
            "peak_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
            "seconds": round(time.perf_counter() - start, 1),
            "exit": done.returncode,
            "said": done.stdout.splitlines()[:1] or done.stderr.splitlines()[-1:],
        }
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
