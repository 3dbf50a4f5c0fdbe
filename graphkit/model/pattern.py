"""Patterns: a plain function over ``op`` and its inputs, traced once into terms, and its matches."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from graphkit.errors import BadPass, NotApplicable

if TYPE_CHECKING:
    import numpy as np

    from graphkit.model.graph import Graph
    from graphkit.model.matching import Scope
    from graphkit.model.surgeon import Node, Tensor

__all__ = ["Match", "Pattern", "Patterns", "find", "trace"]

Predicate = Callable[[Any], Any]
ANY_VALUE: Final = object()


@dataclass(frozen=True, eq=False)
class Var:
    """Any tensor; every use of one ``Var`` must be the same tensor."""

    name: str


@dataclass(frozen=True, eq=False)
class Const:
    """A constant: bound to ``name`` if there is one, equal to ``expected``, and passing ``predicate``."""

    name: str | None = None
    predicate: Predicate | None = None
    expected: Any = ANY_VALUE


@dataclass(frozen=True, eq=False)
class Maybe:
    """An optional input: ``inner`` when it is there, and None when the node leaves it out."""

    inner: Term


@dataclass(frozen=True, eq=False)
class AnyOf:
    """The first of several terms that matches; ``name`` is bound to its index among the attributes."""

    alternatives: tuple[Term, ...]
    name: str | None = None


@dataclass(frozen=True, eq=False)
class Attr:
    """An attribute's value, bound to ``name``."""

    name: str
    predicate: Predicate | None = None


@dataclass(frozen=True, eq=False)
class Call:
    """The first output of one node of type ``op`` with these inputs and attributes."""

    op: str
    args: tuple[Term, ...]
    attrs: Mapping[str, Any]
    domain: str = ""
    outputs: int | None = None


@dataclass(frozen=True, eq=False)
class Output:
    """Output number ``index`` of the node that ``call`` matches."""

    call: Call
    index: int


Term = Var | Const | Maybe | AnyOf | Call | Output | None


@dataclass(frozen=True, eq=False)
class Pattern:
    """A traced pattern: the terms of the tensors it makes, and every name it can bind."""

    roots: tuple[Term, ...]
    names: tuple[str, ...]


class Patterns:
    """``op`` inside a pattern: ``op.Conv(x, w, group=1)`` stands for a node of that type.

    Inputs are variables, other calls, numbers or lists (a constant of that value, to 1e-6 of it), ``None``
    (an input that is left out), ``op.const``, ``op.maybe`` and ``op.any_of``. Attributes are a value, a
    predicate or ``op.attr``; one that a node does not have counts as its default. ``_domain`` names another
    operator domain, ``_outputs=3`` gives a tuple of three outputs. ``op["name"]`` spells operators that are
    no Python names.
    """

    def __getattr__(self, op: str) -> Callable[..., Any]:
        if op.startswith("__"):
            raise AttributeError(op)

        def call(*args: Any, _domain: str = "", _outputs: int | None = None, **attrs: Any) -> Any:
            domain = "" if _domain == "ai.onnx" else _domain
            made = Call(op, tuple(_term(a) for a in args), attrs, domain, _outputs)
            return made if _outputs is None else tuple(Output(made, i) for i in range(_outputs))

        return call

    __getitem__ = __getattr__

    def const(self, name: str | None = None, predicate: Predicate | None = None) -> Const:
        """Any constant tensor for whose values (an ndarray) ``predicate`` holds; bound to ``name``."""
        return Const(name, predicate)

    def maybe(self, inner: Any) -> Maybe:
        """An optional input; what ``inner`` binds is None when the node leaves it out."""
        return Maybe(_term(inner))

    def any_of(self, *alternatives: Any, name: str | None = None) -> AnyOf:
        """The first alternative that matches; ``m.attrs[name]`` is its index."""
        return AnyOf(tuple(_term(a) for a in alternatives), name)

    def attr(self, name: str, predicate: Predicate | None = None) -> Attr:
        """Binds an attribute's value to ``m.attrs[name]``; used twice, both values must be equal."""
        return Attr(name, predicate)


def _term(arg: Any) -> Term:
    if arg is None or isinstance(arg, Var | Const | Maybe | AnyOf | Call | Output):
        return arg
    if isinstance(arg, Attr):
        raise BadPass(f"op.attr('{arg.name}') stands for an attribute; pass it by keyword, not as an input")
    return Const(expected=arg)


