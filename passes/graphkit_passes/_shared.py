"""What several passes need: inferred types on demand, and scalar constants of the right dtype."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np

from graphkit import NotApplicable
from graphkit.model.graph import Graph, Node, Tensor
from graphkit.model.infer import Types, infer
from graphkit.model.model import Model
from graphkit.model.surgeon import AttributeRef

FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
"""The dtypes that Sigmoid and its kin take; bfloat16 from opset 13."""


class Known:
    """Dtypes and ranks of a model's tensors; inference runs when somebody first asks."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._alike: dict[int, tuple[Tensor, Tensor]] = {}

    def alike(self, made: Tensor, x: Tensor) -> None:
        """Note that ``made`` has the shape and dtype of ``x``, which inference did not know when it ran."""
        self._alike[id(made)] = made, x

    def _source(self, tensor: Tensor) -> Tensor:
        while id(tensor) in self._alike and self.types.dtype(tensor) is None:
            tensor = self._alike[id(tensor)][1]
        return tensor

    @classmethod
    @contextmanager
    def during(cls, model: Model) -> Iterator[Known]:
        """Within it, :meth:`of` gives one and the same object for ``model``: inference runs once.

        A pass inside of another's shares what that one knows: tensors that both see keep shape and dtype.
        """
        if id(model) in _OPEN:
            yield _OPEN[id(model)]
            return
        known = _OPEN[id(model)] = cls(model)
        try:
            yield known
        finally:
            del _OPEN[id(model)]

    @classmethod
    def is_shared(cls, model: Model) -> bool:
        """Whether what is known of ``model`` now is for several passes."""
        return id(model) in _OPEN

    @classmethod
    def of(cls, model: Model) -> Known:
        """What is known of ``model`` during the pass that runs."""
        return _OPEN.get(id(model)) or cls(model)

    @cached_property
    def types(self) -> Types:
        """What inference finds in the model as it is when first asked."""
        return infer(self._model)

    @property
    def known(self) -> bool:
        """Whether inference has run."""
        return "types" in self.__dict__

    def forget(self) -> None:
        """Let inference run again when somebody asks next."""
        self.__dict__.pop("types", None)

    def inferred(self, *, afresh: bool) -> Types:
        """The same, from the model as it is now when ``afresh``; then it holds for all from here on."""
        if afresh:
            self.forget()
        return self.types

    def dtype(self, graph: Graph, tensor: Tensor) -> np.dtype[Any] | None:
        """The dtype of a tensor: inferred, else what the file says. None in functions, which take any."""
        if _in_function(graph):
            return graph.dtype(tensor) if graph.is_constant(tensor) else None
        source = self._source(tensor)
        return self.types.dtype(source) or graph.dtype(source) or graph.dtype(tensor)

    def rank(self, graph: Graph, tensor: Tensor) -> int | None:
        """The number of dimensions; only as inferred, because annotations can be wrong."""
        shape = graph.shape(tensor) if graph.is_constant(tensor) else self.types.shape(self._source(tensor))
        return None if shape is None else len(shape)

    def keeps_shape(self, graph: Graph, tensor: Tensor, rank: int) -> bool:
        """Whether to combine ``tensor`` with a constant of one element and ``rank`` dims leaves its shape."""
        if rank == 0:
            return True
        own = self.rank(graph, tensor)
        return own is not None and own >= rank


_OPEN: dict[int, Known] = {}


class Scalars:
    """Scalar constants, one for each value and dtype in a graph or function."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._made: dict[tuple[int, float, str], Tensor] = {}

    def like(
        self, graph: Graph, value: Any, x: Tensor, before: Node, dtype: np.dtype[Any] | None = None
    ) -> Tensor:
        """A constant ``value`` to combine with ``x``, in its dtype: ``dtype`` if given, else what is known.

        Where nothing is, or ``value`` refers to an attribute of the enclosing function, a CastLike does it.
        NotApplicable below opset 15, which has none.
        """
        dtype = dtype or self._known.dtype(graph, x)
        if not isinstance(value, AttributeRef):
            if dtype is not None:
                return self._constant(graph, float(value), dtype)
            _require_cast_like(graph, f"the dtype of '{x.name}' is not known")
            return self._cast(graph, self._constant(graph, float(value), np.dtype(np.float32)), x, before)
        _require_cast_like(graph, f"'{value.name}' is an attribute of the function")
        (made,) = graph.add("Constant", [], {"value_float": value}, before=before, of=[before])
        return self._cast(graph, made, x, before)

    def _cast(self, graph: Graph, scalar: Tensor, x: Tensor, before: Node) -> Tensor:
        return graph.add("CastLike", [scalar, x], before=before, of=[before])[0]

    def _constant(self, graph: Graph, value: float, dtype: np.dtype[Any]) -> Tensor:
        key = id(root_of(graph).gs), value, dtype.name
        if key not in self._made:
            with np.errstate(over="ignore"):
                values = np.asarray(value, dtype)
            if math.isfinite(value) and not np.isfinite(values):
                raise NotApplicable(f"its factor {value:g} is beyond the range of {dtype.name}")
            self._made[key] = graph.constant(values, "alpha")
        return self._made[key]


def _require_cast_like(graph: Graph, problem: str) -> None:
    if graph.opset < 15:
        raise NotApplicable(f"{problem}, and opset {graph.opset} has no CastLike; convert to opset 15 first")


def root_of(graph: Graph) -> Graph:
    """The main graph or function that a scope lies in."""
    while graph.parent is not None:
        graph = graph.parent
    return graph


def _in_function(graph: Graph) -> bool:
    return root_of(graph).is_function
