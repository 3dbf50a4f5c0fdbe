"""Completes the compact models that `make_models.py` writes, and converts models to float16.

    python benchmarks/gpu/fill.py a/resnet50.onnx resnet50.onnx              # the model with its weights
    python benchmarks/gpu/fill.py --fp16 a/resnet50.onnx resnet50_fp16.onnx  # needs ONNX Runtime

An initializer's `doc_string` says in JSON what is missing: `{"fill": {"seed": …, "mean": …, "std": …}}` of a
tensor without values, `{"fill": "float32"}` of one stored as float16. Other files are read as they are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

CARRIED = 4096  # elements; larger tensors are drawn again, or stored as float16


def drawn(shape: tuple[int, ...], seed: int, mean: float, std: float) -> np.ndarray:
    """Normally distributed float32 values, the same ones wherever they are drawn."""
    values = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return values * np.float32(std) + np.float32(mean)


def shrink(model: onnx.ModelProto, seed: int | None = None) -> None:
    """Empties the large float32 weights, to be drawn again; without a `seed`, rounds them to float16."""
    for i, tensor in enumerate(model.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) <= CARRIED:
            continue
        values, note = numpy_helper.to_array(tensor), "float32"
        if seed is None:
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
        else:
            mean, std = round(float(values.mean()), 6), round(float(values.std()), 6)
            note = {"seed": seed * 1000 + i, "mean": mean, "std": std}
            tensor.CopyFrom(TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims))
        tensor.doc_string = json.dumps({"fill": note})


def fill(model: onnx.ModelProto) -> int:
    """Completes `model` in place; how many weights were missing."""
    missing = [t for t in model.graph.initializer if t.doc_string.startswith('{"fill":')]
    for tensor in missing:
        note = json.loads(tensor.doc_string)["fill"]
        stored = note == "float32"
        values = numpy_helper.to_array(tensor).astype(note) if stored else drawn(tuple(tensor.dims), **note)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return len(missing)


def to_fp16(model: onnx.ModelProto, keep: list[str]) -> onnx.ModelProto:
    """`model` in float16, inputs and outputs too; the operators in `keep` stay in float32."""
    from onnxruntime.transformers import float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *keep]
    converted = OnnxModel(float16.convert_float_to_float16(model, keep_io_types=False, op_block_list=blocked))
    converted.topological_sort()  # the converter puts the Cast of a Constant before it
    return converted.model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fp16", action="store_true", help="convert to float16")
    parser.add_argument("--keep", metavar="OP", action="append", default=[], help="operator left in float32")
    args = parser.parse_args()
    model = onnx.load(args.model)
    print(f"{args.out}: {fill(model)} weights completed")
    onnx.save(to_fp16(model, args.keep) if args.fp16 else model, args.out)


if __name__ == "__main__":
    main()
