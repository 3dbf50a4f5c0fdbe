"""GridSample in terms of GatherND: https://onnx.ai/onnx/operators/onnx__GridSample.html"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from graphkit import NotApplicable
from graphkit.model.graph import Tensor
from graphkit_passes._lowering import F32, I64, Lowering, writes
from graphkit_passes._shared import FLOATS

_CUBIC = -0.75  # alpha of the cubic convolution, https://ieeexplore.ieee.org/document/1163711
_MODES = {
    "linear": "linear",
    "bilinear": "linear",
    "cubic": "cubic",
    "bicubic": "cubic",
    "nearest": "nearest",
}


def mode_of(low: Lowering) -> str:
    """``linear``, ``cubic`` or ``nearest``, however the opset calls it."""
    mode = _text(low.attr("mode"))
    if mode not in _MODES:
        raise NotApplicable(f"its mode is '{mode}'")
    return _MODES[mode]


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@writes("GridSample")
def grid_sample(low: Lowering) -> Tensor:
    """The elements around each point, gathered and weighted.

    Where the target samples images itself, a linear mode is left out: it is the default, and its name is
    not the one of opset 16.
    """
    if "GridSample" in low.keeps and mode_of(low) == "linear" and low.rank(low.x) == 4:
        attrs = {k: v for k, v in low.node.attrs.items() if k != "mode"}
        return low("GridSample", low.x, low.given(1), **attrs)
    return _Grid(low).run()


@dataclass(frozen=True)
class _Near:
    """Elements along one dim: their index, whether they are inside of x (None: always), and their weight."""

    index: Tensor
    inside: Tensor | None
    weight: Tensor | None


class _Grid:
    """x [N, C, sizes…], grid [N, out sizes…, dims]; coordinates count from the last dim of x."""

    def __init__(self, low: Lowering) -> None:
        self.low, self.mode = low, mode_of(low)
        self.padding = _text(low.attr("padding_mode"))
        self.aligned = bool(low.attr("align_corners"))
        self.dims = low.rank(low.x) - 2
        if self.dims not in (1, 2, 3) or (self.dims == 3 and self.mode == "cubic"):
            raise NotApplicable(f"{self.mode} of {self.dims} dims is not written with gathers")
        if low.dtype(low.x).name not in FLOATS and self.mode != "nearest":
            raise NotApplicable(f"'{low.x.name}' is {low.dtype(low.x).name}, and no float")
        grid = low.given(1)
        self.dtype = low.dtype(grid)
        if self.dtype.itemsize < F32.itemsize:
            self.dtype, grid = F32, low.cast(grid, F32)
        self.grid = grid
        self.sizes = [self._size(2 + n) for n in range(self.dims)]

    def _size(self, axis: int) -> Tensor:
        """One dim of x, as a scalar of the grid's dtype."""
        known = self.low.dim(self.low.x, axis)
        if known is not None:
            return self._number(known)
        if self.padding == "reflection" and self.aligned:
            raise NotApplicable(
                f"dim {axis} of '{self.low.x.name}' is not fixed; of 1, it cannot be reflected in"
            )
        size = self.low("Gather", self.low("Shape", self.low.x), self.low.const(axis, I64, "axis"))
        return self.low.cast(size, self.dtype)

    def _number(self, value: float) -> Tensor:
        return self.low.const(value, self.dtype, "scalar")

    def run(self) -> Tensor:
        """[N, C, out sizes…]."""
        low = self.low
        x = low("Transpose", low.reshape(low.x, 0, 0, -1), perm=[0, 2, 1])
        total: Tensor | None = None
        for corner in product(*(self._neighbours(n) for n in range(self.dims))):
            value, weight = self._at(x, corner), None
            for near in corner:
                weight = near.weight if weight is None else low("Mul", weight, near.weight)
            if weight is not None:
                value = low("Mul", value, self._as_column(weight))
            total = value if total is None else low("Add", total, value)
        return self._shaped(low("Transpose", total, perm=[0, 2, 1]))

    def _as_column(self, weight: Tensor) -> Tensor:
        dtype = self.low.dtype(self.low.x)
        column = self.low.unsqueeze(weight, 2)
        return column if dtype == self.dtype else self.low.cast(column, dtype)

    def _coordinate(self, n: int) -> Tensor:
        """Where each point lies along dim ``n`` of x, in elements, padded by the mode: [N, P]."""
        low, size = self.low, self.sizes[n]
        place = low.const(self.dims - 1 - n, I64, "place")
        at = low.reshape(low("Gather", self.grid, place, axis=self.dims + 1), 0, -1)
        shifted = low("Add", at, self._number(1))
        if self.aligned:
            half = low("Div", shifted, self._number(2))
            at = low("Mul", half, low("Sub", size, self._number(1)))
        else:
            at = low("Div", low("Sub", low("Mul", shifted, size), self._number(1)), self._number(2))
        if self.mode == "nearest":
            at = low("Round", at)
        if self.padding == "border":  # cubic pads its four elements, not the point: PyTorch, ONNX Runtime
            return at if self.mode == "cubic" else self._clamped(at, n)
        return self._reflected(at, n) if self.padding == "reflection" else at

    def _clamped(self, at: Tensor, n: int) -> Tensor:
        last = self.low("Sub", self.sizes[n], self._number(1))
        return self.low("Max", self.low("Min", at, last), self._number(0))

    def _reflected(self, at: Tensor, n: int) -> Tensor:
        """Folded back at both edges until it lies between them."""
        low = self.low
        if self.aligned and low.dim(low.x, 2 + n) == 1:
            raise NotApplicable(f"dim {2 + n} of '{low.x.name}' is 1: nothing can be reflected in it")
        edge = 0.0 if self.aligned else -0.5
        length = low("Sub", self.sizes[n], self._number(1 if self.aligned else 0))
        apart = low("Abs", low("Sub", at, self._number(edge)))
        twice = low("Mul", length, self._number(2))
        part = low("Sub", apart, low("Mul", low("Floor", low("Div", apart, twice)), twice))
        folded = low("Sub", length, low("Abs", low("Sub", part, length)))
        folded = low("Add", folded, self._number(edge))
        if self.mode == "nearest":
            folded = low("Round", folded)
        outside = low(
            "Greater", low("Abs", low("Sub", at, self._middle(n))), low("Div", length, self._number(2))
        )
        return low("Where", outside, folded, at)

    def _middle(self, n: int) -> Tensor:
        return self.low("Div", self.low("Sub", self.sizes[n], self._number(1)), self._number(2))

    def _neighbours(self, n: int) -> list[_Near]:
        """The elements along dim ``n`` of x that each point is made of."""
        low, at = self.low, self._coordinate(n)
        if self.mode == "nearest":
            return [self._near(at, n, None)]
        first = low("Floor", at)
        part = low("Sub", at, first)
        if self.mode == "linear":
            rest = low("Sub", self._number(1), part)
            return [self._near(first, n, rest), self._near(low("Add", first, self._number(1)), n, part)]
        places = [first if k == 0 else low("Add", first, self._number(k)) for k in (-1, 0, 1, 2)]
        return [self._near(p, n, w) for p, w in zip(places, self._cubic(part), strict=True)]

    def _near(self, at: Tensor, n: int, weight: Tensor | None) -> _Near:
        if self.padding == "reflection" and self.mode == "cubic":
            at = self._reflected(at, n)
        safe = self._clamped(at, n)
        inside = self.low("Equal", safe, at) if self.padding == "zeros" else None
        return _Near(self.low.cast(safe, I64), inside, weight)

    def _cubic(self, part: Tensor) -> list[Tensor]:
        """Weights of the elements at -1, 0, 1, 2 from the one in front of the point."""
        low, a = self.low, _CUBIC
        rest = low("Sub", self._number(1), part)

        def far(t: Tensor) -> Tensor:  # ((a t - 5a) t + 8a) t - 4a
            found = low("Mul", low("Sub", low("Mul", t, self._number(a)), self._number(5 * a)), t)
            return low("Sub", low("Mul", low("Add", found, self._number(8 * a)), t), self._number(4 * a))

        def near(t: Tensor) -> Tensor:  # ((a + 2) t - (a + 3)) t t + 1
            found = low("Sub", low("Mul", t, self._number(a + 2)), self._number(a + 3))
            return low("Add", low("Mul", low("Mul", found, t), t), self._number(1))

        one = self._number(1)
        return [far(low("Add", part, one)), near(part), near(rest), far(low("Add", rest, one))]

    def _at(self, x: Tensor, corner: Sequence[_Near]) -> Tensor:
        """The elements at whole coordinates: [N, P, C]; 0 outside of x when it is padded with zeros."""
        low = self.low
        inside, index = corner[0].inside, corner[0].index
        for n, near in enumerate(corner[1:], 1):
            index = low("Add", low("Mul", index, low.cast(self.sizes[n], I64)), near.index)
            inside = inside if near.inside is None else low("And", inside, near.inside)
        found = low("GatherND", x, low.unsqueeze(index, 2), batch_dims=1)
        if inside is None:
            return found
        return low("Where", low.unsqueeze(inside, 2), found, low.like(0, low.x))

    def _shaped(self, y: Tensor) -> Tensor:
        """[N, C, P] as [N, C, out sizes…]."""
        low, grid = self.low, self.low.given(1)
        sizes = [low.dim(grid, 1 + n) for n in range(self.dims)]
        if sizes.count(None) <= 1:
            return low.reshape(y, 0, 0, *(-1 if s is None else s for s in sizes))
        shape = low("Concat", low.ints(0, 0), *(low.size(grid, 1 + n) for n in range(self.dims)), axis=0)
        return low("Reshape", y, shape)
