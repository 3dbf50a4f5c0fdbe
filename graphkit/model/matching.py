"""How a pattern is matched: goals on an explicit stack, so that neither graph nor pattern depth recurses."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from graphkit.model.constants import agrees, equals
from graphkit.model.operators import ABSENT, attribute, commutes, domain_of
from graphkit.model.pattern import (
    ANY_VALUE,
    AnyOf,
    Attr,
    Call,
    Const,
    Match,
    Maybe,
    Output,
    Pattern,
    Term,
    Var,
    parts,
)

if TYPE_CHECKING:
    from graphkit.model.graph import Graph
    from graphkit.model.surgeon import Node, Tensor


class Scope:
    """One scope as a matcher sees it: nodes by operator, and what leaves the scope.

    ``outputs`` are the ids of the tensors that are outputs of any scope of the model; it is shared between
    the scopes of a sweep, because to ask the model for each tensor would be quadratic.
    """

    def __init__(self, graph: Graph, outputs: set[int] | None = None) -> None:
        self.graph = graph
        self.outputs = output_ids(graph) if outputs is None else outputs
        self.pinned = graph.model.pinned
        self.order: list[Node] = list(graph.nodes)
        self._place = {id(n): i for i, n in enumerate(self.order)}
        self._made: list[Node] = []  # keeps ids from being used again
        self._by_op: dict[tuple[str, str], list[Node]] = {}
        for node in self.order:
            self._by_op.setdefault((domain_of(node), node.op), []).append(node)

    def nodes_of(self, domain: str, op: str) -> list[Node]:
        """Nodes of one operator, in node order, as the scope was when this view was made."""
        return self._by_op.get((domain, op), [])

    def candidates(self, pattern: Pattern) -> list[Node]:
        """Nodes that can be the root of a match, in node order."""
        calls = {(c.domain, c.op): None for c in _calls(pattern.roots[0])}
        if len(calls) == 1:
            return self.nodes_of(*next(iter(calls)))
        found = [n for key in calls for n in self.nodes_of(*key)]
        return sorted(found, key=lambda n: self._place[id(n)])

    def holds(self, node: Node) -> bool:
        """Whether ``node`` is in this scope."""
        return id(node) in self._place

    def place(self, node: Node) -> int:
        """Where the node is in node order; a node made since then is where its maker put it."""
        return self._place[id(node)]

    def forget(self, nodes: Sequence[Node]) -> None:
        """Take removed nodes out of the view."""
        for node in nodes:
            self._made.append(node)
            self._place.pop(id(node), None)

    def adopt(self, nodes: Sequence[Node], place: int) -> None:
        """Note new nodes at ``place``; they can be inside later matches, and roots in the next view."""
        for node in nodes:
            self._made.append(node)
            self._place[id(node)] = place

    def is_output(self, tensor: Tensor) -> bool:
        """What ``Graph.is_output`` says, in constant time."""
        return id(tensor) in self.outputs or tensor.name in self.pinned

    def is_read(self, tensor: Tensor, inside: Collection[int]) -> bool:
        """Whether anything but the nodes with ids ``inside`` reads the tensor."""
        return self.is_output(tensor) or any(id(c) not in inside for c in self.graph.consumers(tensor))


def output_ids(graph: Graph) -> set[int]:
    """The ids of every tensor that is an output of a scope of the whole model."""
    return {id(t) for scope in graph.model.scopes() for t in scope.outputs}


def _calls(term: Term) -> Iterator[Call]:
    """The calls that a root term can stand for."""
    if isinstance(term, Call):
        yield term
    else:
        for part in parts(term):
            yield from _calls(part)


@dataclass(frozen=True)
class _Spread:
    """Arguments of a commutative call that have no input yet, with their places, and the inputs left.

    ``after`` is the input that the same argument took last: one that is there twice takes them in order.
    """

    args: tuple[tuple[int, Term], ...]
    free: tuple[int, ...]
    after: int = -1


class _Goal(NamedTuple):
    """``tensor``, an input of ``reader``, has to match ``term``; and then ``rest``."""

    term: Term | _Spread
    tensor: Tensor | None
    reader: Node | None
    rest: _Goal | None


@dataclass(frozen=True)
class _State:
    """What is bound so far; a step makes a new one, so that a dead end costs nothing to leave."""

    bound: dict[str, Tensor | None]
    attrs: dict[str, Any]
    calls: dict[int, tuple[Call, Node]]

    def bind(self, name: str | None, tensor: Tensor | None) -> _State:
        return self if name is None else _State({**self.bound, name: tensor}, self.attrs, self.calls)


_EMPTY = _State({}, {}, {})
_SPREADS = 5000  # ways to place three arguments or more of one call that are tried at a node
_Step = tuple[_Goal | None, _State]


def matches_at(scope: Scope, pattern: Pattern, node: Node) -> Iterator[Match]:
    """Every way in which ``pattern`` matches with ``node`` making its first output."""
    indices = sorted({t.index if isinstance(t, Output) else 0 for t in _outputs(pattern.roots[0])})
    for index in indices:
        if index < len(node.outputs):
            for outputs, state in _all_roots(scope, pattern, node.outputs[index]):
                yield _match(scope, pattern, node, outputs, state)


def _outputs(term: Term) -> Iterator[Term]:
    if isinstance(term, AnyOf):
        for alternative in term.alternatives:
            yield from _outputs(alternative)
    else:
        yield term


def _match(scope: Scope, pattern: Pattern, root: Node, outputs: list[Tensor], state: _State) -> Match:
    nodes = list({id(n): n for _, n in state.calls.values()}.values())
    bound = {name: state.bound.get(name) for name in pattern.names}
    return Match(root, nodes, outputs, dict(state.attrs), bound, scope)


def _all_roots(scope: Scope, pattern: Pattern, first: Tensor) -> Iterator[tuple[list[Tensor], _State]]:
    """Match root after root; each further one is sought from what the earlier ones bound."""
    found = (
        [([first], s) for s in _solve(scope, pattern.roots[0], first, _EMPTY)]
        if len(pattern.roots) > 1
        else None
    )
    if found is None:
        yield from (([first], s) for s in _solve(scope, pattern.roots[0], first, _EMPTY))
        return
    for term in pattern.roots[1:]:
        found = [
            ([*outputs, tensor], after)
            for outputs, state in found
            for tensor in _reachable(scope, term, state)
            if all(tensor is not t for t in outputs)
            for after in _solve(scope, term, tensor, state)
        ]
    yield from (f for f in found if _distinct(pattern, f[1]))


def _distinct(pattern: Pattern, state: _State) -> bool:
    """Different root calls stand for different nodes."""
    calls = {id(c): c for r in pattern.roots for c in _calls(r)}
    nodes = [id(state.calls[key][1]) for key in calls if key in state.calls]
    return len(nodes) == len(set(nodes))


def _reachable(scope: Scope, term: Term, state: _State) -> list[Tensor]:
    """Tensors that ``term`` may stand for: up from what is bound, or else all its operator's outputs."""
    tensors = _climb(scope, term, state)
    if tensors is not None:
        return tensors
    found = [(t.call, t.index) if isinstance(t, Output) else (t, 0) for t in _outputs(term)]
    nodes = [
        (n, i)
        for c, i in found
        if isinstance(c, Call)
        for n in scope.nodes_of(c.domain, c.op)
        if scope.holds(n)
    ]
    return [n.outputs[i] for n, i in nodes if i < len(n.outputs)]


