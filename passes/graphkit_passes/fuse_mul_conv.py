"""The ``fuse-mul-conv`` pass."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np

from graphkit import Graph, NotApplicable, Pass, Size, Tally, option
from graphkit.model.graph import Node, Tensor
from graphkit_passes._affine import NORM, STEPS, Step, activation, after, before, composed, step
from graphkit_passes._fusing import Array, Fusing
from graphkit_passes._linear import Change, Linear
from graphkit_passes._linear_forms import linear

_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"})


class FuseMulConv(Pass):
    """Fold multiplications and additions by channel into the weights of the operator beside them.

    ## Why
    A convolution, a matrix product or an inference norm can scale and shift its channels itself, with other
    weights. Exporters leave such arithmetic as nodes: learnable scales after each convolution (PP-OCRv4),
    biases of Paddle2ONNX, `1/255` in front of the first layer, `1/sqrt(d)` behind a query. Each is a trip
    through memory, and lies between nodes that a builder would fuse. TensorRT-RTX 1.4 and 1.7 do not even
    build a convolution over one axis that has a bias and an addition of one number behind it.

    Chains of Mul, Div, Add, Sub and Neg with constants are folded

    - behind Conv, ConvTranspose, Gemm, BatchNormalization, and MatMul by a constant matrix (for which
      additions become one Add), with a BatchNormalization of matrices among them; `fuse-conv-bn` does those
      behind convolutions;
    - in front of them: a scale always, an addition where no padding sees it, and not before a MatMul.

    The new weights are computed in float64 and rounded once, to the dtype of the old ones. Weights that other
    nodes read too stay as they are for those.

    ## Example
    ```
    n = Div (x, c255)
    c = Conv <pads = [1, 1, 1, 1]> (n, w)
    s = Mul (c, scale)                      # [1, C, 1, 1] or one number
    y = Add (s, shift)
    ```
    becomes
    ```
    y = Conv <pads = [1, 1, 1, 1]> (x, w_1, w_bias)
    ```

    ## When it refuses
    - The constant is not by channel: it differs along another axis, or would broadcast what it meets.
    - The convolution's output is read elsewhere too, or is an output of the graph.
    - An addition in front of a convolution with padding, or of a ConvTranspose: the padding is not shifted.
    - In front of the operator, the shape of the tensor is not known, and the constant might broadcast it.
    - A weight or bias is no constant, for instance because an input can override it; or it takes more than
      `max-size` in a data file.
    - The new weights are not finite in their dtype, or below its normal numbers.
    - What comes in front is the end of a GELU or of a normalization, which builders know as a whole.

    ## Issues
    [onnxsim#596](https://github.com/onnxsim/onnxsim/issues/596) ·
    [onnx#1828](https://github.com/onnx/onnx/issues/1828)

    ## Source
    [Conv](https://onnx.ai/onnx/operators/onnx__Conv.html) ·
    [Jacob et al. 2018, section 3.2](https://arxiv.org/abs/1712.05877)
    """

    name = "fuse-mul-conv"
    group = "simplify"

    max_size: Size = option(
        default=Size(1 << 20), help="weights with more bytes in a data file stay there as they are"
    )

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Fold wherever a chain of constants meets weights."""
        _Run(Fusing(graph, tally, int(self.max_size))).run()


class _Run:
    """One run of the pass."""

    def __init__(self, fusing: Fusing) -> None:
        self._fusing = fusing

    def run(self) -> None:
        self._fusing.run(_OPS, self._visit)

    def _visit(self, graph: Graph, node: Node) -> bool:
        """Fold the chain behind a node, else the one in front; if neither goes, say the first reason."""
        reasons = []
        for fold in (self._behind, self._in_front):
            try:
                if fold(graph, node):
                    return True
            except NotApplicable as error:
                reasons.append(error)
        if reasons:
            raise reasons[0]
        return False

    # -- behind

    def _behind(self, graph: Graph, node: Node) -> bool:
        out = node.outputs[0]
        chain = after(self._fusing, graph, out, *([NORM] if node.op in ("Gemm", "MatMul") else []))
        if not chain and not self._meets_vector(graph, node):
            return False
        target = linear(self._fusing, graph, node)
        if target is None or (len(chain) == 1 and chain[0].shifts and not target.can_shift_behind):
            return False
        if not chain:
            raise NotApplicable(f"its output '{out.name}' is read elsewhere too, or returned")
        good = list(takewhile(lambda s: self._takes(target, s), chain))
        if not good:
            raise NotApplicable(f"{_shown(chain[0])} is not by channel")
        if not target.can_scale:
            good = list(takewhile(lambda s: not s.scales, good))
            if not good:
                raise NotApplicable(f"its weight '{node.inputs[1].name}' is not constant")
        if not target.can_shift_behind and len(good) == 1 and good[0].shifts:
            return False
        scale, shift = _vectors(composed(self._fusing, graph, good), good, target.outs)
        apart = None if target.can_shift_behind else shift
        change = target.behind(scale, shift if apart is None else None)
        self._put(graph, target, change, [node, *(s.node for s in good)], node.inputs[0], good, apart)
        return True

    def _takes(self, target: Linear, one: Step) -> bool:
        """Whether a step behind is by channel; the channels of a norm are the last axis of matrices alone."""
        if one.node.op == NORM and self._fusing.known.rank(target.graph, one.x) != 2:
            return False
        return target.takes(one.shape)

    def _meets_vector(self, graph: Graph, node: Node) -> bool:
        """Whether a constant with a value for each channel meets an output that others read too.

        One number beside such an output is a part of an activation, as in HardSwish.
        """
        out = node.outputs[0]
        if len(out.outputs) < 2 and not self._fusing.is_end(graph, out):
            return False
        near = [r for r in out.outputs if r.op in STEPS and self._fusing.is_here(graph, r)]
        steps = [step(graph, r) for r in near]
        return any(s is not None and any(d > 1 for d in s.shape) for s in steps)

    # -- in front

    def _in_front(self, graph: Graph, node: Node) -> bool:
        chain = before(self._fusing, graph, node.inputs[0])
        target = linear(self._fusing, graph, node) if chain else None
        if target is None or not target.can_scale:
            return False
        good: list[Step] = []
        reason: str | None = None
        for one in chain:
            reason = self._why_not_in_front(target, one)
            if reason is not None:
                break
            good.append(one)
        if good and (known := activation(graph, good[-1].x)):
            reason = f"'{good.pop().out.name}' is the end of {known}"
        if not good:
            if reason:
                raise NotApplicable(reason)
            return False
        good.reverse()
        change = target.in_front(*_vectors(composed(self._fusing, graph, good), good, target.ins))
        self._put(graph, target, change, [*(s.node for s in good), node], good[0].x, good)
        return True

    def _why_not_in_front(self, target: Linear, one: Step) -> str | None:
        """Why a step cannot be folded; an empty text where it has nothing to do with the node."""
        why = target.why_no_shift_in_front() if one.shifts else None
        if why is not None:
            return why
        if not target.takes_in_front(one.shape):
            return f"{_shown(one)} is not by channel"
        if not target.keeps_shape(one.shape, one.x):
            return f"the shape of '{one.x.name}' is not known, and {_shown(one)} might broadcast it"
        return None

    # -- both

    def _put(
        self,
        graph: Graph,
        target: Linear,
        change: Change,
        old: list[Node],
        x: Tensor,
        steps: Sequence[Step],
        shift: Array | None = None,
    ) -> None:
        """The node with its new weights for all of ``old``; behind it an Add of ``shift``, if any."""
        node, constants = target.node, [s.constant for s in steps if s.constant is not None]
        inputs = target.weights(change, constants)
        inputs[0] = x
        attrs = {k: v for k, v in node.attrs.items() if k not in change.attrs}
        (made,) = self._fusing.add(graph, old, node.op, inputs, attrs)
        if shift is not None:
            bias = target.bias(shift, constants)
            (made,) = self._fusing.add(graph, old, "Add", [made, bias], {})
        self._fusing.settle(graph, old, made)


def _shown(one: Step) -> str:
    return one.node.op if one.constant is None else f"'{one.constant.name}' of shape {list(one.shape)}"


def _vectors(
    parts: tuple[Array, Array], steps: Sequence[Step], channels: int
) -> tuple[Array | None, Array | None]:
    """Scale and shift as vectors of the channels; None for one that no step has."""
    scale, shift = (np.broadcast_to(p.reshape(-1), (channels,)) for p in parts)
    return (
        scale if any(s.scales for s in steps) else None,
        shift if any(s.shifts for s in steps) else None,
    )
