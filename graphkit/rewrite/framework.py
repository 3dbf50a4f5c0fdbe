"""What a pass is: a frozen dataclass whose fields are its options, and one method that edits a graph."""

from __future__ import annotations

import dataclasses
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform, get_type_hints

from graphkit.errors import BadOption, GraphkitError, NotApplicable, PassFailed
from graphkit.report.records import PassReport, Refusal
from graphkit.rewrite import options as opt
from graphkit.rewrite.failure import describe_failure
from graphkit.rewrite.options import Size, option, rest

if TYPE_CHECKING:
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


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(option, rest))
class Pass(ABC):
    """One named rewrite of a graph.

    A subclass sets ``name``, declares its options as annotated fields, and writes :meth:`apply`. Its
    docstring is its page: what it does, why, before and after, and when it refuses.
    """

    name: ClassVar[str]
    origin: ClassVar[str] = ""
    """How the pass is spelled when it comes from a script, ``./file.py:name``."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        page = cls.__dict__.get("__doc__")
        try:
            dataclass(frozen=True, kw_only=True)(cls)
        except (TypeError, ValueError) as error:
            raise type(error)(f"class {cls.__name__}: {error}") from error
        cls.__doc__ = page or ""  # dataclass would write a signature where there is no page

    @abstractmethod
    def apply(self, graph: Graph, tally: Tally) -> None:
        """Edit the model whose main graph is ``graph``; ``graph.scopes()`` are all its graphs and functions.

        Count every rewrite and every refusal in ``tally``. A second run must change nothing.
        """

    @classmethod
    def options(cls) -> tuple[opt.Field[Any], ...]:
        """The options, in the order in which they are declared."""
        return dataclasses.fields(cls)  # type: ignore[arg-type]

    @classmethod
    def types(cls) -> Mapping[str, Any]:
        """The type of each option."""
        hints = get_type_hints(cls)
        return {f.name: hints[f.name] for f in cls.options()}

    @classmethod
    def from_spec(cls, arguments: str) -> Self:
        """Build from ``key=value,key=value``, as ``--pass name:…`` takes it; see
        :mod:`graphkit.rewrite.options`.

        Raises BadOption for an unknown, missing or repeated option, or a value of the wrong type.
        """
        found: dict[str, str | None] = {}
        for key, raw in opt.items(arguments):
            if key in found:
                raise BadOption(f"pass '{cls.name}' has option '{key}' twice; give it once")
            found[key] = raw
        return cls._build(found, opt.parse)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Build from values that have types already, as a recipe gives them; keys as in a spec."""
        return cls._build(dict(values), opt.coerce)

    @classmethod
    def _build(cls, found: dict[str, Any], convert: Any) -> Self:
        types, fields = cls.types(), cls.options()
        named = {spelling: f for f in fields if not opt.is_rest(f) for spelling in (f.name, opt.key_of(f))}
        others = next((f for f in fields if opt.is_rest(f)), None)
        values: dict[str, Any] = {}
        left: dict[str, str] = {}
        for key, raw in found.items():
            field = named.get(key.strip())
            where = f"{cls.name}:{key.strip()}"
            if field is not None and field.name in values:
                raise BadOption(f"pass '{cls.name}' has option '{key}' twice; give it once")
            if field is not None:
                values[field.name] = convert(raw, types[field.name], where)
            elif others is not None and key:
                left[key] = convert(raw, str, where)
            else:
                raise BadOption(cls._unknown(key))
        missing = [opt.key_of(f) for f in fields if f.name not in values and opt.default_of(f) is opt.MISSING]
        if missing:
            spec = cls.origin or cls.name
            raise BadOption(f"pass '{cls.name}' needs {missing[0]}=…; see `graphkit explain {spec}`")
        if others is not None:
            values[others.name] = left
        return cls(**values)

    @classmethod
    def _unknown(cls, key: str) -> str:
        known = ", ".join(opt.key_of(f) for f in cls.options())
        return f"pass '{cls.name}' has no option '{key}'; " + (f"it has {known}" if known else "it has none")

    def __str__(self) -> str:
        """The spec that builds this pass again, so that a line of a log can be pasted back."""
        spelled: list[str] = []
        types = self.types()
        for field in self.options():
            value = getattr(self, field.name)
            if opt.is_rest(field):
                spelled += opt.spell_rest(value)
            elif value != opt.default_of(field):
                spelled.append(opt.spell(opt.key_of(field), value, types[field.name]))
        name = self.origin or self.name
        return f"{name}:{','.join(spelled)}" if spelled else name

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
