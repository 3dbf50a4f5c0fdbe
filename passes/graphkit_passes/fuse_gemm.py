"""The ``fuse-gemm`` pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphkit import Graph, NotApplicable, Pass, Tally
from graphkit.model.graph import Node
from graphkit.model.operators import attribute
from graphkit_passes._affine import step
from graphkit_passes._fusing import Fusing
from graphkit_passes._matrix import has_bias, matrices

_SCALES = ("Mul", "Div", "Neg")
_FLIPS = ("transA", "transB")


class FuseGemm(Pass):
    """Let a Gemm transpose and scale its operands itself.

    ## Why
    A Gemm reads its matrices transposed at no cost (`transA`, `transB`), and multiplies the product by a
    number (`alpha`). A Transpose or a Mul beside it moves all the data for the same result. A MatMul of two
    matrices becomes a Gemm where that saves a node; `fuse-matmul-bias` adds the bias, and `fuse-mul-conv`
    folds numbers into weights that are constant, which is better than `alpha`.

    ## Example
    ```
    t = Transpose <perm = [1, 0]> (b)
    m = MatMul (a, t)
    y = Mul (m, half)
    ```
    becomes
    ```
    y = Gemm <alpha = 0.5, transB = 1> (a, b)
    ```

    ## When it refuses
    - The rank of an operand, or the dtype, cannot be inferred: in local functions, for instance.
    - A MatMul below opset 11, where a Gemm must have a bias.
    - The factor is zero or not finite; it is no float32, which `alpha` is, and the matrices are float64; or
      it has more dims than the product.
    - An attribute of the Gemm is given by the caller of the function that it is in.

    ## Source
    [Gemm](https://onnx.ai/onnx/operators/onnx__Gemm.html)
    """

    name = "fuse-gemm"
    group = "simplify"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Fuse what stands in front of every product and behind it."""
        _Run(Fusing(graph, tally)).run()


class _Run:
    """One run of the pass."""

    def __init__(self, fusing: Fusing) -> None:
        self._fusing = fusing

    def run(self) -> None:
        self._fusing.run(frozenset({"MatMul", "Gemm"}), self._visit)

    def _visit(self, graph: Graph, node: Node) -> bool:
        """One Transpose or scale at a time; the next round takes the next."""
        for place in (0, 1):
            maker = self._fusing.maker(graph, node.inputs[place], "Transpose", *_SCALES)
            if maker is None or not self._fusing.is_private(graph, node.inputs[place]):
                continue
            if maker.op == "Transpose":
                if self._flip(graph, node, place, maker):
                    return True
            elif not graph.is_constant(node.inputs[1]) and self._scale(graph, node, maker, place):
                return True
        behind = self._fusing.reader(graph, node.outputs[0], *_SCALES)
        folds = all(graph.is_constant(t) for t in node.inputs[1:] if t.name)
        return behind is not None and not folds and self._scale(graph, node, behind, None)

    def _flip(self, graph: Graph, node: Node, place: int, transpose: Node) -> bool:
        perm = attribute(graph, transpose, "perm")
        if perm not in (None, [1, 0]) or not self._is_product(graph, node):
            return False
        name = _FLIPS[place]
        attrs = dict(node.attrs)
        if attrs.pop(name, 0) == 0:
            attrs[name] = 1
        inputs = list(node.inputs)
        inputs[place] = transpose.inputs[0]
        self._fusing.swap(graph, [transpose, node], "Gemm", inputs, attrs)
        return True

    def _scale(self, graph: Graph, node: Node, scaling: Node, place: int | None) -> bool:
        """``place`` is the operand that is scaled; None for the product."""
        found = step(graph, scaling)
        if found is None or any(d != 1 for d in found.shape) or not self._is_product(graph, node):
            return False
        if len(found.shape) > 2:
            raise NotApplicable(f"its factor has {len(found.shape)} dims, so the product gets more")
        if place is not None and len(found.shape) == 2 and self._fusing.known.rank(graph, found.x) != 2:
            raise NotApplicable(f"its factor has 2 dims, and '{found.x.name}' may have fewer")
        factor = float(found.parts(self._fusing, graph)[0].reshape(()))
        attrs = dict(node.attrs)
        names = ("alpha",) if place is not None or not has_bias(node) else ("alpha", "beta")
        for name in names:
            attrs[name] = self._product(graph, node, name, factor)
        inputs = list(node.inputs)
        if place is not None:
            inputs[place] = found.x
        old = [node, scaling] if place is None else [scaling, node]
        self._fusing.swap(graph, old, "Gemm", inputs, attrs)
        return True

    def _product(self, graph: Graph, node: Node, name: str, factor: float) -> float:
        was: Any = attribute(graph, node, name) if node.op == "Gemm" else 1.0
        with np.errstate(over="ignore", under="ignore"):
            exact = float(was) * factor
            value = float(np.float32(exact))
        if not np.isfinite(value) or abs(value) < float(np.finfo(np.float32).tiny):
            raise NotApplicable(f"its factor {factor:g} makes {name} {value:g}")
        dtype = self._fusing.known.dtype(graph, node.inputs[0])
        if value != exact and (dtype is None or dtype.name == "float64"):
            raise NotApplicable(f"{name} is a float32, and {exact!r} is none")
        return value

    def _is_product(self, graph: Graph, node: Node) -> bool:
        """Whether a Gemm can stand for ``node``; NotApplicable where that is not known."""
        names: Sequence[str] = (*_FLIPS, "alpha", "beta")
        if node.op == "Gemm":
            if not all(isinstance(attribute(graph, node, n), int | float) for n in names):
                raise NotApplicable("an attribute of it is given by the caller of the function")
            return True
        if matrices(self._fusing, graph, node) is None:
            return False
        if graph.opset < 11:
            raise NotApplicable(f"a Gemm of opset {graph.opset} needs a bias")
        return True
