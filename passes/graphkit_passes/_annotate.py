"""Shapes in the declarations of a model: of inputs, as asked; of all else, as inference finds them."""

from __future__ import annotations

from graphkit import Graph, Tally
from graphkit.model.infer import infer
from graphkit.model.surgeon import Constant, Tensor
from graphkit_passes._sizes import Dim, Sizes, is_free, is_symbol, spelled


def set_inputs(graph: Graph, sizes: Sizes) -> int:
    """Give the inputs of the main graph their shapes; returns how many changed."""
    changed = 0
    for tensor in graph.inputs:
        shape = sizes.shapes.get(tensor.name)
        if shape is not None:
            changed += _set(tensor, sizes.applied(shape))
    return changed


def annotate(graph: Graph, sizes: Sizes, tally: Tally) -> int:
    """Bring the annotations of outputs and inner tensors up to date; returns how many changed.

    Inference has the last word on what it knows; what it does not know keeps its annotation, with the
    symbols that have a size now. Only what the main graph declares of its outputs, which callers rely on, is
    never contradicted. Tensors without an annotation get none.
    """
    types = infer(graph.model)
    ends = {id(t) for t in graph.outputs}
    changed = 0
    for scope in graph.scopes():
        made = () if scope.is_function else (t for n in scope.nodes for t in n.outputs if t.name)
        for tensor in {id(t): t for t in (*made, *scope.outputs)}.values():
            if not _is_annotated(tensor):
                continue
            told, inferred = sizes.applied(tensor.shape), types.shape(tensor)
            if id(tensor) in ends and _contradicts(told, inferred):
                found = (
                    f"'{tensor.name}' is declared {spelled(tensor.shape)}, and is {spelled(inferred or ())}"
                )
                tally.note(f"{found}: the declaration stays")
            else:
                changed += _set(tensor, _merged(told, inferred))
    return changed


def _is_annotated(tensor: Tensor) -> bool:
    if isinstance(tensor, Constant) or tensor.dtype is None or tensor.shape is None:
        return False
    return tensor.type in (None, "tensor_type")


def _contradicts(told: list[Dim], inferred: tuple[Dim, ...] | None) -> bool:
    if inferred is None or len(inferred) != len(told):
        return inferred is not None
    return any(
        isinstance(a, int) and isinstance(b, int) and a != b and min(a, b) >= 0
        for a, b in zip(told, inferred, strict=True)
    )


def _merged(told: list[Dim], inferred: tuple[Dim, ...] | None) -> list[Dim]:
    if inferred is None:
        return told
    if len(inferred) != len(told):
        return [None if is_free(d) else d for d in inferred]
    return [_dim(old, new) for old, new in zip(told, inferred, strict=True)]


def _dim(old: Dim, new: Dim) -> Dim:
    """What inference knows for certain, else what the file says, else a symbol that inference found."""
    if isinstance(new, int) and new >= 0:
        return new
    return new if is_free(old) and is_symbol(new) else old


def _set(tensor: Tensor, shape: list[Dim]) -> bool:
    if tensor.shape is not None and list(tensor.shape) == shape:
        return False
    tensor.shape = shape
    return True
