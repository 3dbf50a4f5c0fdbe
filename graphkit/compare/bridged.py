"""Whether a model whose interface a pass changed computes what the pass says that it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from graphkit.compare import memory as budget
from graphkit.compare import metrics, pairing
from graphkit.compare.bridge import Bridge
from graphkit.compare.equivalence import Differs, sides_of, within
from graphkit.compare.pair import Parts, Side
from graphkit.compare.trial import RUNS, TRIES, informative
from graphkit.model.file import ModelFile
from graphkit.report.records import TensorDifference, Verification
from graphkit.run import outline
from graphkit.run.feeds import feeds as made_feeds
from graphkit.run.reference import CannotRun, OverLimit, Runnable, custom_ops
from graphkit.run.shapes import required_inputs

__all__ = ["verify_bridge"]

Values = dict[str, Any]


def verify_bridge(
    before: ModelFile,
    after_parts: Parts,
    bridge: Bridge,
    folder: Path | None = None,
    *,
    touched: Sequence[tuple[str, str]] = (),
    names: Mapping[str, str] | None = None,
    seed: int = 0,
    memory: int = 4 << 30,
) -> Verification:
    """Run the models before and after on inputs that ``bridge`` makes the same, and compare as it says.

    Parameters and result are those of :func:`graphkit.compare.equivalence.verify`. Besides what the bridge
    names, every output of the old model that the new one still computes is compared, and every touched
    tensor that no unproven output depends on.
    """
    try:
        old, new = sides_of(before, after_parts, folder, memory)
        return _Crossing(old, new, bridge, tuple(touched), dict(names or {}), seed, memory).verdict()
    except CannotRun as error:
        return Verification("not-run", reason=f"{bridge.says}: {error}")
    except UnicodeDecodeError:
        return Verification("not-run", reason="a name in the model is no UTF-8, and no runtime takes that")
    except Differs as error:
        return Verification("differs", reason=str(error))


@dataclass
class _Crossing:
    """One verification under way."""

    old: Side
    new: Side
    bridge: Bridge
    touched: Sequence[tuple[str, str]]
    names: dict[str, str]
    seed: int
    limit: int
    worst: TensorDifference | None = None
    compared: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    runs: list[dict[str, tuple[int, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._former = {now: was for was, now in self.names.items()}
        self._made_old = _made(self.old.outline)
        self._made_new = _made(self.new.outline)
        self._outputs = [o.name for o in self.new.outline.graph.output]
        before, chance = (
            pairing.downstream(s.outline, pairing.random_nodes(s.outline)) for s in (self.old, self.new)
        )
        self._random = [n for n in self._outputs if n in chance and n not in self.bridge.unproven]
        self._made_random = [n for n in self._random if self._former.get(n, n) in self._made_old - before]
        self._open = _reached(self.new.outline, set(self.bridge.unproven)) | chance
        within_run = budget.of_run(self.new.outline, {}, ())
        within(within_run, self.limit)

    def verdict(self) -> Verification:
        if self._made_random:
            raise Differs(f"output '{self._made_random[0]}' depends on random numbers now")
        pairs = self._pairs()
        taken = dict(self.bridge.taken)
        reads = [*self.bridge.reads, *taken.values(), *(a for a, _ in pairs)]
        old = self.old.open([n for n in dict.fromkeys(reads) if n in self._made_old])
        new = self._opened([b for _, b in pairs])
        for feed, rows in self._crossed(old):
            self.runs.append({k: _shape(v) for k, v in feed.items()})
            try:
                got = new.run(feed)
            except OverLimit:
                raise
            except CannotRun as error:
                raise Differs(f"the rewritten model does not run on what its bridge says: {error}") from error
            failed = self._compare(pairs, rows, got)
            if failed is not None:
                return self._verdict("differs", f"'{failed.tensor}': {failed.reason}", failed, old)
        return self._held(old)

    def _held(self, old: Runnable) -> Verification:
        notes = [self.bridge.says, *self.notes, *(f"'{n}': {why}" for n, why in self.bridge.unproven.items())]
        notes += [f"'{n}': it depends on random numbers" for n in self._random]
        if not self.compared.intersection(self._outputs):
            return Verification("not-run", "; ".join([*notes, "no output can be held against the original"]))
        return self._verdict("held", "; ".join(notes), None, old)

    def _verdict(
        self, status: Any, reason: str, first: TensorDifference | None, old: Runnable
    ) -> Verification:
        worst = metrics.worse(self.worst, first) if first is not None else self.worst
        shapes = tuple(self.runs)
        return Verification(status, reason, old.name, shapes, len(self.compared), worst, first)

    # -- which tensors

    def _pairs(self) -> list[tuple[str, str]]:
        """(tensor before, tensor after) that hold the same values as they are."""
        wanted = [] if self.bridge.outputs is not None else self._outputs
        pairs = {b: self._former.get(b, b) for b in wanted if b not in self._open}
        for name, was in pairs.items():
            if was not in self._made_old:
                raise Differs(f"output '{name}' is new, and the pass does not say what it has to be")
        if self.bridge.feeds is None and self.bridge.outputs is None:
            ends = [o.name for o in self.old.outline.graph.output]
            also = [(n, self.names.get(n, n)) for n in ends] + list(self.touched)
            nodes = {n for node in self.new.outline.graph.node for n in node.output}
            known = [(a, b) for a, b in also if b in nodes and a in self._made_old]
            pairs |= {b: a for a, b in known if b not in self._open and b not in pairs}
        return [(a, b) for b, a in pairs.items()]

    def _opened(self, exposed: Sequence[str]) -> Runnable:
        """The new model; without what leads to unproven outputs alone where no runtime knows that."""
        try:
            return self.new.open(exposed)
        except CannotRun as error:
            if not custom_ops(self.new.outline) or not self._open:
                self.new.open()  # if the model as it is loads, what is exposed is the reason
                raise CannotRun(str(error)) from error
        kept = [n for n in self._outputs if n not in self._open]
        self.notes.append("run without the nodes that no runtime at hand implements")
        model = _cut(onnx.load_from_string(b"".join(self.new.parts)), [*kept, *exposed])
        side = Side([model.SerializeToString()], outline.outline(model), self.new.folder)
        return side.open(exposed)

    # -- which inputs

    def _crossed(self, old: Runnable) -> Iterator[tuple[Values, list[Values]]]:
        """A feed of the new model, and what the old one gives for what that stands for."""
        found, reason = 0, ""
        ends = [o.name for o in self.old.outline.graph.output]
        dull: list[tuple[Values, list[Values]]] = []
        for number, feed in enumerate(self._offered()):
            if number >= TRIES or found >= RUNS:
                break
            try:
                crossed = self._cross(old, feed)
            except CannotRun as error:
                reason = reason or str(error)
                continue
            if any(informative({k: row[k] for k in ends if k in row}) for row in crossed[1]):
                found += 1
                yield crossed
            elif not dull:
                dull.append(crossed)
        if not found:
            if not dull:
                raise CannotRun(f"the original runs on none of the inputs tried: {reason}")
            yield dull[0]

    def _offered(self) -> Iterator[Values]:
        model = self.old.outline if self.bridge.feeds is None else self.new.outline
        return islice(made_feeds(model, seed=self.seed), TRIES)

    def _cross(self, old: Runnable, feed: Values) -> tuple[Values, list[Values]]:
        if self.bridge.feeds is not None:
            return feed, [{**f, **old.run(f)} for f in map(dict, self._said(self.bridge.feeds, feed))]
        values = {**feed, **old.run(feed)}
        given: Values = {}
        for info in required_inputs(self.new.outline):
            was = self.bridge.taken.get(info.name, self._former.get(info.name, info.name))
            if was not in values:
                raise Differs(f"input '{info.name}' is new, and the pass does not say what it stands for")
            given[info.name] = values[was]
        return given, [values]

    # -- are they the same?

    def _compare(
        self, pairs: Sequence[tuple[str, str]], rows: list[Values], got: Mapping[str, Any]
    ) -> TensorDifference | None:
        """The first difference of one run; None when there is none."""
        if not rows:
            raise Differs("the pass says of a feed that it stands for none")
        wanted = [(a, b, rows[0][a]) for a, b in pairs if b in got or b in self._outputs]
        if self.bridge.outputs is not None:
            expected = self._said(self.bridge.outputs, rows)
            wanted += [(n, n, v) for n, v in expected.items() if n not in self._open]
        for name, tensor, value in wanted:
            if tensor not in got:
                raise Differs(f"output '{tensor}' is missing")
            for difference in metrics.compare_values(
                value, got[tensor], tensor=tensor, original_name=name, bound=self._bound
            ):
                if not difference.ok:
                    return difference
                self.worst = metrics.worse(self.worst, difference)
            self.compared.add(tensor)
        return None

    @staticmethod
    def _said(function: Callable[[Any], Any], values: Any) -> Any:
        """What the pass computes of these values; what it cannot is no proof."""
        try:
            return function(values)
        except Exception as error:  # numpy's, of values that the pass did not think of
            raise Differs(f"what the pass says of its result cannot be computed: {error}") from error

    @property
    def _bound(self) -> metrics.Tolerance | None:
        allowed = self.bridge.tolerance
        return None if allowed is None else metrics.Tolerance(allowed, allowed)


def _made(model: onnx.ModelProto) -> set[str]:
    """Every tensor of the main graph that has a value."""
    graph = model.graph
    return {
        *(n for node in graph.node for n in node.output if n),
        *(i.name for i in graph.input),
        *(t.name for t in graph.initializer),
    }


def _reached(model: onnx.ModelProto, sources: set[str]) -> set[str]:
    return pairing.depending(model, sources) if sources else set()


def _cut(model: onnx.ModelProto, wanted: Sequence[str]) -> onnx.ModelProto:
    """The model with these outputs of its own alone, and the nodes that they need."""
    needed, kept = set(wanted), []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(pairing.reads(node))
    kept.reverse()
    outputs = [o for o in model.graph.output if o.name in set(wanted)]
    del model.graph.node[:], model.graph.output[:]
    model.graph.node.extend(kept)
    model.graph.output.extend(outputs)
    return model


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in np.shape(value)) if hasattr(value, "shape") else (len(value),)