def _climb(scope: Scope, term: Term, state: _State) -> list[Tensor] | None:
    """The candidates for ``term`` that read what is bound; None when nothing below it is bound."""
    if isinstance(term, Var | Const):
        bound = state.bound.get(term.name) if term.name is not None else None
        return None if bound is None else [bound]
    if isinstance(term, Maybe):
        return _climb(scope, term.inner, state)
    if isinstance(term, AnyOf):
        each = [_climb(scope, t, state) for t in term.alternatives]
        return None if any(e is None for e in each) else [t for e in each if e is not None for t in e]
    call, index = (term.call, term.index) if isinstance(term, Output) else (term, 0)
    return None if call is None else _climb_call(scope, call, index, state)


def _climb_call(scope: Scope, call: Call, index: int, state: _State) -> list[Tensor] | None:
    known = state.calls.get(id(call))
    if known is not None:
        return [known[1].outputs[index]] if index < len(known[1].outputs) else []
    for arg in call.args:
        below = _climb(scope, arg, state)
        if below is not None:
            nodes = {id(n): n for t in below for n in scope.graph.consumers(t) if _is_a(scope, n, call)}
            return [n.outputs[index] for n in nodes.values() if index < len(n.outputs)]
    return None


def _is_a(scope: Scope, node: Node, call: Call) -> bool:
    return node.op == call.op and domain_of(node) == call.domain and scope.holds(node)


