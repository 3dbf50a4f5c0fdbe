"""The engine of ``simplify``: which passes, in which order, and when one need not run again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module

from graphkit import BadOption, Graph, Pass, PassFailed, Tally
from graphkit.model import dataflow
from graphkit.model.surgeon import Node
from graphkit_passes._shared import Known

_ROUNDS = 50
ANY: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Step:
    """A pass by name, and the operators without one of which it has nothing to do (none: it always may)."""

    name: str
    ops: frozenset[str] = ANY

    def make(self) -> Pass:
        """The pass with its own defaults."""
        module = import_module(f"graphkit_passes.{self.name.replace('-', '_')}")
        cls = getattr(module, "".join(word.capitalize() for word in self.name.split("-")))
        made: Pass = cls()
        return made


CONVS = frozenset({"Conv", "ConvTranspose"})
STEPS = (
    Step("fold-constants"),
    Step("remove-dead"),
    Step("settle-branches", frozenset({"If"})),
    Step("remove-identity"),
    Step("drop-defaults", frozenset({"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"})),
    Step("cse"),
    Step("settle-shapes", frozenset({"Shape", "Size"})),
    Step("fuse-transpose", frozenset({"Transpose"})),
    Step("fuse-reshape", frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})),
    Step("fuse-slice", frozenset({"Slice"})),
    Step("fuse-pad-conv", frozenset({"Pad"})),
    Step("fuse-conv-bn", frozenset({"BatchNormalization"})),
    Step("fuse-mul-conv", CONVS),
    Step("fuse-focus", frozenset({"Slice"})),
    Step("fuse-layer-norm", frozenset({"ReduceMean"})),
    Step("fuse-rms-norm", frozenset({"ReduceMean"})),
    Step("fuse-gelu", frozenset({"Erf", "Tanh"})),
    Step("fuse-constants", frozenset({"Mul", "Div", "Add", "Sub"})),
    Step("fuse-matmul-bias", frozenset({"MatMul", "Gemm"})),
    Step("fuse-gemm", frozenset({"MatMul", "Gemm"})),
    Step("fuse-scale-matmul", frozenset({"MatMul", "Gemm"})),
)
_TELLING = frozenset({"settle-branches", "settle-shapes", "drop-defaults"})
NAMES = tuple(step.name for step in STEPS)


@dataclass
class Pipeline:
    """One run over one model. ``revision`` counts what changed; a step rests at the revision it last saw."""

    graph: Graph
    tally: Tally
    max_size: int
    skip: Sequence[str]
    revision: int = 0
    telling: bool = False  # a step wrote down something from which more shapes follow
    counts: Counter[str] = field(default_factory=Counter)
    rested: dict[str, int] = field(default_factory=dict)
    refused: dict[str, Tally] = field(default_factory=dict)
    _ops: tuple[int, frozenset[str]] = (-1, ANY)
    _inferred_at: int = 0

    def run(self) -> None:
        """Round after round, until no step has changed anything; then tell."""
        unknown = [name for name in self.skip if name not in NAMES]
        if unknown:
            raise BadOption(f"simplify:skip: no pass '{unknown[0]}' in it; it has {', '.join(NAMES)}")
        steps = [(s, self._apply(s)) for s in STEPS if s.name not in self.skip]
        with Known.during(self.graph.model) as known:
            for _ in range(_ROUNDS):
                before = self.revision
                for step, apply in steps:
                    self._step(step, apply)
                if self.revision == before and not self._unsure(known):
                    break
                if self.revision == before or self._outdated(known):
                    known.forget()
                    self.rested.clear()
                    self._inferred_at = self.revision
            else:
                raise PassFailed(f"simplify does not come to rest in {_ROUNDS} rounds: {self._told()}")
        self._report()

    def _unsure(self, known: Known) -> bool:
        """Whether a fresh inference might yet tell a shape that nobody knew when the last one ran."""
        if not known.known or self._inferred_at == self.revision:
            return False
        made = (t for s in self.graph.scopes() for n in s.nodes for t in n.outputs if t.name)
        shapes = (known.types.shape(t) for t in made)
        return any(shape is None or None in shape for shape in shapes)

    def _outdated(self, known: Known) -> bool:
        """Whether inference may know more than it did: what it said holds, since no pass changes a value."""
        if self.telling:
            self.telling = False
            return True
        was = self.graph.model.records.was
        new = (
            t for s in self.graph.scopes() for n in s.nodes for t in n.outputs if t.name and was(t) is None
        )
        return known.known and any(known.types.dtype(t) is None for t in new)

    def _apply(self, step: Step) -> Callable[[Graph, Tally], None]:
        """What runs the step; folding has rules of its own here."""
        if step.name != "fold-constants":
            return lambda graph, tally: step.make().apply(graph, tally)
        from graphkit_passes._fold import Folder

        def fold(graph: Graph, tally: Tally) -> None:
            folder = Folder(graph, tally, self.max_size, storing=True)
            folder.run()
            self.telling |= folder.shapes.stale

        return fold

    def _step(self, step: Step, apply: Callable[[Graph, Tally], None]) -> None:
        """Run one step when it may find something."""
        if self.rested.get(step.name) == self.revision:
            return
        self.refused[step.name] = tally = Tally()
        if not step.ops or step.ops & self._present():
            apply(self.graph, tally)
            if tally.rewrites:
                self._changed(step, tally.rewrites)
                self.telling |= step.name in _TELLING
        self.rested[step.name] = self.revision

    def _changed(self, step: Step, count: int) -> None:
        self.revision += 1
        self.counts[step.name] += count
        self.tally.rewrite(count)
        for scope in self.graph.scopes():
            if not dataflow.in_order(scope):
                scope.sort()

    def _present(self) -> frozenset[str]:
        """The operators that the model has now."""
        if self._ops[0] != self.revision:
            self._ops = self.revision, frozenset(n.op for s in self.graph.scopes() for n in s.nodes)
        return self._ops[1]

    def _report(self) -> None:
        """How many by which pass; each place that was left once, if it is still there."""
        if self.counts:
            self.tally.note(self._told())
        seen: set[tuple[str, str]] = set()
        here = {name for scope in self.graph.scopes() for node in scope.nodes for name in _names(node)}
        for refusal in (r for tally in self.refused.values() for r in tally.refusals):
            place = refusal.graph, refusal.node
            if place not in seen and refusal.node in here:
                seen.add(place)
                self.tally.refusals.append(refusal)

    def _told(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in self.counts.items())


def _names(node: Node) -> Iterator[str]:
    """The names by which a report may call a node, or a tensor that it reads."""
    yield node.name
    yield from (t.name for t in (*node.inputs, *node.outputs))
