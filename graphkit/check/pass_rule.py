"""A rule that asks a pass: what the pass would rewrite is what is wrong; one place knows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar

from graphkit.check.rule import Rule
from graphkit.errors import GraphkitError
from graphkit.report.checks import Finding

if TYPE_CHECKING:
    from graphkit.check.subject import Subject
    from graphkit.model.graph import Graph, Node
    from graphkit.model.model import Model

__all__ = ["PassRule"]


class PassRule(Rule):
    """Runs the pass ``mend`` on a copy of the model, and finds something where it rewrites.

    ``says`` is what is wrong, in words. Where the pass is not installed, the rule finds nothing. With
    ``tells_refusals``, what the pass refuses is found too, for nothing mends it: the reason is the message.
    """

    mend: ClassVar[str]
    says: ClassVar[str]
    tells_refusals: ClassVar[bool] = False

    def applies(self, subject: Subject) -> bool:
        """Whether it matters to what the model is built with; a look that costs little comes here too."""
        return True

    def specs(self, subject: Subject) -> Iterable[tuple[str, str]]:
        """Each spec of the pass to run on this model, and what is wrong where it rewrites."""
        yield self.mend, self.says

    def check(self, subject: Subject) -> Iterable[Finding]:
        """Run the pass, and compare the nodes of each scope before and after."""
        from graphkit.rewrite.registry import installed

        if self.mend not in installed() or not self.applies(subject):
            return
        for spec, says in self.specs(subject):
            yield from self._run(subject, spec, says)

    def _run(self, subject: Subject, spec: str, says: str) -> Iterator[Finding]:
        from graphkit.model.model import Model
        from graphkit.rewrite.registry import load_pass

        model = Model.from_file(subject.model.file)
        before = [(scope, node, _state(node)) for scope in model.scopes() for node in scope.nodes]
        try:
            report = load_pass(spec).run(model)
        except GraphkitError:
            return  # of the pass, not of the model
        if report.rewrites:
            yield self._found(_first_changed(model, before), report.rewrites, spec, says)
        if self.tells_refusals:
            yield from self._refused(report.refusals)

    def _found(self, place: tuple[Graph, Node] | None, count: int, spec: str, says: str) -> Finding:
        places = f" ({count} places)" if count > 1 else ""
        if place is None:
            return self.finding(f"{says}{places}", fix=spec)
        graph, node = place
        return self.finding(f"{says}{places}", graph=graph, node=node, fix=spec)

    def _refused(self, refusals: Iterable[object]) -> Iterator[Finding]:
        for refusal in refusals:
            graph, node, op, reason = (getattr(refusal, n) for n in ("graph", "node", "op", "reason"))
            stack = () if graph == "main" else (graph,)
            yield Finding(self.name, self.severity, f"{self.says}: {reason}", str(node), str(op), stack=stack)


def _state(node: Node) -> tuple[object, ...]:
    return node.op, dict(node.attrs), [id(t) for t in node.inputs]


def _first_changed(
    model: Model, before: list[tuple[Graph, Node, tuple[object, ...]]]
) -> tuple[Graph, Node] | None:
    """The first node that is gone or is another now."""
    left = {id(node) for scope in model.scopes() for node in scope.nodes}
    for scope, node, state in before:
        if id(node) not in left or _state(node)[:1] != state[:1] or _state(node)[2] != state[2]:
            return scope, node
    return None
