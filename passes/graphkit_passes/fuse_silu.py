"""The ``fuse-silu`` pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphkit import Builder, Graph, Match, PatternPass, Tally
from graphkit.model.graph import Tensor
from graphkit_passes._shared import Known

_FIRST_OPSET = 24  # https://onnx.ai/onnx/operators/onnx__Swish.html


class FuseSilu(PatternPass):
    """Fuse x * Sigmoid(x) and x * Sigmoid(beta * x) into one Swish, at opset 24 or newer.

    ## Why
    Exporters spell SiLU in two or three nodes. As one it is one layer to read, to compare and to time, and a
    runtime that has a kernel for it need not look for the pieces. The inverse is `silu`.

    ## Example
    ```
    scaled = Mul (x, beta)
    s = Sigmoid (scaled)
    y = Mul (x, s)
    ```
    becomes, with `beta` the constant 1.5,
    ```
    y = Swish <alpha = 1.5> (x)
    ```

    ## When it refuses
    - The opset is below 24, where ONNX has no Swish.
    - Gates: what is multiplied by the sigmoid is not the sigmoid's own input.
    - The sigmoid, or the product inside of it, is read elsewhere too.
    - The factor is no constant of one element, may add dimensions to `x`, is NaN, or is a double that the
      attribute, a float32, cannot hold.

    ## Source
    [Swish](https://onnx.ai/onnx/operators/onnx__Swish.html) · [SiLU](https://arxiv.org/abs/1702.03118)
    """

    name = "fuse-silu"
    group = "simplify"

    def pattern(self, op: Any, x: Any, a: Any, b: Any) -> Any:
        """A SiLU, or a gate that is told apart in ``check``."""
        scaled = op.Mul(x, op.const("beta"))
        silu = op.any_of(op.Mul(x, op.Sigmoid(x)), op.Mul(x, op.Sigmoid(scaled)))
        return op.any_of(silu, op.Mul(a, op.Sigmoid(b)))

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Fuse what matches, in every scope."""
        with Known.during(graph.model):
            super().apply(graph, tally)

    def check(self, graph: Graph, m: Match) -> None:
        """Refuse gates, old opsets, and factors that are no attribute."""
        m.require(m.x is not None, "a gate: what it multiplies by the sigmoid is not the sigmoid's own input")
        m.require(
            graph.opset >= _FIRST_OPSET,
            f"opset {graph.opset} has no Swish; convert to opset {_FIRST_OPSET} first",
        )
        if m.beta is not None:
            beta = m.value("beta")
            m.require(beta.size == 1, f"its factor '{m.beta.name}' has {beta.size} elements, not 1")
            fits = Known.of(graph.model).keeps_shape(graph, m.x, beta.ndim)
            m.require(fits, f"its factor '{m.beta.name}' may add dimensions to '{m.x.name}'")
            m.require(not np.isnan(beta).any(), f"its factor '{m.beta.name}' is not a number (NaN)")
            m.require(
                _exact(beta),
                f"its factor '{m.beta.name}' is a double that the attribute, a float32, cannot hold",
            )

    def rewrite(self, op: Builder, m: Match) -> Tensor:
        """One Swish; alpha is left out when it is 1."""
        alpha = 1.0 if m.beta is None else float(m.value("beta").reshape(()))
        return op.Swish(m.x, alpha=None if alpha == 1 else alpha)


def _exact(beta: np.ndarray[Any, Any]) -> bool:
    with np.errstate(over="ignore"):
        return bool(beta.astype(np.float32).astype(beta.dtype) == beta)