def trace(function: Callable[..., Any]) -> Pattern:
    """Turn ``pattern(op, x, ...)`` into terms, one :class:`Var` for each parameter after ``op``.

    Raises BadPass for a pattern that can match no node, or whose names :class:`Match` has for its own.
    """
    parameters = list(inspect.signature(function).parameters.values())
    named = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    if not parameters or any(p.kind not in named for p in parameters):
        raise BadPass(f"pattern {_where(function)} must take op and one plain parameter for each input")
    made = function(Patterns(), *(Var(p.name) for p in parameters[1:]))
    roots = tuple(_term(r) for r in made) if isinstance(made, tuple) else (_term(made),)
    if not roots or not all(_is_root(r) for r in roots):
        raise BadPass(f"pattern {_where(function)} must return what one or several nodes make")
    names = dict.fromkeys(p.name for p in parameters[1:])
    for term in _walk(roots):
        if isinstance(term, Const) and term.name is not None:
            names[term.name] = None
    clash = sorted(n for n in names if n in _OWN)
    if clash:
        raise BadPass(
            f"pattern {_where(function)} cannot call an input '{clash[0]}': a match has its own '{clash[0]}'"
        )
    return Pattern(roots, tuple(names))


def _where(function: Callable[..., Any]) -> str:
    return f"'{getattr(function, '__qualname__', function)}'"


def _is_root(term: Term) -> bool:
    if isinstance(term, AnyOf):
        return bool(term.alternatives) and all(_is_root(t) for t in term.alternatives)
    return isinstance(term, Call | Output)


def _walk(terms: Sequence[Term]) -> Iterator[Term]:
    """Every term below ``terms``, once."""
    stack, seen = list(terms), set[int]()
    while stack:
        term = stack.pop()
        if id(term) in seen:
            continue
        seen.add(id(term))
        yield term
        stack.extend(parts(term))


def parts(term: Term) -> tuple[Term, ...]:
    """The terms right below one."""
    match term:
        case Maybe(inner):
            return (inner,)
        case AnyOf(alternatives):
            return alternatives
        case Output(call):
            return (call,)
        case Call(args=args):
            return args
        case _:
            return ()


@dataclass(eq=False)
class Match:
    """One occurrence of a pattern.

    ``m.x`` and ``m["x"]`` are the tensor that ``x`` is bound to (None for an optional input left out, and for
    a name in an alternative not taken), ``attrs`` the bound attributes, ``nodes`` the nodes covered,
    ``root`` the node that makes ``outputs[0]``, ``outputs`` the tensors that the pattern's result stands for.
    """

    root: Node
    nodes: list[Node]
    outputs: list[Tensor]
    attrs: dict[str, Any]
    _bound: dict[str, Tensor | None] = field(repr=False)
    _scope: Scope = field(repr=False)

    def __getattr__(self, name: str) -> Any:
        if name not in self.__dict__.get("_bound", {}):
            raise AttributeError(self._unknown(name))
        return self._bound[name]

    def __getitem__(self, name: str) -> Any:
        if name not in self._bound:
            raise KeyError(self._unknown(name))
        return self._bound[name]

    def _unknown(self, name: str) -> str:
        known = ", ".join(self.__dict__.get("_bound", {}))
        return f"the pattern binds no '{name}'; it binds {known or 'nothing'}"

    @property
    def graph(self) -> Graph:
        """The scope that the nodes are in."""
        return self._scope.graph

    @property
    def escaping(self) -> list[Tensor]:
        """Tensors made inside the match, other than its outputs, that something outside of it reads."""
        kept, inside = {id(t) for t in self.outputs}, {id(n) for n in self.nodes}
        made = [t for n in self.nodes for t in n.outputs if id(t) not in kept and t.name]
        return [t for t in made if self._scope.is_read(t, inside)]

    def value(self, name: str) -> np.ndarray[Any, Any]:
        """The values of the constant bound to ``name``; NotApplicable when it is none."""
        if name not in self._bound:
            raise AttributeError(self._unknown(name))
        tensor = self._bound[name]
        found = None if tensor is None else self.graph.value(tensor)
        if found is None:
            raise NotApplicable(f"'{name}' is not a constant")
        return found

    def require(self, condition: Any, reason: str) -> None:
        """Refuse this match, and say why, unless ``condition`` holds."""
        if not condition:
            raise NotApplicable(reason)


_OWN = frozenset({"root", "nodes", "outputs", "attrs", "graph", "escaping", "value", "require"})


def find(graph: Graph, pattern: Callable[..., Any] | Pattern) -> Iterator[Match]:
    """Yield the first match at every node of one scope (``graph``), in node order; matches may overlap.

    A match whose inner tensors are read elsewhere is yielded too: look at its ``escaping``.
    """
    from graphkit.model.matching import Scope, matches_at

    traced = pattern if isinstance(pattern, Pattern) else trace(pattern)
    scope = Scope(graph)
    for node in scope.candidates(traced):
        yield from _first(matches_at(scope, traced, node))


def _first(matches: Iterator[Match]) -> Iterator[Match]:
    for match in matches:
        yield match
        return
