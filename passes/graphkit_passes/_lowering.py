"""Writes what stands for one operator in terms of older ones, in the form that an opset has of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import numpy as np

from graphkit import Graph, NotApplicable
from graphkit.model.graph import Node, Shape, Tensor
from graphkit.model.operators import ABSENT, attribute
from graphkit.model.surgeon import onnx_dtype
from graphkit_passes._shared import Known

Made: TypeAlias = "Tensor | Sequence[Tensor | None]"
Rule: TypeAlias = "Callable[[Lowering], Made]"
RULES: dict[str, Rule] = {}
"""How each operator of the default domain is written; filled by :func:`writes`."""

F32: np.dtype[Any] = np.dtype(np.float32)
I64: np.dtype[Any] = np.dtype(np.int64)


def writes(*ops: str) -> Callable[[Rule], Rule]:
    """Declare that a function writes these operators in terms of older ones."""

    def declare(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops, rule))
        return rule

    return declare


class Lowering:
    """What a rule has in hand: the node, what is known of its inputs, and ``low("Mul", a, b)`` for new nodes.

    New nodes stand in front of the old one until :meth:`commit` lets them take its place or :meth:`undo`
    takes them out again. ``opset``: the one whose forms of operators are written. ``keeps``: operators that
    may be written in a plain form, although they are not wanted in every form.
    """

    def __init__(
        self, graph: Graph, node: Node, known: Known, opset: int = 0, keeps: Collection[str] = ()
    ) -> None:
        self.keeps = keeps
        self.graph = graph
        self.node = node
        self.known = known
        self.opset = opset or graph.opset
        self._made: list[Node] = []
        self._base = next((t.name for t in node.outputs if t.name), node.op)
        self._replacements: list[tuple[Tensor, Tensor]] = []

    def __call__(self, op: str, *inputs: Tensor | None, outputs: int = 1, **attrs: Any) -> Any:
        """A new node; an attribute that is None is left out. Its output, or a tuple of several."""
        self.require_op(op)
        names = [f"{self._base}_{op.lower()}" + (f"_{i}" if i else "") for i in range(outputs)]
        given = {k: v for k, v in attrs.items() if v is not None}
        made = self.graph.add(op, inputs, given, outputs=names, before=self.node, of=[self.node])
        self._made += made[0].inputs
        return made[0] if outputs == 1 else tuple(made)

    def require_op(self, op: str) -> None:
        """Refuse where the opset has no such operator yet."""
        since = _SINCE.get(op, 1)
        if self.opset < since:
            raise NotApplicable(f"what stands for it needs {op}, which opset {self.opset} does not have")

    def run(self, rule: Rule) -> None:
        """Write the new nodes; NotApplicable, and nothing is left of them, when the rule refuses."""
        try:
            made = rule(self)
            found = [made] if hasattr(made, "inputs") else list(made)
            for n, old in enumerate(self.node.outputs):
                new = found[n] if n < len(found) else None
                if old.name and new is None:
                    raise NotApplicable(f"nothing is known to give its output '{old.name}'")
                if old.name:
                    own = any(new is t for m in self._made for t in m.outputs)
                    self._replacements.append((old, new if own else self("Identity", new)))
        except NotApplicable:
            self.undo()
            raise

    def undo(self) -> None:
        """Take the new nodes out."""
        self.graph.remove(self._made)

    def commit(self) -> None:
        """Let the new nodes stand for the old one."""
        self.graph.remove([self.node])
        for old, new in self._replacements:
            self.graph.replace(old, new)

    # -- what is known

    def input(self, place: int) -> Tensor | None:
        """An input of the node; None when it is left out."""
        inputs = self.node.inputs
        return inputs[place] if place < len(inputs) and inputs[place].name else None

    @property
    def made(self) -> list[Node]:
        """The new nodes."""
        return self._made

    @property
    def x(self) -> Tensor:
        """The first input."""
        return self.given(0)

    def given(self, place: int) -> Tensor:
        """An input that has to be there."""
        found = self.input(place)
        if found is None:
            raise NotApplicable(f"its input {place} is left out")
        return found

    def has(self, output: int) -> bool:
        """Whether an output is there."""
        return output < len(self.node.outputs) and bool(self.node.outputs[output].name)

    def attr(self, name: str, otherwise: Any = None) -> Any:
        """An attribute, or its default; NotApplicable when the caller of a function chooses it."""
        value = attribute(self.graph, self.node, name)
        if value is ABSENT:
            raise NotApplicable(f"its {name} is an attribute of the function around it")
        return otherwise if value is None else value

    def dtype(self, tensor: Tensor) -> np.dtype[Any]:
        """The dtype of a tensor; NotApplicable when it is not known, as of what a function is given."""
        found = self.known.dtype(self.graph, tensor)
        if found is None:
            raise NotApplicable(f"the dtype of '{tensor.name}' is not known")
        return found

    def shape(self, tensor: Tensor) -> Shape | None:
        """The shape of a tensor as inferred."""
        if self.graph.is_constant(tensor):
            return self.graph.shape(tensor)
        return self.known.types.shape(tensor)

    def rank(self, tensor: Tensor) -> int:
        """The number of dims of a tensor; NotApplicable when it is not known."""
        shape = self.shape(tensor)
        if shape is None:
            raise NotApplicable(f"the number of dims of '{tensor.name}' is not known")
        return len(shape)

    def dim(self, tensor: Tensor, axis: int) -> int | None:
        """One dim, when it is a known number."""
        shape = self.shape(tensor)
        inside = shape is not None and -len(shape) <= axis < len(shape)
        found = shape[axis] if shape is not None and inside else None
        return found if isinstance(found, int) else None

    def fixed(self, tensor: Tensor) -> tuple[int, ...]:
        """A shape all of whose dims are known numbers."""
        shape = self.shape(tensor)
        if shape is None or not all(isinstance(d, int) for d in shape):
            raise NotApplicable(f"the shape of '{tensor.name}' is not fixed")
        return tuple(int(d) for d in shape if d is not None)

    def value(self, tensor: Tensor, what: str) -> np.ndarray[Any, Any]:
        """The values of a constant; ``what`` it is for the reason."""
        found = self.graph.value(tensor)
        if found is None:
            raise NotApplicable(f"its {what} '{tensor.name}' is not constant")
        return found

    def axes(self) -> list[int]:
        """The axes of a reduction, by attribute or constant input: all when it names none."""
        if self.attr("noop_with_empty_axes", 0):
            raise NotApplicable("its noop_with_empty_axes is set")
        given = self.input(1)
        found = self.attr("axes", []) if given is None else self.value(given, "axes").reshape(-1).tolist()
        return [int(a) for a in found] or list(range(self.rank(self.x)))

    # -- constants

    def const(self, values: Any, dtype: Any = None, name: str = "const") -> Tensor:
        """A new constant."""
        return self.graph.constant(np.asarray(values, dtype), f"{self._base}_{name}")

    def ints(self, *values: int) -> Tensor:
        """A new int64 vector."""
        return self.const(values, np.int64, "dims")

    def like(self, value: float, x: Tensor) -> Tensor:
        """A scalar of the dtype of ``x``; a CastLike makes it so where that is not known."""
        dtype = self.known.dtype(self.graph, x)
        if dtype is not None:
            with np.errstate(over="ignore"):
                return self.const(value, dtype, "scalar")
        if self.opset < 15:
            raise NotApplicable(
                f"the dtype of '{x.name}' is not known, and opset {self.opset} has no CastLike"
            )
        return self("CastLike", self.const(value, np.float32, "scalar"), x)

    # -- operators whose form depends on the opset

    def cast(self, x: Tensor, dtype: np.dtype[Any]) -> Tensor:
        """``x`` in another dtype."""
        return self("Cast", x, to=onnx_dtype(dtype))

    def reduce(self, op: str, x: Tensor, axes: Sequence[int], *, keep: bool = True) -> Tensor:
        """``ReduceSum`` and its kin over constant axes."""
        if self.opset >= (13 if op == "ReduceSum" else 18):
            return self(op, x, self.ints(*axes), keepdims=int(keep))
        return self(op, x, axes=list(axes), keepdims=int(keep))

    def unsqueeze(self, x: Tensor, *axes: int) -> Tensor:
        """``x`` with dims of 1 put in."""
        if self.opset >= 13:
            return self("Unsqueeze", x, self.ints(*axes))
        return self("Unsqueeze", x, axes=list(axes))

    def squeeze(self, x: Tensor, *axes: int) -> Tensor:
        """``x`` with dims of 1 taken out."""
        if self.opset >= 13:
            return self("Squeeze", x, self.ints(*axes))
        return self("Squeeze", x, axes=list(axes))

    def reshape(self, x: Tensor, *dims: int) -> Tensor:
        """``x`` in another shape; 0 copies a dim, -1 is what is left."""
        return self("Reshape", x, self.ints(*dims))

    def slice(self, x: Tensor, axis: int, start: int, end: int, step: int = 1) -> Tensor:
        """Part of one axis."""
        if self.opset < 10:
            if step != 1:
                raise NotApplicable(f"opset {self.opset} has no Slice with steps")
            return self("Slice", x, starts=[start], ends=[end], axes=[axis])
        steps = () if step == 1 else (self.ints(step),)
        return self("Slice", x, self.ints(start), self.ints(end), self.ints(axis), *steps)

    def softmax(self, x: Tensor, rank: int) -> Tensor:
        """Softmax along the last axis."""
        return self("Softmax", x, axis=-1 if self.opset >= 13 else rank - 1)

    def size(self, x: Tensor, axis: int) -> Tensor:
        """One dim as an int64 vector of one element: a constant where it is known."""
        known = self.dim(x, axis)
        if known is not None:
            return self.ints(known)
        place = axis if axis >= 0 else self.rank(x) + axis
        return self("Gather", self("Shape", x), self.ints(place))

    def arange(self, count: Tensor) -> Tensor:
        """0, 1, … below ``count``, a vector of one element."""
        known = self.graph.value(count)
        if known is not None:
            return self.const(np.arange(int(known.reshape(())), dtype=np.int64), name="range")
        zero, one = self.const(0, np.int64, "zero"), self.const(1, np.int64, "one")
        return self("Range", zero, self.squeeze(count, 0), one)


_SINCE = {
    "ArgMax": 1,
    "CastLike": 15,
    "CumSum": 11,
    "Einsum": 12,
    "Erf": 9,
    "Expand": 8,
    "GatherElements": 11,
    "GatherND": 12,  # with batch_dims
    "GreaterOrEqual": 12,
    "GridSample": 16,
    "IsInf": 10,
    "IsNaN": 9,
    "LessOrEqual": 12,
    "Mod": 10,
    "OneHot": 9,
    "Range": 11,
    "Round": 11,
    "ScatterND": 11,
    "Shrink": 9,
    "Sign": 9,
    "Where": 9,
}
"""The opset in which an operator that rules write came: https://onnx.ai/onnx/operators/"""
