"""What becomes of a graph input: the nodes that read its values, through everything that only moves them."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, TypeProto

from graphkit.run import outline
from graphkit.run.shapes import Shape, tensor_type

MAX_STEPS = 400  # reads followed for one input

# op -> input positions whose values come out of output 0 (or all outputs) unchanged but for place or dtype
_MOVES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Identity", "Cast", "CastLike", "Reshape", "Transpose", "Squeeze", "Unsqueeze"), (0,)),
    **dict.fromkeys(("Flatten", "Expand", "Slice", "Split", "Tile", "Gather", "Optional", "Compress"), (0,)),
    **dict.fromkeys(("OptionalGetElement", "SequenceAt", "SplitToSequence", "ConcatFromSequence"), (0,)),
    **{op: tuple(range(64)) for op in ("Concat", "SequenceConstruct")},
    "Where": (1, 2),
    "SequenceInsert": (0, 1),
}


@dataclass(frozen=True)
class Use:
    """One read of a traced value: ``node`` takes it as input number ``index``."""

    node: NodeProto
    index: int
    facts: Facts

    def shape(self, position: int) -> Shape | None:
        """The shape of the node's input at ``position``, when it is known."""
        name = self.node.input[position] if position < len(self.node.input) else ""
        return self.facts.shape(name)

    def value(self, position: int) -> NDArray[Any] | None:
        """The node's input at ``position`` when it is a small constant."""
        name = self.node.input[position] if position < len(self.node.input) else ""
        return self.facts.constants.get(name)

    def out_shape(self, position: int = 0) -> Shape | None:
        """The shape of the node's output at ``position``, when it is known."""
        name = self.node.output[position] if position < len(self.node.output) else ""
        return self.facts.shape(name)

    def attribute(self, name: str, default: Any = None) -> Any:
        """The node's attribute or ``default``."""
        return outline.attribute(self.node, name, default)


@dataclass
class Facts:
    """Shapes, dtypes and constants of a model under one assignment of input shapes."""

    constants: Mapping[str, NDArray[Any]]
    types: dict[str, TypeProto] = field(default_factory=dict)
    version: int = 0

    def shape(self, name: str) -> Shape | None:
        """The tensor's shape when every dim is known."""
        if name in self.constants:
            return tuple(self.constants[name].shape)
        info = self.types.get(name)
        if info is None or info.WhichOneof("value") != "tensor_type":
            return None
        if not info.tensor_type.HasField("shape"):
            return None
        dims = info.tensor_type.shape.dim
        known = all(d.HasField("dim_value") and d.dim_value >= 0 for d in dims)
        return tuple(int(d.dim_value) for d in dims) if known else None

    def elem_type(self, name: str) -> int:
        """The ONNX dtype of the tensor, 0 when unknown."""
        info = self.types.get(name)
        t = tensor_type(info) if info is not None else None
        return int(t.elem_type) if t is not None else 0


def facts(model: ModelProto, shapes: Mapping[str, Shape], known: Mapping[str, NDArray[Any]]) -> Facts:
    """Infer every shape that follows from these input shapes; what cannot be inferred stays unknown."""
    concrete = ModelProto()
    concrete.CopyFrom(model)
    concrete.ir_version = max(model.ir_version, 4)  # before that, inference sees no initializer but an input
    for info in concrete.graph.input:
        if info.name in shapes and info.type.HasField("tensor_type"):
            _set_shape(info.type.tensor_type, shapes[info.name])
    with contextlib.suppress(Exception):  # it gives up on some valid models; what the file says must do then
        concrete = onnx.shape_inference.infer_shapes(concrete, data_prop=True)
    version = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    found = Facts(known, version=version)
    for graph in outline.graphs(concrete):
        for info in (*graph.input, *graph.value_info, *graph.output):
            found.types.setdefault(info.name, info.type)
        for tensor in graph.initializer:
            found.types.setdefault(tensor.name, _type_of(tensor))
    return found


def _set_shape(t: TypeProto.Tensor, shape: Shape) -> None:
    del t.shape.dim[:]
    for n in shape:
        t.shape.dim.add(dim_value=n)


def _type_of(tensor: TensorProto) -> TypeProto:
    return onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)


class Readers:
    """Who reads which name, over all scopes of a model."""

    def __init__(self, model: ModelProto) -> None:
        self._functions = outline.functions(model)
        self._readers: dict[str, list[tuple[NodeProto, int]]] = defaultdict(list)
        for node in outline.nodes(model):
            for index, name in enumerate(node.input):
                if name:
                    self._readers[name].append((node, index))

    def uses(self, name: str, found: Facts) -> Iterator[Use]:
        """Every read of the value ``name``, those through moves, bodies and local functions included."""
        queue, seen = [name], {name}
        for _ in range(MAX_STEPS):
            if not queue:
                return
            current = queue.pop(0)
            for node, index in self._readers.get(current, ()):
                yield Use(node, index, found)
                for following in self._onward(node, index):
                    if following and following not in seen:
                        seen.add(following)
                        queue.append(following)

    def _onward(self, node: NodeProto, index: int) -> list[str]:
        function = self._functions.get((node.domain, node.op_type))
        if function is not None:
            return [function.input[index]] if index < len(function.input) else []
        if node.op_type in ("Loop", "Scan"):
            return [g.input[index].name for g in outline.subgraphs(node) if 0 <= index < len(g.input)]
        if index in _MOVES.get(node.op_type, ()) and node.domain in ("", "ai.onnx"):
            return list(node.output)
        return []


def as_ints(value: NDArray[Any] | None) -> list[int] | None:
    """A constant list of integers as Python ints, or None."""
    if value is None or value.dtype.kind not in "iu":
        return None
    return [int(v) for v in np.atleast_1d(value)]
