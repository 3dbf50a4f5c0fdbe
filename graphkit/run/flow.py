"""The main graph as places in topological order: what each node reads (its subgraphs too) and makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from onnx import GraphProto, NodeProto

from graphkit.errors import BadInput
from graphkit.run import outline


def captured(graph: GraphProto) -> Iterator[str]:
    """Names that a subgraph, or one inside it, reads from outside."""
    own = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    own |= {s.values.name for s in graph.sparse_initializer}
    own |= {name for node in graph.node for name in node.output}
    for node in graph.node:
        yield from (name for name in reads(node) if name not in own)
    yield from (o.name for o in graph.output if o.name not in own)


def reads(node: NodeProto) -> list[str]:
    """The tensors a node needs, each once: its inputs and what its subgraphs read from outside."""
    names = dict.fromkeys(name for name in node.input if name)
    for graph in outline.subgraphs(node):
        names.update(dict.fromkeys(captured(graph)))
    return list(names)


class Flow:
    """Nodes in topological order: the model's own where it is one."""

    def __init__(self, nodes: Sequence[NodeProto]) -> None:
        needs = [reads(node) for node in nodes]
        order = _order(nodes, needs)
        self.nodes = [nodes[i] for i in order]
        self.reads = [needs[i] for i in order]
        self.makes = [[name for name in node.output if name] for node in self.nodes]
        self.maker = {name: place for place, names in enumerate(self.makes) for name in names}

    def needed(self, wanted: Callable[[str], bool], cut: Callable[[str], bool]) -> list[int]:
        """Places of the nodes that the wanted tensors depend on; readers of a cut one depend on none."""
        waiting = [p for p, names in enumerate(self.makes) if any(map(wanted, names))]
        found = set(waiting)
        while waiting:
            for name in self.reads[waiting.pop()]:
                place = self.maker.get(name)
                if place is not None and place not in found and not cut(name):
                    found.add(place)
                    waiting.append(place)
        return sorted(found)

    def last_read(self, places: Sequence[int]) -> dict[str, int]:
        """For each tensor that one of these nodes reads, the last that does."""
        return {name: place for place in places for name in self.reads[place]}


def _order(nodes: Sequence[NodeProto], needs: Sequence[Sequence[str]]) -> list[int]:
    """A topological order that keeps the given one wherever it can."""
    maker = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    order: list[int] = []
    state = [0] * len(nodes)  # 0 new, 1 waits for what it reads, 2 placed
    for first in range(len(nodes)):
        stack = [first]
        while stack:
            at = stack[-1]
            missing = [maker[n] for n in needs[at] if n in maker and state[maker[n]] != 2]
            if state[at] == 2:
                stack.pop()
            elif not missing:
                state[stack.pop()] = 2
                order.append(at)
            elif state[at] == 1:
                raise BadInput(
                    f"the graph has a cycle through node '{nodes[at].name or nodes[at].output[0]}'"
                )
            else:
                state[at] = 1
                stack.extend(reversed(missing))
    return order
