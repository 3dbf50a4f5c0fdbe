"""What is against making floats of a model's doubles."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from graphkit import Graph
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import domain_of
from graphkit.model.surgeon import AttributeRef, Constant
from graphkit_passes._doubles import DOUBLE, DTYPES, Doubles, attribute_values, is_double, is_known
from graphkit_passes._eligible import RANDOM
from graphkit_passes._functions import Functions
from graphkit_passes._shared import root_of

Array = npt.NDArray[Any]
Place = Node | Tensor | str

_EXACT, _WHOLE = 2**24, 2**53  # to there, every whole number is a float, or a double
_WIDE_INTEGERS = frozenset(map(np.dtype, ["int32", "int64", "uint32", "uint64"]))
_SEVERAL = "it holds a sequence or an optional of doubles; use sequences-to-tensors first"
_SEQUENCES = ("ConcatFromSequence", "SplitToSequence")


class Doubts:
    """``problems`` are places and reasons; ``inexact`` counts casts of what may be large integers."""

    def __init__(self, doubles: Doubles) -> None:
        self._found = doubles
        self._functions = Functions(doubles.main.model)
        self.problems: list[tuple[Graph, Place, str]] = []
        self.inexact = 0
        self._judge()

    def _judge(self) -> None:
        if self._found.main.model.pinned:
            self._problem(
                self._found.main, "training", "a training graph or a list of graphs may name a double"
            )
        for scope, tensor in self._found.constants.values():
            self._judge_values(scope, tensor, scope.value(tensor))
        for scope, node, name in self._found.chosen:
            self._judge_choice(scope, node, name)
        for scope in self._found.scopes:
            self._judge_ends(scope)
            for node in scope.nodes:
                self._judge_call(scope, node)
                if root_of(scope).is_function:
                    self._judge_untyped(scope, node)
                else:
                    self._judge_node(scope, node)

    def _problem(self, graph: Graph, place: Place, reason: str) -> None:
        self.problems.append((graph, place, reason))

    def _judge_values(self, graph: Graph, place: Place, values: Array | None) -> None:
        reason = None if values is None else lost(values)
        if reason is not None:
            self._problem(graph, place, reason)

    def _judge_ends(self, graph: Graph) -> None:
        """What goes into a graph or comes out of it."""
        for tensor in graph.outputs:
            if isinstance(tensor, Constant) and is_double(tensor):
                self._problem(graph, tensor, "it is a constant, and an output of its graph as it is")
        for tensor in (*graph.inputs, *graph.outputs):
            if is_double(tensor) and getattr(tensor, "type", None) not in (None, "tensor_type"):
                self._problem(graph, tensor, _SEVERAL)

    def _judge_choice(self, graph: Graph, node: Node, name: str) -> None:
        """One attribute that is, or holds, a double."""
        value = node.attrs[name]
        if node.op in ("Constant", "ConstantOfShape") and not domain_of(node):
            held = graph.value(node.outputs[0]) if node.op == "Constant" else attribute_values(value)
            self._judge_values(graph, node, held)
        elif isinstance(value, Constant):
            self._problem(graph, node, f"its attribute '{name}' holds doubles")
        elif node.op in RANDOM and "seed" in node.attrs:
            self._problem(graph, node, "its seed gives other numbers in float32")

    def _judge_integers(self, graph: Graph, node: Node) -> None:
        """A cast to double of integers, which doubles hold to 2^53 and floats to 2^24."""
        given = node.inputs[0]
        values = graph.value(given) if graph.dtype(given) in _WIDE_INTEGERS else None
        if values is not None:
            self._judge_values(graph, node, values)
        else:
            self.inexact += self._found.dtype(graph, given) in _WIDE_INTEGERS

    def _judge_node(self, graph: Graph, node: Node) -> None:
        """Whether a node does with floats what it does with doubles."""
        wide = any(self._found.is_wide(graph, t) for t in (*node.inputs, *node.outputs) if t.name)
        unknown = next((t for t in node.outputs if t.name and self._found.dtype(graph, t) is None), None)
        if not self._is_standard(node):
            if wide:
                self._problem(graph, node, "it works on doubles, and what it does with floats is not known")
            elif unknown is not None:
                self._problem(graph, node, f"the dtype of '{unknown.name}' is not known: it may be double")
        elif wide and _holds_several(node):
            self._problem(graph, node, _SEVERAL)
        elif wide and _reads_bits(node):
            self._problem(graph, node, "it takes the digits or the bits of a double")
        elif unknown is not None and any(self._may_be_wide(graph, t) for t in node.inputs if t.name):
            self._problem(graph, node, f"the dtype of '{unknown.name}' is not known: it may be double")
        elif wide and node.op in ("Cast", "CastLike") and self._found.is_wide(graph, node.outputs[0]):
            self._judge_integers(graph, node)

    def _is_standard(self, node: Node) -> bool:
        """Whether the node is an operator of ONNX, or a call of a function made of such."""
        called = self._functions.called_by(node) is not None
        return called or (domain_of(node) in ("", "ai.onnx.ml") and is_known(node))

    def _may_be_wide(self, graph: Graph, tensor: Tensor) -> bool:
        dtype = self._found.dtype(graph, tensor)
        return dtype is None or dtype == np.float64

    def _judge_untyped(self, graph: Graph, node: Node) -> None:
        """A node of a function, which may be called with doubles."""
        if not self._is_standard(node):
            self._problem(graph, node, "it may work on doubles, and what it does with floats is not known")
        elif _reads_bits(node):
            self._problem(graph, node, "it may take the digits or the bits of a double")

    def _judge_call(self, graph: Graph, node: Node) -> None:
        """A dtype that the caller of a function gives, or the function itself."""
        function = self._functions.called_by(node)
        if function is None:
            return
        given = {**function.gs.attrs, **node.attrs}
        for name in self._referred & given.keys():
            if isinstance(given[name], int) and given[name] == DOUBLE:
                self._problem(graph, node, f"it gives the function '{name}' = {DOUBLE}, which is double")

    @cached_property
    def _referred(self) -> set[str]:
        """The names of the callers' attributes that choose a dtype in some function."""
        return {
            value.name
            for scope in self._found.scopes
            for node in scope.nodes
            for name, value in node.attrs.items()
            if name in DTYPES and isinstance(value, AttributeRef)
        }


def lost(values: Array) -> str | None:
    """Why float32 does not hold numbers as well as may be; None when it does, to its rounding."""
    with np.errstate(all="ignore"):
        narrow = values.astype(np.float32)
        back = narrow.astype(values.dtype)
    size = np.abs(narrow)
    whole = np.floor(values) == values
    rounded = whole & (size >= _EXACT) & (size <= _WHOLE) & (back != values)
    checks = (
        (np.isfinite(values) & ~np.isfinite(narrow), "is beyond the range of float32"),
        ((values != 0) & (size < np.finfo(np.float32).tiny), "is lost below the range of float32"),
        (rounded, "is a whole number that float32 lacks"),
    )
    for wrong, reason in checks:
        if wrong.any():
            return f"its value {values[wrong].reshape(-1)[0]:.17g} {reason}"
    return None


def _holds_several(node: Node) -> bool:
    """Whether an operator works on sequences or optionals."""
    return node.op.startswith(("Sequence", "Optional")) or node.op in _SEQUENCES


def _reads_bits(node: Node) -> bool:
    is_text = node.op == "Cast" and node.attrs.get("to") == onnx.TensorProto.STRING
    return node.op == "BitCast" or bool(is_text)
