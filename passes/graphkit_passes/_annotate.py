"""Shapes in the declarations of a model: of inputs, as asked; of all else, as inference finds them."""

from __future__ import annotations

from graphkit import Graph
from graphkit.model.surgeon import Constant, Tensor
from graphkit_passes._shapes import fresh_types
from graphkit_passes._sizes import Dim, Sizes, is_free, is_symbol


def set_inputs(graph: Graph, sizes: Sizes) -> int:
    """Give the inputs of the main graph their shapes; returns how many changed."""
    changed = 0
    for tensor in graph.inputs:
        shape = sizes.shapes.get(tensor.name)
        if shape is not None:
            changed += _set(tensor, sizes.applied(shape))
    return changed


def annotate(graph: Graph, sizes: Sizes) -> int:
    """Bring the annotations of outputs and inner tensors up to date; returns how many changed.

    Inference has the last word on what it knows. What it does not know keeps its annotation, with the symbols that
    have a size now. Tensors without an annotation get none.
    """
    types = fresh_types(graph.model)
    changed = 0
    for scope in graph.scopes():
        if scope.is_function:
            continue
        for tensor in {id(t): t for t in (*_made(scope), *scope.outputs)}.values():
            if isinstance(tensor, Constant) or tensor.dtype is None or tensor.type not in (None, "tensor_type"):
                continue
            inferred = types.shape(tensor)
            if tensor.shape is None:
                continue
            changed += _set(tensor, _merged(sizes.applied(tensor.shape), inferred))
    return changed


def _made(scope: Graph) -> list[Tensor]:
    return [t for n in scope.nodes for t in n.outputs if t.name]


def _merged(told: list[Dim], inferred: tuple[Dim, ...] | None) -> list[Dim]:
    if inferred is None:
        return told
    if len(inferred) != len(told):
        return [None if is_free(d) else d for d in inferred]
    return [_dim(old, new) for old, new in zip(told, inferred, strict=True)]


def _dim(old: Dim, new: Dim) -> Dim:
    """A number that inference found, else what was told; a number stays where inference finds a symbol it can equal."""
    if isinstance(new, int) and new >= 0:
        return new
    return new if is_free(old) and is_symbol(new) else old


def _set(tensor: Tensor, shape: list[Dim]) -> bool:
    if tensor.shape is not None and list(tensor.shape) == shape:
        return False
    tensor.shape = shape
    return True
