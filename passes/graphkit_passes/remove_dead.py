"""The ``remove-dead`` pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from graphkit import Pass
from graphkit_passes._names import root

if TYPE_CHECKING:
    from graphkit import Graph, Model, Tally

Key = tuple[str, str]


class RemoveDead(Pass):
    """Remove nodes, initializers and local functions that no output of the model depends on.

    A node is alive when one of its outputs reaches an output of its graph, through whatever subgraphs
    capture on the way; when it has no outputs at all, and so must be there for what it does; or when a node
    inside it is. That holds in the main graph, in subgraphs, and in the functions that some live node
    calls, directly or through other functions. Optional outputs of a live node stay, read or not, and so do
    unused opset imports and every graph input. The types and annotations of what goes, go too.

    ## Why
    Exporters and other tools leave nodes behind, weights that nothing reads, and functions that were inlined
    everywhere. They cost disk and memory, and a node that nobody needs can still make a build fail.

    ## Example
    ```
    g (float[2] x) => (float[2] y) <float[2] w = {1, 2}, float[2] unread = {3, 4}> {
      y = Add(x, w)
      lost = Relu(y)
    }
    ```
    becomes
    ```
    g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
      y = Add(x, w)
    }
    ```

    ## When it refuses
    - An initializer that nothing reads stays when it is the default value of a graph input: inputs are the
      model's interface.
    - What a training graph, or an attribute that is a list of graphs, refers to stays; and where a model
      has such graphs, so does every function, because they can call it.

    ## Source
    The scoping rules that decide what a subgraph captures: https://onnx.ai/onnx/repo-docs/IR.html#graphs.
    """

    name = "remove-dead"
    group = "simplify"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Find what is alive, then take out everything else: nodes, then functions, then initializers."""
        model = graph.model
        alive = _Alive(model)
        alive.spread(tally)
        nodes = 0
        for scope in graph.scopes():
            if alive.has_scope(scope):
                dead = [node for node in scope.nodes if id(node) not in alive.nodes]
                scope.remove(dead)
                nodes += len(dead)
        uncalled = [f for f in model.functions if id(f) not in alive.roots]
        model.remove_functions(uncalled)
        outputs = {id(t) for scope in graph.scopes() for t in scope.outputs}
        initializers = sum(_remove_initializers(scope, outputs, tally) for scope in graph.scopes())
        _count(tally, {"node": nodes, "initializer": initializers, "function": len(uncalled)})


def _count(tally: Tally, gone: dict[str, int]) -> None:
    """Say how much of what was removed."""
    tally.rewrite(sum(gone.values()))
    told = [f"{n} {what}{'' if n == 1 else 's'}" for what, n in gone.items() if n]
    if told:
        tally.note(f"removed {', '.join(told)}")


def _remove_initializers(scope: Graph, outputs: set[int], tally: Tally) -> int:
    """Remove what nothing reads, and return how much that was."""
    removed = 0
    for tensor in scope.unused_initializers():
        scope.remove_initializer(tensor)
        removed += 1
    record = scope.model.records.scopes.get(id(scope.gs))
    for initializer in record.initializers.values() if record is not None else ():
        if initializer.tensor.outputs or id(initializer.tensor) in outputs:
            continue
        if initializer.overridable:
            tally.refuse(
                scope, initializer.tensor, "nothing reads it, but a graph input has it for a default"
            )
        elif initializer.name in scope.model.pinned:
            tally.refuse(scope, initializer.tensor, "a training graph or a list of graphs refers to it")
    return removed


class _Alive:
    """The nodes and functions that outputs depend on, by identity."""

    def __init__(self, model: Model) -> None:
        from graphkit.model.scopes import subgraphs_of

        self._model = model
        self._subgraphs_of = subgraphs_of
        self.nodes: set[int] = set()
        self.roots: set[int] = set()
        self._waiting: list[Any] = []
        self._scopes = model.scopes()
        self._owner = {id(g): n for s in self._scopes for n in s.nodes for _, g in subgraphs_of(n)}
        self._around = {id(n): self._owner.get(id(s.gs)) for s in self._scopes for n in s.nodes}
        self._within: dict[int, list[Graph]] = {}
        for scope in self._scopes:
            self._within.setdefault(id(root(scope)), []).append(scope)
        self._functions: dict[Key, list[Graph]] = {}
        for function in model.functions:
            key = _key(function.gs.domain, function.gs.name)
            self._functions.setdefault(key, []).append(function)
        self._acting = self._acting_functions()

    def has_scope(self, scope: Graph) -> bool:
        """Whether a graph belongs to something alive."""
        owner = self._owner.get(id(scope.gs))
        return id(scope) in self.roots if owner is None else id(owner) in self.nodes

    def spread(self, tally: Tally) -> None:
        """Mark everything that is alive; what only pinned names keep is a refusal."""
        self._enter(self._model.main)
        self._run()
        if not self._model.pinned:
            return
        for function in self._model.functions:
            if id(function) not in self.roots:
                tally.refuse(function, function.gs.name, "a training graph or a list of graphs may call it")
                self._enter(function)
        self._run()
        for scope in self._scopes:
            for node in scope.nodes:
                named = any(t.name in self._model.pinned for t in node.outputs)
                if named and id(node) not in self.nodes:
                    tally.refuse(scope, node, "a training graph or a list of graphs refers to what it makes")
                    self._mark(node)
                    self._run()

    def _enter(self, top: Graph) -> None:
        """Begin with the main graph or a function: what it gives, and what acts without giving anything."""
        if id(top) in self.roots:
            return
        self.roots.add(id(top))
        for tensor in top.outputs:
            self._mark(*tensor.inputs)
        for node in self._nodes_of(top):
            if self._acts(node):
                self._mark(node)

    def _mark(self, *nodes: Any) -> None:
        for node in nodes:
            if id(node) not in self.nodes:
                self.nodes.add(id(node))
                self._waiting.append(node)

    def _run(self) -> None:
        while self._waiting:
            node = self._waiting.pop()
            around = self._around.get(id(node))
            if around is not None:
                self._mark(around)
            for tensor in node.inputs:
                self._mark(*tensor.inputs)
            for _, graph in self._subgraphs_of(node):
                for tensor in graph.outputs:
                    self._mark(*tensor.inputs)
            for function in self._functions.get(_key(node.domain, node.op), ()):
                self._enter(function)

    def _nodes_of(self, top: Graph) -> Iterator[Any]:
        for scope in self._within[id(top)]:
            yield from scope.nodes

    def _acts(self, node: Any) -> bool:
        return not node.outputs or _key(node.domain, node.op) in self._acting

    def _acting_functions(self) -> set[Key]:
        """The functions that hold a node with no outputs, or call one that does."""
        self._acting = set()
        growing = True
        while growing:
            found = {
                key
                for key, functions in self._functions.items()
                if any(self._acts(node) for f in functions for node in self._nodes_of(f))
            }
            growing = found != self._acting
            self._acting = found
        return self._acting


def _key(domain: str | None, name: str) -> Key:
    """How a node calls a function; the default domain has two names."""
    return ("" if domain in (None, "", "ai.onnx") else str(domain), name)
