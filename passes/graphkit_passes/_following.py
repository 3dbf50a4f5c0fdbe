"""Inference of one node after the other, with names for dims that inference of the whole model loses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import onnx
from onnx.shape_inference import InferenceError, infer_node_outputs

from graphkit import Graph, GraphkitError
from graphkit.model.operators import domain_of
from graphkit.model.surgeon import GsGraph, Node, Tensor, onnx_dtype, tensor_proto
from graphkit_passes._batch import Batch
from graphkit_passes._products import Sizes
from graphkit_passes._shared import Known, root_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SMALL = 1024  # bytes
_BETWEEN = "*"


class Dims(Protocol):
    """What knows the dims of a tensor: numbers, :class:`Sizes`, None."""

    def dims(self, graph: Graph, tensor: Tensor) -> tuple[Any, ...] | None: ...


class Following:
    """Infers nodes of one scope from what ``dims`` says of their inputs."""

    def __init__(self, graph: Graph, dims: Dims, known: Known) -> None:
        self._graph = graph
        self._dims = dims
        self._known = known
        self._batch: Batch | None = None

    def inferred(self, node: Node) -> Iterator[tuple[Tensor, tuple[Any, ...]]]:
        """The outputs of a node whose number of dims follows, with the dims."""
        self._batch = self._batch or Batch(root_of(self._graph))
        try:
            told = outputs_of(self._graph, node, self._batch, self._type)
        except InferenceError:
            return
        for tensor, kind in told:
            if kind.tensor_type.HasField("shape"):
                yield tensor, tuple(map(_size, kind.tensor_type.shape.dim))

    def _type(self, graph: Graph, tensor: Tensor) -> onnx.TypeProto | None:
        dtype = self._known.dtype(graph, tensor)
        if dtype is None:
            return None
        dims = self._dims.dims(graph, tensor)
        spelled = None if dims is None else [_spelled(d) for d in dims]
        return onnx.helper.make_tensor_type_proto(onnx_dtype(dtype), spelled)


def outputs_of(
    graph: Graph, node: Node, batch: Batch, type_of: Callable[[Graph, Tensor], onnx.TypeProto | None]
) -> list[tuple[Tensor, onnx.TypeProto]]:
    """What onnx infers of the outputs of one node, which has no subgraphs, from the types of its inputs.

    Empty when an input has no type, or the operator no schema. ``batch`` is one for all nodes of a root.
    Raises InferenceError when the node cannot run.
    """
    if any(isinstance(v, GsGraph) for v in node.attrs.values()):
        return []
    domain, types, data = domain_of(node), {}, {}
    for tensor in {id(t): t for t in node.inputs if t.name}.values():
        kind = type_of(graph, tensor)
        if kind is None:
            return []
        types[batch.name(tensor)] = kind
        value = _data(graph, tensor, batch)
        if value is not None:
            data[batch.name(tensor)] = value
    version = graph.version(domain)
    try:
        schema = onnx.defs.get_schema(node.op, version, domain)
        proto = batch.proto(graph, node)
    except (onnx.defs.SchemaError, GraphkitError, TypeError, ValueError):
        return []
    told = infer_node_outputs(
        schema, proto, types, data, opset_imports=[onnx.helper.make_opsetid(domain, version)]
    )
    found = [(t, told.get(batch.name(t))) for t in node.outputs if t.name]
    return [(t, kind) for t, kind in found if kind is not None and kind.HasField("tensor_type")]


def _data(graph: Graph, tensor: Tensor, batch: Batch) -> onnx.TensorProto | None:
    """The values of a small constant, which inference may want to see."""
    if not graph.is_constant(tensor) or graph.nbytes(tensor) > _SMALL:
        return None
    values = graph.value(tensor)
    return None if values is None else tensor_proto(values, batch.name(tensor))


def _spelled(dim: Any) -> int | str | None:
    """A dim as ONNX writes it: a product becomes one name."""
    return _BETWEEN.join((*dim.names, str(dim.factor))) if isinstance(dim, Sizes) else dim


def _size(dim: Any) -> Any:
    """What :func:`_spelled` wrote."""
    if dim.HasField("dim_value"):
        return dim.dim_value
    if not dim.dim_param:
        return None
    *names, factor = dim.dim_param.split(_BETWEEN)
    return Sizes(tuple(names), int(factor)) if names and factor.isdigit() else Sizes((dim.dim_param,))
