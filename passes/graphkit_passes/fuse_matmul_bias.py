"""The ``fuse-matmul-bias`` pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphkit import Graph, NotApplicable, Pass, Tally
from graphkit.model.graph import Node, Shape, Tensor
from graphkit.model.operators import attribute
from graphkit_passes._fusing import Fusing, rounded
from graphkit_passes._matrix import has_bias, matrices, shape_of


class FuseMatmulBias(Pass):
    """Make one Gemm of a product of two matrices and the bias that is added to it.

    ## Why
    PyTorch writes `Linear` as Gemm; Paddle and TensorFlow write MatMul and Add. The bias of a Gemm costs no
    kernel of its own. Only a product of two matrices is rewritten: a MatMul of higher rank would need a
    Reshape on either side.

    ## Example
    ```
    m = MatMul (x, w)
    y = Add (m, bias)
    ```
    becomes
    ```
    y = Gemm (x, w, bias)
    ```
    The same is done to a Gemm that has no bias yet. Where a Gemm has a constant one, a constant that is added
    behind it goes into that.

    ## When it refuses
    - The rank of an operand, or the dtype, cannot be inferred: in local functions, for instance.
    - The shape of what is added is not known, or it might broadcast the product.
    - The sum of two constant biases is not finite, or is larger than both.

    A product that others read too, one of higher rank, and one of integers have nothing to do with it.

    ## Source
    [Gemm](https://onnx.ai/onnx/operators/onnx__Gemm.html)
    """

    name = "fuse-matmul-bias"
    group = "simplify"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Fuse every product with the Add behind it."""
        _Run(Fusing(graph, tally)).run()


class _Run:
    """One run of the pass."""

    def __init__(self, fusing: Fusing) -> None:
        self._fusing = fusing

    def run(self) -> None:
        self._fusing.run(frozenset({"MatMul", "Gemm"}), self._visit)

    def _visit(self, graph: Graph, node: Node) -> bool:
        out = node.outputs[0]
        add = self._fusing.reader(graph, out, "Add") if graph.opset >= 7 else None
        if add is None:
            return False
        bias = next(t for t in add.inputs if t is not out)
        if has_bias(node):
            return self._merge(graph, node, add, bias)
        shapes = matrices(self._fusing, graph, node)
        if shapes is None or not self._is_bias(graph, bias, shapes):
            return False
        attrs = {k: v for k, v in node.attrs.items() if k != "beta"}
        self._fusing.swap(graph, [node, add], "Gemm", [*node.inputs[:2], bias], attrs)
        return True

    def _is_bias(self, graph: Graph, bias: Tensor, shapes: Shape) -> bool:
        """Whether ``bias`` can be the third input of the product; NotApplicable where that is not known."""
        shape = shape_of(self._fusing, graph, bias)
        if shape is None:
            raise NotApplicable(f"the shape of '{bias.name}', which is added, is not known")
        if len(shape) > 2:
            return False
        for have, most in zip(shape[::-1], shapes[::-1], strict=False):
            if have != 1 and (have is None or have != most):
                raise NotApplicable(f"'{bias.name}' of shape {_text(shape)} might broadcast {_text(shapes)}")
        return True

    def _merge(self, graph: Graph, node: Node, add: Node, more: Tensor) -> bool:
        """Add one constant bias to another."""
        own = node.inputs[2]
        beta: Any = attribute(graph, node, "beta")
        constant = graph.is_constant(own) and graph.is_constant(more)
        if not constant or not isinstance(beta, float):
            return False
        if not self._is_bias(graph, more, self._product(graph, node)):
            return False
        first, second = (self._fusing.values(graph, t, "bias") for t in (own, more))
        total = beta * first.astype(np.float64) + second.astype(np.float64)
        if total.size > max(first.size, second.size):
            raise NotApplicable("the sum of its biases is larger than both")
        values = graph.constant(rounded(total, first.dtype, "bias"), own.name, of=[own, more])
        attrs = {k: v for k, v in node.attrs.items() if k != "beta"}
        self._fusing.swap(graph, [node, add], "Gemm", [*node.inputs[:2], values], attrs)
        return True

    def _product(self, graph: Graph, node: Node) -> Shape:
        shapes = matrices(self._fusing, graph, node)
        return shapes if shapes is not None else (None, None)


def _text(shape: Sequence[object]) -> str:
    return f"[{', '.join('?' if d is None else str(d) for d in shape)}]"
