"""The ``recenter-qdq`` pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphkit import Graph, Pass, Tally
from graphkit.model.dataflow import shown
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import domain_of
from graphkit.model.surgeon import numpy_dtype
from graphkit_passes._islands import Island, Islands, Twins, drop_unread, renew
from graphkit_passes._movers import Places, chosen, fills_zeros, moved


class RecenterQdq(Pass):
    """Quantize to int8 with zero point 0 where a model quantizes to uint8 with zero point 128.

    ## Why
    TensorRT quantizes symmetrically: it takes a zero point of 0 only, and no uint8 weights. ONNX Runtime's
    tools write symmetric uint8 with a zero point of 128, which is the same grid: each value is 128 less, and
    so is the zero point. Both saturate at the same numbers, so whatever is dequantized is the same in every
    bit. uint4 weights with a zero point of 8 become int4 in the same way.

    ## Example
    ```
    q = QuantizeLinear (x, scale, z)        # z is the uint8 initializer 128
    p = MaxPool (q)
    y = DequantizeLinear (p, scale, z)
    ```
    becomes
    ```
    q_int8 = QuantizeLinear (x, scale, z_int8)        # z_int8 is the int8 initializer 0
    p_int8 = MaxPool (q_int8)
    y = DequantizeLinear (p_int8, scale, z_int8)
    ```
    Weights that are read through a DequantizeLinear become int8 too. Between the two may stand what moves
    elements or chooses among them by order: Reshape, Transpose, Concat, Slice, Gather, Pad, MaxPool, Clip and
    the like. TensorRT takes quantized weights right in front of a DequantizeLinear only: where a Transpose of
    constants stands between, `fold-constants` comes next.

    ## When it refuses
    - Any other zero point, as `3: recalibrate symmetric`: no int8 grid around 0 has those steps.
    - A zero point that is computed, or that an input can override.
    - DynamicQuantizeLinear, which computes its zero point while it runs.
    - Another operator reads or makes the quantized values, or an If, Loop or function hands them on.
    - The quantized values are an input or an output of the graph.
    - A Pad between the two fills in zeros because no number is given.

    ## Issues
    [TensorRT#2774](https://github.com/NVIDIA/TensorRT/issues/2774) ·
    [TensorRT#4698](https://github.com/NVIDIA/TensorRT/issues/4698)

    ## Source
    [QuantizeLinear](https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html) ·
    [DequantizeLinear](https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html)
    """

    name = "recenter-qdq"
    group = "mend"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Recenter each set of quantized tensors that belong together, or say why it cannot be."""
        recentering = _Recentering(graph, tally)
        for scope in graph.scopes():
            for node in list(scope.nodes):
                if _is(node, "DynamicQuantizeLinear"):
                    tally.refuse(scope, node, "it computes its zero point while it runs; calibrate instead")
                elif _is(node, "QuantizeLinear", "DequantizeLinear"):
                    recentering.visit(node)
        recentering.sweep()


_SIGNED = {"uint8": ("int8", 128), "uint4": ("int4", 8)}
"""The signed dtype of each unsigned one, and the zero point that is 0 there."""
_CODES = {"uint8": 2, "int8": 3, "uint4": 21, "int4": 22}  # TensorProto.DataType


@dataclass(frozen=True)
class _Zero:
    """A node's zero point: its dtype and values; None for what is not known."""

    node: Node
    tensor: Tensor | None
    dtype: str | None
    values: Any | None

    @property
    def is_plain(self) -> bool:
        """Whether TensorRT takes it as it is."""
        return self.values is not None and self.dtype not in _SIGNED and not self.values.any()


class _Recentering:
    """One run of the pass."""

    def __init__(self, main: Graph, tally: Tally) -> None:
        self._main, self._tally = main, tally
        self._islands = Islands(main, _joint, main.is_constant)
        self._twins = {d: Twins(_SIGNED[d][0], _recentred(d)) for d in _SIGNED}

    def visit(self, node: Node) -> None:
        """Do what can be done for the tensors that ``node`` quantizes or dequantizes."""
        island = self._islands.around(node)
        if island is None:
            return
        zeros = [self._zero(n) for n in island.nodes if _is(n, "QuantizeLinear", "DequantizeLinear")]
        weights = {_name(self._home(n).dtype(t)) for n, t in island.shores}
        known = ({z.dtype for z in zeros} | weights) - {None}
        if not known <= _CODES.keys() or all(z.is_plain for z in zeros):
            return  # fp8, int16 and the like, or int8 around 0 already
        if any(_is_dynamic(z) for z in zeros):
            return  # refused already, where the zero point comes from
        reason = _off(zeros, known) or self._stranger(island)
        if reason is None:
            self._recenter(island, zeros, str(next(iter(known))))
        else:
            self._tally.refuse(self._home(node), node, reason)

    def _home(self, node: Node) -> Graph:
        return self._islands.home[id(node)]

    def _zero(self, node: Node) -> _Zero:
        graph = self._home(node)
        tensor = node.inputs[2] if len(node.inputs) > 2 else None
        if tensor is not None and tensor.name:
            return _Zero(node, tensor, _name(graph.dtype(tensor)), graph.value(tensor))
        dtype: str | None = None
        if node.op == "QuantizeLinear":
            code = node.attrs.get("output_dtype")
            dtype = _name(numpy_dtype(code)) if isinstance(code, int) and code else "uint8"
        elif graph.is_constant(node.inputs[0]) or not node.inputs[0].inputs:
            dtype = _name(graph.dtype(node.inputs[0]))
        return _Zero(node, None, dtype, np.zeros(1, np.int8))

    def _stranger(self, island: Island) -> str | None:
        """What is against recentering among the nodes around."""
        for node, tensor in island.strangers:
            does = "makes" if any(t is tensor for t in node.outputs) else "reads"
            return f"{shown(node)} {does} '{tensor.name}', and may need it as it is"
        for tensor in island.tensors:
            if not tensor.inputs:
                return f"'{tensor.name}' is an input"
            if any(t is tensor for t in island.ends):
                return f"'{tensor.name}' is an output of the graph that it is in"
        pad = next((n for n in island.nodes if fills_zeros(self._home(n), n)), None)
        return None if pad is None else f"{shown(pad)} fills in zeros"

    def _recenter(self, island: Island, zeros: list[_Zero], unsigned: str) -> None:
        """Every zero point is the middle of the range: 0 from now on."""
        signed, twins = _SIGNED[unsigned][0], self._twins[unsigned]
        for tensor in island.tensors:
            made = f"{tensor.name}_{signed}"
            renew(self._home(tensor.inputs[0]), tensor, made, numpy_dtype(_CODES[signed]))
        for zero in zeros:
            if zero.tensor is not None:
                twins.swap(self._home(zero.node), zero.node, zero.tensor)
            if zero.node.op == "QuantizeLinear" and zero.node.attrs.get("output_dtype"):
                zero.node.attrs["output_dtype"] = _CODES[signed]
        for node, constant in island.shores:
            twins.swap(self._home(node), node, constant)
        self._tally.rewrite(len(zeros))

    def sweep(self) -> None:
        """Take out what nothing reads any more."""
        drop_unread(self._main, [t for twins in self._twins.values() for t in twins.left])


def _joint(graph: Graph, node: Node) -> Places | None:
    """Where a node has quantized values: made, read, or moved; None when it does something else to them."""
    if _is(node, "QuantizeLinear"):
        return [], [0]
    if _is(node, "DequantizeLinear"):
        return [0], []
    return moved(graph, node) or chosen(node)


def _off(zeros: list[_Zero], known: set[str | None]) -> str | None:
    """What is against recentering among the zero points."""
    for zero in zeros:
        if zero.values is None and zero.tensor is not None:
            return f"its zero point '{zero.tensor.name}' is not constant"
    if len(known) != 1:
        return f"its dtypes differ: {', '.join(sorted(map(str, known)))}"
    dtype = str(next(iter(known)))
    middle = _SIGNED[dtype][1] if dtype in _SIGNED else 0
    for zero in zeros:
        off = [int(v) for v in np.asarray(zero.values).reshape(-1) if int(v) != middle]
        if off:
            return f"zero point {off[0]}{'' if off[0] else f' of {dtype}'}: recalibrate symmetric"
    return None


def _is_dynamic(zero: _Zero) -> bool:
    makers = [] if zero.tensor is None else zero.tensor.inputs
    return any(_is(n, "DynamicQuantizeLinear") for n in makers)


def _recentred(unsigned: str) -> Callable[[Any], Any]:
    signed, middle = _SIGNED[unsigned]
    dtype = numpy_dtype(_CODES[signed])
    return lambda values: (values.astype(np.int16) - middle).astype(dtype)


def _is(node: Node, *ops: str) -> bool:
    return node.op in ops and not domain_of(node)


def _name(dtype: np.dtype[Any] | None) -> str | None:
    return None if dtype is None else dtype.name
