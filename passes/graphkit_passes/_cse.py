"""One walk of common subexpression elimination: what was computed before, by key, scope inside scope."""

from __future__ import annotations

from typing import Any

from graphkit import Graph
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import commutes, default, domain_of
from graphkit.model.scopes import subgraphs_of
from graphkit.model.surgeon import Constant, Surgeon
from graphkit_passes._content import Key, attribute_key, values_key
from graphkit_passes._eligible import RANDOM
from graphkit_passes._functions import Functions
from graphkit_passes._placing import held
from graphkit_passes._standing import Standing

_STANDARD = frozenset({"", "ai.onnx.ml"})


class Walk:
    """Looks at every node of every scope once.

    ``done`` counts what was made one; where a node stood before one that it reads, ``ordered`` is false, and
    another walk may find more.
    """

    def __init__(self, main: Graph, weights: bool) -> None:
        self.done = 0
        self.ordered = True
        self.refused: list[tuple[Graph, Node, str]] = []
        self._main = main
        self._weights = weights
        self._standing = Standing(main)
        self._functions = Functions(main.model) if main.model.functions else None
        self._below: dict[int, Graph] = {id(s.gs): s for s in self._standing.scopes}
        self._seen: dict[Any, tuple[Graph, Any]] = {}  # what stands first: a node, or a constant tensor
        self._same: dict[int, int] = {}  # id of a tensor -> that of the one that keys are made of
        self._kept: list[Tensor] = []  # so that no id is used again
        self._versions: dict[tuple[int, str], int] = {}
        self._unsteady: dict[int, str | None] = {}
        self._visited: set[int] = set()

    def run(self) -> None:
        """Walk the main graph, then each function, with what is inside of them."""
        for root in (self._main, *self._main.model.functions):
            self._scope(root)
        self._standing.sweep()

    def _scope(self, graph: Graph) -> None:
        """One scope and those in it; what was seen inside of it is forgotten behind it."""
        around = self._seen
        self._seen = dict(around) if graph.parent is not None else {}
        record = graph.model.records.scopes.get(id(graph.gs))
        for initializer in list(record.initializers.values()) if record is not None else ():
            if initializer.tensor.outputs:
                self._constant(graph, initializer.tensor)
        gone = [node for node in list(graph.nodes) if self._visit(graph, node)]
        self._standing.remove(graph, gone)
        self._seen = around

    def _visit(self, graph: Graph, node: Node) -> bool:
        """Whether the node is to go, because another gives the same."""
        self._visited.add(id(node))
        for tensor in node.inputs:
            if isinstance(tensor, Constant):
                self._constant(graph, tensor)
            elif tensor.inputs and id(tensor.inputs[0]) not in self._visited:
                self.ordered = False
        for _, body in subgraphs_of(node):
            self._scope(self._below[id(body)])
        if node.op == "Constant" and not domain_of(node):
            return len(node.outputs) == 1 and self._constant(graph, node.outputs[0])
        key = self._node_key(graph, node, {})
        if key is None:
            return False
        first = self._seen.setdefault(key, (graph, node))
        return first[1] is not node and self._merge(graph, node, first)

    # -- merging

    def _merge(self, graph: Graph, node: Node, first: tuple[Graph, Node]) -> bool:
        pairs = [(t, w) for t, w in zip(node.outputs, first[1].outputs, strict=False) if t.name]
        reason = self._unrepeatable(graph, node)
        if reason is None and not pairs:
            return False
        for old, new in pairs:
            reason = reason or self._standing.obstacle(graph, old, new)
        if reason is not None:
            self.refused.append((graph, node, reason))
            return False
        for old, new in pairs:
            self._stand_in(graph, old, new)
        self.done += 1
        return True

    def _stand_in(self, graph: Graph, old: Tensor, new: Tensor) -> None:
        """As Standing does; later keys take whichever of the two is left for the first."""
        left = old if self._standing.is_end(old) else new
        self._standing.stand_in(graph, old, new)
        self._note(left, new)

    def _note(self, tensor: Tensor, first: Tensor) -> None:
        """Let ``tensor`` have the key of ``first``."""
        self._kept += tensor, first
        self._same[id(tensor)] = self._same.get(id(first), id(first))

    def _constant(self, graph: Graph, tensor: Tensor) -> bool:
        """Let a constant give way to one of the same bits; whether it did, and its node is to go."""
        key = None if id(tensor) in self._same else self._values_key(graph, tensor)
        if key is None:
            return False
        _, first = self._seen.setdefault(("constant", key), (graph, tensor))
        self._note(tensor, first)
        if first is tensor or not self._weights or self._standing.is_end(tensor):
            return False
        if first.name in self._standing.hidden_names or tensor.name in graph.model.pinned:
            return False
        self._standing.stand_in(graph, tensor, first)
        self.done += 1
        return True

    # -- keys

    def _node_key(self, graph: Graph, node: Node, local: dict[int, Any]) -> Key:
        """The key of a node; ``local`` names the tensors that belong to a body under comparison."""
        domain = domain_of(node)
        inputs = [self._input_key(t, local) for t in node.inputs]
        while inputs and inputs[-1] is None:
            inputs.pop()
        if len(inputs) == 2 and commutes(domain, node.op):
            inputs.sort(key=repr)
        attributes = self._attributes_key(graph, node, domain, local)
        if attributes is None:
            return None
        outputs = tuple(bool(t.name) for t in node.outputs)
        return domain, node.op, self._overload(node), tuple(inputs), attributes, outputs

    def _input_key(self, tensor: Tensor, local: dict[int, Any]) -> Any:
        """What is read: a tensor by its id, one of a body under comparison by its place; None: left out."""
        if not tensor.name:
            return None
        key = id(tensor)
        return local[key] if key in local else self._same.get(key, key)

    def _attributes_key(self, graph: Graph, node: Node, domain: str, local: dict[int, Any]) -> Key:
        found = []
        for name, value in node.attrs.items():
            key = attribute_key(value, lambda body: self._body_key(body, local))
            if key is None:
                return None
            if key != self._default_key(graph, node, domain, name):
                found.append((name, key))
        return tuple(sorted(found, key=lambda item: item[0]))

    def _default_key(self, graph: Graph, node: Node, domain: str, name: str) -> Key:
        root = graph
        while root.parent is not None:
            root = root.parent
        at = id(root), domain
        if at not in self._versions:
            self._versions[at] = root.version(domain)
        value = default(node.op, domain, self._versions[at], name)
        return None if value is None else attribute_key(value, lambda body: None)

    def _body_key(self, body: Surgeon, around: dict[int, Any]) -> Key:
        """Two bodies are the same when they do the same in the same order, whatever their names are."""
        local = dict(around)
        level = len(local)
        for tensor in (*body.inputs, *(t for n in body.nodes for t in n.outputs)):
            local[id(tensor)] = "inner", level, len(local)
        graph = self._below[id(body)]
        for tensor in (t for n in body.nodes for t in (*n.inputs, *n.outputs)):
            content = self._values_key(graph, tensor)
            if content is not None:
                local[id(tensor)] = "constant", content
        rest = [n for n in body.nodes if any(local[id(t)][0] == "inner" for t in n.outputs) or not n.outputs]
        nodes = tuple(self._node_key(graph, n, local) for n in rest)
        if None in nodes:
            return None
        return len(body.inputs), nodes, tuple(self._input_key(t, local) for t in body.outputs)

    def _values_key(self, graph: Graph, tensor: Tensor) -> Key:
        """The key of a constant; None for what is none, or lies in a data file."""
        if not graph.is_constant(tensor):
            return None
        values = held(tensor)
        return values_key(graph.value(tensor) if values is None else values)

    def _overload(self, node: Node) -> int:
        """Which function is called; 0: none."""
        function = self._functions.called_by(node) if self._functions is not None else None
        return 0 if function is None else id(function.gs)

    # -- what gives the same each time

    def _unrepeatable(self, graph: Graph, node: Node) -> str | None:
        """Why two runs of a node may differ; None when they cannot."""
        function = self._functions.called_by(node) if self._functions is not None else None
        if function is not None:
            return self._unsteady_body(function)
        domain = domain_of(node)
        if domain not in _STANDARD:
            return (
                f"the standard does not define {domain}::{node.op}, which may give something else each time"
            )
        if not domain and (node.op in RANDOM or (node.op == "Dropout" and _trains(graph, node))):
            return "it gives other values each time"
        for _, body in subgraphs_of(node):
            reason = self._unsteady_body(self._below[id(body)])
            if reason is not None:
                return reason
        return None

    def _unsteady_body(self, body: Graph) -> str | None:
        key = id(body.gs)
        if key not in self._unsteady:
            self._unsteady[key] = None  # a function that calls itself is none
            inner = (self._unrepeatable(body, n) for n in body.nodes)
            self._unsteady[key] = next((f"inside of it: {r}" for r in inner if r is not None), None)
        return self._unsteady[key]


def _trains(graph: Graph, dropout: Node) -> bool:
    """Whether a Dropout may drop: its training_mode is neither left out nor a constant false."""
    if graph.opset < 12 or len(dropout.inputs) < 3 or not dropout.inputs[2].name:
        return False
    mode = graph.value(dropout.inputs[2])
    return mode is None or bool(mode.any())
