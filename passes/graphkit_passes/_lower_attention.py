"""Attention in terms of MatMul and Softmax: https://onnx.ai/onnx/operators/onnx__Attention.html"""

from __future__ import annotations

import math

import numpy as np

from graphkit import NotApplicable
from graphkit.model.graph import Tensor
from graphkit.model.surgeon import numpy_dtype
from graphkit_passes._attention_forms import MASK, NONPAD, PAST_KEY, PAST_VALUE, no_kernel
from graphkit_passes._lowering import I64, Lowering, writes


@writes("Attention")
def attention(low: Lowering) -> list[Tensor | None]:
    """``softmax(softcap(q @ k^T * scale) + bias) @ v``, with what precedes in the cache.

    Where the target has kernels for a plain Attention, the mask and the cache alone are written out.
    """
    written = _Attention(low)
    plain = "Attention" in low.keeps and not no_kernel(low)
    return written.plain() if plain else written.whole()


class _Attention:
    """q [B, heads, S, D], k and v [B, kv heads, T, D], whatever the inputs are."""

    def __init__(self, low: Lowering) -> None:
        self.low = low
        self.flat = low.rank(low.x) == 3
        self.own = low.dtype(low.x)
        self.q, k, v = (self._heads(n, "q_num_heads" if n == 0 else "kv_num_heads") for n in range(3))
        self.queries = low.size(low.x, 1 if self.flat else 2)
        past_key, past_value = low.input(PAST_KEY), low.input(PAST_VALUE)
        if (past_key is None) != (past_value is None):
            raise NotApplicable("it has a past key or a past value, not both")
        self.k = k if past_key is None else low("Concat", past_key, k, axis=2)
        self.v = v if past_value is None else low("Concat", past_value, v, axis=2)
        self.keys = self._keys(past_key)
        self.infinite = False  # whether a whole row can be masked

    def _heads(self, place: int, attribute: str) -> Tensor:
        """Input ``place`` as [B, heads, S, D]."""
        x = self.low.given(place)
        if not self.flat:
            return x
        heads = self.low.attr(attribute)
        if not heads:
            raise NotApplicable(f"its inputs have three dims, and it has no {attribute}")
        return self.low("Transpose", self.low.reshape(x, 0, 0, int(heads), -1), perm=[0, 2, 1, 3])

    def _keys(self, past: Tensor | None) -> Tensor:
        """How many keys there are, those of the past included: a vector of one element."""
        low = self.low
        now = low.size(low.given(1), 1 if self.flat else 2)
        if past is None:
            return now
        before = low.size(past, 2)
        counts = low.graph.value(now), low.graph.value(before)
        if counts[0] is not None and counts[1] is not None:
            return low.ints(int(counts[0][0] + counts[1][0]))
        return low("Add", now, before)

    def plain(self) -> list[Tensor | None]:
        """An Attention of one mask, without a cache."""
        low, mask = self.low, self._mask()
        past = low.input(PAST_KEY) is not None
        windows = low.attr("left_window_size", -1) >= 0 or low.attr("right_window_size", -1) >= 0
        causal = bool(low.attr("is_causal"))
        bare = mask is None and not past and low.input(NONPAD) is None and not windows
        if not bare:
            allowed = self._allowed()
            if allowed is not None and mask is not None:
                both = low.dtype(self.low.given(MASK)).name == "bool"
                mask = low("And", mask, allowed) if both else self._only(allowed, mask)
            mask = allowed if mask is None else mask
        given = [self.q, self.k, self.v, *([] if mask is None else [mask])]
        y = low("Attention", *given, is_causal=int(causal and bare), scale=low.attr("scale"))
        return [self._joined(y), self.k, self.v, None]

    def _joined(self, y: Tensor) -> Tensor:
        """The result in the form of the inputs."""
        if not self.flat:
            return y
        return self.low.reshape(self.low("Transpose", y, perm=[0, 2, 1, 3]), 0, 0, -1)

    def whole(self) -> list[Tensor | None]:
        """The four outputs, by MatMul and Softmax."""
        low, mode = self.low, int(self.low.attr("qk_matmul_output_mode"))
        k, v = self._repeated(self.k), self._repeated(self.v)
        root = self._root_of_scale()
        left = low("Mul", self.q, root)
        right = low("Transpose", low("Mul", k, root), perm=[0, 1, 3, 2])
        raw = low("MatMul", left, right)
        capped = self._capped(raw)
        biased = self._biased(capped)
        if low.has(3) and mode == 2 and biased is not capped:
            raise NotApplicable(
                "runtimes do not agree on what qk_matmul_output_mode 2 gives where it is masked"
            )
        weights = self._weights(biased)
        y = low("MatMul", weights, v)
        return [self._joined(y), self.k, self.v, (raw, capped, biased, weights)[mode]]

    def _number(self, value: float) -> Tensor:
        return self.low.const(value, self.own, "scalar")

    def _root_of_scale(self) -> Tensor:
        low, scale = self.low, self.low.attr("scale")
        if scale is None:
            size = low.dim(low.x, -1)
            if size is None:
                raise NotApplicable(f"it has no scale, and the last dim of '{low.x.name}' is not fixed")
            scale = 1 / math.sqrt(size // int(low.attr("q_num_heads")) if self.flat else size)
        if scale < 0:
            raise NotApplicable("its scale is negative")
        return self._number(math.sqrt(scale))

    def _repeated(self, x: Tensor) -> Tensor:
        """Each of the fewer heads of keys and values once for every head of queries that shares it."""
        queries, keys = self._count(0, "q_num_heads"), self._count(1, "kv_num_heads")
        if queries == keys:
            return x
        if queries % keys:
            raise NotApplicable(f"its {queries} heads of queries are no multiple of {keys}")
        shared = np.repeat(np.arange(keys), queries // keys)
        return self.low("Gather", x, self.low.const(shared, I64, "heads"), axis=1)

    def _count(self, place: int, attribute: str) -> int:
        """How many heads an input has."""
        x = self.low.given(place)
        found = self.low.attr(attribute) if self.flat else self.low.dim(x, 1)
        if not found:
            raise NotApplicable(f"the number of heads of '{x.name}' is not known")
        return int(found)

    def _capped(self, raw: Tensor) -> Tensor:
        low, cap = self.low, float(self.low.attr("softcap"))
        if cap <= 0:
            return raw
        return low("Mul", low("Tanh", low("Div", raw, self._number(cap))), self._number(cap))

    def _biased(self, scores: Tensor) -> Tensor:
        """The scores plus the mask; minus infinity where the query may not see the key."""
        low, mask = self.low, self._mask()
        if mask is not None:
            self.infinite = True
            if low.dtype(low.given(MASK)).name == "bool":
                scores = self._only(mask, scores)
            else:
                scores = low("Add", scores, mask)
        allowed = self._allowed()
        return scores if allowed is None else self._only(allowed, scores)

    def _only(self, allowed: Tensor, scores: Tensor) -> Tensor:
        return self.low("Where", allowed, scores, self._number(-np.inf))

    def _mask(self) -> Tensor | None:
        mask = self.low.input(MASK)
        return None if mask is None else self._long_enough(mask)

    def _long_enough(self, mask: Tensor) -> Tensor:
        """The mask, padded where it has fewer columns than there are keys."""
        low, width, keys = self.low, self.low.dim(mask, -1), self.low.graph.value(self.keys)
        if low.graph.opset < 24 or (keys is not None and width == int(keys[0])):
            return mask
        key = low.given(1)
        shape, symbols = low.shape(mask), low.shape(key)
        place = 1 if self.flat else 2
        same = shape and symbols and shape[-1] is not None and shape[-1] == symbols[place]
        if same and low.input(PAST_KEY) is None:
            return mask
        rank, dtype = low.rank(mask), low.dtype(mask)
        missing = low("Sub", self.keys, low.size(mask, -1))
        pads = low("Concat", low.ints(*[0] * (2 * rank - 1)), missing, axis=0)
        if dtype.name != "bool":
            return low("Pad", mask, pads, low.like(-np.inf, mask))
        number = low("Pad", low.cast(mask, np.dtype(np.int32)), pads, low.const(0, np.int32, "zero"))
        return low.cast(number, dtype)

    def _allowed(self) -> Tensor | None:
        """Which keys [T] each query [S] may see by causality, windows and padding; None for all."""
        low, causal = self.low, bool(self.low.attr("is_causal", 0))
        left, right = low.attr("left_window_size", -1), low.attr("right_window_size", -1)
        right = 0 if causal else right
        padding = low.input(NONPAD)
        if left < 0 and right < 0 and padding is None:
            return None
        columns = low.arange(self.keys)
        found: list[Tensor] = []
        if left >= 0 or right >= 0:
            self.infinite = self.infinite or left >= 0 or padding is not None
            rows = self._positions(padding)
            if right >= 0:
                last = low("Add", rows, low.const(right + 1, I64, "right")) if right else rows
                found.append(
                    low("Less", columns, last) if right else low("Not", low("Greater", columns, last))
                )
            if left >= 0:
                first = low("Sub", rows, low.const(left, I64, "left"))
                found.append(low("Not", low("Less", columns, first)))
        if padding is not None:
            self.infinite = True
            found.append(low("Less", columns, low.unsqueeze(_int64(low, padding), 1, 2, 3)))
        allowed = found[0]
        for other in found[1:]:
            allowed = low("And", allowed, other)
        return allowed

    def _positions(self, padding: Tensor | None) -> Tensor:
        """The place of each query among the keys, as a column."""
        low, past = self.low, self.low.input(PAST_KEY)
        rows = low.unsqueeze(low.arange(self.queries), 1)
        if past is not None:
            return low("Add", rows, low.size(past, 2))
        if padding is not None:
            offset = low("Sub", _int64(low, padding), self.queries)
            return low("Add", rows, low.unsqueeze(offset, 1, 2, 3))
        return rows

    def _weights(self, scores: Tensor) -> Tensor:
        """Softmax in the precision asked for; 0 for a query that may see no key."""
        low, asked = self.low, self.low.attr("softmax_precision")
        dtype = self.own if asked is None else numpy_dtype(int(asked))
        if dtype is None:
            raise NotApplicable(f"its softmax_precision {asked} is no dtype")
        wide = scores if dtype == self.own else low.cast(scores, dtype)
        weights = low.softmax(wide, 4)
        if self.infinite:
            most = low.reduce("ReduceMax", wide, [-1 if low.opset >= 11 else 3])
            none = low("Equal", most, low.const(-np.inf, dtype, "none"))
            weights = low("Where", none, low.const(0, dtype, "zero"), weights)
        return weights if dtype == self.own else low.cast(weights, self.own)


def _int64(low: Lowering, x: Tensor) -> Tensor:
    return x if low.dtype(x) == I64 else low.cast(x, I64)
