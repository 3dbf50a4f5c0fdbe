"""The ``unique-names`` pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from graphkit import Pass, option
from graphkit_passes._names import Definition, definitions, interface, root

if TYPE_CHECKING:
    from graphkit import Graph, Model, Tally


class UniqueNames(Pass):
    """Give every node and every tensor of the whole model a name of its own.

    The first to have a name keeps it; the others get a suffix, `_1`, `_2` and so on, that makes a name
    which is new to the model. The order is that of the scopes: the main graph, its subgraphs, then the
    local functions. Nodes and tensors are counted apart: a node may be called like a tensor.

    Inputs and outputs of the main graph keep their names, and so do those of local functions: such a name
    is a place for the caller's tensor, so only the function's own body must keep clear of it.

    ## Why
    Branches of an If, and functions, may use one name for different tensors. TensorRT inlines them; then
    outputs cannot be queried by name, layers of an engine cannot be told apart, and some models do not
    build. A subgraph that hides a name of the graph around it is refused by `onnx.checker`.

    ## Example
    ```
    y = If(c) <
      then_branch = t () => (float[2] a) { h = Neg(x)  a = Relu(h) },
      else_branch = e () => (float[2] b) { h = Abs(x)  b = Relu(h) }
    >
    ```
    becomes
    ```
    y = If(c) <
      then_branch = t () => (float[2] a) { h = Neg(x)  a = Relu(h) },
      else_branch = e () => (float[2] b) { h_1 = Abs(x)  b = Relu(h_1) }
    >
    ```

    ## When it refuses
    A function whose inputs or outputs are called like something elsewhere keeps them, and is named once.

    A tensor keeps a name that clashes when a training graph, or an attribute that is a list of graphs, may
    refer to it.

    Where a branch hides an initializer that another branch reads, ONNX Runtime 1.32 gives both the outer
    one. After this pass it gives each its own, as ONNX says, so the numbers change and the rewrite is
    refused: name the two apart with `--no-verify` when ONNX's reading is what you want.

    ## Source
    onnx-tensorrt#974, TensorRT#4739; https://onnx.ai/onnx/repo-docs/IR.html#names-within-a-graph.
    """

    name = "unique-names"
    group = "mend"

    unnamed: bool = option(
        default=False, help="also name the nodes that have no name, Relu_0, Relu_1 and so on"
    )

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Visit nodes and tensors once each; every name that was seen before is replaced."""
        found = definitions(graph.model)
        namer = _Namer({t for d in found for t in [d.tensor.name]} | set(_other_names(graph.model)))
        self._nodes(graph, namer, tally)
        nodes = tally.rewrites
        _Tensors(graph.model, found, namer, tally).run()
        counts = {"node": nodes, "tensor": tally.rewrites - nodes}
        told = [f"{n} {what}{'' if n == 1 else 's'}" for what, n in counts.items() if n]
        if told:
            tally.note(f"named anew {' and '.join(told)}")

    def _nodes(self, graph: Graph, namer: _Namer, tally: Tally) -> None:
        seen: set[str] = set()
        for scope in graph.scopes():
            for node in scope.nodes:
                if node.name in seen:
                    node.name = namer.fresh(node.name)
                    tally.rewrite()
                elif not node.name and self.unnamed:
                    node.name = namer.fresh(node.op, 0)
                    tally.rewrite()
                seen.update([node.name] if node.name else [])


class _Namer:
    """Makes names that nothing has; remembers how far each hint was counted."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken
        self._next: dict[str, int] = {}

    def fresh(self, hint: str, start: int = 1) -> str:
        """``hint_1`` or the next that is free."""
        hint = hint if isinstance(hint, str) else "node"  # bytes that are no UTF-8
        count = self._next.get(hint, start)
        while f"{hint}_{count}" in self._taken:
            count += 1
        self._next[hint] = count + 1
        self._taken.add(f"{hint}_{count}")
        return f"{hint}_{count}"


class _Tensors:
    """One walk over the tensors of a model."""

    def __init__(self, model: Model, found: list[Definition], namer: _Namer, tally: Tally) -> None:
        self._model = model
        self._pinned = model.pinned
        self._found = found
        self._namer = namer
        self._tally = tally
        self._ends = interface(model)
        self._formals = {id(f): {t.name: t for t in (*f.inputs, *f.outputs)} for f in model.functions}
        self._own = {id(t) for formals in self._formals.values() for t in formals.values()}

    def run(self) -> None:
        """Names of the interface are given first, so that whoever else has one gives way."""
        seen = {d.tensor.name for d in self._found if id(d.tensor) in self._ends}
        for one in self._found:
            tensor = one.tensor
            if one.ghost or id(tensor) in self._ends or id(tensor) in self._own:
                continue
            if tensor.name not in seen and tensor.name not in self._formals.get(id(root(one.scope)), ()):
                seen.add(tensor.name)
            elif tensor.name in self._pinned:
                self._tally.refuse(one.scope, tensor, "a training graph or a list of graphs may refer to it")
            else:
                one.scope.rename(tensor, self._namer.fresh(tensor.name))
                self._tally.rewrite()
        self._tell_of_formals(seen)

    def _tell_of_formals(self, seen: set[str]) -> None:
        """One refusal for each function whose inputs or outputs are called like something elsewhere."""
        for function in self._model.functions:
            formals = self._formals[id(function)]
            shared = [name for name in formals if name in seen]
            seen.update(formals)
            if shared:
                reason = (
                    f"its inputs and outputs keep their names, which others have too: {', '.join(shared)}"
                )
                self._tally.refuse(function, function.gs.name, reason)


def _other_names(model: Model) -> Iterator[str]:
    """Names that are no tensor's, or that no pass sees."""
    yield from model.pinned
    for scope in model.scopes():
        yield from (node.name for node in scope.nodes)
