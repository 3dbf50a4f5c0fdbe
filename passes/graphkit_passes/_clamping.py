"""How ``clamp-int64`` finds the constants beyond int32, and where they get."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from graphkit import Graph, Tally
from graphkit.model.dataflow import shown
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import domain_of
from graphkit.model.surgeon import Constant, Variable, unlink
from graphkit_passes._islands import drop_unread, renew
from graphkit_passes._movers import chosen, moved
from graphkit_passes._shared import Known, root_of
from graphkit_passes._slices import ENDS, STARTS, STEPS, Bounds, beyond, plain

Array = npt.NDArray[np.int64]

_LARGEST = 1 << 16  # bytes of a constant that is looked at
_INT64 = np.iinfo(np.int64)
_CODE = 7  # TensorProto.INT64


class Clamping:
    """One run of the pass."""

    def __init__(self, main: Graph, tally: Tally) -> None:
        self._main, self._tally = main, tally
        self._bounds = Bounds(Known(main.model))
        self._home = {id(n): s for s in main.scopes() for n in s.nodes}
        self._ends = {id(t) for s in main.scopes() for t in s.outputs}
        self._large: dict[int, tuple[Tensor, Array | None]] = {}
        self._made: dict[tuple[int, int, bytes], Tensor] = {}
        self._passing: dict[int, Tensor] = {}
        self._swaps: list[tuple[Node, Tensor, Array]] = []
        self._fills: list[Node] = []
        self._refused: set[int] = set()
        self._left: list[Tensor] = []

    def run(self) -> None:
        """Look at every constant that is read; what passes through other nodes is changed at the end."""
        for scope in self._main.scopes():
            for node in list(scope.nodes):
                if not domain_of(node):
                    self._visit(scope, node)
        for tensor in self._passing.values():
            maker = tensor.inputs[0]
            renew(self._home[id(maker)], tensor, f"{tensor.name}_clamped", np.dtype(np.int64))
        for node, tensor, values in self._swaps:
            self._swap(node, tensor, plain(values))
        for node in self._fills:
            node.attrs["value"] = Constant("", plain(_fill(node)))
        self._tally.rewrite(len(self._swaps) + len(self._fills))
        drop_unread(self._main, self._left)

    def _visit(self, graph: Graph, node: Node) -> None:
        if node.op == "Slice" and graph.opset < 10 and self._bounds.clamp_attributes(graph, node):
            self._tally.rewrite()
        if node.op == "ConstantOfShape" and beyond(_fill(node)):
            self._pass_on(graph, node, node.outputs[0], _fill(node))
        for place, tensor in enumerate(list(node.inputs)):
            values = self._values(tensor)
            if values is not None and not self._bound(graph, node, place, tensor, values):
                self._pass_on(graph, node, tensor, values)

    def _values(self, tensor: Tensor) -> Array | None:
        """The values of an int64 constant some of which are beyond int32; None for any other tensor."""
        if id(tensor) not in self._large:
            self._large[id(tensor)] = tensor, self._read(tensor)
        return self._large[id(tensor)][1]

    def _read(self, tensor: Tensor) -> Array | None:
        graph = self._main  # which knows the constants of all scopes
        if not tensor.name or graph.dtype(tensor) != np.int64 or not 0 < graph.nbytes(tensor) <= _LARGEST:
            return None
        values = graph.value(tensor)
        return values if values is not None and beyond(values) else None

    # -- bounds

    def _bound(self, graph: Graph, node: Node, place: int, tensor: Tensor, values: Array) -> bool:
        """Rewrite a constant that bounds the node itself; whether that was done."""
        if node.op == "Slice" and place in (STARTS, ENDS, STEPS):
            if not self._bounds.is_agreed(graph, node, place, values):
                return False
            self._swap(node, tensor, self._bounds.clamped(graph, node, place, values), place)
        elif _is_no_bound(node, place, values):
            self._drop(node, place)
        else:
            return False
        self._tally.rewrite()
        return True

    def _swap(self, node: Node, tensor: Tensor, values: Array, place: int | None = None) -> None:
        """Let the node read other values: in one place, or wherever it reads the tensor."""
        graph = self._home[id(node)]
        key = id(root_of(graph).gs), id(tensor), values.tobytes()
        if key not in self._made:
            self._made[key] = graph.constant(values, f"{tensor.name}_clamped", of=[tensor])
        for spot in range(len(node.inputs)) if place is None else [place]:
            if node.inputs[spot] is tensor:
                _put(node, spot, self._made[key])
        self._left.append(tensor)

    def _drop(self, node: Node, place: int) -> None:
        self._left.append(node.inputs[place])
        _put(node, place, Variable.empty())
        while node.op == "Clip" and not node.inputs[-1].name:
            list.pop(node.inputs)

    # -- on the way to bounds

    def _pass_on(self, graph: Graph, node: Node, tensor: Tensor, values: Array) -> None:
        """Clamp a constant, or a fill, that gets into bounds of Slice alone by way of what moves it."""
        is_fill = any(t is tensor for t in node.outputs)
        made = [tensor] if is_fill else self._through(node, tensor)
        passed = {id(t): t for t in made or []}
        reasons = (self._leads(t, passed) for t in made or [])
        reason = _needs(node) if made is None else next(filter(None, reasons), None)
        if reason is None:
            self._passing |= passed
            if is_fill:
                self._fills.append(node)
            elif not any(n is node and t is tensor for n, t, _ in self._swaps):
                self._swaps.append((node, tensor, values))
        elif id(tensor) not in self._refused:
            self._refused.add(id(tensor))
            number = next(v for v in values.reshape(-1).tolist() if beyond([v]))
            self._tally.refuse(graph, node, f"'{tensor.name}' holds {number}, and {reason}")

    def _leads(self, tensor: Tensor, passed: dict[int, Tensor]) -> str | None:
        """Where a tensor gets other than into bounds of Slice; None when nowhere. ``passed`` is added to."""
        waiting = [tensor]
        while waiting:
            here = waiting.pop()
            if id(here) in self._ends or here.name in self._main.model.pinned:
                return f"it gets into '{here.name}', which a graph gives"
            for reader in {id(n): n for n in here.outputs}.values():
                made = self._through(reader, here)
                if made is None:
                    return _needs(reader)
                waiting += [t for t in made if id(t) not in passed]
                passed.update((id(t), t) for t in made)
        return None

    def _through(self, node: Node, tensor: Tensor) -> list[Tensor] | None:
        """The outputs that a reader moves a tensor to; none for bounds of Slice, None for another use."""
        graph, op = self._home[id(node)], "" if domain_of(node) else node.op
        spots = {p for p, t in enumerate(node.inputs) if t is tensor}
        if op in ("Shape", "Size"):
            return []
        if op == "Slice" and spots <= {STARTS, ENDS, STEPS}:
            return [] if all(self._bounds.is_agreed(graph, node, p, None) for p in spots) else None
        is_same = op == "Cast" and node.attrs.get("to") == _CODE
        places = ([0], [0]) if is_same else moved(graph, node) or chosen(node)
        if places is None or not spots <= set(places[0]):
            return None
        return [node.outputs[p] for p in places[1]]


def _needs(node: Node) -> str:
    if node.op == "Slice":
        return f"{shown(node)} may go backwards to it, which runtimes take in two ways"
    return f"{shown(node)} may need the value"


def _is_no_bound(node: Node, place: int, values: Array) -> bool:
    """Whether a bound of Clip, or the trip count of a Loop that has a condition, bounds nothing."""
    if node.op == "Clip" and place:
        return bool((values == (_INT64.min if place == 1 else _INT64.max)).all())
    return node.op == "Loop" and place == 0 and bool(node.inputs[1].name and (values == _INT64.max).all())


def _fill(node: Node) -> Array:
    """What a ConstantOfShape fills with; empty when it is no int64."""
    value = node.attrs.get("value")
    if not isinstance(value, Constant) or value.dtype != np.int64:
        return np.zeros(0, np.int64)
    held = value._values
    return np.asarray(held.read() if hasattr(held, "read") else held)


def _put(node: Node, place: int, tensor: Tensor) -> None:
    """Let a node read ``tensor`` in one place."""
    unlink(node.inputs[place].outputs, node)
    list.__setitem__(node.inputs, place, tensor)
    list.append(tensor.outputs, node)
