"""``op`` inside ``rewrite``: each call adds a node in front of the match, and returns what it makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from graphkit.errors import NotApplicable

if TYPE_CHECKING:
    from graphkit.model.graph import Graph
    from graphkit.model.surgeon import Node, Tensor

__all__ = ["Builder"]


class Builder:
    """Adds nodes to one scope: ``op.Mul(x, op.Sigmoid(x))``.

    Inputs are tensors, ``None`` (left out), ndarrays (a new constant) or numbers (a constant scalar with the
    dtype of the first tensor among the inputs). ``_domain``, ``_name`` and ``_outputs`` (a count) are for
    the node itself, everything else is an attribute; an attribute that is None is left out.
    """

    def __init__(self, graph: Graph, before: Node | None, of: Sequence[Node]) -> None:
        self.graph = graph
        self.made: list[Node] = []
        self._before = before
        self._of = of

    def __getattr__(self, op: str) -> Callable[..., Any]:
        if op.startswith("__"):
            raise AttributeError(op)

        def call(*inputs: Any, _domain: str = "", _name: str = "", _outputs: int = 1, **attrs: Any) -> Any:
            given = {k: v for k, v in attrs.items() if v is not None}
            tensors = [self._input(t, inputs) for t in inputs]
            outputs = self.graph.add(
                op,
                tensors,
                given,
                outputs=_outputs,
                domain=_domain,
                name=_name,
                before=self._before,
                of=self._of,
            )
            self.made += outputs[0].inputs
            return outputs[0] if _outputs == 1 else tuple(outputs)

        return call

    __getitem__ = __getattr__

    def constant(self, values: Any, name: str = "const") -> Tensor:
        """A constant tensor with these values (an ndarray, of its dtype)."""
        import numpy as np

        return self.graph.constant(np.asarray(values), name)

    def _input(self, given: Any, inputs: Sequence[Any]) -> Tensor | None:
        import numpy as np

        if given is None or hasattr(given, "inputs"):
            return given
        if isinstance(given, np.ndarray | np.generic):
            return self.constant(given)
        tensor = next((t for t in inputs if hasattr(t, "inputs")), None)
        dtype = None if tensor is None else self.graph.dtype(tensor)
        if tensor is not None and dtype is None:
            raise NotApplicable(
                f"the dtype of '{tensor.name}' is not known, so a constant beside it has none"
            )
        return self.constant(np.asarray(given, dtype))
