"""Two ONNX models run side by side: A's tensors first, B's beside them, then B's nodes on A's values."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from graphkit.compare import grain, pairing
from graphkit.compare.blame import cause
from graphkit.compare.counterparts import Counterpart, Side
from graphkit.compare.judge import Bounds, Judgement, judge
from graphkit.compare.measures import measure
from graphkit.compare.metrics import EXACT, self_noise, tolerance
from graphkit.compare.spool import Spool
from graphkit.report.diffs import LayerDiff, Metrics, OutputDiff, Unmapped
from graphkit.run.reference import CannotRun
from graphkit.run.shapes import required_inputs, tensor_type
from graphkit.run.stream import Program

__all__ = ["Run", "Twins"]

Array = NDArray[Any]
Feed = Mapping[str, Any]
DType = np.dtype[Any]
_UNLIKE = 0.25  # rms error over rms: more than any rounding makes of a tensor whose readers agree
NUDGE = 2.0**-21  # relative change of the inputs, some roundings of float32


@dataclass(frozen=True)
class Run:
    """What one set of inputs showed."""

    label: str
    layers: tuple[LayerDiff, ...]
    unmapped: tuple[Unmapped, ...]
    outputs: tuple[OutputDiff, ...]
    first_bad: LayerDiff | None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether no node is accused and every output is as good as A's."""
        return self.first_bad is None and all(o.ok for o in self.outputs)


