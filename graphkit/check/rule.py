"""What a rule is: something that can be wrong with a model, found by looking at the file alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from graphkit.report.checks import Finding, Severity
from graphkit.rewrite.configured import Configured

if TYPE_CHECKING:
    from graphkit.check.subject import Subject
    from graphkit.model.graph import Graph
    from graphkit.model.surgeon import Node, Tensor

__all__ = ["Rule"]


class Rule(Configured):
    """One thing to look for.

    A subclass sets ``name``, the id of its findings, and ``severity``, declares its options as a pass does,
    and writes :meth:`check`. Its docstring is its page: what it finds, why that matters, an example, and the
    pass that mends it.
    """

    kind: ClassVar[str] = "rule"
    severity: ClassVar[Severity] = "warning"

    @abstractmethod
    def check(self, subject: Subject) -> Iterable[Finding]:
        """Look at the model, and give what is wrong with it; :meth:`finding` makes one."""

    def finding(
        self,
        message: str,
        *,
        graph: Graph | None = None,
        node: Node | None = None,
        tensor: Tensor | str | None = None,
        fix: str = "",
        targets: Iterable[str] = (),
        severity: Severity | None = None,
    ) -> Finding:
        """A finding of this rule about a node, a tensor or the model; ``graph`` is the scope it is in."""
        name = "" if node is None else node.name or next((t.name for t in node.outputs if t.name), "")
        return Finding(
            self.name,
            severity or self.severity,
            message,
            node=_text(name),
            op="" if node is None else _text(node.op),
            tensor=_text(tensor if isinstance(tensor, str) else getattr(tensor, "name", "")),
            stack=() if graph is None or graph.label == "main" else (graph.label,),
            fix=fix,
            targets=tuple(targets),
        )


def _text(name: object) -> str:
    """A name that is no UTF-8 comes as bytes."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
