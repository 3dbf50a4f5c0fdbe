"""How the matches of a PatternPass are rewritten: scope by scope, in node order, until nothing matches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from graphkit.errors import NotApplicable, PassFailed
from graphkit.model import dataflow
from graphkit.model.matching import Scope, matches_at, output_ids
from graphkit.model.pattern import Match, Pattern, trace
from graphkit.rewrite.builder import Builder

if TYPE_CHECKING:
    from graphkit.model.graph import Graph
    from graphkit.model.surgeon import Node, Tensor
    from graphkit.rewrite.framework import PatternPass, Tally

_WAYS = 64  # ways to match at one node that are tried before it is refused
_SLACK = 64


def sweep(rewriter: PatternPass, main: Graph, tally: Tally) -> None:
    """Rewrite every match below ``main``; refusals are those of the last sweep, when all that can be done is.

    PassFailed when rewrites keep making new matches: each node can be rewritten a few times, not for ever.
    """
    pattern = trace(rewriter.pattern)
    limit = 4 * sum(len(s.nodes) for s in main.scopes()) + _SLACK
    while True:
        refused: list[tuple[Graph, Node, str]] = []
        done = 0
        outputs = output_ids(main)
        for graph in main.scopes():
            done += _Sweep(rewriter, pattern, Scope(graph, outputs), refused).run()
        tally.rewrite(done)
        if not done:
            break
        if tally.rewrites > limit:
            raise PassFailed(
                f"pass '{rewriter}' does not come to rest: {tally.rewrites} rewrites, and its result "
                "still matches its own pattern; its check must refuse what it has made"
            )
    for graph, node, reason in refused:
        tally.refuse(graph, node, reason)


class _Sweep:
    """One walk over the candidate roots of one scope."""

    def __init__(
        self, rewriter: PatternPass, pattern: Pattern, scope: Scope, refused: list[tuple[Graph, Node, str]]
    ) -> None:
        self._pass = rewriter
        self._pattern = pattern
        self._scope = scope
        self._graph = scope.graph
        self._refused = refused
        self._unsorted = False

    def run(self) -> int:
        done = 0
        for node in self._scope.candidates(self._pattern):
            if self._scope.holds(node):
                done += self._at(node)
        if self._unsorted:
            self._graph.sort()
        return done

    def _at(self, node: Node) -> int:
        """Try the ways to match at one node; the first reason is told when none will do."""
        reason: str | None = None
        for m in islice(matches_at(self._scope, self._pattern, node), _WAYS):
            try:
                self._require(m)
                self._replace(m)
                return 1
            except NotApplicable as error:
                reason = reason or str(error)
        if reason is not None:
            self._refused.append((self._graph, node, reason))
        return 0

    def _require(self, m: Match) -> None:
        for tensor in m.escaping[:1]:
            outside = "is a graph output" if self._scope.is_output(tensor) else "is read elsewhere too"
            raise NotApplicable(f"'{tensor.name}' inside the pattern {outside}")
        self._pass.check(self._graph, m)
        if len(self._pattern.roots) > 1 and len(m.nodes) > 1:
            m.require(
                dataflow.is_convex(self._graph, m.nodes), "another node lies between the nodes of the pattern"
            )

    def _replace(self, m: Match) -> None:
        anchor = max(m.nodes, key=self._scope.place)
        place = self._scope.place(anchor)
        builder = Builder(self._graph, anchor, m.nodes)
        try:
            made = self._pass.rewrite(builder, m)
            new = list(made) if isinstance(made, tuple | list) else [made]
            wrong = _wrong(new, len(m.outputs))
            if wrong:
                raise PassFailed(f"pass '{self._pass}' failed: {wrong}")
        except NotApplicable:
            self._graph.remove(builder.made)
            raise
        self._require_end(m, new, builder)
        read = [t for n in m.nodes for t in n.inputs]
        self._note_order(m, place)
        self._graph.remove(m.nodes)
        self._scope.forget(m.nodes)
        self._scope.adopt(builder.made, place)
        self._swap(m.outputs, new)
        self._drop_orphans(read)

    def _require_end(self, m: Match, new: Sequence[Any], builder: Builder) -> None:
        """To drop the Identity that only names a graph output would make another, and so for ever."""
        only = m.nodes[0].op == "Identity" and len(m.nodes) == 1 and not builder.made
        if only and self._scope.is_output(m.outputs[0]):
            raise NotApplicable(
                f"'{m.outputs[0].name}' is a graph output, and only this node gives it that name"
            )

    def _note_order(self, m: Match, place: int) -> None:
        """With several outputs, a reader of one can stand in front of the last: then sort afterwards."""
        if len(m.outputs) == 1:
            return
        inside = {id(n) for n in m.nodes}
        for reader in (c for t in m.outputs for c in self._graph.consumers(t) if id(c) not in inside):
            if not self._scope.holds(reader) or self._scope.place(reader) < place:
                self._unsorted = True

    def _swap(self, old: Sequence[Tensor], new: Sequence[Any]) -> None:
        for before, after in zip(old, new, strict=True):
            self._graph.replace(before, after)

    def _drop_orphans(self, tensors: Sequence[Tensor]) -> None:
        """Constants that only the rewritten nodes read go with them."""
        for tensor in {id(t): t for t in tensors if t.name}.values():
            if self._graph.consumers(tensor) or self._scope.is_output(tensor):
                continue
            maker = self._graph.producer(tensor)
            if maker is None and self._graph.value(tensor) is not None:  # None for a graph input
                self._graph.remove_initializer(tensor)
            elif maker is not None and maker.op == "Constant" and self._scope.holds(maker):
                self._graph.remove([maker])
                self._scope.forget([maker])


def _wrong(new: Sequence[Any], wanted: int) -> str:
    """Why these are no replacement for ``wanted`` tensors; empty when they are."""
    if len(new) == 1 and new[0] is None:
        return "rewrite returned None; return what replaces the pattern"
    tensors = f"{wanted} tensor{'' if wanted == 1 else 's'}"
    if len(new) != wanted:
        return (
            f"rewrite returned {len(new)} result{'' if len(new) == 1 else 's'}; the pattern makes {tensors}"
        )
    other = next((t for t in new if not hasattr(t, "inputs")), None)
    if other is None and not any(t is None for t in new):
        return ""
    kind = type(other).__name__
    return f"rewrite returned {other!r:.40}, of type {kind}; return a tensor, such as op.constant(…) makes"