def _solve(scope: Scope, term: Term, tensor: Tensor, state: _State) -> Iterator[_State]:
    """Depth-first search over goals; alternatives that were not tried yet wait on the stack."""
    stack: list[_Step] = [(_Goal(term, tensor, None, None), state)]
    spreads = 0
    while stack:
        goal, now = stack.pop()
        if goal is not None and isinstance(goal.term, _Spread) and len(goal.term.args) > 2:
            spreads += 1
            if spreads > _SPREADS:
                return
        if goal is None:
            yield now
        else:
            stack.extend(reversed(list(_step(scope, goal, now))))


def _step(scope: Scope, goal: _Goal, state: _State) -> Iterator[_Step]:
    """The ways to meet one goal: what is left to meet, and what is bound then."""
    term, tensor, rest = goal.term, goal.tensor, goal.rest
    if isinstance(term, _Spread):
        yield from _spread(term, goal, state)
        return
    absent = _is_absent(tensor)
    if term is None or absent:
        yield from _missing(term, rest, state) if absent else ()
    elif isinstance(term, Maybe):
        yield _Goal(term.inner, tensor, goal.reader, rest), state
    elif isinstance(term, AnyOf):
        for index, alternative in enumerate(term.alternatives):
            attrs = {**state.attrs, term.name: index} if term.name is not None else state.attrs
            yield _Goal(alternative, tensor, goal.reader, rest), _State(state.bound, attrs, state.calls)
    elif isinstance(term, Var):
        if state.bound.get(term.name, tensor) is tensor:
            yield rest, state.bind(term.name, tensor)
    elif isinstance(term, Const):
        if _constant(scope, term, goal, state):
            yield rest, state.bind(term.name, tensor)
    else:
        call, index = (term.call, term.index) if isinstance(term, Output) else (term, 0)
        node = scope.graph.producer(tensor)
        if node is not None and index < len(node.outputs) and node.outputs[index] is tensor:
            yield from _node(scope, call, node, rest, state)


def _missing(term: Term, rest: _Goal | None, state: _State) -> Iterator[_Step]:
    """An input that is left out: only ``None`` and ``op.maybe`` allow that."""
    if term is None:
        yield rest, state
    elif isinstance(term, Maybe):
        name = term.inner.name if isinstance(term.inner, Var | Const) else None
        if name is None or state.bound.get(name) is None:
            yield rest, state.bind(name, None)


def _constant(scope: Scope, term: Const, goal: _Goal, state: _State) -> bool:
    known = state.bound.get(term.name) if term.name is not None else None
    if known is goal.tensor:
        return True
    graph = scope.graph
    if term.expected is not ANY_VALUE:
        return agrees(graph, goal.tensor, term.expected, goal.reader)
    values = graph.value(goal.tensor)
    if values is None or (known is not None and not equals(graph.value(known), values)):
        return False
    return term.predicate is None or bool(term.predicate(values))


