"""Einsum in terms of Transpose, ReduceSum, Mul and MatMul: https://onnx.ai/onnx/operators/onnx__Einsum.html"""

from __future__ import annotations

from graphkit import NotApplicable
from graphkit.model.graph import Tensor
from graphkit_passes._lowering import Lowering, writes


@writes("Einsum")
def einsum(low: Lowering) -> Tensor:
    """Of one or two inputs; labels of one input alone are summed first, the others batched and multiplied."""
    terms, result = _terms(low)
    operands = [(low.given(n), t) for n, t in enumerate(terms)]
    summed = [
        _sum(low, x, t, {*result, *(c for o in terms[:n] + terms[n + 1 :] for c in o)})
        for n, (x, t) in enumerate(operands)
    ]
    if len(summed) == 1:
        return _ordered(low, *summed[0], result)
    (a, first), (b, second) = summed
    shared = [c for c in first if c in second and c not in result]
    batch = "".join(c for c in result if c in first and c in second)
    rows = "".join(c for c in result if c in first and c not in second)
    columns = "".join(c for c in result if c in second and c not in first)
    if max(len(rows), len(columns), len(shared)) > 1:
        raise NotApplicable(f"'{_text(low)}' needs a Reshape of several dims to one")
    inner = "".join(shared)
    left = _ordered(low, a, first, batch + rows + inner)
    right = _ordered(low, b, second, batch + inner + columns)
    left, right = (
        _filled(low, t, n, len(batch)) for t, n in ((left, (rows, inner)), (right, (inner, columns)))
    )
    product = low("MatMul", left, right)
    extra = [len(batch) + n for n, labels in enumerate((rows, columns)) if not labels]
    product = low.squeeze(product, *extra) if extra else product
    return _ordered(low, product, batch + rows + columns, result)


def _text(low: Lowering) -> str:
    text = low.attr("equation")
    return (text.decode() if isinstance(text, bytes) else str(text)).replace(" ", "")


def _terms(low: Lowering) -> tuple[list[str], str]:
    """The labels of each input, and of the output: those that occur once, sorted, when it does not say."""
    text = _text(low)
    left, arrow, result = text.partition("->")
    terms = left.split(",")
    if not arrow:
        result = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    if "." in text or len(terms) > 2:
        raise NotApplicable(f"'{text}' has an ellipsis or more than two inputs")
    if any(len(set(t)) < len(t) for t in (*terms, result)):
        raise NotApplicable(f"'{text}' takes a diagonal")
    if not _same_sizes(low, terms):
        raise NotApplicable(f"'{text}': a dim of 1 may be broadcast")
    return terms, result


def _same_sizes(low: Lowering, terms: list[str]) -> bool:
    """Whether a label of two inputs is known to stand for one size; broadcasting is not written."""
    if len(terms) < 2:
        return True
    sizes: dict[str, object] = {}
    for place, term in enumerate(terms):
        shape = low.shape(low.given(place))
        for label, size in zip(term, shape or [None] * len(term), strict=True):
            apart = size is None or sizes.setdefault(label, size) != size
            if apart and any(label in other for n, other in enumerate(terms) if n != place):
                return False
    return True


def _sum(low: Lowering, x: Tensor, labels: str, kept: set[str]) -> tuple[Tensor, str]:
    """``x`` without the labels that nothing else has."""
    axes = [n for n, c in enumerate(labels) if c not in kept]
    if not axes:
        return x, labels
    return low.reduce("ReduceSum", x, axes, keep=False), "".join(c for c in labels if c in kept)


def _ordered(low: Lowering, x: Tensor, labels: str, wanted: str) -> Tensor:
    """``x`` with its dims in the wanted order."""
    return x if labels == wanted else low("Transpose", x, perm=[labels.index(c) for c in wanted])


def _filled(low: Lowering, x: Tensor, labels: tuple[str, str], batch: int) -> Tensor:
    """A matrix: dims of 1 for the labels that are not there."""
    missing = [batch + n for n, label in enumerate(labels) if not label]
    return low.unsqueeze(x, *missing) if missing else x
