"""What the passes that fuse arithmetic share: the walk over a model, who reads a tensor, and the swap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from graphkit import Graph, NotApplicable, Tally
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import domain_of
from graphkit_passes._placing import is_external
from graphkit_passes._shared import Known

Array = npt.NDArray[Any]
Visit = Callable[[Graph, Node], bool]
_LARGE = 1 << 20


class Fusing:
    """One run of a pass: visits nodes by their operator, round after round, until nothing changes."""

    def __init__(self, main: Graph, tally: Tally, max_size: int = _LARGE) -> None:
        self.known = Known.of(main.model)
        self._main = main
        self._tally = tally
        self._max_size = max_size

    def run(self, ops: frozenset[str], visit: Visit) -> None:
        """Call ``visit`` with each node of the default domain whose operator is in ``ops``.

        It returns whether it rewrote something, and raises NotApplicable where it refuses. The refusals of
        the last round are told, when all that could be done is.
        """
        refused: list[tuple[Graph, Node, str]] = []
        done = True
        while done:
            done, refused = False, []
            for graph, node in self._look(ops):
                try:
                    done = (bool(node.outputs) and self._visited(visit, graph, node)) or done
                except NotApplicable as error:
                    refused.append((graph, node, str(error)))
        for graph, node, reason in refused:
            self._tally.refuse(graph, node, reason)

    def _visited(self, visit: Visit, graph: Graph, node: Node) -> bool:
        found = visit(graph, node)
        self._tally.rewrite(int(found))
        return found

    def _look(self, ops: frozenset[str]) -> list[tuple[Graph, Node]]:
        """Look at the model as it is at the start of a round; the nodes to visit."""
        scopes = self._main.scopes()
        found = [(g, n) for g in scopes for n in g.nodes if n.op in ops and not domain_of(n)]
        if found:
            self._ends = {id(t) for g in scopes for t in g.outputs}
            self._home = {id(n): id(g.gs) for g in scopes for n in g.nodes}
            self._made: list[Node] = []  # and what was taken out: keeps ids from being used again
        return found

    # -- looking

    def is_end(self, graph: Graph, tensor: Tensor) -> bool:
        """Whether a scope returns ``tensor``, or something names it that no pass can see."""
        return id(tensor) in self._ends or tensor.name in graph.model.pinned

    def is_here(self, graph: Graph, node: Node | None) -> bool:
        """Whether ``node`` is one of this very scope."""
        return node is not None and self._home.get(id(node)) == id(graph.gs)

    def maker(self, graph: Graph, tensor: Tensor, *ops: str) -> Node | None:
        """The node of this scope, one of ``ops``, that makes ``tensor``."""
        node = graph.producer(tensor)
        fits = node is not None and node.op in ops and not domain_of(node) and self.is_here(graph, node)
        return node if fits else None

    def reader(self, graph: Graph, tensor: Tensor, *ops: str) -> Node | None:
        """The only reader of ``tensor``, if it is of this scope and of ``ops``, and no graph returns it."""
        node = next(iter(tensor.outputs), None)
        fits = node is not None and node.op in ops and not domain_of(node) and self.is_here(graph, node)
        return node if fits and self.is_private(graph, tensor) else None

    def is_private(self, graph: Graph, tensor: Tensor) -> bool:
        """Whether there is one use of ``tensor`` and no more."""
        return len(tensor.outputs) == 1 and not self.is_end(graph, tensor)

    def values(self, graph: Graph, tensor: Tensor, role: str) -> Array:
        """The values of a constant; NotApplicable when it is none, or large and in a data file."""
        if not graph.is_constant(tensor):
            raise NotApplicable(f"its {role} '{tensor.name}' is not constant")
        if graph.nbytes(tensor) > self._max_size and is_external(tensor):
            raise NotApplicable(
                f"its {role} '{tensor.name}' lies in a data file, and would come into the model"
            )
        found = graph.value(tensor)
        if found is None:
            raise NotApplicable(f"its {role} '{tensor.name}' is not constant")
        return found

    # -- editing

    def swap(
        self,
        graph: Graph,
        old: Sequence[Node],
        op: str,
        inputs: Sequence[Tensor | None],
        attrs: dict[str, Any],
    ) -> None:
        """Let one new node stand for ``old``, the last of which makes what others read."""
        (made,) = self.add(graph, old, op, inputs, attrs)
        self.settle(graph, old, made)

    def add(
        self,
        graph: Graph,
        old: Sequence[Node],
        op: str,
        inputs: Sequence[Tensor | None],
        attrs: dict[str, Any],
    ) -> list[Tensor]:
        """A new node in front of the last of ``old``, which it comes from."""
        made = graph.add(op, inputs, attrs, before=old[-1], of=list(old))
        node = made[0].inputs[0]
        self._made.append(node)
        self._home[id(node)] = id(graph.gs)
        return made

    def settle(self, graph: Graph, old: Sequence[Node], made: Tensor) -> None:
        """Let ``made`` stand for what the last of ``old`` makes; those nodes go, and what only they read."""
        read = [t for n in old for t in n.inputs]
        graph.replace(old[-1].outputs[0], made)
        self.remove(graph, old)
        self.drop(graph, read)

    def remove(self, graph: Graph, nodes: Sequence[Node]) -> None:
        """Take nodes out."""
        self._made.extend(nodes)
        for node in nodes:
            self._home.pop(id(node), None)
        graph.remove(nodes)

    def drop(self, graph: Graph, tensors: Iterable[Tensor]) -> None:
        """Constants that nothing reads any more go."""
        for tensor in {id(t): t for t in tensors if t.name}.values():
            if tensor.outputs or self.is_end(graph, tensor) or not graph.is_constant(tensor):
                continue
            maker = graph.producer(tensor)
            if maker is None:
                graph.remove_initializer(tensor)
            elif self.is_here(graph, maker):
                self.remove(graph, [maker])


def rounded(
    new: Array,
    dtype: np.dtype[Any],
    what: str,
    old: Callable[[], Array] | None = None,
    axes: tuple[int, ...] = (),
) -> Array:
    """``new`` (float64) in ``dtype``; NotApplicable where that loses more than a rounding.

    So it does where values are not finite there, and, if ``old`` values are given, where a slice along
    ``axes`` falls below the smallest normal number of the dtype and did not lie there before.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        made = new.astype(dtype)
    wide = made if dtype.kind == "f" else made.astype(np.float64)
    if not np.isfinite(wide).all():
        raise NotApplicable(f"the new {what} is not finite in {dtype.name}")
    if old is not None and new.size and not (np.abs(wide) >= _smallest(dtype)).all():
        others = tuple(i for i in range(new.ndim) if i not in axes)
        now, then = (np.abs(v.astype(np.float64)).max(axis=others) for v in (new, old()))
        small = _smallest(dtype)
        if ((now > 0) & (now < small) & (then >= small)).any():
            raise NotApplicable(f"the new {what} is too small for {dtype.name}")
    return made


def _smallest(dtype: np.dtype[Any]) -> float:
    """The smallest normal number of a float dtype of numpy or ml_dtypes."""
    if dtype.kind == "f":
        return float(np.finfo(dtype).tiny)
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).smallest_normal)  # type: ignore[no-untyped-call]


def static_shape(fusing: Fusing, graph: Graph, tensor: Tensor) -> tuple[int, ...] | None:
    """The shape of a tensor whose dims are all known, inferred unless it is constant; None for others."""
    shape = graph.shape(tensor) if graph.is_constant(tensor) else fusing.known.types.static(tensor)
    if shape is None or not all(isinstance(d, int) for d in shape):
        return None
    return tuple(int(d) for d in shape if d is not None)