def _node(scope: Scope, call: Call, node: Node, rest: _Goal | None, state: _State) -> Iterator[_Step]:
    known = state.calls.get(id(call))
    if known is not None:
        if known[1] is node:
            yield rest, state
        return
    if not _is_a(scope, node, call):
        return
    if call.outputs is not None and call.outputs != _count(node.outputs):
        return
    attrs = _attributes(scope.graph, call, node, state.attrs)
    if attrs is None:
        return
    after = _State(state.bound, attrs, {**state.calls, id(call): (call, node)})
    if _count(node.inputs) > len(call.args):
        return
    if commutes(call.domain, call.op) and len(call.args) > 1:
        places = tuple(range(len(call.args)))
        yield _Goal(_Spread(_rarest_first(scope, call, node, state), places), None, node, rest), after
        return
    goals = rest
    for place in range(len(call.args) - 1, -1, -1):
        goals = _Goal(call.args[place], _input(node, place), node, goals)
    yield goals, after


def _input(node: Node, place: int) -> Tensor | None:
    return node.inputs[place] if place < len(node.inputs) else None


def _is_absent(tensor: Tensor | None) -> bool:
    return tensor is None or (tensor.name == "" and not tensor.inputs)


def _spread(spread: _Spread, goal: _Goal, state: _State) -> Iterator[_Step]:
    """Give the next argument each input that is left, its own place first."""
    if not spread.args:
        yield goal.rest, state
        return
    (own, term), *others = spread.args
    for place in sorted(spread.free, key=lambda p: p != own):
        if place > spread.after:
            twice = bool(others) and term is not None and others[0][1] is term
            free = tuple(p for p in spread.free if p != place)
            left = _Goal(_Spread(tuple(others), free, place if twice else -1), None, goal.reader, goal.rest)
            yield _Goal(term, _input(goal.reader, place), goal.reader, left), state


def _rarest_first(scope: Scope, call: Call, node: Node, state: _State) -> tuple[tuple[int, Term], ...]:
    """The arguments with their places: those that the fewest inputs can stand for come first."""
    inputs = [_input(node, place) for place in range(len(call.args))]
    first: dict[int, int] = {}
    for place, term in enumerate(call.args):
        first.setdefault(id(term), place)
    fits = {id(t): sum(_could_be(scope, t, i, state) for i in inputs) for t in call.args}
    return tuple(
        sorted(
            enumerate(call.args), key=lambda a: (fits[id(a[1])], isinstance(a[1], Var), first[id(a[1])], a[0])
        )
    )


def _could_be(scope: Scope, term: Term, tensor: Tensor | None, state: _State) -> bool:
    """Whether a tensor can stand for a term, as far as a glance tells."""
    if term is None or _is_absent(tensor):
        return _is_absent(tensor) and (term is None or isinstance(term, Maybe))
    if isinstance(term, Var):
        return state.bound.get(term.name, tensor) is tensor
    call = term.call if isinstance(term, Output) else term
    maker = scope.graph.producer(tensor) if isinstance(call, Call) else None
    return not isinstance(call, Call) or (maker is not None and _is_a(scope, maker, call))


def _count(tensors: Sequence[Tensor]) -> int:
    """How many there are, without the nameless ones at the end."""
    count = len(tensors)
    while count and not tensors[count - 1].name:
        count -= 1
    return count


def _attributes(graph: Graph, call: Call, node: Node, bound: dict[str, Any]) -> dict[str, Any] | None:
    """The attributes bound once this node's are; None when one of them does not match."""
    for name, wanted in call.attrs.items():
        value = attribute(graph, node, name)
        if value is ABSENT:
            return None
        if isinstance(wanted, Attr):
            if wanted.predicate is not None and not wanted.predicate(value):
                return None
            if wanted.name in bound and not equals(bound[wanted.name], value):
                return None
            bound = {**bound, wanted.name: value}
        elif not (wanted(value) if callable(wanted) else equals(value, wanted)):
            return None
    return bound
