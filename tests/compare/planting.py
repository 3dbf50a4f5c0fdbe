"""A simulated engine with one fault: TensorRT's own kernels and tensors, values as TF32 or fp16 gives them.

What a real capture says of an engine (its kernels, which tensors come out, in what form) is kept; the values
are computed anew, in the engine's precision, with the output of one kernel spoilt, so that everything after
it inherits the fault.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from graphkit.compare.engines import Analysis, refer
from graphkit.compare.flat import Flat
from graphkit.compare.forms import Padded, Scaled, SideBySide, View
from graphkit.compare.judge import Bounds
from graphkit.compare.link import Link
from graphkit.engine.boundary import Boundary
from graphkit.engine.kernel import Kernel
from graphkit.run import storage
from graphkit.run.capture_file import Capture, CaptureWriter
from graphkit.run.captured import CapturedRun, CapturedTensor, LazyArray, Source
from graphkit.run.stream import Rounding

Fault = Callable[[np.ndarray], np.ndarray]


def gain(value: np.ndarray) -> np.ndarray:
    """1% too much."""
    return (value.astype(np.float32) * np.float32(1.01)).astype(value.dtype)


def swapped(value: np.ndarray) -> np.ndarray:
    """The two channels that differ most change places."""
    axis = 1 if value.ndim > 2 and value.shape[1] > 1 else value.ndim - 1
    wrong = value.copy()
    a, b = _unlike(value, axis)
    x, y = np.moveaxis(wrong, axis, 0), np.moveaxis(value, axis, 0)
    x[a], x[b] = y[b], y[a]
    return wrong


def _unlike(value: np.ndarray, axis: int) -> tuple[int, int]:
    rows = np.moveaxis(value.astype(np.float64), axis, 0).reshape(value.shape[axis], -1)
    first = int(np.argmax((rows**2).sum(axis=1)))
    return first, int(np.argmax(((rows - rows[first]) ** 2).sum(axis=1)))


def nan(value: np.ndarray) -> np.ndarray:
    """One NaN in the middle."""
    wrong = value.copy()
    wrong.reshape(-1)[wrong.size // 2] = np.nan
    return wrong


def overflow(value: np.ndarray) -> np.ndarray:
    """The largest values left the range of float16, as where an accumulator of half precision does."""
    wrong = value.copy()
    wide = np.abs(value.astype(np.float64))
    most = wide >= np.quantile(wide, 0.99)
    wrong[most] = np.copysign(np.inf, value[most].astype(np.float32)).astype(value.dtype)
    return wrong


FAULTS: Mapping[str, Fault] = {"gain": gain, "swap": swapped, "nan": nan, "overflow": overflow}


class Simulated:
    """A captured run of an engine, understood well enough to compute it again."""

    def __init__(self, flat: Flat, run: CapturedRun, kernels: Sequence[Kernel], *, tf32: bool = True) -> None:
        self.flat, self.run, self.kernels, self.tf32 = flat, run, kernels, tf32
        self.reference = refer(flat, 256 << 20)
        analysis = Analysis(flat, run, kernels, tf32, Bounds(), {}, 256 << 20, self.reference)
        analysis.result()
        self.links: Mapping[Boundary, Link] = analysis._links
        self._by_name = {(b.name, b.call): link for b, link in self.links.items()}
        self._sources = analysis._sources

    def candidates(self, fault: Fault = gain) -> list[Boundary]:
        """Boundaries of kernels that compute something and hold one whole tensor of the model, in order.

        Channels are swapped, and a hundredth overflows, only where a channel is more than one value.
        """
        least = 1 if fault in (gain, nan) else 2
        found = [
            b
            for b, link in self.links.items()
            if not b.copy
            and b.kernel is not None
            and isinstance(link.form, View)
            and b.dtype in ("float32", "float16")
            and len([d for d in b.dims if d > 1]) >= least
            and np.prod(b.dims) >= 16
            and float(np.std(self._sources[b.name, b.call].read().astype(np.float64))) > 1e-6
        ]
        return sorted(found, key=lambda b: (b.kernel or 0, b.order))

    def spoil(self, victim: Boundary | None, fault: Fault = gain) -> CapturedRun:
        """The run with the fault in the victim's output, and all that follows from it; None for no fault."""
        if victim is None:
            return self._rebuilt(self._healthy)
        target = self.links[victim].form.tensors[0]
        right = self._healthy[target].astype(victim.dtype)
        wrong = fault(right).astype(np.float32)
        assert victim.kernel is not None
        earlier = {b for b in self.links if b.kernel is not None and b.kernel < victim.kernel}
        return self._rebuilt({**self._computed(target, wrong), target: wrong}, earlier)

    @cached_property
    def _healthy(self) -> dict[str, np.ndarray]:
        return self._computed()

    def _computed(self, target: str = "", wrong: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The model's tensors in the engine's precision; ``target`` is ``wrong`` for all that read it."""
        wanted = {t for link in self.links.values() for t in link.form.tensors}
        computed = {name: np.asarray(value) for name, value in self.flat.feed.items()}
        self.flat.program.run(
            self.flat.feed,
            lambda name, value: computed.update({name: np.asarray(value)}),
            wanted=wanted,
            given=lambda name: wrong if name == target else None,
            cuts={target} & wanted,
            rounding=Rounding(tf32=self.tf32, native=self.flat.native),
        )
        return computed

    def _rebuilt(self, computed: Mapping[str, np.ndarray], sound: Container[Boundary] = ()) -> CapturedRun:
        """The captured run with these values; those of ``sound`` boundaries, which came before, are right."""
        source = Source("simulated")

        def lazy(array: LazyArray, call: int = 0) -> dict[str, Any]:
            link = self._by_name.get((array.name, call))
            values = self._healthy if link is not None and link.boundary in sound else computed
            value = array.read() if link is None else written(link, values, array.read())
            key = f"{array.name}#{call}"
            source.arrays[key] = storage.to_raw(value)
            return {
                "name": array.name,
                "dtype": array.dtype,
                "dims": array.dims,
                "key": key,
                "source": source,
            }

        return CapturedRun(
            self.run.label,
            {n: LazyArray(**lazy(a)) for n, a in self.run.inputs.items()},
            {n: LazyArray(**lazy(a)) for n, a in self.run.outputs.items()},
            [
                CapturedTensor(**lazy(t, t.call), call=t.call, order=t.order)
                for t in self.run.tensors
                if (t.name, t.call) in self._by_name
            ],
        )


def saved(path: Path, capture: Capture, runs: Iterable[CapturedRun], **meta: Any) -> Path:
    """A capture file of these runs of the engine that ``capture`` is of; ``meta`` replaces what that says."""
    with CaptureWriter(path, {**capture.meta, **meta}, capture.layers) as writer:
        for run in runs:
            writer.begin_run(run.label)
            for name, array in run.inputs.items():
                writer.add_input(name, array.read())
            for tensor in run.tensors:
                writer.add_tensor(tensor.name, tensor.read())
            for name, array in run.outputs.items():
                writer.add_output(name, array.read())
    return path


def written(link: Link, computed: Mapping[str, np.ndarray], like: np.ndarray) -> np.ndarray:
    """What the engine's tensor holds when the model's are ``computed``; padding as it was captured."""
    form, value = link.form, like.astype(np.float32)
    if isinstance(form, View):
        value = computed[form.tensor].reshape(like.shape)
    elif isinstance(form, Padded):
        inner = tuple(slice(0, k) for k in form.kept)
        value[inner] = computed[form.tensor].reshape(value[inner].shape)
    elif isinstance(form, Scaled):
        value = (computed[form.tensor] * np.float32(form.factor)).reshape(like.shape)
    elif isinstance(form, SideBySide):
        for block in form.blocks:
            width = block.stop - block.start
            target = np.moveaxis(value, form.axis, -1)[..., block.at : block.at + width]
            piece = np.moveaxis(computed[block.tensor], block.axis, -1)[..., block.start : block.stop]
            target[...] = piece.reshape(target.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(value.astype(like.dtype))
