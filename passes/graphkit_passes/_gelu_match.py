"""Finds GELU where it is written out around an Erf or a Tanh."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from graphkit import NotApplicable
from graphkit.model.graph import Node, Tensor
from graphkit_passes._gelu_polynomial import OPS, Expander, Polynomial, is_near, times
from graphkit_passes._looking import Look

_TANH = math.sqrt(2 / math.pi)
_ARGUMENTS: dict[str, Polynomial] = {
    "Erf": {(1, 0): math.sqrt(0.5)},
    "Tanh": {(1, 0): _TANH, (3, 0): _TANH * 0.044715},
}
_TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2}  # what rounding does to a product of constants
_FLOAT = 1e-6
_CLOSE = 2e-2  # a constant that is nearer than this is meant to be the one of GELU
_STEPS = 6
_NEAREST = 12


@dataclass(frozen=True)
class Gelu:
    """``end`` is GELU of ``x``; ``nodes`` compute it."""

    x: Tensor
    end: Tensor
    nodes: list[Node]
    tanh: bool


def find(look: Look, node: Node) -> Gelu | None:
    """The GELU around an Erf or Tanh; None when there is none.

    NotApplicable when its argument is that of GELU, and the rest is not, or is needed elsewhere.
    """
    wanted, close = _ARGUMENTS[node.op], False
    ends = list(_ends(look, node.outputs[0]))
    for x in _ancestors(look, node.inputs[0]):
        below = Expander(look, x)
        argument = below.expand(node.inputs[0]) or {}
        sign = -1.0 if argument.get((1, 0), 0.0) < 0 else 1.0
        close |= is_near(times(argument, sign), wanted, _CLOSE)
        if not is_near(times(argument, sign), wanted, _tolerance(look, below.constants)):
            continue
        for end in ends:
            above = Expander(look, x, node.outputs[0])
            result = above.expand(end) or {}
            if is_near(result, {(1, 0): 0.5, (1, 1): 0.5 * sign}, _tolerance(look, above.constants)):
                found = Gelu(x, end, look.region(end, {id(x)}), node.op == "Tanh")
                _require(look, found, [*below.constants, *above.constants])
                return found
    if close:
        raise NotApplicable(_why(look, node, ends))
    return None


def _ancestors(look: Look, tensor: Tensor) -> Iterator[Tensor]:
    """What ``tensor`` may be a polynomial in: itself, and what it is computed from, nearest first."""
    waiting, seen = [tensor], set[int]()
    while waiting and len(seen) < _NEAREST:
        at = waiting.pop(0)
        if id(at) in seen or look.scalar(at) is not None:
            continue
        seen.add(id(at))
        yield at
        node = look.maker(at, *OPS)
        waiting += [] if node is None else node.inputs


def _ends(look: Look, tensor: Tensor) -> Iterator[Tensor]:
    """What ``tensor`` goes into, one only reader after the other."""
    for _ in range(_STEPS):
        reader = look.reader(tensor)
        if reader is None or reader.op not in OPS:
            return
        tensor = reader.outputs[0]
        yield tensor


def _tolerance(look: Look, constants: Iterable[Tensor]) -> float:
    names = [d.name for d in map(look.dtype, constants) if d is not None]
    return max((_TOLERANCE.get(n, _FLOAT) for n in names), default=_FLOAT)


def _require(look: Look, found: Gelu, constants: list[Tensor]) -> None:
    """NotApplicable where one Gelu would be less exact, of another shape, or not all that is needed."""
    look.require_closed(found.nodes, found.end)
    rank = max((len(look.graph.shape(c) or ()) for c in constants), default=0)
    if not look.known.keeps_shape(look.graph, found.x, rank):
        raise NotApplicable(f"a constant has {rank} dimensions, and '{found.x.name}' may have fewer")
    dtype, end = look.dtype(found.x), look.dtype(found.end)
    if found.tanh and "float64" in (str(dtype), str(end), *(str(look.dtype(c)) for c in constants)):
        raise NotApplicable("it is float64, and the operator's constants are float32")
    casts = [look.dtype(n.outputs[0]) for n in found.nodes if n.op == "Cast"]
    if casts and (
        dtype is None or dtype != end or any(c is None or c.itemsize < dtype.itemsize for c in casts)
    ):
        raise NotApplicable(f"a Cast inside of it makes another dtype than '{found.x.name}' has")


def _why(look: Look, node: Node, ends: list[Tensor]) -> str:
    tensor = ends[-1] if ends else node.outputs[0]
    if not look.is_output(tensor) and len(look.readers(tensor)) > 1 and len(ends) < _STEPS:
        return f"'{tensor.name}' inside the pattern is read elsewhere too"
    if node.op == "Erf":
        return "what follows is not x * (1 + erf(x / sqrt(2))) / 2, or a constant of it is not exact"
    return "what follows is not x * (1 + tanh(…)) / 2, or a constant of it is not exact"
