"""Replaces the constants of masks, and what lies between them and their Softmaxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graphkit import Graph, NotApplicable, Tally
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import attribute, domain_of
from graphkit.model.surgeon import Constant, Variable
from graphkit_passes._looking import Dtype, cast_to
from graphkit_passes._mask_paths import MOVERS, Paths, Way, by_rows, tells_nan

Array = np.ndarray[Any, Any]

LEAST = -65504.0
_READERS = frozenset([*MOVERS, "Attention", "Softmax"])
_DTYPES = ("float16", "float32", "float64")  # bfloat16 has the range of float32
_COARSE = 64  # between neighbours of what is added: it swallows scores of half of that
_SMALL = 4096  # bytes that are read before it is known that they mask something
_ADDS = ("Add", "Attention", "Mul", "Sub", "Sum")
_NOTE = "rows that are masked altogether have other weights now: by their scores, or even where they were NaN"


@dataclass
class Clamping:
    """One run over a model."""

    main: Graph
    paths: Paths
    tally: Tally
    floor: float
    even: bool
    infinite: bool
    _passed: dict[int, Node] = field(default_factory=dict)
    _guarded: dict[int, tuple[Node, Dtype]] = field(default_factory=dict)
    _levels: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    _homes: dict[int, Graph] = field(default_factory=dict)
    _noted: bool = False

    def run(self) -> None:
        """Clamp all constants, then edit what their values go through."""
        self._homes = {id(n): s for s in self.main.scopes() for n in s.nodes}
        for scope, tensor, readers in list(self._constants()):
            ways = [(n, self.paths.through(n, tensor)) for n in readers]
            if scope.nbytes(tensor) <= _SMALL or any(w.ends for _, w in ways):
                self._clamp(scope, tensor, ways)
        for scope in self.main.scopes():
            for node in [n for n in scope.nodes if n.op == "ConstantOfShape" and not domain_of(n)]:
                self._fill(scope, node)
        for node in self._passed.values():
            self._rename(node)
        for node, dtype in self._guarded.values():
            self._guard(node, dtype)
        if self._noted:
            self.tally.note(_NOTE)

    def _constants(self) -> Iterator[tuple[Graph, Tensor, list[Node]]]:
        """Constants of floats that may be a mask, and the readers that may pass it on."""
        seen = set[int]()
        for scope in self.main.scopes():
            for tensor in (t for n in scope.nodes if n.op in _READERS and not domain_of(n) for t in n.inputs):
                if id(tensor) in seen or not tensor.name:
                    continue
                seen.add(id(tensor))
                dtype = scope.dtype(tensor) if scope.is_constant(tensor) else None
                if dtype is not None and dtype.name in _DTYPES:
                    readers = {id(n): n for n in tensor.outputs if n.op in _READERS}
                    yield scope, tensor, list(readers.values())

    def _clamp(self, scope: Graph, tensor: Tensor, ways: list[tuple[Node, Way]]) -> None:
        """Give those readers a clamped constant whose ways lead to a Softmax."""
        values = scope.value(tensor)
        new: dict[int, Tensor] = {}
        for node, way in ways if values is not None else ():
            try:
                clamped = self._clamped(scope, values, way)
            except NotApplicable as error:
                self.tally.refuse(scope, node, f"'{tensor.name}' is not clamped: {error}")
                continue
            if clamped is not None:
                sign = min(way.signs)
                if sign not in new:
                    new[sign] = scope.constant(clamped, f"{tensor.name}_clamped", of=[tensor])
                scope.rewire(node, tensor, new[sign])
                self._passed |= {id(n): n for n in way.nodes}
                self.tally.rewrite()
        if new:
            self._drop(scope, tensor)

    def _fill(self, scope: Graph, node: Node) -> None:
        """The same for a ConstantOfShape, whose value is an attribute."""
        old, value = node.outputs[0], attribute(scope, node, "value")
        if not isinstance(value, np.ndarray) or value.dtype.name not in _DTYPES:
            return
        way = self.paths.of(old)
        try:
            clamped = self._clamped(scope, value, way)
        except NotApplicable as error:
            self.tally.refuse(scope, node, f"'{old.name}' is not clamped: {error}")
            return
        if clamped is not None:
            attrs = {"value": Constant("", clamped)}
            (new,) = scope.add("ConstantOfShape", node.inputs, attrs, before=node, of=[node])
            for reader in scope.consumers(old):
                scope.rewire(reader, old, new)
            scope.remove([node])
            self._passed |= {id(n): n for n in way.nodes}
            self.tally.rewrite()

    def _clamped(self, scope: Graph, values: Any, way: Way) -> Array | None:
        """``values`` with those that mask brought to ``floor``; None when nothing masks."""
        if not way.problem and len(way.signs) > 1:
            way = replace(way, problem="it is added in one place and subtracted in another")
        sign = 1 if way.problem else min(way.signs)
        with np.errstate(invalid="ignore"):
            beyond = np.abs(values) > -self.floor
            masked = beyond if way.multiplied else beyond & (sign * values < 0)  # times 1, or times -1
        if not masked.any():
            return None
        infinite = not np.isfinite(values).all()
        if way.problem:
            raise NotApplicable(way.problem)
        if way.whole and masked.all(axis=-1).any():
            raise NotApplicable("it masks a row altogether")
        if infinite:
            self._require_finite(scope, way)
        self._keep_even(scope, way, np.abs(values[masked]).min())
        clamped = np.where(masked, np.copysign(self.floor, values), values)
        return np.asarray(clamped, values.dtype)

    def _require_finite(self, scope: Graph, way: Way) -> None:
        """NotApplicable where an infinity makes a number of another kind than a finite one does."""
        if way.multiplied:
            raise NotApplicable("its product with 0 is no number (NaN) already")
        if tells_nan(way.ends):
            raise NotApplicable("an IsNaN behind the Softmax finds the rows that it masks altogether")
        if by_rows(scope, way):
            return
        if not self.infinite:
            raise NotApplicable("a row that -inf masks altogether is NaN, and infinite is not given")
        self._noted = True

    def _keep_even(self, scope: Graph, way: Way, least: Array) -> None:
        """Note which Softmaxes need a Max; ``least`` is the smallest that masks, without its sign."""
        added = any(n.op in _ADDS for n in (*way.nodes, *way.ends))
        if not added or by_rows(scope, way):
            return
        if not self.even:
            self._noted = True
        elif np.isfinite(least) and np.spacing(np.nextafter(least, 0)) < _COARSE:
            raise NotApplicable(
                f"a row that it masks altogether is weighed by what {least:g} leaves of the scores"
            )
        else:
            self._guarded |= {id(n): (n, self._level(scope, n, way, least.dtype)) for n in way.ends}

    def _level(self, scope: Graph, end: Node, way: Way, dtype: Dtype) -> Dtype:
        """The dtype of a Max in front of ``end``."""
        if end.op != "Softmax" or scope.opset < 8:
            why = f"by {end.op}" if end.op != "Softmax" else f"at opset {scope.opset}"
            raise NotApplicable(f"it is added {why}, where no Max keeps rows even that it masks altogether")
        if all(cast_to(scope, n) == dtype for n in way.nodes if n.op == "Cast"):
            return dtype
        known = self.paths.known.types.dtype(end.inputs[0])
        if known is None:
            raise NotApplicable(f"the dtype of '{end.inputs[0].name}' is not known")
        return known

    def _guard(self, softmax: Node, dtype: Dtype) -> None:
        scope = self._homes[id(softmax)]
        key = id(scope.gs), dtype.name
        if key not in self._levels:
            self._levels[key] = scope.constant(np.asarray(self.floor / 2, dtype), "even")
        old = softmax.inputs[0]
        (new,) = scope.add("Max", [old, self._levels[key]], before=softmax, of=[softmax])
        softmax.inputs[0] = new

    def _rename(self, node: Node) -> None:
        """Let a node write other tensors: under the old names there would be other values."""
        for place, old in enumerate(list(node.outputs)):
            if old.name:
                name = self.main.model.fresh_name(f"{old.name}_clamped")
                new = Variable(name, dtype=old.dtype, shape=old.shape)
                node.outputs[place] = new
                for reader in self.main.consumers(old):
                    self.main.rewire(reader, old, new)

    def _drop(self, scope: Graph, constant: Tensor) -> None:
        """Remove a constant that has no reader left."""
        if constant.outputs or id(constant) in self.paths.outputs:
            return
        if not constant.inputs:
            scope.remove_initializer(constant)
        elif any(constant.inputs[0] is n for n in scope.nodes):
            scope.remove(constant.inputs)
