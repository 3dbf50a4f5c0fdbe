"""Writes a decoder-only transformer with random weights, all of them in one external data file.

    python benchmarks/make_transformer.py big.onnx                      # 40 layers, 3,000 nodes, 2.2 GB
    python benchmarks/make_transformer.py small.onnx --layers 2 --hidden 64 --vocab 256

The graph is what an exporter writes for a LLaMA-like model: RMSNorm spelled out, rotary embedding,
grouped-query attention, an MLP with SwiGLU. The weights are streamed to the disk, so that little memory is
needed for any size.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from _network import Builder, Config, Weight, network
from onnx import TensorProto, helper

CHUNK = 4 << 20  # random values drawn at a time: 16 MB of float32


def build(config: Config, location: str) -> tuple[onnx.ModelProto, list[Weight], int]:
    """The model without its weights, the weights to write, and the size in bytes of their file `location`."""
    config.check()
    b = Builder(location)
    logits = network(b, config)
    b.nodes[-1].output[0] = logits = "logits"
    tokens = ["batch", "sequence"]
    names = "input_ids", "attention_mask"
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, tokens) for name in names]
    output = helper.make_tensor_value_info(logits, TensorProto.FLOAT, [*tokens, config.vocab])
    graph = helper.make_graph(b.nodes, "main_graph", inputs, [output], list(b.initializers.values()))
    opsets = [helper.make_opsetid("", config.opset)]
    version = helper.find_min_ir_version_for(opsets)
    model = helper.make_model(graph, producer_name="benchmark", opset_imports=opsets, ir_version=version)
    return onnx.shape_inference.infer_shapes(model, data_prop=True), b.weights, b.end


def write_weights(weights: Sequence[Weight], size: int, path: Path, seed: int) -> None:
    """Streams the weights to `path`, at most 16 MB of them in memory."""
    random = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.truncate(size)
        for weight in weights:
            file.seek(weight.offset)
            left = math.prod(weight.shape)
            while left:
                values = random.standard_normal(min(CHUNK, left), np.float32)
                values *= weight.scale
                values += weight.mean
                file.write(values.data)
                left -= len(values)


def make(config: Config, out: Path) -> dict[str, Any]:
    """Writes `out` and, beside it, `<out>.data`; returns what was written, in plain figures."""
    data = out.with_name(f"{out.name}.data")
    model, weights, size = build(config, data.name)
    write_weights(weights, size, data, config.seed)
    out.write_bytes(model.SerializeToString())
    return {
        "nodes": len(model.graph.node),
        "layers": config.layers,
        "initializers": len(model.graph.initializer),
        "model_bytes": out.stat().st_size,
        "data_bytes": size,
    }


def main() -> None:
    """The command line: each field of Config is an option."""
    parser = argparse.ArgumentParser(description="A decoder-only transformer with random weights.")
    parser.add_argument("out", type=Path, metavar="OUT.onnx")
    for name, default in vars(Config()).items():
        if name == "silu":
            parser.add_argument("--silu", choices=["sigmoid", "swish"], default=default)
        else:
            flag = f"--{name.replace('_', '-')}"
            fallback = None if name == "ffn" else default
            parser.add_argument(flag, type=int, default=fallback, help=f"default: {default}")
    options = vars(parser.parse_args())
    out = options.pop("out")
    options["ffn"] = options["ffn"] or 3 * options["hidden"]
    try:
        print(json.dumps(make(Config(**options), out)))
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
