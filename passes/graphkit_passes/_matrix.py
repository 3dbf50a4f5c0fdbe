"""Products of two matrices: what is known of the operands of a MatMul or Gemm."""

from __future__ import annotations

from graphkit import Graph, NotApplicable
from graphkit.model.graph import Node, Shape, Tensor
from graphkit.model.operators import attribute
from graphkit_passes._fusing import Fusing
from graphkit_passes._shared import FLOATS


def has_bias(node: Node) -> bool:
    """Whether a Gemm adds something already."""
    return len(node.inputs) > 2 and bool(node.inputs[2].name)


def shape_of(fusing: Fusing, graph: Graph, tensor: Tensor) -> Shape | None:
    """The shape of a constant, or the inferred one."""
    return graph.shape(tensor) if graph.is_constant(tensor) else fusing.known.types.shape(tensor)


def matrices(fusing: Fusing, graph: Graph, node: Node) -> Shape | None:
    """The two dims of what a MatMul of two matrices, or a Gemm, makes; those not known are None.

    None where it is no such thing, or not of floats that a Gemm takes. NotApplicable where that is not known.
    """
    operands = node.inputs[:2]
    if node.op == "MatMul":
        constant = [graph.shape(t) for t in operands if graph.is_constant(t)]
        if any(s is None or len(s) != 2 for s in constant):
            return None
    shapes = [shape_of(fusing, graph, t) for t in operands]
    if any(s is not None and len(s) != 2 for s in shapes):
        return None
    unknown = next((t for t, s in zip(operands, shapes, strict=True) if s is None), None)
    if unknown is not None and node.op == "MatMul":
        raise NotApplicable(f"the rank of '{unknown.name}' is not known")
    if not _takes(fusing, graph, node):
        return None
    rows, columns = (s if s is not None else (None, None) for s in shapes)
    flips = [node.op == "Gemm" and attribute(graph, node, n) for n in ("transA", "transB")]
    if not all(isinstance(f, int) for f in flips):
        return None, None
    return rows[1 if flips[0] else 0], columns[0 if flips[1] else 1]


def _takes(fusing: Fusing, graph: Graph, node: Node) -> bool:
    """Whether the operands are of a dtype for which runtimes have a Gemm."""
    if node.op == "Gemm":
        return True
    found = next((t for t in node.inputs if graph.is_constant(t)), node.inputs[0])
    dtype = fusing.known.dtype(graph, found)
    if dtype is None:
        raise NotApplicable(f"the dtype of '{found.name}' is not known")
    return dtype.name in FLOATS and (dtype.name != "bfloat16" or graph.opset >= 13)
