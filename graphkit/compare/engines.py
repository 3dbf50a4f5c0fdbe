"""One run of an engine against its model: pair, replay, judge each kernel, say which is the first bad one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphkit.compare.attribution import Borders, Measuring, Replayed, region, replay, rounding_noise
from graphkit.compare.causes import cause
from graphkit.compare.flat import Flat
from graphkit.compare.forms import View
from graphkit.compare.judge import Bounds
from graphkit.compare.link import Link, Linker
from graphkit.compare.samples import Sample, distance
from graphkit.compare.verdict import Verdicts
from graphkit.engine.boundary import Boundary, EngineGraph
from graphkit.engine.kernel import Kernel
from graphkit.report.diffs import Coverage, LayerDiff, Metrics, OutputDiff, Unmapped
from graphkit.run.captured import CapturedRun, CapturedTensor, LazyArray
from graphkit.run.stream import Rounding

__all__ = ["Analysis", "Reference", "RunResult", "analyse", "refer"]

Array = NDArray[Any]
_AUTO = Bounds()
_SAME = 1e-3  # rms over rms: a copy
_SURE = 0.9
_ROUNDS = 12  # replays at most, each from the pairs that the one before it found


@dataclass(frozen=True)
class RunResult:
    """What was found of one run."""

    layers: tuple[LayerDiff, ...]
    unmapped: tuple[Unmapped, ...]
    outputs: tuple[OutputDiff, ...]
    coverage: Coverage

    @property
    def first_bad(self) -> LayerDiff | None:
        """The first accused kernel, in the order in which the engine runs them."""
        return next((layer for layer in self.layers if not layer.ok), None)


@dataclass
class Reference:
    """Samples of all tensors of the model, and the values of as many as there was room for."""

    samples: dict[str, Sample]
    values: dict[str, Array]


def refer(flat: Flat, memory: int) -> Reference:
    """Run the model; keep at most ``memory`` bytes of values."""
    found, room = Reference({}, {}), memory

    def seen(name: str, value: Array) -> None:
        nonlocal room
        value = np.asarray(value)
        found.samples[name] = Sample(value)
        if value.nbytes <= room:
            found.values[name] = value
            room -= value.nbytes

    for name, value in flat.feed.items():
        found.samples[name] = Sample(np.asarray(value))
    flat.program.run(flat.feed, seen)
    return found


def analyse(
    flat: Flat,
    run: CapturedRun,
    kernels: Sequence[Kernel],
    *,
    tf32: bool,
    limits: Bounds = _AUTO,
    custom: Mapping[str, Callable[..., Any]] | None = None,
    memory: int = 512 << 20,
    reference: Reference | None = None,
) -> RunResult:
    """Compare one captured run with the model; see Analysis.

    A fourth of ``memory`` is for values of the reference, which may be there already, a fourth for tensors
    that wait for their comparison.
    """
    return Analysis(flat, run, kernels, tf32, limits, custom or {}, memory, reference).result()


class Analysis:
    """The steps, in order: reference, links, replays until nothing new is linked, noise, judgement."""

    def __init__(
        self,
        flat: Flat,
        run: CapturedRun,
        kernels: Sequence[Kernel],
        tf32: bool,
        limits: Bounds,
        custom: Mapping[str, Callable[..., Any]],
        memory: int,
        reference: Reference | None = None,
    ) -> None:
        self._flat, self._run, self._limits, self._custom = flat, run, limits, custom
        self._tf32, self._memory = tf32, memory
        self._sources = {(t.name, t.call): t for t in _reported(run)}
        self._engine = EngineGraph(kernels, self._sources.values())
        self._linker = Linker(flat.structure, self._engine, self.read, flat.factors)
        self._links: dict[Boundary, Link] = {}
        reference = reference or refer(flat, memory // 4)
        self._samples, self._reference = reference.samples, reference.values
        self._accumulated: dict[tuple[Boundary, str], Metrics] = {}

    def read(self, boundary: Boundary) -> Array:
        """The captured values of a boundary."""
        return self._sources[boundary.name, boundary.call].read()

    def result(self) -> RunResult:
        """Run all the steps."""
        self._link_outputs()
        self._links |= self._linker.match(self._samples, self._unlinked())
        found, verdicts = self._settled()
        self._accumulate()
        rows = [self._layer(b, found, verdicts) for b in self._ordered() if b in self._links]
        return RunResult(tuple(rows), tuple(self._unmapped()), tuple(self._outputs(rows)), self._coverage())

    def _unlinked(self) -> list[Boundary]:
        return [b for b in self._engine.boundaries if b not in self._links]

    # -- reference

    def _fed(self) -> dict[str, Sample]:
        return {name: self._samples[name] for name in self._flat.feed}

    def _link_outputs(self) -> None:
        for boundary in self._engine.boundaries:
            sample = self._samples.get(boundary.name)
            if (
                boundary.name in self._run.outputs
                and sample is not None
                and sample.count == _size(boundary.dims)
            ):
                form = View(boundary.name, sample.dims)
                self._links[boundary] = Link(boundary, form, 1.0, "an output of both", math.nan)

    # -- links and replays

    def _settled(self) -> tuple[Replayed, Verdicts]:
        """Replay until every tensor is linked that can be.

        What no values link, because they are wrong or drowned in rounding, its place may: such a guess is
        believed when the replay explains its values, or when what reads it is explained by it.
        """
        samples: Mapping[str, Sample] = self._samples
        refused = set[tuple[Boundary, str]]()
        for _ in range(_ROUNDS):
            guesses = self._guesses(samples, refused)
            found, verdicts = self._replayed(self._links | guesses)
            shares = self._shares(found, verdicts)
            kept, wrong = self._believed(guesses, shares, verdicts)
            refused |= {(k.boundary, t) for k in wrong for t in k.form.tensors}
            self._links |= kept
            samples = self._sound(found.samples | self._fed(), wrong)
            new = self._linker.match(samples, self._unlinked()) | self._better(found, samples, shares)
            new |= self._copies(shares, verdicts.borders, [b for b in self._unlinked() if b not in new])
            self._links |= new
            if new or len(kept) < len(guesses):
                continue
            doubtful = self._doubtful(found, shares)
            if not doubtful:
                return found, verdicts
            refused |= {(b, t) for b in doubtful for t in self._links.pop(b).form.tensors}
        return self._replayed(self._links)

    def _copies(
        self, shares: Mapping[Boundary, float], borders: Borders, asked: Sequence[Boundary]
    ) -> dict[Boundary, Link]:
        """Links for tensors that are copies of spoilt ones: not what these should be, but what they are."""
        spoilt = {t for t, links in borders.links.items() for k in links if shares.get(k.boundary, 0.0) > 1}
        samples = {t: Sample(value) for t in spoilt if (value := borders.lent(t)) is not None}
        return self._linker.match(samples, asked) if samples else {}

    def _guesses(
        self, samples: Mapping[str, Sample], refused: set[tuple[Boundary, str]]
    ) -> dict[Boundary, Link]:
        """A guess for each tensor that is not linked; two of one kernel that differ are not the same one."""
        found: dict[Boundary, Link] = {}
        asked = {b: self._linker.guess(b, samples, self._links, refused) for b in self._unlinked()}
        for boundary, link in sorted(asked.items(), key=lambda a: np.inf if a[1] is None else a[1].distance):
            denied = set(refused)
            while link is not None and any(self._rivals(boundary, link, b, k) for b, k in found.items()):
                denied |= {(boundary, t) for t in link.form.tensors}
                link = self._linker.guess(boundary, samples, self._links, denied)
            if link is not None:
                found[boundary] = link
        return found

    def _rivals(self, one: Boundary, link: Link, other: Boundary, taken: Link) -> bool:
        """Whether two tensors of one kernel with different values were taken for the same of the model's."""
        if one.kernel != other.kernel or link.form.tensors != taken.form.tensors:
            return False
        return not self._same(one, other)

    def _same(self, one: Boundary, other: Boundary) -> bool:
        x, y = self._linker.sample(one), self._linker.sample(other)
        return x.count == y.count and distance(x.values, y.values) <= _SAME

    def _doubtful(self, found: Replayed, shares: Mapping[Boundary, float]) -> list[Boundary]:
        """Accused tensors after the first accused one whose link was made when their values were spoilt.

        A link by place alone, or one that is no longer the nearest now that what comes before is linked.
        """
        bad = [b for b in self._ordered() if shares.get(b, 0.0) > 1 and b in self._links]
        if not bad:
            return []
        structure = self._flat.structure
        after = structure.after(self._links[bad[0]].form.tensors, len(structure.nodes))
        later = set(structure.made(after))
        return [
            b
            for b in bad[1:]
            if self._links[b].confidence < 1
            and later.intersection(self._links[b].form.tensors)
            and (self._links[b].confidence < _SURE or self._moved(b, found))
        ]

    def _moved(self, boundary: Boundary, found: Replayed) -> bool:
        name = self._linker.nearest(boundary, found.samples)
        return name is not None and name not in self._links[boundary].form.tensors

    def _sound(self, samples: Mapping[str, Sample], wrong: Sequence[Link]) -> Mapping[str, Sample]:
        """The samples of tensors that no disbelieved guess went into."""
        for link in wrong:
            samples = self._without(samples, link)
        return samples

    def _without(self, samples: Mapping[str, Sample], link: Link) -> Mapping[str, Sample]:
        """The samples of tensors that do not follow from a link's."""
        structure = self._flat.structure
        after = set(structure.made(structure.after(link.form.tensors, len(structure.nodes))))
        return {name: sample for name, sample in samples.items() if name not in after}

    def _better(
        self, found: Replayed, samples: Mapping[str, Sample], shares: Mapping[Boundary, float]
    ) -> dict[Boundary, Link]:
        """Other links for tensors that were taken, in a faulty run, for one that the replay denies."""
        bad = [b for b, share in shares.items() if share > 1 and b in self._links]
        bad = [b for b in bad if self._links[b].confidence < 1]
        again = {b: self._linker.match(self._without(samples, self._links[b]), [b]).get(b) for b in bad}
        return {
            b: link
            for b, link in again.items()
            if link is not None
            and link.form.tensors != self._links[b].form.tensors
            and link.distance < 0.3 * max(found.introduced[b, t].rms_rel for t in self._links[b].form.tensors)
        }

    def _replayed(self, links: Mapping[Boundary, Link]) -> tuple[Replayed, Verdicts]:
        """Replay from these links, and emulate the engine's rounding in the same stretches."""
        program, feed = self._flat.program, self._flat.feed
        borders = Borders(links.values(), self.read)
        found = replay(program, feed, borders, custom=self._custom, memory=self._memory // 4)
        rounding = Rounding(tf32=self._tf32, native=self._flat.native)
        noise = rounding_noise(program, feed, borders, found.fine, rounding)
        return found, Verdicts(self._flat, borders, noise, self._tf32, self._limits)

    def _believed(
        self, guesses: Mapping[Boundary, Link], shares: Mapping[Boundary, float], verdicts: Verdicts
    ) -> tuple[dict[Boundary, Link], list[Link]]:
        """The guesses that hold, and those that do not; of others nobody knows yet."""
        kept = {b: k for b, k in guesses.items() if shares.get(b, math.inf) <= 1 or self._copied(k)}
        wrong = []
        for boundary, link in guesses.items():
            lent = [t for t in link.form.tensors if verdicts.borders.lender(t) is link]
            later = [r for t in lent for r in verdicts.readers(t)]
            later = [r for r in later if r not in guesses or r in kept]
            if boundary in kept or not later:
                continue
            if all(shares.get(r, math.inf) <= 1 for r in later):
                kept[boundary] = link
            else:
                wrong.append(link)
        return kept, wrong

    def _copied(self, guess: Link) -> bool:
        """Whether an output that is the same tensor has the same values."""
        return any(
            link.form.tensors == guess.form.tensors and self._same(guess.boundary, link.boundary)
            for link in self._links.values()
        )

    def _shares(self, found: Replayed, verdicts: Verdicts) -> dict[Boundary, float]:
        """For each border the introduced error over its tolerance, of its worst tensor."""
        shares: dict[Boundary, float] = {}
        for (boundary, tensor), metrics in found.introduced.items():
            link = next(k for k in verdicts.borders.links[tensor] if k.boundary == boundary)
            shares[boundary] = max(shares.get(boundary, 0.0), verdicts.share(link, tensor, metrics))
        return shares

    # -- judgement

    def _ordered(self) -> list[Boundary]:
        last = len(self._engine.kernels)
        return sorted(
            self._engine.boundaries, key=lambda b: (last if b.kernel is None else b.kernel, b.order)
        )

    def _layer(self, boundary: Boundary, found: Replayed, verdicts: Verdicts) -> LayerDiff:
        link = self._links[boundary]
        kernel = None if boundary.kernel is None else self._engine.kernels[boundary.kernel]
        measured = [
            (t, m) for t in link.form.tensors if (m := found.introduced.get((boundary, t))) is not None
        ]
        rows = [(verdicts.share(link, t, m), t, m) for t, m in measured]
        share, tensor, metrics = max(rows, key=lambda r: r[0], default=(None, link.form.tensors[0], None))
        kernels, _ = region(self._engine, self._links, boundary, tuple(self._run.inputs))
        diff = LayerDiff(
            kernel=kernel.name if kernel is not None else "",
            type=kernel.type if kernel is not None else "",
            onnx_nodes=kernel.onnx_nodes if kernel is not None else (),
            tensor=boundary.name,
            call=boundary.call,
            dtype=boundary.dtype,
            dims=boundary.dims,
            paired=link.form.tensors,
            form=link.form.name,  # type: ignore[arg-type]
            confidence=link.confidence,
            evidence=link.evidence,
            accumulated=self._accumulated.get((boundary, tensor)),
            introduced=metrics,
            share=share,
            ok=share is None or share <= 1,
            region=tuple(self._engine.kernels[k].name for k in kernels),
        )
        if metrics is None:
            return diff
        diff = replace(diff, tolerance=verdicts.bound(tensor, boundary, metrics.size).rms)
        return diff if diff.ok else self._accused(diff, link, tensor, metrics, found, verdicts)

    def _accused(
        self,
        diff: LayerDiff,
        link: Link,
        tensor: str,
        metrics: Metrics,
        found: Replayed,
        verdicts: Verdicts,
    ) -> LayerDiff:
        name, why = cause(
            metrics,
            verdicts.noise(tensor),
            verdicts.dtype(tensor, link.boundary),
            tf32=self._tf32,
            ops=verdicts.ops(tensor),
            seen=found.evidence.get((link.boundary, tensor)),
        )
        nodes = diff.onnx_nodes or tuple(
            dict.fromkeys(self._flat.structure.owner(p) for p in verdicts.behind(tensor)[0])
        )
        return replace(diff, cause=name, cause_evidence=why, onnx_nodes=nodes)

    # -- what is reported besides

    def _accumulate(self) -> None:
        """The error since the inputs of the model, for each captured tensor."""
        borders = Borders(self._links.values(), self.read)
        self._reference |= {n: np.asarray(v) for n, v in self._flat.feed.items()}
        with Measuring(self._custom, self._memory // 4, why=False) as measuring:

            def compare(name: str, value: Array) -> None:
                for link in borders.links.get(name, ()):
                    measuring.add(link, name, np.asarray(value), borders.value(name, link))

            for name in borders.links:
                if name in self._reference:
                    compare(name, self._reference[name])
            missing = {t for t in borders.links if t not in self._reference}
            if missing:
                self._flat.program.run(self._flat.feed, compare, wanted=missing)
        self._accumulated = measuring.metrics

    def _unmapped(self) -> Iterable[Unmapped]:
        for boundary in self._ordered():
            if boundary in self._links:
                continue
            kernel = None if boundary.kernel is None else self._engine.kernels[boundary.kernel].name
            why = "moves values only" if boundary.copy else "no tensor of the model has its values"
            yield Unmapped(boundary.name, kernel or "", boundary.dims, boundary.dtype, why)

    def _outputs(self, rows: Sequence[LayerDiff]) -> Iterable[OutputDiff]:
        by_tensor = {row.tensor: row for row in rows}
        for name, array in self._run.outputs.items():
            row = by_tensor.get(name)
            if row is None or row.accumulated is None:
                reason = (
                    "the model's output of that name has another size"
                    if name in self._samples
                    else "not in the model"
                )
                yield OutputDiff(name, None, None, False, f"{reason} (the engine's is {list(array.dims)})")
                continue
            yield self._output(name, row, row.accumulated)

    def _output(self, name: str, row: LayerDiff, metrics: Metrics) -> OutputDiff:
        user = self._limits.of(name)
        if user is None:
            reason = "" if row.ok else f"its own kernel is over tolerance ({row.cause})"
            return OutputDiff(name, metrics, None, row.ok, reason)
        atol, rtol = user
        actual = self._run.outputs[name].read()
        expected = self._expected(name)
        worst = _excess(expected.reshape(actual.shape), actual, atol, rtol)
        reason = "" if worst <= 1 else f"off by {worst:.3g} times atol {atol:g} + rtol {rtol:g}"
        return OutputDiff(name, metrics, atol + rtol, worst <= 1, reason)

    def _expected(self, name: str) -> Array:
        if name not in self._reference:
            self._flat.program.run(
                self._flat.feed, lambda n, v: self._reference.update({n: np.asarray(v)}), wanted={name}
            )
        return self._reference[name]

    def _coverage(self) -> Coverage:
        own = [b for b in self._engine.boundaries if b.name not in self._run.inputs]
        work = [b for b in own if not b.copy]
        return Coverage(len(own), sum(b in self._links for b in work), len(own) - len(work))


def _reported(run: CapturedRun) -> list[CapturedTensor]:
    """The kernel-boundary tensors, and the outputs, each once; inputs that were reported are left out."""
    found = [t for t in run.tensors if t.name not in run.inputs and t.name not in run.outputs]
    for place, (name, array) in enumerate(run.outputs.items()):
        found.append(_as_tensor(name, array, len(run.tensors) + place))
    return found


def _as_tensor(name: str, array: LazyArray, order: int) -> CapturedTensor:
    return CapturedTensor(name, array.dtype, array.dims, array.key, array.source, 0, order)


def _size(dims: Sequence[int]) -> int:
    return int(np.prod(dims, dtype=np.int64)) if dims else 1


def _excess(expected: Array, actual: Array, atol: float, rtol: float) -> float:
    """The largest |error| over atol + rtol |expected|; infinite where only one of the two is finite."""
    x, y = expected.astype(np.float64), actual.astype(np.float64)
    with np.errstate(all="ignore"):
        error = np.abs(x - y)
        error[(x == y) | (np.isnan(x) & np.isnan(y))] = 0
        over = np.where(error == 0, 0.0, error / (atol + rtol * np.abs(x)))
    over = np.where(np.isnan(over), np.inf, over)
    return float(over.max(initial=0.0))
