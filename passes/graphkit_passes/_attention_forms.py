"""The forms of Attention that TensorRT has kernels for, as measured."""

from __future__ import annotations

from graphkit_passes._lowering import Lowering

NONPAD, PAST_KEY, PAST_VALUE, MASK = 6, 4, 5, 3  # inputs


def no_kernel(low: Lowering) -> str:
    """Why TensorRT has no kernel for what an Attention computes, however it is masked; empty when it has one.

    Measured with TensorRT-RTX 1.4, 1.5, 1.6 and 1.7: 16 bits, 16 to 256 elements a head, and
    more than one query (with one, it depends on the number of heads).
    """
    flat = low.rank(low.x) == 3
    sizes = [low.dim(low.given(n), -1) for n in range(3)]
    heads = [int(low.attr(a, 0)) if flat else 1 for a in ("q_num_heads", "kv_num_heads", "kv_num_heads")]
    if low.dtype(low.x).name not in ("float16", "bfloat16"):
        return f"{low.dtype(low.x).name} has no kernel"
    if any(s is None or not h for s, h in zip(sizes, heads, strict=True)):
        return "the size of a head is not fixed"
    query, key, value = ((s or 0) // h for s, h in zip(sizes, heads, strict=True))
    if not 16 <= query <= 256:
        return f"there is no kernel for heads of {query}"
    if low.dim(low.x, 1 if flat else 2) == 1:
        return "there is no kernel for every single query"
    if key != value:
        return "keys and values have heads of different sizes"
    if float(low.attr("softcap")) or low.attr("softmax_precision") is not None or low.has(3):
        return "it has a softcap, a softmax_precision or a qk_matmul_output"
    return ""


def odd_form(low: Lowering) -> str:
    """Why TensorRT refuses an Attention; empty when it takes it."""
    found = no_kernel(low)
    if found:
        return found
    if any(low.input(n) is not None for n in (PAST_KEY, PAST_VALUE, NONPAD)) or low.has(1) or low.has(2):
        return "it keeps a cache"
    if low.attr("left_window_size", -1) >= 0 or low.attr("right_window_size", -1) >= 0:
        return "it has a window"
    mask = low.input(MASK)
    if mask is not None and low.attr("is_causal"):
        return "it has a mask, and is causal"
    return ""
