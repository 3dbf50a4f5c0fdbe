"""Whether what a kernel introduced is more than rounding, given where its replay began."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from graphkit.compare.attribution import Borders
from graphkit.compare.bounds import Bound, Noise, judge
from graphkit.compare.flat import Flat
from graphkit.compare.judge import Bounds
from graphkit.compare.link import Link
from graphkit.engine.boundary import Boundary
from graphkit.report.diffs import Metrics

__all__ = ["Verdicts"]

_QUANTISED = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Round", "Floor", "Ceil"}
)
_COMPARED = frozenset(
    {"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Where", "ArgMax", "ArgMin", "TopK"}
    | {"NonZero", "NonMaxSuppression", "Sign", "And", "Or", "Not", "Xor", "Gather", "OneHot"}
)
_PRODUCTS = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN", "Attention"}
)
_FEW = 0.02  # of the values of a whole-numbered tensor may be one step off where roundings feed it
# absolute errors about the least number of a dtype: values that one side flushes to zero
_NOTHING = {"float16": 1.2e-7, "float8_e4m3fn": 2.0**-9, "float8_e5m2": 2.0**-15}
_COARSE = ("float8_e5m2", "float8_e4m3fn", "bfloat16", "float16")


class Verdicts:
    """Judges errors introduced between one set of borders; a user's bounds come before the automatic ones."""

    def __init__(
        self, flat: Flat, borders: Borders, noise: Mapping[str, Noise], tf32: bool, own: Bounds
    ) -> None:
        self._flat, self.borders, self._noise, self._tf32, self._own = flat, borders, noise, tf32, own
        self._cuts = set(borders.links)
        self._behind: dict[str, tuple[list[int], set[str]]] = {}
        self._spoilt: dict[str, bool] = {}
        self._shapes = flat.program.shapes(flat.feed)

    def behind(self, tensor: str) -> tuple[list[int], set[str]]:
        """The nodes that a replay of the tensor runs, in order, and the captured tensors it begins at."""
        if tensor not in self._behind:
            places, ends = self._flat.structure.behind([tensor], self._cuts - {tensor})
            self._behind[tensor] = (sorted(places), ends)
        return self._behind[tensor]

    def nodes(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that a replay of the tensor runs."""
        return [self._flat.structure.nodes[p] for p in self.behind(tensor)[0]]

    def ops(self, tensor: str) -> set[str]:
        """Their operators."""
        return {n.op_type for n in self.nodes(tensor)}

    def readers(self, tensor: str) -> list[Boundary]:
        """The boundaries whose replay begins at this tensor.

        Of a tensor captured again only the first: the others are compared with that.
        """
        return [
            links[0].boundary
            for other, links in self.borders.links.items()
            if other != tensor and tensor in self.behind(other)[1]
        ]

    def dtype(self, tensor: str, boundary: Boundary) -> str:
        """The coarsest dtype that values go through on the way to the tensor."""
        found = self._flat.native
        narrow = {found[o] for n in self.nodes(tensor) for o in n.output if o in found} | {boundary.dtype}
        return next((d for d in _COARSE if d in narrow), boundary.dtype)

    def noise(self, tensor: str) -> Noise:
        """What emulated rounding did to the tensor."""
        return self._noise.get(tensor, Noise())

    def bound(self, tensor: str, boundary: Boundary, size: int) -> Bound:
        """How much rounding may introduce."""
        nodes = self.nodes(tensor)
        ops = {n.op_type for n in nodes}
        return judge(
            self.dtype(tensor, boundary),
            self.noise(tensor),
            length=max((self._length(n) for n in nodes), default=1),
            tf32=self._tf32 and bool(ops & _PRODUCTS),
            quantised=bool(ops & _QUANTISED),
            size=size,
        )

    def _length(self, node: onnx.NodeProto) -> int:
        """How many products one output value of a node sums up."""
        if node.op_type not in _PRODUCTS or len(node.input) < 2:
            return 1
        dims: Any = [d for d in self._shapes.shape(node.input[1]) or () if isinstance(d, int)]
        if node.op_type in ("Conv", "ConvTranspose"):
            return math.prod(dims[1:]) or 1
        return dims[-2] if len(dims) > 1 else (dims[0] if dims else 1)

    def share(self, link: Link, tensor: str, metrics: Metrics) -> float:
        """The introduced error over its tolerance; infinite for NaN or Inf of the kernel's own making."""
        spoilt = sum(m[1] - m[0] for m in (metrics.nan, metrics.inf))
        if spoilt > 0 and not self._spoilt_before(tensor):
            return math.inf
        user = self._own.of(link.boundary.name, tensor)
        if user is not None:
            allowed = user[0] + user[1] * max(map(abs, metrics.range_ref))
            return metrics.max_abs / allowed if allowed else (math.inf if metrics.max_abs else 0.0)
        if link.boundary.dtype.startswith(("int", "uint", "bool")):
            return self._whole(tensor, metrics)
        if spoilt <= 0 and metrics.max_abs <= _NOTHING.get(self.dtype(tensor, link.boundary), 1e-35):
            return 0.0
        return self.bound(tensor, link.boundary, metrics.size).share(metrics)

    def _whole(self, tensor: str, metrics: Metrics) -> float:
        """Whole numbers and booleans: a few steps of 1, where a rounding fell the other way, are no error."""
        if metrics.different == 0:
            return 0.0
        ops, few = self.ops(tensor), metrics.different / max(metrics.size, 1)
        if ops & _COMPARED or (metrics.max_abs <= 1 and ops & (_QUANTISED | {"Cast"})):
            return few / _FEW
        return math.inf

    def _spoilt_before(self, tensor: str) -> bool:
        """Whether a value upstream of the tensor is NaN or infinite: what follows is nobody else's fault.

        However far upstream: a Relu may turn NaN into numbers, and these into infinities later.
        """
        waiting, seen = [tensor], {tensor}
        while waiting:
            ends = self.behind(waiting.pop())[1] - seen
            if any(map(self._is_spoilt, ends)):
                return True
            seen |= ends
            waiting += ends
        return any(map(self._is_spoilt, self._flat.feed))

    def _is_spoilt(self, name: str) -> bool:
        if name not in self._spoilt:
            value = self.borders.value(name) if name in self.borders else np.asarray(self._flat.feed[name])
            wide = value if value.dtype.kind == "f" else np.zeros(1)
            if value.dtype.name.startswith(("bfloat", "float8")):
                wide = value.astype(np.float32)
            self._spoilt[name] = not bool(np.isfinite(wide).all())
        return self._spoilt[name]
