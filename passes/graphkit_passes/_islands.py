"""Islands: tensors that must change their dtype together, because nodes that move elements join them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from graphkit import Graph
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import domain_of
from graphkit.model.surgeon import Variable, numpy_dtype, unlink
from graphkit_passes._movers import Places
from graphkit_passes._shared import root_of

Joint = Callable[[Graph, Node], Places | None]
"""The inputs and outputs of a node that must have one dtype; None for a node that is not understood."""


@dataclass
class Island:
    """Tensors that nodes compute, the nodes that join them, and what else those nodes read there."""

    tensors: list[Tensor] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    ends: list[Tensor] = field(default_factory=list)
    shores: list[tuple[Node, Tensor]] = field(default_factory=list)
    strangers: list[tuple[Node, Tensor]] = field(default_factory=list)

    @property
    def known(self) -> set[int]:
        """The identities of the tensors."""
        return {id(t) for t in self.tensors}


class Islands:
    """Finds the islands of a model.

    ``shore`` says of a tensor that its dtype stays, so no island has it; ``free`` are operators that read any
    dtype, and give nothing of it.
    """

    def __init__(
        self,
        main: Graph,
        joint: Joint,
        shore: Callable[[Tensor], bool],
        free: frozenset[str] = frozenset({"Shape", "Size"}),
    ) -> None:
        self.scopes = main.scopes()
        self.home = {id(n): s for s in self.scopes for n in s.nodes}
        self._ends = {id(t) for s in self.scopes for t in s.outputs}
        self._pinned = main.model.pinned
        self._joint, self._shore, self._free = joint, shore, free
        self._seen: set[int] = set()

    def is_end(self, tensor: Tensor) -> bool:
        """Whether a scope returns ``tensor``, or something names it that no pass can see."""
        return id(tensor) in self._ends or tensor.name in self._pinned

    def around(self, node: Node) -> Island | None:
        """The island that a joining node lies in; None when it was found before."""
        if id(node) in self._seen or not any(True for _ in self._touched(node)):
            return None
        found = Island()
        waiting = [node]
        while waiting:
            here = waiting.pop()
            if id(here) not in self._seen:
                self._seen.add(id(here))
                waiting += self._enter(found, here)
        return found

    def _touched(self, node: Node) -> Iterable[Tensor]:
        places = self._joint(self.home[id(node)], node) if id(node) in self.home else None
        if places is not None:
            yield from (node.inputs[p] for p in places[0] if p < len(node.inputs))
            yield from (node.outputs[p] for p in places[1] if p < len(node.outputs))

    def _enter(self, island: Island, node: Node) -> list[Node]:
        """Add a node and its tensors to the island; returns the nodes beyond those."""
        island.nodes.append(node)
        beyond: list[Node] = []
        for tensor in {id(t): t for t in self._touched(node) if t.name}.values():
            if self._shore(tensor):
                island.shores.append((node, tensor))
            elif id(tensor) not in self._seen:
                self._seen.add(id(tensor))
                island.tensors.append(tensor)
                if self.is_end(tensor):
                    island.ends.append(tensor)
                beyond += self._beyond(island, tensor)
        return beyond

    def _beyond(self, island: Island, tensor: Tensor) -> list[Node]:
        """The maker and the readers of a tensor; those that are not understood are noted as strangers."""
        found: list[Node] = []
        readers = [n for n in {id(n): n for n in tensor.outputs}.values() if not self._is_free(n)]
        for node in (*tensor.inputs, *readers):
            places = self._joint(self.home[id(node)], node) if id(node) in self.home else None
            if places is None or self._strays(node, tensor, places):
                island.strangers.append((node, tensor))
            else:
                found.append(node)
        return found

    def _is_free(self, node: Node) -> bool:
        return node.op in self._free and not domain_of(node)

    @staticmethod
    def _strays(node: Node, tensor: Tensor, places: Places) -> bool:
        """Whether a node has the tensor in another place than those it joins, as an index, say."""
        reads = any(t is tensor and p not in places[0] for p, t in enumerate(node.inputs))
        return reads or any(t is tensor and p not in places[1] for p, t in enumerate(node.outputs))


def renew(graph: Graph, tensor: Tensor, name: str, dtype: Any) -> Tensor:
    """A new tensor in the place of one that a node makes: the node writes it, and all readers read it.

    The old one is left with nothing around it. An annotated shape is kept, with the new dtype.
    """
    node = tensor.inputs[0]
    noted = numpy_dtype(tensor.dtype) is not None
    made = Variable(graph.model.fresh_name(name), *([dtype, tensor.shape] if noted else []))
    graph.model.note_origin(node, graph.model.first_names(node.outputs))
    place = next(p for p, t in enumerate(node.outputs) if t is tensor)
    unlink(tensor.inputs, node)
    list.__setitem__(node.outputs, place, made)
    list.append(made.inputs, node)
    for reader in graph.consumers(tensor):
        graph.rewire(reader, tensor, made)
    return made


class Twins:
    """Constants in another form, one for each that is asked for in a graph or function."""

    def __init__(self, suffix: str, change: Callable[[Any], Any]) -> None:
        self._suffix, self._change = suffix, change
        self._made: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self.left: list[Tensor] = []
        """Constants that some node does not read any more."""

    def of(self, graph: Graph, constant: Tensor) -> Tensor:
        """The changed values of ``constant`` as a constant of this scope's graph or function."""
        key = id(root_of(graph).gs), id(constant)
        if key not in self._made:
            values = self._change(graph.value(constant))
            twin = graph.constant(values, f"{constant.name}_{self._suffix}", of=[constant])
            self._made[key] = constant, twin
        return self._made[key][1]

    def swap(self, graph: Graph, node: Node, constant: Tensor) -> None:
        """Let ``node`` read the twin of ``constant`` instead."""
        graph.rewire(node, constant, self.of(graph, constant))
        self.left.append(constant)


def drop_unread(main: Graph, constants: Iterable[Tensor]) -> None:
    """Take out Constant nodes that nothing reads any more; initializers go by themselves."""
    unread = {id(t): t for t in constants if t.inputs and not t.outputs}
    if not unread:
        return
    for scope in main.scopes():
        kept = {id(t) for t in scope.outputs}
        dead = [n for n in scope.nodes if n.op == "Constant" and id(n.outputs[0]) in unread.keys() - kept]
        scope.remove(n for n in dead if n.outputs[0].name not in main.model.pinned)
