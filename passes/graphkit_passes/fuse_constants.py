"""The ``fuse-constants`` pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from graphkit import Graph, NotApplicable, Pass, Tally
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import attribute
from graphkit_passes._affine import STEPS, Step, activation, after, composed, step
from graphkit_passes._fusing import Array, Fusing, rounded
from graphkit_passes._shared import FLOATS


class FuseConstants(Pass):
    """Merge chains of arithmetic with constants: `(x / 6) * s` becomes `x * (s / 6)`.

    ## Why
    Exporters write each constant of a formula as a node of its own: a HardSwish that divides by six before a
    learnable scale multiplies, a grid that is added and a stride that multiplies. However long it is, a chain
    of Mul, Div, Add, Sub and Neg of one float tensor with constants is one Mul and one Add at most. The new
    constants are computed in float64 and rounded once.

    ## Example
    ```
    a = Add (x, grid)
    b = Mul (a, two)
    y = Mul (b, stride)
    ```
    becomes
    ```
    m = Mul (x, c2)                         # two * stride
    y = Add (m, c3)                         # grid * two * stride
    ```

    ## When it refuses
    - The two constants broadcast each other: what stands for them would take more room than the larger.
    - The result goes straight into a Floor, Ceil, Round, comparison or Cast to integers, which makes a step
      of the last bit.
    - The additions cancel to less than a thousandth: `(x + 1e8) - 1e8` rounds x, maybe on purpose.
    - The new constants are not finite in their dtype, or below its normal numbers.
    - The first of the chain is the end of a GELU or of a normalization, which builders know as a whole.

    What others read between two nodes of a chain stays, and so does integer arithmetic.

    ## Source
    [Mul](https://onnx.ai/onnx/operators/onnx__Mul.html) ·
    [Broadcasting](https://onnx.ai/onnx/repo-docs/Broadcasting.html)
    """

    name = "fuse-constants"
    group = "simplify"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Merge every chain that gets shorter by it."""
        _Run(Fusing(graph, tally)).run()


class _Run:
    """One run of the pass."""

    def __init__(self, fusing: Fusing) -> None:
        self._fusing = fusing

    def run(self) -> None:
        self._fusing.run(frozenset(STEPS), self._visit)

    def _visit(self, graph: Graph, node: Node) -> bool:
        """Merge the longest part of the chain that begins here which can be."""
        first = step(graph, node)
        if first is None or not node.outputs[0].outputs or self._goes_on(graph, first):
            return False
        chain = [first, *after(self._fusing, graph, first.out)]
        reason = None
        for part in _windows(chain):
            try:
                if self._merge(graph, part):
                    return True
            except NotApplicable as error:
                reason = reason or error
        if reason is not None:
            raise reason
        return False

    def _goes_on(self, graph: Graph, first: Step) -> bool:
        """Whether a chain has begun before this step."""
        earlier = self._fusing.maker(graph, first.x, *STEPS)
        return self._fusing.is_private(graph, first.x) and step(graph, earlier) is not None

    def _merge(self, graph: Graph, chain: Sequence[Step]) -> bool:
        scales, shifts = any(s.scales for s in chain), any(s.shifts for s in chain)
        if len(chain) <= scales + shifts and not any(_turns(s) for s in chain):
            return False
        scale, shift = composed(self._fusing, graph, chain)
        plan = _plan(scale, shift if shifts else None, any(s.constant is not None for s in chain))
        if not 0 < len(plan) < len(chain):
            return False
        known = activation(graph, chain[0].x)
        if known:
            raise NotApplicable(f"'{chain[0].out.name}' is the end of {known}")
        self._require_smooth(graph, chain[-1].out)
        _require_size(chain, scale, shift)
        _require_no_cancelling(self._fusing, graph, chain)
        self._put(graph, chain, plan)
        return True

    def _put(self, graph: Graph, chain: Sequence[Step], plan: Sequence[tuple[str, Array | None]]) -> None:
        constants = [s.constant for s in chain if s.constant is not None]
        values = [None if v is None else self._rounded(graph, constants[0], v, op) for op, v in plan]
        old, made = [s.node for s in chain], chain[0].x
        for (op, _), value in zip(plan, values, strict=True):
            inputs: list[Tensor] = [made]
            if value is not None:
                inputs.append(graph.constant(value, constants[0].name, of=constants))
            (made,) = self._fusing.add(graph, old, op, inputs[::-1] if op == "Sub" else inputs, {})
        self._fusing.settle(graph, old, made)

    @staticmethod
    def _rounded(graph: Graph, like: Tensor, values: Array, op: str) -> Array:
        dtype = graph.dtype(like)
        assert dtype is not None  # a step's constant is of floats
        axes = tuple(range(values.ndim))
        old = (lambda: np.ones_like(values)) if op == "Mul" else None
        return rounded(values, dtype, "constant", old, axes)

    def _require_smooth(self, graph: Graph, tensor: Tensor) -> None:
        for reader in tensor.outputs:
            to_floats = reader.op == "Cast" and _is_float(attribute(graph, reader, "to"))
            if reader.op in _JUMPS and not to_floats:
                raise NotApplicable(f"a {reader.op} reads '{tensor.name}', for which the last bit matters")


_JUMPS = ("Floor", "Ceil", "Round", "Cast", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
_CANCELS = 1 / 1024


def _windows(chain: Sequence[Step]) -> Iterator[Sequence[Step]]:
    """Parts of a chain of two steps and more, longest first."""
    for length in range(len(chain), 1, -1):
        for start in range(len(chain) - length + 1):
            yield chain[start : start + length]


def _turns(one: Step) -> bool:
    """Whether a step turns the sign, which takes no node beside an addition: Neg, and ``c - x``."""
    return one.constant is None or (one.scales and one.shifts)


def _plan(scale: Array, shift: Array | None, typed: bool) -> list[tuple[str, Array | None]]:
    """The nodes that do the same: operator and constant, for which ``typed`` says that the dtype is known."""
    sign = float(scale) if scale.ndim == 0 and abs(scale) == 1 else 0
    if sign == -1:
        return [("Neg", None)] if shift is None else [("Sub", shift)]
    if shift is not None:
        return [("Add", shift)] if sign == 1 else [("Mul", scale), ("Add", shift)]
    return [("Mul", scale)] if typed else []


def _require_size(chain: Sequence[Step], scale: Array, shift: Array) -> None:
    largest = max(int(np.prod(s.shape, dtype=np.int64)) for s in chain)
    if max(scale.size, shift.size) > max(largest, 1):
        raise NotApplicable("its constants broadcast each other, so that one for both would be larger")


def _require_no_cancelling(fusing: Fusing, graph: Graph, chain: Sequence[Step]) -> None:
    shift = np.zeros(())
    for one in chain:
        scale, summand = one.parts(fusing, graph)
        with np.errstate(over="ignore", invalid="ignore"):
            before = shift * scale
            shift = before + summand
        if one.shifts and np.abs(before).max() > 0:
            least = _CANCELS * max(np.abs(before).max(), np.abs(summand).max())
            if not np.abs(shift).max() >= least:
                raise NotApplicable("its additions cancel each other, which rounds what they are added to")


def _is_float(to: object) -> bool:
    """Whether a Cast to this type keeps fractions."""
    from graphkit.model.surgeon import numpy_dtype

    dtype = numpy_dtype(to) if isinstance(to, int) else None
    return dtype is not None and dtype.name in FLOATS
