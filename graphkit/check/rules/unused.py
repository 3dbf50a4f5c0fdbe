"""The ``unused`` rule."""

from __future__ import annotations

from collections.abc import Iterable

from graphkit.check.rule import Rule
from graphkit.check.subject import Subject
from graphkit.report.checks import Finding


class Unused(Rule):
    """An input that no node reads, or nodes that lead to no output.

    ## Why
    TensorRT drops an input that nothing reads: the program that binds it fails on the engine. What leads
    nowhere can still keep a model from being parsed.

    ## Example
    ```
    g (float[2] x, float[2] mask) => (float[2] y) { y = Relu (x) }
    ```

    ## Mend
    [`remove-dead`](../passes/remove-dead.md) takes out nodes and weights; inputs are the model's interface,
    and stay.
    """

    name = "unused"
    severity = "note"

    def check(self, subject: Subject) -> Iterable[Finding]:
        """Inputs without a reader; nodes none of whose outputs is read."""
        ends = {id(t) for scope in subject.scopes for t in scope.outputs}
        for tensor in subject.graph.inputs:
            if not tensor.outputs and id(tensor) not in ends:
                yield self.finding(f"nothing reads input '{tensor.name}'", tensor=tensor)
        for graph, node in subject.nodes():
            made = [t for t in node.outputs if t.name]
            if made and not any(t.outputs or id(t) in ends for t in made):
                yield self.finding("nothing reads what it makes", graph=graph, node=node, fix="remove-dead")
