"""An If whose condition is constant is its branch: the nodes of the branch move into the scope around it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphkit import Graph
from graphkit.model.operators import domain_of
from graphkit.model.scopes import reads
from graphkit.model.surgeon import Constant, GsGraph, Node, Surgeon, Tensor, unlink
from graphkit_passes._placing import Placing


def inline_branches(main: Graph, placing: Placing, wanted: Callable[[Tensor], bool]) -> int:
    """Inline one level of nesting; ``wanted`` says which conditions count. Returns how many went."""
    total = 0
    for graph in main.scopes():
        for node in [n for n in graph.nodes if n.op == "If" and not domain_of(n)]:
            branch = _taken(graph, node)
            if branch is not None and wanted(node.inputs[0]) and len(branch.gs.outputs) == len(node.outputs):
                _inline(graph, node, branch, placing)
                total += 1
        if total:
            placing.refresh()
    return total


def inline_branch(graph: Graph, node: Node, truth: bool, placing: Placing) -> bool:
    """Let the branch of an If take its place whatever the condition is; returns whether it could."""
    branch = branch_of(graph, node, truth)
    if branch is None or len(branch.gs.outputs) != len(node.outputs):
        return False
    _inline(graph, node, branch, placing)
    placing.refresh()
    return True


def _taken(graph: Graph, node: Node) -> Graph | None:
    condition = (
        graph.value(node.inputs[0]) if len(node.inputs) == 1 and graph.is_constant(node.inputs[0]) else None
    )
    if condition is None or condition.size != 1 or condition.dtype != np.bool_:
        return None
    return branch_of(graph, node, bool(condition.reshape(-1)[0]))


def branch_of(graph: Graph, node: Node, truth: bool) -> Graph | None:
    """The branch of an If that is taken when its condition is ``truth``; None when it cannot be inlined."""
    body = node.attrs.get("then_branch" if truth else "else_branch")
    if not isinstance(body, GsGraph) or not any(n is node for n in graph.nodes) or _shadows(graph, body):
        return None
    return next((s for s in graph.scopes() if s.gs is body), None)


def _shadows(graph: Graph, body: Surgeon) -> bool:
    """Whether an initializer of the branch has the name of an outer tensor: runtimes read the wrong one."""
    inner, outer = (graph.model.records.scopes.get(id(g)) for g in (body, graph.gs))
    if inner is None or outer is None:
        return False
    return any(outer.resolve(i.name) is not None for i in inner.initializers.values())


def _inline(graph: Graph, node: Node, branch: Graph, placing: Placing) -> None:
    moved, results = list(branch.nodes), list(branch.gs.outputs)
    place = next(i for i, n in enumerate(graph.nodes) if n is node)
    branch.nodes[:] = []  # taken out before the If is, so that they keep their tensors
    targets = list(node.outputs)
    for name in [k for k, v in node.attrs.items() if v is branch.gs]:
        del node.attrs[name]
    for target in targets:
        unlink(target.inputs, node)
    list.clear(node.outputs)
    placing.remove(graph, [node])
    graph.nodes[place:place] = moved
    _make_unique(graph, moved, results)
    own = {id(t) for n in moved for t in n.outputs}
    kept = {id(t) for s in graph.scopes() for t in s.outputs}
    written: dict[int, Tensor] = {}
    for target, result in zip(targets, results, strict=True):
        if id(result) in own and id(result) not in kept and result.name not in graph.model.pinned:
            _write(graph, target, result)
            own.discard(id(result))
            written[id(result)] = target
        else:
            _alias(graph, target, written.get(id(result), result), placing, place + len(moved))


def _make_unique(graph: Graph, moved: list[Node], results: list[Tensor]) -> None:
    """Names of the branch that mean something else elsewhere get new ones: more nodes see them now."""
    held: dict[str, set[int]] = {}
    root = graph.model.main if not _in_function(graph) else _root(graph)
    for scope in root.scopes():
        for tensor in (
            *scope.inputs,
            *scope.outputs,
            *(t for n in scope.nodes for t in (*n.inputs, *n.outputs)),
        ):
            held.setdefault(tensor.name, set()).add(id(tensor))
    inside = {id(n) for n in moved} | {id(n) for m in moved for n in _below(m)}
    mine = [t for n in moved for t in n.outputs if t.name]
    read = {id(t): t for n in moved for t in reads(n)} | {id(t): t for t in results}
    mine += [t for t in read.values() if isinstance(t, Constant) and all(id(r) in inside for r in t.outputs)]
    for tensor in mine:
        if len(held.get(tensor.name, ())) > 1:
            held[tensor.name].discard(id(tensor))
            graph.rename(tensor, graph.model.fresh_name(tensor.name))


def _below(node: Node) -> list[Node]:
    found: list[Node] = []
    waiting = [v for v in node.attrs.values() if isinstance(v, GsGraph)]
    while waiting:
        for inner in waiting.pop().nodes:
            found.append(inner)
            waiting += [v for v in inner.attrs.values() if isinstance(v, GsGraph)]
    return found


def _root(graph: Graph) -> Graph:
    while graph.parent is not None:
        graph = graph.parent
    return graph


def _in_function(graph: Graph) -> bool:
    return _root(graph).is_function


def _write(graph: Graph, target: Tensor, result: Tensor) -> None:
    """Let the node that makes ``result``, which nothing else returns, write ``target`` instead."""
    maker = result.inputs[0]
    for reader in graph.consumers(result):
        graph.rewire(reader, result, target)
    spot = next(i for i, t in enumerate(maker.outputs) if t is result)
    list.__setitem__(maker.outputs, spot, target)
    list.append(target.inputs, maker)
    list.clear(result.inputs)


def _alias(graph: Graph, target: Tensor, result: Tensor, placing: Placing, place: int) -> None:
    """Let the readers of ``target`` read ``result``, made elsewhere; an output gets an Identity."""
    for reader in graph.consumers(target):
        graph.rewire(reader, target, result)
    if target.name and placing.is_end(target):
        before = graph.nodes[place] if place < len(graph.nodes) else None
        (made,) = graph.add("Identity", [result], before=before)
        graph.replace(target, made)
