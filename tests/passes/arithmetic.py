"""Random small models for the passes that fuse arithmetic: nodes, float constants, and one input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
from onnx import helper, numpy_helper

from graphkit.testing import assert_equivalent, run

Array = np.ndarray[Any, Any]


class Net:
    """A model that is written node by node; ``at`` is the tensor that the next node reads."""

    def __init__(
        self, shape: Sequence[int | str], dtype: str = "float32", opset: int = 17, seed: int = 0
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype, self.opset, self.at = dtype, opset, "x"
        self.kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs = [helper.make_tensor_value_info("x", self.kind, list(shape))]
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def constant(self, values: Any, dtype: str | None = None) -> str:
        """An initializer; its name."""
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(values, dtype or self.dtype), name))
        return name

    def random(self, shape: Sequence[int]) -> str:
        """An initializer of values between 0.5 and 2, of either sign."""
        signs = self.rng.choice([-1.0, 1.0], shape)
        return self.constant(self.rng.uniform(0.5, 2.0, shape) * signs)

    def add(self, op: str, *others: str, first: bool = True, **attrs: Any) -> str:
        """A node that reads ``at`` and others; what it makes, which is ``at`` now."""
        inputs = [self.at, *others] if first else [*others, self.at]
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [out], f"n{len(self.nodes)}", **attrs))
        self.at = out
        return out

    def step(self, op: str, shape: Sequence[int], first: bool = True) -> None:
        """Arithmetic with a random constant of this shape."""
        if op == "Neg":
            self.add(op)
        else:
            self.add(op, self.random(shape), first=first or op == "Div")

    def model(self, *more: str) -> onnx.ModelProto:
        """The model; a Relu makes its output, and ``more`` tensors are outputs too."""
        self.add("Relu")
        names = [self.at, *more]
        outputs = [helper.make_tensor_value_info(n, self.kind, None) for n in names]
        graph = helper.make_graph(self.nodes, "g", self.inputs, outputs, self.tensors)
        imports = [helper.make_opsetid("", self.opset)]
        made = helper.make_model(graph, opset_imports=imports, ir_version=10)
        made = onnx.shape_inference.infer_shapes(made)
        del made.graph.value_info[:]
        return made


def fused(spec: str, model: onnx.ModelProto) -> onnx.ModelProto:
    """The result of a pass that keeps the numbers, is valid, comes to rest and adds no node."""
    after = assert_equivalent(spec, model)
    onnx.checker.check_model(after, full_check=True)
    again, second = run(spec, after)
    assert second.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()
    assert len(after.graph.node) <= len(model.graph.node)
    return after


def ops(model: onnx.ModelProto) -> list[str]:
    """The operators, in order."""
    return [n.op_type for n in model.graph.node]


def values(model: onnx.ModelProto) -> Mapping[str, Array]:
    """The initializers by name."""
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
