"""Where a model has doubles."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from graphkit import Graph
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import domain_of
from graphkit.model.surgeon import AttributeRef, Constant, numpy_dtype
from graphkit_passes._shared import Known

Array = npt.NDArray[Any]

DOUBLE, FLOAT = 11, 1  # TensorProto.DataType
DTYPES = ("to", "dtype", "output_datatype", "output_dtype", "stash_type", "precision", "softmax_precision")
"""The attributes of ONNX's operators that hold a dtype."""


class Doubles:
    """The doubles of a model, found once; ``io``: its inputs and outputs are among those to change."""

    def __init__(self, main: Graph, *, io: bool) -> None:
        self.main, self.io = main, io
        self.scopes = main.scopes()
        self.constants: dict[int, tuple[Graph, Tensor]] = {}
        self.chosen: list[tuple[Graph, Node, str]] = []
        """Nodes with an attribute that is, or holds, a double."""
        self._known = Known(main.model)
        self._ends = {id(t) for t in main.outputs}
        self._collect()

    @property
    def count(self) -> int:
        """How many places would change."""
        ends = len(self.inputs) + len(self.defaults) + len(self.outputs)
        return len(self.constants) + len(self.chosen) + ends

    # -- where they are

    @cached_property
    def inputs(self) -> list[Tensor]:
        """Inputs of the model that are doubles; without ``io``, those that more than Casts read."""
        given = [t for t in self.main.inputs if is_double(t)]
        return [t for t in given if self.io or any(True for _ in self.busy(t))]

    @cached_property
    def defaults(self) -> list[Tensor]:
        """Defaults of inputs, which a caller can override: they stay doubles, behind a Cast."""
        found = {id(t): t for s in self.scopes for n in s.nodes for t in n.inputs}
        wide = (t for t in found.values() if isinstance(t, Constant) and is_double(t))
        return [t for t in wide if not self.main.is_constant(t) and any(True for _ in self.busy(t))]

    @cached_property
    def outputs(self) -> list[Tensor]:
        """Outputs of the model that are doubles; without ``io``, not those of a Cast at the end."""
        wide = [t for t in self.main.outputs if is_double(t)]
        return [t for t in wide if self.io or (t.inputs and not self.is_last(t.inputs[0]))]

    def busy(self, tensor: Tensor) -> Iterable[Node]:
        """The readers of an input that compute with doubles; a Cast may read them as they are."""
        for node in {id(n): n for n in tensor.outputs}.values():
            if node.op != "Cast" or domain_of(node) or node.attrs.get("to") == DOUBLE:
                yield node

    def is_last(self, node: Node) -> bool:
        """Whether a node only makes a double output of what is no double, and may stay as it is."""
        if self.io or node.op != "Cast" or node.attrs.get("to") != DOUBLE or domain_of(node):
            return False
        tensor = node.outputs[0]
        return id(tensor) in self._ends and not tensor.outputs and not self.is_wide(self.main, node.inputs[0])

    def is_wide(self, graph: Graph, tensor: Tensor) -> bool:
        """Whether a tensor of a graph, not of a function, is known to be a double."""
        return self.dtype(graph, tensor) == np.float64

    def dtype(self, graph: Graph, tensor: Tensor) -> np.dtype[Any] | None:
        """The dtype of a tensor of a graph, not of a function: inferred, else what the file says."""
        if isinstance(tensor, Constant):
            return numpy_dtype(tensor.dtype)
        return self._known.dtype(graph, tensor)

    def _collect(self) -> None:
        for scope in self.scopes:
            for node in scope.nodes:
                for tensor in node.inputs:
                    if isinstance(tensor, Constant) and is_double(tensor) and scope.is_constant(tensor):
                        self.constants[id(tensor)] = scope, tensor
                for name in node.attrs:
                    if self._holds_double(scope, node, name) and not self.is_last(node):
                        self.chosen.append((scope, node, name))
        for tensor in self.main.unused_initializers():
            if is_double(tensor):
                self.constants[id(tensor)] = self.main, tensor
        for tensor in self.defaults:
            self.constants.pop(id(tensor), None)

    def _holds_double(self, graph: Graph, node: Node, name: str) -> bool:
        value = node.attrs[name]
        if name == "sparse_value":
            return graph.dtype(node.outputs[0]) == np.float64
        if isinstance(value, Constant):
            return is_double(value)
        return name in DTYPES and not isinstance(value, AttributeRef) and value == DOUBLE and is_known(node)


def is_double(tensor: Tensor) -> bool:
    """Whether a tensor is a double by what the file or a pass says of it."""
    return numpy_dtype(tensor.dtype) == np.float64


def attribute_values(value: Tensor) -> Array:
    """The values of a tensor in an attribute."""
    held = value._values  # through .values GraphSurgeon would replace what the file holds
    return np.asarray(held.read() if hasattr(held, "read") else held)


def is_known(node: Node) -> bool:
    """Whether ONNX has the operator."""
    return bool(onnx.defs.has(node.op, domain_of(node)))
