"""The dataflow of one scope: order, cycles, convexity and frontiers of sets of nodes.

A node with subgraphs also depends on what its subgraphs capture. networkx does the graph theory; the checks
that every rewrite runs walk the nodes themselves, because importing networkx takes as long as rewriting a
small model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import networkx as nx

    from graphkit.model.graph import Graph
    from graphkit.model.model import Model
    from graphkit.model.surgeon import Node, Tensor

__all__ = ["cycle", "defect", "digraph", "frontier", "in_order", "is_convex", "order", "predecessors"]


def predecessors(graph: Graph) -> list[set[int]]:
    """For each node, by place in ``graph.nodes``, the places of the nodes that it reads from."""
    nodes = graph.nodes
    place = {id(n): i for i, n in enumerate(nodes)}
    before: list[set[int]] = [set() for _ in nodes]
    for reader, tensors in _reads(graph, nodes):
        for tensor in tensors:
            before[reader].update(place[id(p)] for p in tensor.inputs if id(p) in place)
    return before


def _reads(graph: Graph, nodes: Sequence[Node]) -> Iterator[tuple[int, Iterable[Tensor]]]:
    """Each node's place, and what it reads: its inputs, and whatever its subgraphs do."""
    for index, node in enumerate(nodes):
        yield index, node.inputs
        for inner in inner_graphs(node):
            yield index, inner.outputs
            for below in inner.nodes:
                yield index, below.inputs


def inner_graphs(node: Node) -> list[Any]:
    """The GraphSurgeon graphs in a node's attributes, and those in theirs."""
    found: list[Any] = []
    waiting: list[Any] = [node]
    while waiting:
        for value in waiting.pop().attrs.values():
            if hasattr(value, "nodes") and hasattr(value, "outputs"):
                found.append(value)
                waiting.extend(value.nodes)
    return found


def in_order(graph: Graph) -> bool:
    """Whether every node stands after the nodes it reads from."""
    return all(p < i for i, before in enumerate(predecessors(graph)) for p in before)


def digraph(graph: Graph) -> nx.DiGraph[int]:
    """A networkx node for each place in ``graph.nodes``, with that node as ``node``; edges along the data."""
    import networkx as nx

    made: nx.DiGraph[int] = nx.DiGraph()
    made.add_nodes_from((i, {"node": n}) for i, n in enumerate(graph.nodes))
    made.add_edges_from((p, i) for i, before in enumerate(predecessors(graph)) for p in before)
    return made


def order(graph: Graph) -> list[Node]:
    """The nodes in topological order, the file's where it is one; ValueError when there is a cycle."""
    import networkx as nx

    view = digraph(graph)
    try:
        return [view.nodes[i]["node"] for i in nx.lexicographical_topological_sort(view)]
    except nx.NetworkXUnfeasible:
        raise ValueError(f"{graph.label} has a cycle") from None


def cycle(graph: Graph) -> list[Node] | None:
    """The nodes of one cycle, each reading from the one before it; None when there is none."""
    if in_order(graph):
        return None
    import networkx as nx

    view = digraph(graph)
    knots = [c for c in nx.strongly_connected_components(view) if len(c) > 1 or view.has_edge(*(2 * [*c]))]
    if not knots:
        return None
    # In a strongly connected part the first walk finds a cycle; over the whole graph it can take n² steps.
    knot = view.subgraph(min(knots, key=lambda c: (len(c), min(c))))
    return [view.nodes[source]["node"] for source, *_ in nx.find_cycle(knot)]


def is_convex(graph: Graph, nodes: Sequence[Node]) -> bool:
    """Whether no path leaves the set and comes back: only then can one node take its place."""
    inside = {id(n) for n in nodes}
    owner = _owners(graph)
    waiting = [r for n in nodes for r in _readers(graph, n, owner) if id(r) not in inside]
    seen = {id(n) for n in waiting}
    while waiting:
        for reader in _readers(graph, waiting.pop(), owner):
            if id(reader) in inside:
                return False
            if id(reader) not in seen:
                seen.add(id(reader))
                waiting.append(reader)
    return True


