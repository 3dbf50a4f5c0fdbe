"""An engine that TensorRT-RTX built here and Python runs: its kernels' tensors, computed node by node.

What a fault does to one tensor, everything after it inherits, as on a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from graphkit.engine.layers import LayerMap, layers_path
from graphkit.run import capture as module
from graphkit.run.build import build
from tests.run.simulated import Engine, host_device, trt

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n,8,16,16] x) => (float[n,8,16,16] y) {
  a = Conv <pads = [1,1,1,1]> (x, k)
  b = Relu (a)
  c = Conv <pads = [1,1,1,1]> (b, q)
  s = Sigmoid (c)
  m = Mul (c, s)
  p = MaxPool <kernel_shape = [3,3], pads = [1,1,1,1]> (m)
  y = Conv <pads = [1,1,1,1]> (p, k)
}"""
PROFILE = tuple((n, 8, 16, 16) for n in (1, 2, 4))
OPTIONS: dict[str, Any] = {
    "compute_capabilities": ["8.9"],
    "shapes": ["x=" + "/".join("x".join(map(str, s)) for s in PROFILE)],
}

Array = NDArray[Any]
Fault = Callable[[str, Array], Array]


def model() -> onnx.ModelProto:
    """Three convolutions; the weights are seeded."""
    made, rng = onnx.parser.parse_model(TEXT), np.random.default_rng(0)
    for name in "kq":
        weight = (rng.standard_normal((8, 8, 3, 3)) / 6).astype(np.float32)
        made.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    return made


def built(folder: Path, **options: Any) -> tuple[Path, Path]:
    """The model's file and its engine's."""
    files = folder / "m.onnx", folder / "m.engine"
    onnx.save(model(), files[0])
    build(*files, **OPTIONS | options)
    return files


@dataclass
class Live:
    """Runs of the engine: ``fault`` changes what a node of the model gives, by the name of its output.

    ``listed`` are the kernels that the inspector lists; none for those of the layer map beside the file.
    """

    engine: Path
    fault: Fault = lambda name, value: value
    listed: list[str] = field(default_factory=list)
    runs: int = 0

    def opened(self) -> Engine:
        """What TensorRT's runtime would give."""
        dims = PROFILE[0][1:]
        io = {"x": (True, trt.float32, (-1, *dims)), "y": (False, trt.float32, (-2, *dims))}
        engine = Engine(io, self._kernels, ({"x": PROFILE},))
        if self.listed:
            text = json.dumps({"Layers": self.listed})
            engine.create_engine_inspector = lambda: _Inspector(text)
        return engine

    def _kernels(self, feed: Mapping[str, Array]) -> Iterator[tuple[str, Array, Any]]:
        self.runs += 1
        values = self._values(feed["x"])
        layers = LayerMap.load(layers_path(self.engine))
        marked = bool(layers.meta["marked"])
        held = {"x": values["x"]}
        for kernel in layers.kernels if marked else ():
            for made in kernel.outputs:
                last = kernel.onnx_nodes[-1].removeprefix("node_of_") if kernel.onnx_nodes else ""
                held[made.name] = values[last] if last else held[kernel.inputs[0].name]
                if made.name != "y":
                    yield made.name, held[made.name].copy(), trt.float32
        yield "y", values["y"], None

    def _values(self, x: Array) -> dict[str, Array]:
        whole = model()
        values = {i.name: onnx.numpy_helper.to_array(i) for i in whole.graph.initializer} | {"x": x}
        for node in whole.graph.node:
            inputs = [onnx.helper.make_tensor_value_info(n, 1, None) for n in node.input]
            outputs = [onnx.helper.make_tensor_value_info(node.output[0], 1, None)]
            graph = onnx.helper.make_graph([node], "g", inputs, outputs)
            one = onnx.helper.make_model(graph, opset_imports=whole.opset_import, ir_version=8)
            (value,) = ReferenceEvaluator(one).run(None, {n: values[n] for n in node.input})
            values[node.output[0]] = np.asarray(self.fault(node.output[0], value), np.float32)
        return values


@dataclass
class _Inspector:
    text: str

    def get_engine_information(self, kind: Any) -> str:
        return self.text


def put_in(patch: pytest.MonkeyPatch, *lives: Live) -> None:
    """Let files open as these; any other file as the first."""
    patch.setattr(module, "device", host_device)
    known = {live.engine: live for live in lives}
    patch.setattr(module.Job, "_open", lambda job, log: known.get(job._file.path, lives[0]).opened())
