"""What a pass is: a frozen dataclass whose fields are its options, and one method that edits a graph."""

from __future__ import annotations

import inspect
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

from graphkit.errors import GraphkitError, NotApplicable, PassFailed
from graphkit.report.records import PassReport, Refusal
from graphkit.rewrite.configured import Configured
from graphkit.rewrite.failure import describe_failure
from graphkit.rewrite.options import Size, option, rest

if TYPE_CHECKING:
    from graphkit.compare.bridge import Bridge
    from graphkit.model.graph import Graph
    from graphkit.model.model import Model
    from graphkit.model.surgeon import Node, Tensor

__all__ = ["Pass", "PassReport", "PatternPass", "Size", "Tally", "option", "rest"]


class Tally:
    """What a pass tells of its work while it runs."""

    def __init__(self) -> None:
        self.rewrites = 0
        self.refusals: list[Refusal] = []
        self.notes: list[str] = []
        self.bridges: list[Bridge] = []

    def rewrite(self, count: int = 1) -> None:
        """Count places that were rewritten."""
        self.rewrites += count

    def refuse(self, graph: Graph, place: Node | Tensor | str, reason: str) -> None:
        """Note a place (a node, a tensor or a name) that the pass left as it was, and why."""
        if isinstance(place, str):
            self.refusals.append(Refusal(graph.label, place, "", reason))
        elif hasattr(place, "op"):
            name = place.name or next((t.name for t in place.outputs if t.name), "")
            self.refusals.append(Refusal(graph.label, name, place.op, reason))
        else:
            self.refusals.append(Refusal(graph.label, place.name, "tensor", reason))

    def note(self, text: str) -> None:
        """Say something that is neither a rewrite nor a refusal."""
        self.notes.append(text)

    def bridge(self, bridge: Bridge) -> None:
        """Say that inputs or outputs are others now, and how what they carry follows from what it was."""
        self.bridges.append(bridge)
        self.notes.append(bridge.says)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(option, rest))
class Pass(Configured):
    """One named rewrite of a graph.

    A subclass sets ``name``, declares its options as annotated fields, and writes :meth:`apply`. Its
    docstring is its page: what it does, why, before and after, and when it refuses.
    """

    group: ClassVar[str] = ""
    """The heading under which lists show the pass, such as ``simplify``."""

    @abstractmethod
    def apply(self, graph: Graph, tally: Tally) -> None:
        """Edit the model whose main graph is ``graph``; ``graph.scopes()`` are all its graphs and functions.

        Count every rewrite and every refusal in ``tally``. A second run must change nothing.
        """

    def run(self, model: Model) -> PassReport:
        """Apply the pass to a model in place, and report.

        Whatever the pass raises, other than graphkit's own errors, and a graph with a cycle or two producers
        of one tensor, is PassFailed with the pass's name. A scope that was in topological order is left in
        one.
        """
        from graphkit.model import dataflow

        tally, before, start = Tally(), model.main.counts(), time.perf_counter()
        sorted_before = {id(s.gs) for s in model.scopes() if dataflow.in_order(s)}
        model.begin(str(self))
        self._guarded(model, tally)
        model.bridge = self._bridge(tally)
        wrong = dataflow.defect(model)
        if wrong is not None:
            raise PassFailed(f"pass '{self}' left a graph that is not valid: {wrong}")
        for scope in model.scopes():
            if id(scope.gs) in sorted_before and not dataflow.in_order(scope):
                scope.sort()
        return PassReport(
            spec=str(self),
            rewrites=tally.rewrites,
            refusals=tuple(tally.refusals),
            nodes_before=dict(before),
            nodes_after=dict(model.main.counts()),
            seconds=time.perf_counter() - start,
            notes=tuple(tally.notes),
        )

    def _bridge(self, tally: Tally) -> Bridge | None:
        """What this pass said of the interface; one that says it twice is two passes."""
        if len(tally.bridges) > 1:
            raise PassFailed(f"pass '{self}' failed: it gives two bridges; give one that says it all")
        return tally.bridges[0] if tally.bridges else None

    def _guarded(self, model: Model, tally: Tally) -> None:
        """Call :meth:`apply`; what it raises by accident becomes PassFailed."""
        try:
            self.apply(model.main, tally)
        except NotApplicable as error:
            raise PassFailed(f"pass '{self}' failed: {error}") from error
        except GraphkitError:
            raise
        except (Exception, SystemExit) as error:
            raise PassFailed(f"pass '{self}' failed: {describe_failure(error, type(self))}") from error


class PatternPass(Pass):
    """A pass of three short methods: ``pattern``, ``check`` and ``rewrite``.

    Every scope is searched; matches do not overlap; a match whose inner tensors something else reads is
    refused. Sweeps repeat until nothing matches any more, because one rewrite can make another possible.
    """

    @abstractmethod
    def pattern(self, op: Any, *inputs: Any) -> Any:
        """What to look for: see :class:`graphkit.model.pattern.Patterns`."""

    def check(self, graph: Graph, m: Any) -> None:
        """Call ``m.require(condition, reason)`` for each precondition; the default has none."""

    @abstractmethod
    def rewrite(self, op: Any, m: Any) -> Any:
        """Build the replacement with ``op.Mul(m.x, …)``; return a tensor for each that the pattern does."""

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Rewrite every match in every scope of the model."""
        from graphkit.rewrite.sweep import sweep

        sweep(self, graph, tally)


def is_concrete(cls: object) -> bool:
    """Whether this is a class that can be run as a pass."""
    return inspect.isclass(cls) and issubclass(cls, Pass) and not inspect.isabstract(cls)
