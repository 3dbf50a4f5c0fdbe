"""Which tensors a model defines, in which of its scopes, and which of their names are its interface."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphkit import Graph, Model

INPUT, OUTPUT = "a graph input", "a graph output"


@dataclass(eq=False, slots=True)
class Definition:
    """A tensor and the scope that defines it; a ``ghost`` only takes a name: nothing makes it."""

    tensor: Any
    scope: Graph
    ghost: bool = False


class Tree:
    """How the scopes of a model lie in each other; ``related`` scopes can see each other's names."""

    def __init__(self, model: Model) -> None:
        self.scopes = model.scopes()
        self._place = {id(scope): place for place, scope in enumerate(self.scopes)}
        self._last = list(range(len(self.scopes)))
        for place in range(len(self.scopes) - 1, 0, -1):
            parent = self.scopes[place].parent
            if parent is not None:
                around = self._place[id(parent)]
                self._last[around] = max(self._last[around], self._last[place])

    def related(self, a: Graph, b: Graph) -> bool:
        """Whether one scope is the other, or lies in it."""
        first, second = sorted((self._place[id(a)], self._place[id(b)]))
        return second <= self._last[first]


def definitions(model: Model) -> list[Definition]:
    """Every named tensor of the model as it is now, once, scope by scope; ghosts come last."""
    views = {id(scope.gs): scope for scope in model.scopes()}
    live = model.live()
    defined: dict[int, Definition] = {}
    for scope in live.scopes:
        view = views[id(scope.surgeon)]
        for tensor in (*scope.surgeon.inputs, *scope.constants, *scope.constant_nodes, *scope.produced):
            if tensor.name:
                defined.setdefault(id(tensor), Definition(tensor, view))
    ghosts: dict[int, Definition] = {}
    for scope in live.scopes:
        view = views[id(scope.surgeon)]
        for tensor in _mentioned(view):
            if tensor.name and id(tensor) not in defined:
                ghosts.setdefault(id(tensor), Definition(tensor, view, ghost=True))
    return [*defined.values(), *ghosts.values()]


def _mentioned(scope: Graph) -> Iterator[Any]:
    """What a scope names: what its nodes read, its outputs, and what it describes without having it."""
    for node in scope.nodes:
        yield from node.inputs
    yield from scope.outputs
    record = scope.model.records.scopes.get(id(scope.gs))
    if record is not None:
        yield from (info.tensor for info in record.infos if info.idle)


def interface(model: Model) -> dict[int, str]:
    """The inputs and outputs of the main graph, by the identity of the tensor: what each one is."""
    found = {id(t): OUTPUT for t in model.main.outputs}
    found.update((id(t), INPUT) for t in model.main.inputs)
    record = model.records.scopes[id(model.main.gs)]
    found.update((key, INPUT) for key, initializer in record.initializers.items() if initializer.overridable)
    return found


def root(scope: Graph) -> Graph:
    """The main graph or the function that a scope lies in."""
    while scope.parent is not None:
        scope = scope.parent
    return scope
