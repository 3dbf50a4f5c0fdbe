"""What depends on what in a main graph, and what goes with what is taken out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from graphkit import Graph, PassFailed
from graphkit.model.graph import Node, Tensor
from graphkit.model.scopes import reads, subgraphs_of
from graphkit.model.surgeon import Constant
from graphkit_passes._edit import quoted
from graphkit_passes._functions import Functions


def owners(graph: Graph) -> dict[int, Node]:
    """The node of ``graph`` that each node in it and below it lies in, itself included."""
    found: dict[int, Node] = {}
    for node in graph.nodes:
        waiting = [node]
        while waiting:
            here = waiting.pop()
            found[id(here)] = node
            for _, inner in subgraphs_of(here):
                waiting.extend(inner.nodes)
    return found


def downstream(graph: Graph, tensors: Iterable[Tensor]) -> tuple[list[Node], set[int]]:
    """The nodes of ``graph`` that depend on ``tensors``, in order, and the ids of all that they make."""
    owner = owners(graph)
    waiting, reached, made = list(tensors), set[int](), set[int]()
    while waiting:
        for reader in graph.consumers(waiting.pop()):
            node = owner.get(id(reader))
            if node is not None and id(node) not in reached:
                reached.add(id(node))
                made.update(id(t) for t in node.outputs)
                waiting.extend(t for t in node.outputs if t.name)
    return [n for n in graph.nodes if id(n) in reached], made


def upstream(
    graph: Graph, tensors: Iterable[Tensor], stop: Iterable[Tensor] = ()
) -> tuple[list[Node], dict[int, Tensor]]:
    """The nodes of ``graph`` that ``tensors`` depend on, without what lies behind ``stop``, in order.

    And what those read, by identity; ``tensors`` count as read too.
    """
    ends = {id(t) for t in stop}
    own = {id(n) for n in graph.nodes}
    waiting, needed, read = list(tensors), set[int](), dict[int, Tensor]()
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in read:
            continue
        read[id(tensor)] = tensor
        if id(tensor) in ends:
            continue
        for maker in tensor.inputs:
            if id(maker) in own and id(maker) not in needed:
                needed.add(id(maker))
                waiting.extend(t for t in reads(maker) if t.name)
    return [n for n in graph.nodes if id(n) in needed], read


class Trim:
    """Takes nodes out of the main graph and, at the end, all that only they and lost outputs needed.

    Made before the edit: what was of no use before it stays.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        defaults = [i.tensor for i in graph.model.records.initializers.values() if i.overridable]
        self._read = [t for t in (*graph.inputs, *defaults) if t.outputs]
        self._functions = Functions(graph.model)
        self._called = self._functions.called() if graph.model.functions else set()
        had = upstream(graph, graph.outputs)[0]
        self._needy = {id(n) for n in had}
        self.nodes = 0
        self.inputs: list[str] = []
        """Names of the inputs that went, because nothing reads them any more."""

    def _needed(self) -> list[Node]:
        """What outputs depend on now, and nodes that they did not need before either, or that are new."""
        staying = [n for n in self._graph.nodes if id(n) not in self._needy]
        ends = [*self._graph.outputs, *(t for n in staying for t in reads(n) if t.name)]
        return [*upstream(self._graph, ends)[0], *staying]

    def remove(self, nodes: Sequence[Node]) -> None:
        """Take nodes of the main graph out; PassFailed for one that a training graph refers to."""
        pinned = next((t.name for n in nodes for t in n.outputs if t.name in self._graph.model.pinned), None)
        if pinned is not None:
            raise PassFailed(f"'{pinned}' cannot go: a training graph or a list of graphs refers to it")
        self._graph.remove(nodes)
        self.nodes += len(nodes)

    def finish(self, *, inputs: bool = True) -> None:
        """Take out what is of no use any more: nodes, weights, functions and (``inputs``) graph inputs."""
        needed = {id(n) for n in self._needed()}
        self.remove([n for n in self._graph.nodes if id(n) not in needed])
        if self._called:
            self._functions.prune(self._called)
        ends = {id(t) for t in self._graph.outputs}
        gone = {id(t): t for t in self._read if inputs and not t.outputs and id(t) not in ends}
        self._graph.inputs[:] = [t for t in self._graph.inputs if id(t) not in gone]
        for tensor in gone.values():
            self.inputs.append(tensor.name)
            if isinstance(tensor, Constant):
                self._graph.remove_initializer(tensor)

    def told(self) -> str:
        """Which inputs went, as the end of a note; empty when none did."""
        return f"; nothing reads {quoted(self.inputs)} any more: gone from the inputs" if self.inputs else ""


def unproven(graph: Graph, tensors: Iterable[Tensor], why: str) -> Mapping[str, str]:
    """``tensors`` and the graph outputs that depend on them, each with the reason."""
    sources = list(tensors)
    _, made = downstream(graph, sources)
    found = [*sources, *(t for t in graph.outputs if id(t) in made)]
    return {t.name: why for t in found}
