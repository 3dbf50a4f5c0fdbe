"""Activations in terms of older operators: https://onnx.ai/onnx/operators/"""

from __future__ import annotations

import math

from graphkit import NotApplicable
from graphkit.model.graph import Tensor
from graphkit_passes._lowering import Lowering, writes
from graphkit_passes._shared import FLOATS


def _number(low: Lowering, name: str) -> float:
    """A float attribute that has a default."""
    value = low.attr(name)
    if not isinstance(value, int | float):
        raise NotApplicable(f"its {name} is not a number")
    return float(value)


@writes("Swish")
def swish(low: Lowering) -> Tensor:
    """``x * sigmoid(alpha * x)``."""
    x, alpha = low.x, _number(low, "alpha")
    scaled = x if alpha == 1 else low("Mul", x, low.like(alpha, x))
    return low("Mul", x, low("Sigmoid", scaled))


@writes("SwiGLU")
def swiglu(low: Lowering) -> Tensor:
    """``swish(gate) * x``; the operator of opset 28 has the gate as its first input."""
    gate, x, alpha = low.x, low.given(1), _number(low, "alpha")
    scaled = gate if alpha == 1 else low("Mul", gate, low.like(alpha, gate))
    return low("Mul", low("Mul", gate, low("Sigmoid", scaled)), x)


@writes("HardSwish")
def hard_swish(low: Lowering) -> Tensor:
    """``x * max(0, min(1, x / 6 + 0.5))``."""
    return low("Mul", low.x, low("HardSigmoid", low.x, alpha=1 / 6, beta=0.5))


@writes("HardSigmoid")
def hard_sigmoid(low: Lowering) -> Tensor:
    """``max(0, min(1, alpha * x + beta))``."""
    x = low.x
    scaled = low("Mul", x, low.like(_number(low, "alpha"), x))
    shifted = low("Add", scaled, low.like(_number(low, "beta"), x))
    return low("Max", low("Min", shifted, low.like(1, x)), low.like(0, x))


@writes("Gelu")
def gelu(low: Lowering) -> Tensor:
    """``x / 2 * (1 + erf(x / sqrt 2))``, or the form with tanh."""
    x, form = low.x, low.attr("approximate")
    if form in ("none", b"none"):
        inner = low("Erf", low("Mul", x, low.like(1 / math.sqrt(2), x)))
    elif form in ("tanh", b"tanh"):
        cube = low("Mul", low("Mul", x, x), x)
        bent = low("Add", x, low("Mul", cube, low.like(0.044715, x)))
        inner = low("Tanh", low("Mul", bent, low.like(math.sqrt(2 / math.pi), x)))
    else:
        raise NotApplicable(f"its approximate is '{form}'")
    return low("Mul", low("Mul", x, low.like(0.5, x)), low("Add", inner, low.like(1, x)))


@writes("Mish")
def mish(low: Lowering) -> Tensor:
    """``x * tanh(log(1 + exp(x)))``."""
    return low("Mul", low.x, low("Tanh", low("Softplus", low.x)))


@writes("Celu")
def celu(low: Lowering) -> Tensor:
    """``alpha * elu(x / alpha)``."""
    x, alpha = low.x, _number(low, "alpha")
    if alpha == 1:
        return low("Elu", x, alpha=1.0)
    factor = low.like(alpha, x)
    return low("Mul", low("Elu", low("Div", x, factor), alpha=1.0), factor)


@writes("Selu")
def selu(low: Lowering) -> Tensor:
    """``gamma * elu(x, alpha)``."""
    return low("Mul", low("Elu", low.x, alpha=_number(low, "alpha")), low.like(_number(low, "gamma"), low.x))


@writes("Elu")
def elu(low: Lowering) -> Tensor:
    """``max(x, 0) + alpha * (exp(min(x, 0)) - 1)``."""
    x, zero = low.x, low.like(0, low.x)
    bent = low("Sub", low("Exp", low("Min", x, zero)), low.like(1, x))
    return low("Add", low("Max", x, zero), low("Mul", bent, low.like(_number(low, "alpha"), x)))


@writes("ThresholdedRelu")
def thresholded_relu(low: Lowering) -> Tensor:
    """``x`` where it is above alpha, else 0."""
    x = low.x
    return low("Where", low("Greater", x, low.like(_number(low, "alpha"), x)), x, low.like(0, x))


@writes("Shrink")
def shrink(low: Lowering) -> Tensor:
    """``x + bias`` below -lambd, ``x - bias`` above lambd, else 0."""
    x, lambd, bias = low.x, _number(low, "lambd"), _number(low, "bias")
    if low.dtype(x).name not in FLOATS:
        raise NotApplicable(f"'{x.name}' is {low.dtype(x).name}; only Shrink of floats is written")
    shift = low.like(bias, x)
    inner = low("Where", low("Less", x, low.like(-lambd, x)), low("Add", x, shift), low.like(0, x))
    return low("Where", low("Greater", x, low.like(lambd, x)), low("Sub", x, shift), inner)


@writes("Softsign")
def softsign(low: Lowering) -> Tensor:
    """``x / (1 + |x|)``."""
    return low("Div", low.x, low("Add", low("Abs", low.x), low.like(1, low.x)))
