"""Which tensor of the model each of an engine's tensors is: found by where it lies and by what it holds.

Names are never used, they lie. A tensor is taken for the one whose values it has, among all of the model;
of several with equal values, for the one that its kernel's own nodes make. What agrees with none is left to
the caller, which asks again with values replayed from the engine's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphkit.compare.forms import Block, Form, Padded, Scaled, SideBySide, View, block_sample, crop, splits
from graphkit.compare.samples import Sample, distance, distances
from graphkit.engine.boundary import Boundary, EngineGraph
from graphkit.engine.mapping import Structure

__all__ = ["Link", "Linker"]

Array = NDArray[Any]

_NEAR = {"float16": 0.08, "bfloat16": 0.15, "float8_e4m3fn": 0.3, "float8_e5m2": 0.4, "int8": 0.3}
_CLOSE = 0.04  # of a float32 tensor's rms: far above TF32, far below what tells two tensors apart
_CLEAR = 3.0  # how many times further the next best must be
_FEW = 8  # values: fewer agree by chance
_EQUAL = 1e-5


@dataclass(frozen=True)
class Link:
    """What a reported tensor is of the model's, how sure that is (0 to 1) and why; ``distance`` is rms over
    rms."""

    boundary: Boundary
    form: Form
    confidence: float
    evidence: str
    distance: float


class Linker:
    """Pairs an engine's reported tensors with those of one model."""

    def __init__(
        self,
        structure: Structure,
        engine: EngineGraph,
        read: Callable[[Boundary], Array],
        factors: Mapping[str, float] | None = None,
    ) -> None:
        """``read`` gives a reported tensor's values, ``factors`` the model's scalars by name."""
        self._s, self._engine, self._read = structure, engine, read
        self._factors = dict(factors or {})
        self._values: dict[Boundary, Sample] = {}
        self._neighbours: dict[Boundary, set[Boundary]] = defaultdict(set)
        self._own: dict[int, tuple[frozenset[str], frozenset[str]]] = {}

    def sample(self, boundary: Boundary) -> Sample:
        """Some values of a reported tensor."""
        if boundary not in self._values:
            self._values[boundary] = Sample(self._read(boundary))
        return self._values[boundary]

    def match(self, samples: Mapping[str, Sample], asked: Iterable[Boundary]) -> dict[Boundary, Link]:
        """A link for each boundary whose values are those of a tensor in ``samples``, and of no other."""
        catalogue = _Catalogue(samples)
        found: dict[Boundary, Link] = {}
        for boundary in asked:
            link = self._view(boundary, catalogue) or self._other(boundary, catalogue)
            if link is not None:
                found[boundary] = link
        return found

    # -- by value, in the tensor's own order

    def _view(self, boundary: Boundary, catalogue: _Catalogue) -> Link | None:
        sample = self.sample(boundary)
        names, apart = catalogue.distances(sample)
        if not names:
            return None
        best = int(np.argmin(apart))
        near = float(apart[best])
        if not near <= _NEAR.get(boundary.dtype, _CLOSE):
            return None
        ties, runner_up = catalogue.ties(names, apart, best)
        own, around = self._kernel(boundary.kernel)
        local = [n for n in ties if n in own] or [n for n in ties if n in around]
        if runner_up < _CLEAR * near and not local:
            return None
        if sample.count < _FEW and not local:
            return None
        name = min(local or ties, key=lambda n: self._s.maker.get(n, -1))
        dims = catalogue.dims(name)
        form = View(name, dims, name.endswith(_BARE), _plain(dims) == _plain(boundary.dims))
        confidence = 0.99 if local else 0.9
        if runner_up < _CLEAR * near:
            confidence -= 0.3
        why = "by value, among its kernel's own nodes" if local else "by value, among all tensors"
        return Link(boundary, form, confidence, why, near)

    def _kernel(self, place: int | None) -> tuple[frozenset[str], frozenset[str]]:
        """The tensors that a kernel's nodes make, and those around them."""
        if place is None:
            return frozenset(), frozenset()
        if place not in self._own:
            nodes = self._s.of(self._engine.kernels[place])
            self._own[place] = (
                frozenset(self._s.made(nodes)),
                frozenset(self._s.made(self._s.around(nodes))),
            )
        return self._own[place]

    # -- by value, in another form

    def _other(self, boundary: Boundary, catalogue: _Catalogue) -> Link | None:
        own, around = self._kernel(boundary.kernel)
        value = self._read(boundary)
        limit = _NEAR.get(boundary.dtype, _CLOSE)
        found = [
            *self._padded(boundary, value, catalogue),
            *self._scaled(boundary, catalogue, own | around),
            *self._joined(boundary, value, catalogue, own | around),
        ]
        found = [link for link in found if link.distance <= limit]
        return min(found, key=lambda k: (not set(k.form.tensors) & around, k.distance), default=None)

    def _padded(self, boundary: Boundary, value: Array, catalogue: _Catalogue) -> Iterable[Link]:
        kept_by: dict[tuple[int, ...], Array] = {}
        best: dict[tuple[int, ...], tuple[float, str]] = {}
        own, around = self._kernel(boundary.kernel)
        for dims, names in catalogue.by_dims.items():
            kept = crop(boundary.dims, dims) if 2 * _size(dims) > value.size / 8 else None
            if kept is None or _size(dims) >= value.size:
                continue
            if kept not in kept_by:
                kept_by[kept] = Sample(value[tuple(slice(0, k) for k in kept)]).values
            apart = distances(kept_by[kept], catalogue.values(names))
            near = float(apart.min())
            equal = [n for n, a in zip(names, apart, strict=True) if a <= near * 1.5 + _EQUAL]
            local = [n for n in equal if n in own] or [n for n in equal if n in around]
            if local or (len(kept_by[kept]) >= _FEW and near < _CLOSE):
                name = min(local or equal, key=lambda n: self._s.maker.get(n, -1))
                if dims not in best or near < best[dims][0]:
                    best[dims] = (near, name)
        for dims, (near, name) in best.items():
            kept = crop(boundary.dims, dims)
            if kept is not None and _padding(value, kept):
                why = "by value, without the padding"
                yield Link(boundary, Padded(name, dims, kept), 0.95 if name in around else 0.8, why, near)

    def _scaled(self, boundary: Boundary, catalogue: _Catalogue, near_by: frozenset[str]) -> Iterable[Link]:
        sample = self.sample(boundary)
        if boundary.dtype not in ("float32", "float16", "bfloat16", "float64"):
            return
        factors = self._scalars(boundary.kernel)
        for name in (n for n in catalogue.names(sample.count) if n in near_by):
            for factor in factors:
                with np.errstate(over="ignore", invalid="ignore"):
                    apart = distance(sample.values / np.float32(factor), catalogue.samples[name].values)
                if apart <= _CLOSE / 4:
                    form = Scaled(name, catalogue.dims(name), factor)
                    yield Link(
                        boundary, form, 0.85, f"by value, times the model's constant {factor:.6g}", apart
                    )

    def _scalars(self, place: int | None) -> list[float]:
        """What a builder may have moved: scalars around a kernel's nodes, their inverses and roots."""
        nodes = [] if place is None else self._s.around(self._s.of(self._engine.kernels[place]))
        read = {self._factors[n] for p in nodes for n in self._s.nodes[p].input if n in self._factors}
        found = {f for g in read if g for f in (g, 1 / g, abs(g) ** 0.5, abs(g) ** -0.5)}
        return sorted(found - {1.0})

    def _joined(
        self, boundary: Boundary, value: Array, catalogue: _Catalogue, near_by: frozenset[str]
    ) -> Iterable[Link]:
        """Tensors joined along one axis: of nodes that read the same input, or blocks of one of them."""
        own, _ = self._kernel(boundary.kernel)
        pieces = [n for n in catalogue.samples if n in own | self._siblings(own)]
        for axis in range(value.ndim):
            link = self._fill(boundary, value, axis, pieces, catalogue)
            if link is not None:
                yield link

    def _parts(self, name: str) -> tuple[int, ...]:
        """Into how many blocks a tensor may fall: as one, or where the model splits it, into a few."""
        split = any(self._s.nodes[p].op_type in _SPLITS for p in self._s.after([name], _REACH))
        return _PARTS if split else (1,)

    def _siblings(self, names: Iterable[str]) -> set[str]:
        """What nodes of the same type make of the tensors that the makers of ``names`` read."""
        found: set[str] = set()
        for name in names:
            place = self._s.maker.get(name)
            if place is None or not self._s.nodes[place].input:
                continue
            node = self._s.nodes[place]
            for reader in self._s.readers.get(node.input[0], ()):
                if self._s.nodes[reader].op_type == node.op_type:
                    found.update(self._s.made([reader]))
        return found

    def _fill(
        self, boundary: Boundary, value: Array, axis: int, pieces: Sequence[str], catalogue: _Catalogue
    ) -> Link | None:
        width = value.shape[axis]
        left = [
            (Block(name, catalogue.dims(name), own, start, start + step, 0), axis)
            for name in pieces
            for engine_axis, own in splits(catalogue.dims(name), value.shape)
            if engine_axis == axis
            for count in self._parts(name)
            for step in [catalogue.dims(name)[own] // count]
            if step * count == catalogue.dims(name)[own] and _NARROW * (count > 1) <= step < width
            for start in range(0, step * count, step)
        ]
        taken: list[Block] = []
        at, worst = 0, 0.0
        while at < width:
            ranked = []
            for block, _ in left:
                if at + block.stop - block.start > width or any(_overlap(block, t) for t in taken):
                    continue
                placed = Block(block.tensor, block.dims, block.axis, block.start, block.stop, at)
                inside, mine = block_sample(value, axis, placed)
                apart = distance(mine, catalogue.samples[block.tensor].values[inside])
                if apart <= _NEAR.get(boundary.dtype, _CLOSE):
                    ranked.append((block.start - block.stop, apart, placed))
            if not ranked:
                return None
            _, apart, placed = min(ranked, key=lambda r: r[:2])
            taken.append(placed)
            at, worst = at + placed.stop - placed.start, max(worst, apart)
        if len(taken) < 2 or not _whole(taken):
            return None
        return Link(boundary, SideBySide(tuple(taken), axis), 0.95, "by value, piece by piece", worst)

    def nearest(self, boundary: Boundary, samples: Mapping[str, Sample]) -> str | None:
        """The tensor of this size whose values are nearest, however far; None without any that is finite."""
        sample = self.sample(boundary)
        apart = {n: distance(sample.values, s.values) for n, s in samples.items() if s.count == sample.count}
        name = min(apart, key=lambda n: apart[n], default=None)
        return name if name is not None and np.isfinite(apart[name]) else None

    # -- by place

    def guess(
        self,
        boundary: Boundary,
        samples: Mapping[str, Sample],
        linked: Mapping[Boundary, Link],
        refused: Container[tuple[Boundary, str]] = (),
    ) -> Link | None:
        """The tensor that lies where this one does, whatever values it has; None when there is none left.

        Of those that the kernel's nodes hand on, or that lie a few views from these, or that follow from what
        it reads where it names no nodes, the nearest one of this size.
        """
        if boundary.kernel is None or boundary.copy:
            return None
        nodes = self._s.of(self._engine.kernels[boundary.kernel])
        beside = self._beside(boundary)
        taken = {t for b, k in linked.items() if k.confidence < 1 and b not in beside for t in k.form.tensors}
        outputs = {t for k in linked.values() for t in k.form.tensors} - taken

        def free(names: Iterable[str]) -> list[str]:
            left = [n for n in names if n in samples and n not in taken and (boundary, n) not in refused]
            return [n for n in left if n not in outputs] or left

        edge = free(self._s.frontier(nodes) if nodes else self._after(boundary.kernel, linked))
        link = self._closest(boundary, edge, samples, np.inf if nodes else _VAGUE)
        if link is not None or not nodes:
            return link
        wider = [(n, kept) for n in edge if (kept := crop(boundary.dims, samples[n].dims)) is not None]
        if len(wider) == 1:
            name, kept = wider[0]
            return Link(boundary, Padded(name, samples[name].dims, kept), 0.5, _PLACE, np.inf)
        return self._closest(boundary, free(self._s.made(self._s.around(nodes))), samples, _VAGUE)

    def _closest(
        self, boundary: Boundary, names: Iterable[str], samples: Mapping[str, Sample], limit: float
    ) -> Link | None:
        """The one of these tensors of the boundary's size whose values are nearest, within ``limit``."""
        sample = self.sample(boundary)
        same = [n for n in names if samples[n].count == sample.count]
        apart = {n: distance(sample.values, samples[n].values) for n in same}
        name = min(apart, key=lambda n: apart[n], default=None)
        if name is None or not apart[name] <= limit:
            return None
        dims = samples[name].dims
        form = View(name, dims, name.endswith(_BARE), _plain(dims) == _plain(boundary.dims))
        return Link(boundary, form, 0.6 if len(same) == 1 else 0.4, _PLACE, apart[name])

    def _beside(self, boundary: Boundary) -> set[Boundary]:
        """The reported tensors that a boundary's kernel reads, and those that kernels make which read it."""
        if not self._neighbours:
            made: dict[int, list[Boundary]] = defaultdict(list)
            for b in self._engine.boundaries:
                if b.kernel is not None:
                    made[b.kernel].append(b)
            for place, theirs in made.items():
                for b in (b for _, reported, _ in self._engine.read_by(place) for b in reported):
                    self._neighbours[b].update(theirs)
                    for t in theirs:
                        self._neighbours[t].add(b)
        return self._neighbours[boundary]

    def _after(self, place: int, linked: Mapping[Boundary, Link]) -> list[str]:
        """The tensors a few steps after those that a kernel reads."""
        read = [b for _, reported, _ in self._engine.read_by(place) for b in reported if b in linked]
        return self._s.made(sorted(self._s.after([t for b in read for t in linked[b].form.tensors], _STEPS)))


_BARE = ":before_bias"
_PLACE = "by place: its kernel's nodes hand it on"
_VAGUE = 0.7
_STEPS = 12
_PARTS = (1, 2, 3, 4, 6)
_SPLITS = frozenset({"Split", "Slice", "Gather"})
_REACH = 5  # steps to the node that splits: a bias, a Reshape, a Transpose
_NARROW = 8  # columns of a block: fewer could be channels in a wrong order


class _Catalogue:
    """The samples of a model's tensors, grouped so that many are compared at once."""

    def __init__(self, samples: Mapping[str, Sample]) -> None:
        self.samples = samples
        self.by_dims: dict[tuple[int, ...], list[str]] = defaultdict(list)
        self._by_count: dict[int, list[str]] = defaultdict(list)
        for name, sample in samples.items():
            self.by_dims[sample.dims].append(name)
            self._by_count[sample.count].append(name)
        self._stacks: dict[tuple[str, ...], Array] = {}

    def names(self, count: int) -> list[str]:
        return self._by_count.get(count, [])

    def dims(self, name: str) -> tuple[int, ...]:
        return self.samples[name].dims

    def values(self, names: Sequence[str]) -> Array:
        key = tuple(names)
        if key not in self._stacks:
            self._stacks[key] = np.stack([self.samples[n].values for n in names])
        return self._stacks[key]

    def distances(self, sample: Sample) -> tuple[list[str], Array]:
        """The tensors of that many elements, and how far each is from the sample."""
        names = self.names(sample.count)
        return names, distances(sample.values, self.values(names)) if names else np.zeros(0)

    def ties(self, names: Sequence[str], apart: Array, best: int) -> tuple[list[str], float]:
        """The tensors with the same values as the best, and the distance of the nearest without."""
        between = distances(self.samples[names[best]].values, self.values(names))
        same = (between <= max(_EQUAL, 0.2 * float(apart[best]))) | (np.arange(len(names)) == best)
        others = apart[~same]
        return [n for n, s in zip(names, same, strict=True) if s], float(others.min(initial=np.inf))


def _plain(dims: Sequence[int]) -> tuple[int, ...]:
    return tuple(d for d in dims if d != 1)


def _size(dims: Sequence[int]) -> int:
    return int(np.prod(dims, dtype=np.int64)) if dims else 1


def _padding(value: Array, kept: Sequence[int]) -> bool:
    """Whether all that is not kept has one value, what is not finite aside: zeros, or what zeros became."""
    found = []
    for axis, keep in enumerate(kept):
        rest = value[(*(slice(0, k) for k in kept[:axis]), slice(keep, None))].astype(np.float32)
        finite = rest[np.isfinite(rest)]
        found += [float(finite.min()), float(finite.max())] if finite.size else []
    return not found or max(found) - min(found) <= _CLOSE / 4 * max(map(abs, found))


def _overlap(a: Block, b: Block) -> bool:
    return a.tensor == b.tensor and (a.axis != b.axis or (a.start < b.stop and b.start < a.stop))


def _whole(blocks: Sequence[Block]) -> bool:
    """Whether every tensor of which a block was found is there with all its blocks."""
    widths: dict[str, int] = defaultdict(int)
    for block in blocks:
        widths[block.tensor] += block.stop - block.start
    return all(widths[b.tensor] == b.dims[b.axis] for b in blocks)
