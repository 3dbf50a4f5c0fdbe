"""Whether a rewritten model computes what the original did: both run on the same seeded inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx

from graphkit.compare import chance, defaults, doubt, leeway, localise, metrics, pairing, signature
from graphkit.compare import memory as budget
from graphkit.compare.pair import Parts, Side, renamed_feed
from graphkit.compare.search import Search
from graphkit.compare.trial import RUNS, Trial
from graphkit.model.file import ModelFile
from graphkit.report.records import TensorDifference, Verification
from graphkit.run import outline
from graphkit.run.reference import CannotRun, OverLimit, Runnable, custom_ops, lacks_kernel
from graphkit.run.shapes import assignments, required_inputs

Loader = Iterable[Mapping[str, Any]] | Callable[[], Iterable[Mapping[str, Any]]]


class Differs(Exception):
    """The answer is no without a number: another signature, or a model that no longer loads or runs."""


def verify(
    before: ModelFile,
    after_parts: Parts,
    folder: Path | None = None,
    *,
    touched: Sequence[tuple[str, str]] = (),
    seed: int = 0,
    memory: int = 4 << 30,
    feeds: Loader | None = None,
    names: Mapping[str, str] | None = None,
) -> Verification:
    """Run ``before`` and the model whose wire bytes are ``after_parts`` on the same inputs and compare.

    Compared are the graph outputs and the ``touched`` pairs of main-graph tensors (name before, name
    after). External data resolves in ``folder``, else in the original's. ``memory`` bounds, in bytes,
    what a run may take. ``feeds`` are the user's own inputs instead of seeded ones; ``names`` maps graph
    inputs and outputs that were renamed on purpose. What cannot be run is ``not-run`` with the reason;
    nothing is raised for that.
    """
    try:
        sides = sides_of(before, after_parts, folder, memory)
        weights = sum(
            budget.of_weights(budget.total(s.parts), outline.weight_bytes(s.outline)) for s in sides
        )
        return Comparison(
            *sides, tuple(touched), seed, memory, feeds, dict(names or {}), min(weights, memory // 2)
        ).verdict()
    except CannotRun as error:
        return Verification("not-run", reason=str(error))
    except UnicodeDecodeError:
        return Verification("not-run", reason="a name in the model is no UTF-8, and no runtime takes that")
    except Differs as error:
        return Verification("differs", reason=str(error))


def sides_of(before: ModelFile, after_parts: Parts, folder: Path | None, limit: int) -> tuple[Side, Side]:
    """Both models, read without their weights; CannotRun when one is unreadable or over ``limit``."""
    inline = max(len(before.data), budget.total(after_parts))
    within(budget.of_weights(inline, 0), limit)
    folder = folder or before.folder
    sides: list[Side] = []
    external = 0
    for parts, place in (([before.data], before.folder or folder), (after_parts, folder)):
        try:
            model = onnx.load_from_string(b"".join(parts))
        except Exception as error:  # protobuf's own DecodeError, whose class depends on its backend
            which = "original" if not sides else "rewritten model"
            raise CannotRun(f"the {which} is not a readable ONNX model: {error}") from error
        external = max(external, outline.weight_bytes(model))
        lies = place if pairing.is_external(model) else None
        sides.append(Side(parts, outline.outline(model), lies, defaults=defaults.read(model)))
    within(budget.of_weights(inline, external), limit)
    return sides[0], sides[1]


def within(estimate: int, limit: int) -> None:
    """CannotRun when ``estimate`` bytes are more than ``limit``."""
    if estimate > limit:
        raise CannotRun(budget.refusal(estimate, limit))


@dataclass
class Comparison:
    """One verification under way."""

    before: Side
    after: Side
    touched: Sequence[tuple[str, str]]
    seed: int
    limit: int
    given: Loader | None
    names: dict[str, str]
    weights: int = 0
    runner: str = ""
    trial: Trial = field(default_factory=Trial)
    compared: set[str] = field(default_factory=set)
    worst: TensorDifference | None = None
    excused: set[str] = field(default_factory=set)
    chance: set[str] = field(default_factory=set)  # what a random node may reach, and what one without a seed
    loose: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    moved: dict[str, float] = field(
        default_factory=dict
    )  # excused: how far a rounding of the inputs moves it

    def verdict(self) -> Verification:
        """Signature, then numbers chunk by chunk; the first chunk with a difference ends it."""
        different = signature.mismatch(self.before.outline, self.after.outline, self.names)
        if different:
            raise Differs(different)
        gone = sorted(
            n
            for n in defaults.names(self.before.outline)
            if self.names.get(n, n) not in {i.name for i in self.after.outline.graph.input}
        )
        if gone:
            raise Differs(f"input '{gone[0]}', which has a default, is gone")
        outputs = [(o.name, self.names.get(o.name, o.name)) for o in self.before.outline.graph.output]
        for chunk in self._chunks():
            failed = self._compare(outputs, chunk)
            outputs = []  # compared with the first chunk
            if failed:
                return self._differs(failed)
        return self._held()

    def _chunks(self) -> list[list[tuple[str, str]]]:
        produced = {n for node in self.before.outline.graph.node for n in node.output}
        known = {n for node in self.after.outline.graph.node for n in node.output}
        known.update(t.name for t in self.after.outline.graph.initializer)
        wanted = [(a, b) for a, b in self.touched if a in produced and b in known]
        if not wanted:
            return [[]]
        both = signature.common_inputs(self.before.outline, self.after.outline, self.names)
        sizes = budget.tensor_sizes(both, next(assignments(both), {}))
        return list(pairing.chunks(wanted, sizes, max(self.limit // 8, 1 << 20)))

    def _compare(
        self, outputs: list[tuple[str, str]], chunk: list[tuple[str, str]]
    ) -> list[tuple[int, TensorDifference]]:
        old, chunk = self._open_before(chunk)
        feeds = self.trial.feeds[:RUNS] if self.given is None else self.trial.feeds
        if not feeds:
            self._find_feeds(old, [a for a, _ in chunk])
            feeds, values = self.trial.feeds, self.trial.values
            self.trial.values = []
        else:
            values = [old.run(feed) for feed in feeds]
        del old
        new = self._open_after([b for _, b in chunk])
        failed = []
        for number, (feed, original) in enumerate(zip(feeds, values, strict=True)):
            try:
                rewritten = new.run(renamed_feed(feed, self.names, self.fed))
            except OverLimit:
                raise
            except CannotRun as error:
                raise Differs(f"the rewritten model does not run where the original does: {error}") from error
            for pair in (*outputs, *chunk):
                found = self._pair(pair, original, rewritten)
                if pair[0] in self._rounded:
                    found = [leeway.withheld(self, number, d) for d in found]
                failed += [(number, d) for d in found if not d.ok]
        return doubt.settle(self, failed)

    def _pair(
        self, pair: tuple[str, str], original: Mapping[str, Any], rewritten: Mapping[str, Any]
    ) -> list[TensorDifference]:
        a, b = pair
        if b not in rewritten or a in self.excused:
            return []
        found = self.differences(pair, original[a], rewritten[b])
        self.compared.add(b)
        for difference in found:
            if difference.ok:
                self.worst = metrics.worse(self.worst, difference)
        return found

    def __post_init__(self) -> None:
        models = (self.before.outline, self.after.outline)
        self._search = Search(self)
        own = defaults.names(models[0]) & {
            n for n in self.names if self.names[n] in defaults.names(models[1])
        }
        own |= defaults.names(models[0]) & defaults.names(models[1])
        self.fed = {i.name for i in required_inputs(models[1])} | {self.names.get(n, n) for n in own}
        self._rounded, self._unit = (
            find(models[0]) & find(models[1]) for find in (pairing.quantised, pairing.unit_scale)
        )

    def differences(
        self, pair: tuple[str, str], original: Any, rewritten: Any, noise: float = 0.0
    ) -> list[TensorDifference]:
        """Compare one pair's values by the rules for what computes them."""
        a, b = pair
        return metrics.compare_values(
            original,
            rewritten,
            tensor=b,
            original_name=a,
            quantised=a in self._rounded,
            noise=noise,
            unit=a in self._unit,
        )

    def _open_before(self, chunk: list[tuple[str, str]]) -> tuple[Runnable, list[tuple[str, str]]]:
        watched = [] if self.trial.feeds else self._search.coverage.exposed
        try:
            model = self.before.open([*(a for a, _ in chunk), *watched])
        except CannotRun:
            self.before.open(())  # if this fails too, that is the reason to give
            fine = self.before.exposable([*(a for a, _ in chunk), *watched])
            chunk = [p for p in chunk if p[0] in fine]
            model = self.before.open([*(a for a, _ in chunk), *(n for n in watched if n in fine)])
        self.runner = self.runner or model.name
        return model, chunk

    def _open_after(self, exposed: list[str]) -> Runnable:
        if self.after.only is None:
            self._choose_runtime()
        try:
            return self.after.open(exposed)
        except CannotRun as error:
            self.after.open()  # it loads as it is: only what was to be seen besides is at fault
            fine = self.after.exposable(exposed)
            self.notes.append(f"{len(exposed) - len(fine)} touched tensors could not be read: {error}")
        return self.after.open([n for n in exposed if n in fine])

    def _choose_runtime(self) -> None:
        """Hold the rewritten model to the original's runtime, unless that merely lacks a kernel for it.

        onnx's evaluator checks little: a model that ONNX Runtime calls invalid must not pass through it.
        """
        self.after.only = self.before.only
        try:
            self.after.open()
            return
        except CannotRun as error:
            reason = error
        missing = sorted(set(custom_ops(self.after.outline)) - set(custom_ops(self.before.outline)))
        if missing:
            raise CannotRun(f"no runtime at hand implements {', '.join(missing)}")
        if self.after.only == "reference" and self._opens_in("ort"):
            return  # the evaluator lacks old versions of some operators, and ONNX Runtime is stricter
        if not lacks_kernel(reason):
            raise Differs(f"the rewritten model does not load where the original does: {reason}")
        self.after.only = "reference"
        self.after.open()

    def _opens_in(self, runtime: str) -> bool:
        before, self.after.only = self.after.only, runtime
        try:
            self.after.open()
        except CannotRun:
            self.after.only = before
            return False
        return True

    def _find_feeds(self, model: Runnable, exposed: list[str]) -> None:
        self.trial, model = self._search.run(model, exposed)
        self.runner = model.name
        self.before.only = "ort" if model.name.startswith("onnxruntime") else "reference"
        if not self.trial.feeds:
            self._choose_runtime()  # what cannot be compared must load all the same
            raise CannotRun(f"the original runs on none of the inputs tried: {self.trial.reason}")
        chance.mark(self)

    @property
    def unsure(self) -> set[str]:
        """Tensors that are no evidence: chance reaches them, and they were not seen to be the same twice."""
        compared = {o.name for o in self.before.outline.graph.output} | {a for a, _ in self.touched}
        return self.excused | (self.chance - compared)

    def _held(self) -> Verification:
        notes = [
            *self.notes,
            *(
                f"'{n}' moves by {x:.1g} of its range under a rounding of the inputs"
                for n, x in self.moved.items()
            ),
        ]
        notes.extend(signature.changes(self.before.outline, self.after.outline, self.names))
        if self.excused:
            outputs = [o.name for o in self.before.outline.graph.output if o.name in self.excused]
            listed = ", ".join(outputs or sorted(self.excused))
            notes.insert(0, f"not comparable, the original differs from itself: {listed}")
        if not self.compared:
            return self._record("not-run", "; ".join(notes) or "the model has no output to compare")
        if self.given is None:
            notes += self._search.coverage.missing
        return self._record("held", "; ".join(notes))

    def _differs(self, failed: list[tuple[int, TensorDifference]]) -> Verification:
        for _, difference in failed:
            self.worst = metrics.worse(self.worst, difference)
        number, reported = failed[0]
        first = localise.first(self, number) or reported
        record = self._record("differs", f"'{first.tensor}': {first.reason}")
        return replace(record, first=first)

    def _record(self, status: Any, reason: str) -> Verification:
        shapes = tuple({k: _shape(v) for k, v in feed.items()} for feed in self.trial.feeds)
        return Verification(
            status, reason, self.runner, shapes, compared=len(self.compared), worst=self.worst
        )


def _shape(value: Any) -> tuple[int, ...]:
    if isinstance(value, (list, dict)):
        return (len(value),)
    return tuple(int(n) for n in getattr(value, "shape", ()))
