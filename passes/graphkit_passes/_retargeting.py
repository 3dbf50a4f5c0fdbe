"""How ``retarget-uint8`` finds bytes that are computed with, and what it makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphkit import Graph, Tally
from graphkit.model.dataflow import shown
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import domain_of
from graphkit.model.surgeon import Constant
from graphkit_passes._bounds import Bounds, within
from graphkit_passes._islands import Island, Islands, Twins, drop_unread, renew
from graphkit_passes._movers import Places, chosen, moved
from graphkit_passes._shared import Known

_BYTE, _WIDE = 2, 6  # TensorProto.UINT8 and INT32
_KEEPING = frozenset(["Add", "Sub", "Mul", "Div", "Mod", "BitwiseAnd", "BitwiseOr", "BitwiseXor"])
_PAIRS = frozenset(["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
_QUANTIZED = frozenset(
    ["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"]
    + ["QLinearConv", "QLinearMatMul"]
)


class Retargeting:
    """One run of the pass."""

    def __init__(self, main: Graph, tally: Tally) -> None:
        self._main, self._tally = main, tally
        self._inputs = {id(t) for t in main.inputs if main.dtype(t) == np.uint8}
        free = frozenset({"Shape", "Size", "Cast"})
        self._islands = Islands(main, _joint, self._is_shore, free)
        self._twins = Twins("int32", lambda values: values.astype(np.int32))
        self._widened: dict[int, Tensor] = {}
        self._known = Known(main.model)
        self._bytes: set[int] = set(self._inputs)
        self._bounds = Bounds(self._dtype)

    def _is_shore(self, tensor: Tensor) -> bool:
        return id(tensor) in self._inputs or self._main.is_constant(tensor)

    def _dtype(self, graph: Graph, tensor: Tensor) -> np.dtype[Any] | None:
        return np.dtype(np.uint8) if id(tensor) in self._bytes else self._known.dtype(graph, tensor)

    def begins(self, node: Node) -> bool:
        """Whether a node makes bytes of what are none, or computes with an input of the model."""
        if _makes(node):
            return True
        places = _joint(self._home(node), node)
        return places is not None and any(id(node.inputs[p]) in self._inputs for p in places[0])

    def visit(self, node: Node) -> None:
        """Retarget the bytes that ``node`` makes or takes, with all that belongs to them."""
        island = self._islands.around(node)
        if island is None or self._is_accepted(island):
            return
        if any(n.op in _QUANTIZED for n, _ in island.strangers):
            return
        self._bytes |= island.known
        reason = self._stranger(island) or self._wrapping(island)
        if reason is None:
            self._retarget(island)
        else:
            self._tally.refuse(self._home(node), node, reason)

    def _home(self, node: Node) -> Graph:
        return self._islands.home[id(node)]

    def _is_accepted(self, island: Island) -> bool:
        """Whether it is one Cast whose result is an output of the model and nothing else."""
        only = island.tensors[0] if len(island.tensors) == 1 else None
        if only is None or [n.op for n in island.nodes] != ["Cast"]:
            return False
        return not only.outputs and self._is_output(only)

    def _is_output(self, tensor: Tensor) -> bool:
        ends = [t for s in self._islands.scopes for t in s.outputs if t is tensor]
        here = [t for t in self._main.outputs if t is tensor]
        return len(ends) == len(here) == 1 and tensor.name not in self._main.model.pinned

    def _stranger(self, island: Island) -> str | None:
        """What is against another dtype among the nodes around."""
        for node, tensor in island.strangers:
            does = "makes" if any(t is tensor for t in node.outputs) else "reads"
            return f"{shown(node)} {does} '{tensor.name}', and may need bytes"
        for tensor in island.tensors:
            if not tensor.inputs:
                return f"'{tensor.name}' is an input of a graph or function inside of the model"
        given = next((t for t in island.ends if not self._is_output(t)), None)
        return None if given is None else f"a graph or function inside of the model gives '{given.name}'"

    def _wrapping(self, island: Island) -> str | None:
        """Where a value might leave 0 to 255."""
        for node in island.nodes:
            graph = self._home(node)
            if node.op == "Cast":
                found = self._bounds.of(graph, node.inputs[0])
                if found is None or not -1 < found[0] <= found[1] < 256:
                    return f"'{node.inputs[0].name}' may lie outside of 0 to 255{_told(found)}"
            elif node.op in _KEEPING:
                found = self._bounds.made_by(graph, node)
                if found is None or not within(found, (0, 255)):
                    return f"{shown(node)} may wrap around{_told(found)}"
        return None

    def _retarget(self, island: Island) -> None:
        ends = {id(t) for t in island.ends}
        for tensor in island.tensors:
            maker = tensor.inputs[0]
            made = renew(self._home(maker), tensor, f"{tensor.name}_int32", np.dtype(np.int32))
            if id(tensor) in ends:
                (byte,) = self._main.add("Cast", [made], {"to": _BYTE}, of=[maker])
                self._main.replace(tensor, byte)
        for node, tensor in island.shores:
            if id(tensor) in self._inputs:
                self._home(node).rewire(node, tensor, self._wide(tensor))
            else:
                self._twins.swap(self._home(node), node, tensor)
        for node in (n for n in island.nodes if _makes(n)):
            _widen(self._home(node), node)
        self._tally.rewrite(len(island.nodes))

    def _wide(self, tensor: Tensor) -> Tensor:
        """An input of the model in int32."""
        if id(tensor) not in self._widened:
            name = f"{tensor.name}_int32"
            (made,) = self._main.add(
                "Cast", [tensor], {"to": _WIDE}, outputs=[name], name=name, before=self._main.nodes[0]
            )
            self._widened[id(tensor)] = made
        return self._widened[id(tensor)]

    def sweep(self) -> None:
        """Take out what nothing reads any more."""
        drop_unread(self._main, self._twins.left)


def _makes(node: Node) -> bool:
    """Whether a node makes bytes of what are none."""
    if domain_of(node):
        return False
    if node.op == "ConstantOfShape":
        value = node.attrs.get("value")
        return isinstance(value, Constant) and value.dtype == np.uint8
    name = {"Cast": "to", "EyeLike": "dtype"}.get(node.op, "")
    value = node.attrs.get(name)
    return isinstance(value, int) and value == _BYTE  # a broken file may have a tensor there


def _widen(graph: Graph, node: Node) -> None:
    """Let a node that makes bytes make int32."""
    if node.op == "ConstantOfShape":
        held = node.attrs["value"]._values
        values = held.read() if hasattr(held, "read") else held
        node.attrs["value"] = Constant("", np.asarray(values).astype(np.int32))
    else:
        node.attrs["to" if node.op == "Cast" else "dtype"] = _WIDE


def _joint(graph: Graph, node: Node) -> Places | None:
    """Which inputs and outputs of a node have the dtype of its bytes; None when int32 may not do."""
    if domain_of(node) or node.op == "MaxPool":  # which takes floats and bytes alone
        return None
    if _makes(node):
        return [], [0]
    if node.op in _KEEPING:
        return [0, 1], [0]
    if node.op in _PAIRS:
        return [0, 1], []
    if node.op in ("ArgMax", "ArgMin", "NonZero"):
        return [0], []
    return moved(graph, node) or chosen(node)


def _told(found: tuple[float, float] | None) -> str:
    return "" if found is None else f": it lies in {found[0]:g} to {found[1]:g}"
