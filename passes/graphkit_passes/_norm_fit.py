"""How a normalisation becomes one node: of which type, with which scale and bias, up to which tensor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from graphkit import NotApplicable
from graphkit.model.graph import Node, Tensor
from graphkit_passes._looking import Dtype, Look
from graphkit_passes._norm_forms import Forms
from graphkit_passes._norm_match import Norm

Made = dict[tuple[str, tuple[int, ...]], Tensor]


@dataclass
class Fitted:
    """One node's worth: ``end`` is what it makes, of ``x``; ``nodes`` are those that it stands for."""

    x: Tensor
    end: Tensor
    dtype: Dtype
    dims: tuple[int, ...]
    perm: list[int] | None = None
    """The order of the axes that brings those that are normalised to the end; None when they are there."""
    scale: Tensor | None = None
    bias: Tensor | None = None
    nodes: list[Node] = field(default_factory=list)


class Fit:
    """Chooses the longest part of what follows a normalisation that one operator computes the same way."""

    def __init__(self, look: Look, norm: Norm, *, biased: bool, moved: bool) -> None:
        self._look = look
        self._norm = norm
        self._biased = biased
        self._moved = moved
        self._perm: list[int] | None = None
        self.region = look.region(norm.core, self._stops())

    def _stops(self) -> set[int]:
        norm = self._norm
        return {id(t) for t in (norm.x, *norm.scales, norm.bias) if t is not None}

    def fitted(self) -> Fitted:
        """NotApplicable with the reason when no part will do."""
        norm, look = self._norm, self._look
        if look.graph.is_function or look.known.rank(look.graph, norm.x) is None:
            raise NotApplicable(_unknown(look, norm))
        dims = self._dims()
        self._require_scalars()
        casts = [n for n in self.region if look.maker(n.outputs[0], "Cast") and self._is_x(n.outputs[0])]
        inner = [n for n in self.region if n not in casts]
        look.require_closed(inner, norm.core)
        found = [f for f in self._parts(dims, casts) if self._is_exact(f)]
        if not found:
            raise NotApplicable(self._mixed())
        best = found[-1]
        best.nodes = [*self.region, *best.nodes]
        return best

    def _dims(self) -> tuple[int, ...]:
        """The sizes of the axes, which have to be the last ones, or can be brought there."""
        norm = self._norm
        rank = self._look.known.rank(self._look.graph, norm.x) or 0
        if norm.axes != tuple(range(-len(norm.axes), 0)):
            if not self._moved or norm.scales or norm.bias is not None:
                raise NotApplicable(f"it reduces {list(norm.axes)} of {rank} axes, and not the last ones")
            ours = [a % rank for a in norm.axes]
            self._perm = [i for i in range(rank) if i not in ours] + ours
        dims = Forms(self._look).dims(norm.x, norm.axes)
        if dims is None:
            which = f"the last {len(norm.axes)} axes" if self._perm is None else f"the axes {list(norm.axes)}"
            raise NotApplicable(f"the size of {which} of '{norm.x.name}' is not known")
        return dims

    def _require_scalars(self) -> None:
        """Numbers such as epsilon must not have more dims than what is normalised."""
        look, norm = self._look, self._norm
        rank = look.known.rank(look.graph, norm.x) or 0
        for tensor in (t for n in self.region if n.op in _ELEMENTWISE for t in n.inputs):
            if look.scalar(tensor) is not None and len(look.graph.shape(tensor) or ()) > rank:
                raise NotApplicable(f"the constant '{tensor.name}' has more dims than '{norm.x.name}'")

    def _is_x(self, tensor: Tensor) -> bool:
        return self._look.origin(tensor) is self._norm.x

    def _parts(self, dims: tuple[int, ...], casts: list[Node]) -> Iterator[Fitted]:
        """The core alone, and with a Cast, a product and a sum after it; the shortest first."""
        look, norm = self._look, self._norm
        inputs = [norm.x, *(n.outputs[0] for n in casts)]
        scale = self._scale(dims)
        bias = self._bias(dims)
        at, nodes = norm.core, list[Node]()
        yield from self._typed(inputs, at, dims, scale, bias, nodes)
        if bias is not None:
            return
        cast = look.reader(at)
        if cast is not None and not norm.scales and look.cast_from(cast.outputs[0]) is at:
            at, nodes = cast.outputs[0], [cast]
            yield from self._typed(inputs, at, dims, None, None, nodes)
        for op in ("Mul", "Add") if self._perm is None else ():
            node = look.reader(at)
            if node is None or node.op != op or node.inputs[0] is node.inputs[1]:
                continue
            other = self._shaped(node.inputs[1] if node.inputs[0] is at else node.inputs[0], dims)
            if other is None or (op == "Mul" and scale is not None) or (op == "Add" and not self._biased):
                continue
            scale, bias = (other, None) if op == "Mul" else (scale, other)
            at, nodes = node.outputs[0], [*nodes, node]
            yield from self._typed(inputs, at, dims, scale, bias, nodes)

    def _scale(self, dims: tuple[int, ...]) -> Tensor | None:
        scales = self._norm.scales
        if not scales:
            return None
        scale = self._shaped(scales[0], dims)
        if len(scales) > 1 or scale is None:
            raise NotApplicable(
                f"it is multiplied by '{scales[-1].name}' before it is done, which is no scale"
            )
        return scale

    def _bias(self, dims: tuple[int, ...]) -> Tensor | None:
        bias = None if self._norm.bias is None else self._shaped(self._norm.bias, dims)
        if bias is None and self._norm.bias is not None:
            raise NotApplicable(f"'{self._norm.bias.name}' is no bias of the last {len(dims)} axes")
        return bias

    def _shaped(self, tensor: Tensor, dims: tuple[int, ...]) -> Tensor | None:
        """``tensor`` if it can be a scale or a bias: a constant, or another tensor that has these dims."""
        look = self._look
        shape = Forms(look).shape(tensor)
        if shape is None:
            return None
        if not look.graph.is_constant(tensor):
            return tensor if shape == dims else None
        rank = look.known.rank(look.graph, self._norm.x) or 0
        own = shape
        while own and own[0] == 1 and len(own) > len(dims):
            own = own[1:]
        fits = len(own) <= len(dims) and all(a in (1, b) for a, b in zip(own[::-1], dims[::-1], strict=False))
        return tensor if fits and len(shape) <= rank else None

    def _typed(
        self,
        inputs: list[Tensor],
        end: Tensor,
        dims: tuple[int, ...],
        scale: Tensor | None,
        bias: Tensor | None,
        nodes: list[Node],
    ) -> Iterator[Fitted]:
        """With an input of the dtype that the end has, if there is one."""
        dtype = self._look.dtype(end)
        for x in inputs:
            if dtype is not None and self._look.dtype(x) == dtype:
                yield Fitted(x, end, dtype, dims, self._perm, scale, bias, list(nodes))
                return

    def _is_exact(self, found: Fitted) -> bool:
        """Whether float32, in which the operator computes, is no less than what was computed in."""
        types = [self._look.dtype(t) for n in self.region for t in n.outputs]
        typed = [self._look.dtype(t) for t in (found.scale, found.bias) if t is not None]
        if any(t is None for t in types) or any(t != found.dtype for t in typed):
            return False
        wider = {"float32", "float64"} if found.dtype.itemsize == 2 else set()
        return found.dtype.itemsize <= 4 and {str(t) for t in types} <= {found.dtype.name, *wider}

    def _mixed(self) -> str:
        names = {str(self._look.dtype(t)) for n in self.region for t in n.outputs}
        if "float64" in names:
            return "it is computed in float64, the fused operator in float32"
        return f"the dtype of what it is made of is not that of the result ({', '.join(sorted(names))})"

    def affine(self, found: Fitted, made: Made) -> tuple[Tensor, Tensor | None]:
        """Scale and bias in the shape of the axes; ones where there is no scale, shared through ``made``."""
        graph = self._look.graph
        key = found.dtype.name, found.dims
        if found.scale is None and key not in made:
            made[key] = graph.constant(np.ones(found.dims, found.dtype), "ones")
        scale = made[key] if found.scale is None else self._whole(found.scale, found.dims)
        return scale, None if found.bias is None else self._whole(found.bias, found.dims)

    def _whole(self, tensor: Tensor, dims: tuple[int, ...]) -> Tensor:
        graph = self._look.graph
        values = None if Forms(self._look).shape(tensor) == dims else graph.value(tensor)
        if values is None:
            return tensor
        if values.size == int(np.prod(dims)):
            return graph.constant(values.reshape(dims), tensor.name, of=[tensor])
        inner = values.reshape(values.shape[max(values.ndim - len(dims), 0) :])
        return graph.constant(np.broadcast_to(inner, dims).copy(), tensor.name, of=[tensor])


_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Pow")


def _unknown(look: Look, norm: Norm) -> str:
    if look.graph.is_function:
        return "a local function has no shapes: run inline-functions first"
    return f"the rank of '{norm.x.name}' is not known"
