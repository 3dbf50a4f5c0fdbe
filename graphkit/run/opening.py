"""The sessions of a program: made when first needed, kept for later runs; a failure is put down to a node."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from onnx import ModelProto, TypeProto

from graphkit.run.flow import Flow
from graphkit.run.parts import EvaluatedPart, PartSession
from graphkit.run.reference import CannotRun, brief, lacks_kernel
from graphkit.run.rounding import Rounding
from graphkit.run.segments import Part, Segment, Writer
from graphkit.run.tensors import Tensors
from graphkit.run.weights import Weights

_THREADS = 1024  # of the sessions that are kept; each has one for every core
Kind = Callable[[str], TypeProto]
Session: TypeAlias = PartSession | EvaluatedPart


class Refused(Exception):
    """ONNX Runtime does not load a segment; ``alone`` are the places of nodes that it does not load alone."""

    def __init__(self, alone: Collection[int]) -> None:
        super().__init__()
        self.alone = alone


class Opener:
    """Opens segments of one model; ``loads`` counts the sessions that were made."""

    def __init__(self, model: ModelProto, flow: Flow, weights: Weights, folder: Path | None) -> None:
        self._flow, self._weights, self._folder = flow, weights, folder
        self._writer = Writer(model, flow, weights)
        self._kept: dict[Any, Session] = {}
        self.loads = 0

    def open(self, segment: Segment, kind: Kind, tensors: Tensors, rounding: Rounding) -> Session:
        """A session for the segment, which is fed tensors of these kinds.

        Raises Refused for a segment that should be divided, CannotRun for a node that nothing at hand runs.
        """
        key = (segment, *self._fed(segment, kind), rounding.tf32, self._rounded(segment, rounding))
        found = self._kept.get(key)
        if found is None:
            found = self._open(segment, kind, tensors, rounding)
            while len(self._kept) >= max(_THREADS // (os.cpu_count() or 1), 4):
                del self._kept[next(iter(self._kept))]
            self._kept[key] = found
        return found

    def _fed(self, segment: Segment, kind: Kind) -> list[tuple[str, bytes]]:
        """What the session is fed besides weights, with types and shapes."""
        made = {n for place in segment.places for n in self._flow.makes[place]} - segment.cuts
        read = {n for place in segment.places for n in self._flow.reads[place] if n not in made}
        return [(n, kind(n).SerializeToString()) for n in sorted(read) if n not in self._weights]

    def _rounded(self, segment: Segment, rounding: Rounding) -> frozenset[tuple[str, str]]:
        made = (n for place in segment.places for n in self._flow.makes[place])
        return frozenset((n, rounding.native[n]) for n in made if n in rounding.native)

    def _open(self, segment: Segment, kind: Kind, tensors: Tensors, rounding: Rounding) -> Session:
        part = self._writer.write(segment, kind, tensors, rounding)
        self.loads += 1
        try:
            return PartSession(part, self._folder)
        except Exception as error:  # ONNX Runtime's errors share no base class of their own
            if len(segment.places) == 1:
                return self._evaluated(part, segment, error)
            alone = self._refusing(segment.places, kind, tensors)
            if not alone:
                raise CannotRun(brief(error)) from error
            raise Refused(alone) from error

    def _evaluated(self, part: Part, segment: Segment, error: Exception) -> EvaluatedPart:
        """A single node that ONNX Runtime has no kernel for, on onnx's evaluator; CannotRun names it."""
        node = self._flow.nodes[segment.places[0]]
        where = f"node '{node.name or next(iter(node.output), '')}' ({node.op_type}): "
        if not lacks_kernel(error):
            raise CannotRun(where + brief(error)) from error
        try:
            return EvaluatedPart(part, self._folder)
        except CannotRun as second:
            raise CannotRun(f"{where}{brief(error)}; {second}") from error

    def _refusing(self, places: Sequence[int], kind: Kind, tensors: Tensors) -> set[int]:
        """Nodes that ONNX Runtime does not load by themselves, by what inference says of their operands."""
        found = set()
        for place in places:
            alone = Segment((place,), tuple(self._flow.makes[place]), frozenset())
            try:
                PartSession(self._writer.write(alone, kind, tensors, Rounding()), self._folder)
            except Exception:  # as in _open
                found.add(place)
        return found
