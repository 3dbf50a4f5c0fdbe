"""Replay: every stretch of the model between captured tensors, computed again from the engine's own values.

What a kernel's output differs by from that replay is the error that this kernel introduced; what it inherited
from its inputs is in the replay too. One run of the whole model, in which readers of captured tensors get the
captured values, replays all kernels at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from graphkit.compare.bounds import Noise, noise
from graphkit.compare.causes import Evidence, evidence
from graphkit.compare.link import Link
from graphkit.compare.measures import measure
from graphkit.compare.samples import FINE, Sample, distance, take
from graphkit.engine.boundary import Boundary, EngineGraph
from graphkit.report.diffs import Metrics
from graphkit.run.stream import Program, Rounding

__all__ = ["Borders", "Replayed", "region", "replay", "rounding_noise"]

Array = NDArray[Any]
Read = Callable[[Boundary], Array]
_COPY = 2e-3  # rms over rms: the error of a cast to half precision, at most
_SUSPECT = 2e-3  # rms over rms, above which the values are looked at for a cause


class Borders:
    """The links of one run, by the ONNX tensors they stand for, and the engine's values of those."""

    def __init__(self, links: Iterable[Link], read: Read) -> None:
        self._read = read
        self.links: dict[str, list[Link]] = {}
        for link in sorted(links, key=lambda k: (k.boundary.copy, k.boundary.order)):
            for tensor in link.form.tensors:
                self.links.setdefault(tensor, []).append(link)

    def __contains__(self, tensor: object) -> bool:
        return tensor in self.links

    def value(self, tensor: str, link: Link | None = None) -> Array:
        """What the engine has for an ONNX tensor, at its first border (or that of ``link``)."""
        link = link or self.links[tensor][0]
        return link.form.read(self._read(link.boundary))[tensor]

    def lender(self, tensor: str) -> Link:
        """The border whose values the tensor's readers get in a replay.

        The first one, or a copy that came out otherwise: it is for a reader that a copy is made.
        """
        lender, *copies = self.links[tensor]
        for copy in copies:
            if _apart(self.value(tensor, lender), self.value(tensor, copy)):
                lender = copy
        return lender

    def lent(self, tensor: str) -> Array | None:
        """What readers of the tensor get in a replay: the engine's value; None where none was captured."""
        return _plain(self.value(tensor, self.lender(tensor))) if tensor in self else None


@dataclass
class Replayed:
    """What one replay found: metrics by (border, ONNX tensor), samples of all, fine ones of borders."""

    introduced: dict[tuple[Boundary, str], Metrics]
    samples: dict[str, Sample]
    fine: dict[str, Array]
    evidence: dict[tuple[Boundary, str], Evidence]


class Measuring:
    """Compares tensors in a thread of its own, while the run goes on that computes the next ones.

    At most ``memory`` bytes wait for their comparison; ``metrics`` and ``evidence`` are whole after the
    block.
    """

    def __init__(
        self, custom: Mapping[str, Callable[..., Any]] | None, memory: int, *, why: bool = True
    ) -> None:
        self._custom, self._memory, self._why = custom, memory, why
        self._pool = ThreadPoolExecutor(1)  # more of them wait for each other: pieces are small
        self._held: deque[tuple[Future[None], int]] = deque()
        self.metrics: dict[tuple[Boundary, str], Metrics] = {}
        self.evidence: dict[tuple[Boundary, str], Evidence] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        with self._pool:
            while self._held and failure[0] is None:
                self._held.popleft()[0].result()

    def add(self, link: Link, tensor: str, expected: Array, actual: Array) -> None:
        """Compare the engine's values of an ONNX tensor with what they should be."""
        task = self._pool.submit(self._measure, link, tensor, expected.reshape(actual.shape), actual)
        self._held.append((task, expected.nbytes + actual.nbytes))
        while sum(size for _, size in self._held) > self._memory:
            self._held.popleft()[0].result()

    def _measure(self, link: Link, tensor: str, expected: Array, actual: Array) -> None:
        found = measure(expected, actual, dtype=link.boundary.dtype, custom=self._custom)
        self.metrics[link.boundary, tensor] = found
        if self._why and found.rms_rel > _SUSPECT and (kind := evidence(expected, actual)) is not None:
            self.evidence[link.boundary, tensor] = kind


def replay(
    program: Program,
    feed: Mapping[str, Any],
    borders: Borders,
    *,
    custom: Mapping[str, Callable[..., Any]] | None = None,
    memory: int = 128 << 20,
) -> Replayed:
    """Run the model on the captured values; compare each captured tensor with what it should have been.

    A tensor captured again after a copy is compared with what was copied. ``memory`` bounds the bytes that
    wait for their comparison.
    """
    samples: dict[str, Sample] = {}
    fine: dict[str, Array] = {}

    def judge(tensor: str, computed: Array) -> None:
        first = borders.value(tensor)
        for place, link in enumerate(borders.links[tensor]):
            if place == 0:
                measuring.add(link, tensor, computed, first)
            else:
                measuring.add(link, tensor, first, borders.value(tensor, link))

    def seen(name: str, value: Array) -> None:
        value = np.asarray(value)
        samples[name] = Sample(value)
        if name in borders:
            fine[name] = take(value, FINE)
            judge(name, value)

    with Measuring(custom, memory) as measuring:
        for name in feed:
            if name in borders:  # an input that was copied or padded
                judge(name, np.asarray(feed[name]))
        program.run(feed, seen, given=borders.lent, cuts=borders)
    return Replayed(measuring.metrics, samples, fine, measuring.evidence)


def rounding_noise(
    program: Program,
    feed: Mapping[str, Any],
    borders: Borders,
    exact: Mapping[str, Array],
    rounding: Rounding,
) -> dict[str, Noise]:
    """What the engine's own precision may do to each captured tensor, from its captured inputs."""
    found: dict[str, Noise] = {}

    def seen(name: str, value: Array) -> None:
        found[name] = noise(exact[name], take(np.asarray(value), FINE))

    program.run(feed, seen, wanted=exact, given=borders.lent, cuts=borders, rounding=rounding)
    return found


def region(
    engine: EngineGraph, linked: Mapping[Boundary, Link], boundary: Boundary, inputs: Sequence[str]
) -> tuple[list[int], list[Boundary]]:
    """The kernels between a captured tensor and the paired ones before it, and those paired ones."""
    if boundary.kernel is None:
        return [], []
    waiting, kernels, border = [boundary.kernel], [boundary.kernel], list[Boundary]()
    while waiting:
        place = waiting.pop()
        for name, reported, writers in engine.read_by(place):
            if name in inputs:
                continue
            before = [
                b
                for b in reported
                if b in linked and b != boundary and (b.kernel is None or b.kernel != place)
            ]
            if before:
                border += [b for b in before if b not in border]
                continue
            for writer in writers:
                if writer not in kernels and writer < boundary.kernel:
                    kernels.append(writer)
                    waiting.append(writer)
    return sorted(kernels), border


def _plain(value: Array) -> Array:
    """A value as ONNX Runtime takes it: float16 and bfloat16 of an engine are read in fp32 by the replay."""
    return value.astype(np.float32) if value.dtype.name in ("float16", "bfloat16") else value


def _apart(first: Array, copy: Array) -> bool:
    """Whether a copy is none, by the places of a sample."""
    x, y = take(first, FINE), take(copy, FINE)
    spoilt = bool((np.isfinite(x) != np.isfinite(y)).any())
    return spoilt or distance(x, y) > _COPY