class Twins:
    """Two models, the pairs of their tensors, and what decides whether a pair is fine."""

    def __init__(
        self,
        a: Side,
        b: Side,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        pairs: Mapping[str, Counterpart],
        bounds: Bounds,
        memory: int,
        metrics: Mapping[str, Callable[..., Any]],
    ) -> None:
        self.a, self.b, self.inputs, self.outputs = a, b, inputs, outputs
        self.pairs, self.bounds, self.memory, self.metrics = pairs, bounds, memory, metrics
        self._program_a = Program(a.model, a.folder, memory=memory // 4)
        self._program_b = Program(b.model, b.folder, memory=memory // 4)
        self._wanted = {c.name for c in pairs.values()} | {o.name for o in a.model.graph.output}
        self.quantised = pairing.quantised(b.model)
        self.unit = pairing.unit_scale(b.model)
        self.random = pairing.downstream(b.model, pairing.random_nodes(b.model))

    def run_a(self, feed: Feed, spool: Spool, wanted: set[str] | None = None) -> None:
        """Put A's tensors into the spool: those that are paired, and the outputs."""
        given = _fitted(feed, self.a.model)
        self._program_a.run(given, spool.put, wanted=self._wanted if wanted is None else wanted)

    def run_b(
        self, feed: Feed, seen: Callable[[str, Array], None], spool: Spool | None, cut: set[str]
    ) -> None:
        """Run B on A's feed; readers of a ``cut`` tensor get A's value of it. Raises CannotRun."""

        def given(name: str) -> Array | None:
            return spool.get(self.pairs[name].name) if spool is not None and name in cut else None

        try:
            self._program_b.run(self._feed(feed), seen, given=given if cut else None, cuts=cut or None)
        except CannotRun as error:
            raise CannotRun(f"B does not run on inputs that A runs on: {error}") from error

    def _feed(self, feed: Feed) -> dict[str, Any]:
        """A's inputs under B's names and in B's dtypes."""
        names = (i.name for i in required_inputs(self.b.model))
        return _fitted({n: feed[self.inputs[n]] for n in names if self.inputs[n] in feed}, self.b.model)

    def outputs_of(self, spool: Spool) -> dict[str, Array]:
        """A's outputs as far as they are tensors that a node makes."""
        names = [o.name for o in self.a.model.graph.output]
        return {n: v for n in names if (v := spool.get(n)) is not None}

    def compare(self, feed: Feed, spool: Spool, label: str) -> Run:
        """Everything about one set of inputs, A's tensors for it being in the spool."""
        return _Comparison(self, feed, spool).run(label)


class _Comparison:
    """One set of inputs: accumulated errors in a first run of B, introduced ones in a second."""

    def __init__(self, twins: Twins, feed: Feed, spool: Spool) -> None:
        self._t, self._feed, self._spool = twins, feed, spool
        self._layers: dict[str, LayerDiff] = {}
        self._judged: dict[str, Judgement] = {}
        self._unmapped: dict[str, Unmapped] = {}
        self._moved_values: dict[str, Array] | None = None
        self._dtypes = _dtypes(twins._feed(feed)) | twins.b.dtypes
        self._grains: dict[str, DType | None] = dict(self._dtypes)
        self._dtypes_a = spool.dtypes() | _dtypes(feed) | twins.a.dtypes
        self._grains_a = grain.along(twins.a.flow, self._dtypes_a)
        self._border: set[str] = set()
        self._unfit: set[str] = set()

    def run(self, label: str) -> Run:
        start = time.monotonic()
        self._t.run_b(self._feed, self._accumulated, None, set())
        middle = time.monotonic()
        outputs = self._outputs()
        self._drop_false_friends(outputs)
        self._border = {x.paired[0] for x in self._layers.values()}
        if any(x.accumulated is not None and x.accumulated.different for x in self._layers.values()):
            self._unfit = {n for n, x in self._layers.items() if self._overflows(x)}
            with np.errstate(all="ignore"):  # A's values may overflow in B's dtypes
                self._t.run_b(self._feed, self._introduced, self._spool, set(self._layers))
        else:
            for name, layer in self._layers.items():
                self._settle(layer, layer.accumulated, self._judged[name], self._region(name)[0])
        seconds = {"accumulated": middle - start, "introduced": time.monotonic() - middle}
        shapes = {n: tuple(v.shape) for n, v in self._feed.items() if hasattr(v, "shape")}
        layers, unmapped = tuple(self._layers.values()), tuple(self._unmapped.values())
        return Run(label, layers, unmapped, outputs, self._first(outputs), shapes, seconds)

    def _accumulated(self, name: str, value: Array) -> None:
        """B's tensor as it comes, beside A's."""
        place = self._t.b.flow.maker[name]
        node, label = self._t.b.flow.nodes[place], self._t.b.label(place)
        self._dtypes[name] = value.dtype
        reads = (self._grains.get(n) for n in self._t.b.flow.reads[place])
        self._grains[name] = grain.coarsest((*reads, value.dtype))
        if node.op_type == "Constant" and name not in self._t.outputs:
            return  # a weight by another name: what it makes of its readers is seen
        reason, reference = self._twin(name, value)
        if reference is None:
            self._unmapped[name] = Unmapped(name, label, value.shape, value.dtype.name, reason)
            return
        twin = self._t.pairs[name]
        found = measure(reference, value, custom=self._t.metrics)
        coarse = grain.coarsest((self._grains[name], self._grains_a.get(twin.name)))
        self._judged[name] = self._judge(name, reference, value, found, coarse)
        self._layers[name] = LayerDiff(
            label, node.op_type, (label,), name, 0, value.dtype.name, value.shape,
            (twin.name,), "same", twin.confidence, twin.evidence, found,
        )  # fmt: skip

    def _twin(self, name: str, value: Array) -> tuple[str, Array | None]:
        """A's value of a tensor, or why there is none to compare."""
        twin = self._t.pairs.get(name)
        if name in self._t.random:
            return "depends on numbers that are drawn anew in each run", None
        if twin is None:
            return "no tensor of A is known to stand for it", None
        reference = self._spool.get(twin.name)
        if reference is None:
            return f"'{twin.name}' of A is no tensor that its run shows", None
        if reference.shape != value.shape:
            return f"'{twin.name}' of A has shape {list(reference.shape)}", None
        if _class(reference) != _class(value):
            return f"'{twin.name}' of A is {reference.dtype.name}", None
        return "", reference

    def _judge(
        self, name: str, reference: Array, value: Array, found: Metrics, coarse: DType | None
    ) -> Judgement:
        twin = self._t.pairs[name].name
        return judge(
            reference,
            value,
            found,
            self._t.bounds.of(name, twin),
            quantised=name in self._t.quantised,
            unit=name in self._t.unit,
            grain=coarse,
        )

    def _introduced(self, name: str, value: Array) -> None:
        """B's tensor, computed from A's values, beside A's."""
        layer = self._layers.get(name)
        reference = self._spool.get(self._t.pairs[name].name) if layer is not None else None
        if layer is not None and reference is not None:
            places, coarse = self._region(name)
            if self._unfit.intersection(n for p in places for n in self._t.b.flow.reads[p]):
                return  # a tensor before it cannot hold A's values, and is accused of that itself
            found = measure(reference, value, custom=self._t.metrics)
            self._settle(layer, found, self._judge(name, reference, value, found, coarse), places)

    def _settle(
        self, layer: LayerDiff, found: Metrics | None, judged: Judgement, places: Sequence[int]
    ) -> None:
        region = tuple(self._t.b.label(p) for p in places)
        layer = replace(
            layer,
            introduced=found,
            tolerance=judged.tolerance,
            share=judged.share,
            ok=judged.ok,
            region=region,
        )
        if not judged.ok:
            why, evidence = cause(self._t.a, self._t.b, layer)
            layer = replace(layer, cause=why, cause_evidence=evidence or judged.reason)
        self._layers[layer.tensor] = layer

    def _region(self, tensor: str) -> tuple[list[int], DType | None]:
        """The nodes between a tensor and the paired ones before it, and the coarsest dtype there."""
        a, b = self._t.a.flow, self._t.b.flow
        twin = self._t.pairs[tensor].name
        theirs = grain.region(a, twin, self._border.__contains__) if twin in a.maker else []
        mine = grain.region(b, tensor, self._layers.__contains__)
        there = [self._dtypes_a.get(n) for p in theirs for n in (*a.reads[p], *a.makes[p])]
        here = [self._dtypes.get(n) for p in mine for n in (*b.reads[p], *b.makes[p])]
        return mine, grain.coarsest((*there, *here))

    def _overflows(self, layer: LayerDiff) -> bool:
        """Whether a tensor of B has a dtype in which A's finite values are infinite."""
        found, name = layer.accumulated, layer.paired[0]
        narrow = self._dtypes[layer.tensor] != self._dtypes_a.get(name)
        return found is not None and narrow and found.inf[1] > found.inf[0]

    def _outputs(self) -> tuple[OutputDiff, ...]:
        """B's outputs, then those of A that B lacks."""
        found = [self._output(o.name) for o in self._t.b.model.graph.output]
        gone = [o.name for o in self._t.a.model.graph.output if o.name not in self._t.outputs.values()]
        return (*found, *(OutputDiff(n, ok=False, reason="B has no such output") for n in gone))

    def _output(self, name: str) -> OutputDiff:
        layer = self._layers.get(name)
        if layer is not None:
            judged = self._judged[name]
            if not judged.ok and not judged.share > 50:
                judged = self._excused(name, judged)
            return OutputDiff(name, layer.accumulated, judged.tolerance, judged.ok, judged.reason)
        if name not in self._t.outputs:
            return OutputDiff(name, ok=False, reason="A has no such output")
        unmapped = self._unmapped.get(name)
        if unmapped is None:
            return OutputDiff(name, reason="not compared: no node makes it, or it is no tensor")
        drawn = name in self._t.random
        return OutputDiff(name, ok=drawn, reason=f"not compared: {unmapped.reason}")

    def _excused(self, name: str, judged: Judgement) -> Judgement:
        """A second look at an output that is off: does A itself move as far when its inputs are rounded?"""
        if self._t.bounds.of(name, self._t.pairs[name].name) is not None:
            return judged
        moved = self._moved()
        twin = self._t.pairs[name].name
        reference, again, layer = self._spool.get(twin), moved.get(twin), self._layers[name]
        if reference is None or again is None or layer.accumulated is None:
            return judged
        noise = self_noise(reference, again)
        limit = min(4 * noise, 50 * judged.tolerance, 5e-3)
        if layer.accumulated.to_range <= limit and not layer.accumulated.misplaced:
            said = f"A itself moves by {noise:.1g} of the range when its inputs are rounded"
            return Judgement(True, limit, layer.accumulated.to_range / limit, said)
        return judged

    def _moved(self) -> Mapping[str, Array]:
        """A's outputs on inputs that are a few roundings off; none when it does not run on them."""
        if self._moved_values is None:
            rng = np.random.default_rng(0)
            nudged = {n: _nudged(v, rng) for n, v in self._feed.items()}
            found: dict[str, Array] = {}
            try:
                names = {o.name for o in self._t.a.model.graph.output}
                self._t._program_a.run(nudged, found.__setitem__, wanted=names)
            except CannotRun:
                found = {}
            self._moved_values = found
        return self._moved_values

    def _drop_false_friends(self, outputs: tuple[OutputDiff, ...]) -> None:
        """Where all outputs agree, a tensor of a twin's name with another maker and other values is none."""
        if not all(o.ok for o in outputs):
            return
        for name, layer in list(self._layers.items()):
            off = layer.accumulated.rms_rel if layer.accumulated is not None else 0.0
            if layer.evidence != "same name" or self._judged[name].ok or off < _UNLIKE:
                continue
            mine, theirs = self._t.b.maker(name), self._t.a.maker(name)
            if mine is None or theirs is None or mine.op_type == theirs.op_type:
                continue
            reason = f"A uses the name for what {theirs.op_type} makes, and all outputs agree"
            self._unmapped[name] = Unmapped(name, layer.kernel, layer.dims, layer.dtype, reason)
            del self._layers[name]

    def _first(self, outputs: tuple[OutputDiff, ...]) -> LayerDiff | None:
        """The first accused node; or, if only an output is off, the first tensor that is over tolerance."""
        accused = next((x for x in self._layers.values() if not x.ok), None)
        if accused is not None or all(o.ok for o in outputs):
            return accused
        off = next((x for n, x in self._layers.items() if not self._judged[n].ok), None)
        if off is None:
            return None
        why = "no node alone is over its tolerance: small errors add up"
        return replace(off, cause=off.cause or why, cause_evidence=self._judged[off.tensor].reason)


def _fitted(feed: Feed, model: onnx.ModelProto) -> dict[str, Any]:
    """The feed with every float in the dtype that the model declares."""
    kinds = {i.name: tensor_type(i.type) for i in model.graph.input}
    found = dict(feed)
    for name, value in feed.items():
        kind = kinds.get(name)
        if kind is not None and kind.elem_type and isinstance(value, np.ndarray) and _class(value) == "float":
            found[name] = value.astype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type), copy=False)
    return found


def _dtypes(feed: Feed) -> dict[str, DType]:
    return {n: v.dtype for n, v in feed.items() if isinstance(v, np.ndarray)}


def _nudged(value: Any, rng: np.random.Generator) -> Any:
    if not isinstance(value, np.ndarray) or _class(value) != "float":
        return value
    wide = value.astype(np.float64)
    return (wide * (1 + NUDGE * rng.choice([-1.0, 1.0], value.shape))).astype(value.dtype)


def _class(value: Array) -> str:
    """Floats compare with floats of any precision, integers with integers."""
    if tolerance(value.dtype) is not EXACT:
        return "complex" if value.dtype.kind == "c" else "float"
    if value.dtype.kind in "iu" or value.dtype.name.startswith(("int", "uint")):
        return "integer"
    return value.dtype.kind