def _owners(graph: Graph) -> dict[int, Node]:
    """The node of this scope that each node of a subgraph lies in."""
    return {id(below): node for node in graph.nodes for g in inner_graphs(node) for below in g.nodes}


def _readers(graph: Graph, node: Node, owner: dict[int, Node]) -> list[Node]:
    return [owner.get(id(r), r) for t in node.outputs for r in graph.consumers(t)]


def frontier(graph: Graph, nodes: Sequence[Node]) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors that a set of nodes reads from outside of it, and those it makes that are read outside.

    Constants count as inputs; graph outputs count as read outside.
    """
    inside = {id(n) for n in nodes}
    read = {
        id(t): t
        for n in nodes
        for t in _all_reads(n)
        if t.name and not any(id(p) in inside for p in t.inputs)
    }
    made = [t for n in nodes for t in n.outputs if t.name]
    inner = inside | {id(below) for n in nodes for g in inner_graphs(n) for below in g.nodes}
    leaving = [t for t in made if graph.is_output(t) or any(id(c) not in inner for c in graph.consumers(t))]
    own = {
        id(t)
        for n in nodes
        for g in inner_graphs(n)
        for t in (*g.inputs, *(o for b in g.nodes for o in b.outputs))
    }
    return [t for key, t in read.items() if key not in own], leaving


def _all_reads(node: Node) -> Iterator[Tensor]:
    yield from node.inputs
    for inner in inner_graphs(node):
        yield from inner.outputs
        for below in inner.nodes:
            yield from below.inputs


def defect(model: Model) -> str | None:
    """What makes a model no dataflow graph, in one line that names the place; None when nothing does.

    That is a tensor written twice in one scope (by two nodes, or by a node and a graph input or initializer),
    or a cycle, in the main graph, a subgraph or a function, or between functions that call each other.
    """
    for scope in model.scopes():
        found = _written_twice(scope) or _cycle_text(scope)
        if found is not None:
            return found
    return _recursion(model)


def _recursion(model: Model) -> str | None:
    """Functions that end up calling themselves: ONNX has no recursion."""
    labels = {(f.gs.domain or "", f.gs.name): f.label for f in model.functions}
    calls = {
        (f.gs.domain or "", f.gs.name): {(n.domain or "", n.op) for scope in f.scopes() for n in scope.nodes}
        & labels.keys()
        for f in model.functions
    }
    if not any(calls.values()):
        return None
    import networkx as nx

    try:
        found = [labels[caller] for caller, *_ in nx.find_cycle(nx.DiGraph(calls))]
    except nx.NetworkXNoCycle:
        return None
    return f"recursion: {' -> '.join([*found[:_SHOWN], found[0]])}; a function may not call itself"


def _written_twice(graph: Graph) -> str | None:
    writers: dict[str, str] = {}
    for tensor in graph.inputs:
        if tensor.name in writers:
            return f"two inputs of {graph.label} are named '{tensor.name}'; give every tensor one name"
        writers[tensor.name] = "a graph input"
    for node in graph.nodes:
        for tensor in node.outputs:
            if not tensor.name:
                continue
            first = writers.get(tensor.name) or ("an initializer" if _is_initializer(tensor) else None)
            if first is not None:
                where = f"tensor '{tensor.name}' in {graph.label}"
                return f"{where} is written by {first} and by {shown(node)}; {_ONE}"
            writers[tensor.name] = shown(node)
    return None


_ONE = "a tensor can have one producer only"
_SHOWN = 6


def _is_initializer(tensor: Tensor) -> bool:
    return hasattr(tensor, "_values")


def _cycle_text(graph: Graph) -> str | None:
    found = cycle(graph)
    if found is None:
        return None
    names = [shown(n) for n in found[:_SHOWN]] + (["…"] if len(found) > _SHOWN else []) + [shown(found[0])]
    return f"{graph.label} has a cycle: {' -> '.join(names)}; no order can run these nodes"


def shown(node: Node) -> str:
    """A node for a message: its type and its name, or the tensor it makes when it has none."""
    label = node.name or next((t.name for t in node.outputs if t.name), "")
    return f"{node.op} '{label}'"
