"""Computes a part of a float16 graph in float32, between two Casts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from graphkit.model.graph import Node, Tensor
from graphkit_passes._looking import Look


@dataclass
class Island:
    """Copies of ``nodes`` in float32; ``end``, the last thing they make, is float16 again behind them."""

    look: Look
    nodes: Sequence[Node]
    end: Tensor
    _wide: dict[int, Tensor] = field(default_factory=dict)
    _made: list[Node] = field(default_factory=list)

    def build(self) -> None:
        """Make the copies, let them stand for the originals, and remove what nothing else reads."""
        for node in self.nodes:
            self._copy(node)
        narrow = self._add("Cast", [self._wide[id(self.end)]], self.nodes[-1], to=onnx.TensorProto.FLOAT16)
        self.look.replace(self.end, narrow, self._made, self.nodes)

    def _copy(self, node: Node) -> None:
        if self.look.maker(node.outputs[0], "Cast"):  # from float to float: there is none in float32
            self._wide[id(node.outputs[0])] = self._widened(node.inputs[0], node)
            return
        inputs = [self._widened(t, node) if t.name else t for t in node.inputs]
        self._wide[id(node.outputs[0])] = self._add(node.op, inputs, node, **node.attrs)

    def _widened(self, tensor: Tensor, reader: Node) -> Tensor:
        """``tensor`` in float32; what is no float16 stays as it is."""
        if id(tensor) not in self._wide:
            dtype = self.look.dtype(tensor)
            if dtype is None or dtype.name != "float16":
                return tensor
            values = self.look.graph.value(tensor)
            self._wide[id(tensor)] = (
                self._add("Cast", [tensor], reader, to=onnx.TensorProto.FLOAT)
                if values is None
                else self.look.graph.constant(values.astype(np.float32), tensor.name, of=[tensor])
            )
        return self._wide[id(tensor)]

    def _add(self, op: str, inputs: Sequence[Tensor], of: Node, **attrs: object) -> Tensor:
        (made,) = self.look.graph.add(op, inputs, attrs, before=self.nodes[-1], of=[of])
        self._made += made.inputs
        return made
