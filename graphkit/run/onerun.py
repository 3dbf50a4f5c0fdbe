"""One run of a program: what is held for readers to come, what they get instead, and who sees it."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TypeProto

from graphkit.errors import BadInput
from graphkit.run.flow import Flow
from graphkit.run.opening import Opener, Refused
from graphkit.run.parts import give_back
from graphkit.run.rounding import Rounding, tf32
from graphkit.run.segments import Picker, Segment
from graphkit.run.tensors import Tensors
from graphkit.run.weights import Weights

Array = NDArray[Any]
Given = Callable[[str], Array | None]
Seen = Callable[[str, Array], None]


@dataclass(frozen=True)
class Asked:
    """What one run is asked for; see `Program.run`."""

    feed: Mapping[str, Any]
    seen: Seen
    wanted: Container[str] | None
    given: Given | None
    cuts: Container[str] | None
    rounding: Rounding

    def wants(self, name: str) -> bool:
        """Whether ``seen`` gets the tensor."""
        return self.wanted is None or name in self.wanted

    def may_cut(self, name: str) -> bool:
        """Whether the tensor's readers may get another value."""
        return self.given is not None and (self.cuts is None or name in self.cuts)

    def is_cut(self, name: str) -> bool:
        """Whether they will: known beforehand only when it was said."""
        return self.cuts is not None and self.may_cut(name)


@dataclass(frozen=True)
class Loaded:
    """What all runs of a program share."""

    flow: Flow
    weights: Weights
    picker: Picker
    opener: Opener
    inputs: Mapping[str, TypeProto]


class OneRun:
    """Runs segment after segment."""

    def __init__(self, loaded: Loaded, tensors: Tensors, asked: Asked) -> None:
        self._loaded, self._tensors, self._asked = loaded, tensors, asked
        self._held: dict[str, Any] = {}
        self._lent: dict[str, Array | None] = {}
        self._todo = loaded.flow.needed(asked.wants, asked.is_cut)
        self._made = {n for place in self._todo for n in loaded.flow.makes[place]}
        self._last = loaded.flow.last_read(self._todo)

    def run(self) -> None:
        """Runs all that is needed."""
        weights = self._loaded.weights
        for name in weights.constants:
            if name in weights.fed and self._asked.wants(name):
                self._asked.seen(name, weights.array(name))
        left = self._todo
        while left:
            segment = self._loaded.picker.take(
                left,
                tensors=self._tensors,
                held=self._held,
                last=self._last,
                wanted=self._asked.wants,
                given=self._lend,
                rounding=self._asked.rounding,
            )
            try:
                self._run(segment)
            except Refused as refusal:
                self._loaded.picker.alone.update(refusal.alone)
                continue
            left = left[len(segment.places) :]

    def _lend(self, name: str) -> int | None:
        """The size of what the tensor's readers get; the value is kept for them."""
        if not self._asked.may_cut(name):
            return None
        if name not in self._lent:
            value = self._asked.given(name) if self._asked.given is not None else None
            self._lent[name] = None if value is None else self._fitted(name, np.asarray(value))
        lent = self._lent[name]
        return None if lent is None else int(lent.nbytes)

    def _lend_unmade(self, segment: Segment) -> None:
        """Cut tensors that the segment reads and no node of this run makes: nobody wants what made them."""
        flow = self._loaded.flow
        for name in (n for place in segment.places for n in flow.reads[place]):
            if name in flow.maker and name not in self._made and name not in self._held:
                if self._lend(name) is None:
                    raise BadInput(f"tensor '{name}' is said to be given, and no value was given for it")
                self._held[name] = self._lent.pop(name)

    def _fitted(self, name: str, value: Array) -> Array:
        """The given value in the tensor's own dtype."""
        shape, code = self._tensors.shape(name), self._tensors.elem_type(name)
        if shape is not None and shape != value.shape:
            raise BadInput(f"tensor '{name}' has shape {list(shape)} but the given value {list(value.shape)}")
        return value.astype(onnx.helper.tensor_dtype_to_np_dtype(code), copy=False) if code else value

    def _run(self, segment: Segment) -> None:
        before = dict(self._held)
        self._held.update((name, self._lent[name]) for name in segment.cuts)
        self._lend_unmade(segment)
        try:
            session = self._loaded.opener.open(segment, self._kind, self._tensors, self._asked.rounding)
        except Refused:
            self._held = before
            raise
        del before
        rounded = session.part.rounded
        values = {i: self._value(source, i in rounded) for i, source in session.part.fed.items()}
        results = session.run(values, self._tensors)
        del values
        end = segment.places[-1]
        self._held = {n: v for n, v in self._held.items() if self._last.get(n, -1) > end}
        for name in (n for place in segment.places for n in self._loaded.flow.makes[place]):
            self._lent.pop(name, None)
        self._hand_out(segment, results)
        if len(segment.places) < len(self._todo):
            give_back()

    def _hand_out(self, segment: Segment, results: dict[str, Any]) -> None:
        """Shows results, each let go of before the next, and holds those that later segments read."""
        for name in segment.outputs:
            value = results.pop(name)
            if name not in segment.cuts and self._last.get(name, -1) > segment.places[-1]:
                self._held[name] = value
            if isinstance(value, np.ndarray) and self._asked.wants(name):
                self._asked.seen(name, value)
            del value

    def _value(self, name: str, rounded: bool) -> Any:
        if name in self._held:
            return self._held[name]
        if name in self._asked.feed:
            return tf32(self._asked.feed[name]) if rounded else self._asked.feed[name]
        if name not in self._loaded.weights.fed:
            return None  # an optional input that is left out
        return self._loaded.weights.rounded(name) if rounded else self._loaded.weights.array(name)

    def _kind(self, name: str) -> TypeProto:
        """The type of a tensor that a session is fed, with its shape: ONNX Runtime then reuses memory."""
        tensor = self._loaded.weights.fed.get(name)
        if tensor is not None:
            return onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        value = self._held.get(name)
        if isinstance(value, np.ndarray) and value.dtype.kind not in "OUST":
            code = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            return onnx.helper.make_tensor_type_proto(code, value.shape)
        declared = self._loaded.inputs.get(name, TypeProto())
        return self._tensors.types.get(name, declared)
