"""RotaryEmbedding in terms of Mul and Add: https://onnx.ai/onnx/operators/onnx__RotaryEmbedding.html"""

from __future__ import annotations

from graphkit import NotApplicable
from graphkit.model.graph import Tensor
from graphkit_passes._lowering import Lowering, writes


@writes("RotaryEmbedding")
def rotary_embedding(low: Lowering) -> Tensor:
    """Pairs of elements turned by the angles of their position."""
    x, flat = low.x, low.rank(low.x) == 3
    heads = int(low.attr("num_heads", 0))
    if flat and not heads:
        raise NotApplicable("its input has three dims, and it has no num_heads")
    turned = low("Transpose", low.reshape(x, 0, 0, heads, -1), perm=[0, 2, 1, 3]) if flat else x
    last = low.dim(x, -1)
    if last is None:
        raise NotApplicable(f"the last dim of '{x.name}' is not fixed")
    size = last // heads if flat else last
    part = int(low.attr("rotary_embedding_dim", 0)) or size
    cos, sin = (_angles(low, n) for n in (1, 2))
    front = turned if part == size else low.slice(turned, 3, 0, part)
    y = _turned(low, front, cos, sin, part, bool(low.attr("interleaved", 0)))
    if part != size:
        y = low("Concat", y, low.slice(turned, 3, part, size), axis=3)
    return low.reshape(low("Transpose", y, perm=[0, 2, 1, 3]), 0, 0, -1) if flat else y


def _angles(low: Lowering, place: int) -> Tensor:
    """Cosine or sine as [B, 1, S, half]."""
    cache, positions = low.given(place), low.input(3)
    return low.unsqueeze(cache if positions is None else low("Gather", cache, positions, axis=0), 1)


def _turned(low: Lowering, x: Tensor, cos: Tensor, sin: Tensor, part: int, interleaved: bool) -> Tensor:
    """The rotation; pairs are neighbours when ``interleaved``, else half the length apart."""
    half = part // 2
    if interleaved:
        a, b = (low.slice(x, 3, n, part, 2) for n in (0, 1))
    else:
        a, b = low.slice(x, 3, 0, half), low.slice(x, 3, half, part)
    real = low("Sub", low("Mul", cos, a), low("Mul", sin, b))
    imaginary = low("Add", low("Mul", sin, a), low("Mul", cos, b))
    if not interleaved:
        return low("Concat", real, imaginary, axis=3)
    pairs = low("Concat", low.unsqueeze(real, 4), low.unsqueeze(imaginary, 4), axis=4)
    return low("Reshape", pairs, low.ints(0, 0, -1, part))
