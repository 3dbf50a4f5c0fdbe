"""Rows of nodes that only change a tensor's shape: found from their ends, and made one node."""

from __future__ import annotations

import numpy as np

from graphkit import Graph, NotApplicable, Tally
from graphkit.model.graph import Node, Shape, Tensor
from graphkit.model.operators import attribute, domain_of
from graphkit_passes._given import axes_of, ints, normal
from graphkit_passes._idle_shapes import only_moves_ones
from graphkit_passes._shared import Known, root_of
from graphkit_passes._standing import Standing

_SHAPING = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
_ANY_RANK = 64  # stands for a rank that is not known, where axes are counted from the front


class Rows:
    """One run over a model."""

    def __init__(self, main: Graph, tally: Tally) -> None:
        self._main = main
        self._tally = tally
        self._known = Known.of(main.model)

    def run(self) -> None:
        """In node order, so that a row that grows is taken again at its next node."""
        self._standing = Standing(self._main)
        for graph in self._standing.scopes:
            if not any(self._continues(n) for n in graph.nodes if n.op in _SHAPING):
                continue
            self._opset = root_of(graph).opset
            if self._opset < 5:
                continue  # a Reshape has its shape for an attribute
            self._here = {id(n) for n in graph.nodes} if graph.parent is not None else None
            for node in list(graph.nodes):
                if node.op in _SHAPING or node.op == "Transpose":
                    self._visit(graph, node)
        self._standing.sweep()

    @staticmethod
    def _continues(node: Node) -> bool:
        """Whether a row of two may end or begin here, as far as a glance tells."""
        near = [*node.inputs[0].inputs, *(r for t in node.outputs for r in t.outputs)] if node.inputs else []
        return any(n.op in _SHAPING or n.op == "Transpose" for n in near)

    def _visit(self, graph: Graph, node: Node) -> None:
        row = self._row(graph, node)
        if len(row) < 2 or all(n.op == "Transpose" for n in row):
            return
        for start in range(len(row) - 1):
            part = row[start:]
            if all(n.op == "Transpose" for n in part):
                break
            try:
                merged = self._merge(graph, part)
            except NotApplicable as error:
                self._tally.refuse(graph, node, str(error))
                return
            if merged:
                self._tally.rewrite()
                return
        if node.op in _SHAPING and row[-2].op in _SHAPING:
            names = f"'{row[-2].inputs[0].name}' to '{node.outputs[0].name}'"
            self._tally.refuse(graph, node, f"the sizes from {names} are not known well enough for one node")

    def _row(self, graph: Graph, node: Node) -> list[Node]:
        """The row that ends with ``node``, first node first; only its last tensor is read elsewhere."""
        row = [node] if self._only_shapes(graph, node) else []
        while row:
            tensor = row[0].inputs[0]
            before = graph.producer(tensor)
            if before is None or not self._only_shapes(graph, before) or self._standing.is_end(tensor):
                break
            if self._here is not None and id(before) not in self._here:
                break
            others = (r for r in tensor.outputs if r is not row[0])
            if any(r.op not in _SHAPING or r.inputs[0] is not tensor for r in others):
                break
            row.insert(0, before)
        return row

    def _only_shapes(self, graph: Graph, node: Node) -> bool:
        if domain_of(node) or len(node.outputs) != 1 or not node.outputs[0].name:
            return False
        if node.op != "Transpose":
            return node.op in _SHAPING
        shape, perm = self._shape(graph, node.inputs[0]), attribute(graph, node, "perm")
        return shape is not None and isinstance(perm, list) and only_moves_ones(shape, perm)

    def _shape(self, graph: Graph, tensor: Tensor) -> Shape | None:
        if graph.is_constant(tensor):
            return graph.shape(tensor)
        return None if root_of(graph).is_function else self._known.types.named(tensor)

    # -- one node for a row

    def _merge(self, graph: Graph, row: list[Node]) -> bool:
        """Put one node in the place of a row; False when none does."""
        x, last = row[0].inputs[0], row[-1]
        self._standing.require_visible(x)
        before, after = self._shape(graph, x), self._shape(graph, last.outputs[0])
        if before is not None and before == after and None not in before:
            return self._drop(graph, row)
        if last.op == "Reshape" and self._says_all(graph, last):
            self._standing.lose(last.inputs[0])
            graph.rewire(last, last.inputs[0], x)
            return True
        kept = self._axes(graph, row, None if before is None else len(before))
        if kept == ("", []):
            return self._drop(graph, row)
        if kept is not None:
            return self._write_axes(graph, row, *kept)
        target = _target(before, after, self._open(graph, last))
        if target is not None:
            shape = graph.constant(np.array(target, np.int64), f"{last.outputs[0].name}_shape")
            return self._write(graph, row, "Reshape", [x, shape], {})
        return False

    def _drop(self, graph: Graph, row: list[Node]) -> bool:
        x, last = row[0].inputs[0], row[-1]
        self._standing.stand_in_or_copy(graph, last.outputs[0], x)
        self._standing.remove(graph, [last])
        return True

    def _write_axes(self, graph: Graph, row: list[Node], op: str, axes: list[int]) -> bool:
        x = row[0].inputs[0]
        if self._opset < 13:
            return self._write(graph, row, op, [x], {"axes": axes})
        return self._write(graph, row, op, [x, graph.constant(np.array(axes, np.int64), "axes")], {})

    def _write(
        self, graph: Graph, row: list[Node], op: str, inputs: list[Tensor], attrs: dict[str, object]
    ) -> bool:
        last = row[-1]
        (made,) = graph.add(op, inputs, attrs, before=last, of=row[::-1])
        graph.replace(last.outputs[0], made)
        self._standing.remove(graph, [last])
        if self._here is not None:
            self._here.update(id(n) for n in graph.nodes)
        return True

    def _says_all(self, graph: Graph, reshape: Node) -> bool:
        """Whether a Reshape gives the same whatever shape its input has: no 0 copies a size."""
        if attribute(graph, reshape, "allowzero") == 1:
            return True
        target = ints(graph, reshape.inputs[1])
        return target is not None and 0 not in target

    def _open(self, graph: Graph, node: Node) -> int | None:
        """The place of the -1 of a Reshape: where it runs at all, no other size is 0."""
        target = ints(graph, node.inputs[1]) if node.op == "Reshape" else None
        return target.index(-1) if target is not None and -1 in target else None

    def _axes(self, graph: Graph, row: list[Node], rank: int | None) -> tuple[str, list[int]] | None:
        """One Squeeze or Unsqueeze for a row of them, as (operator, axes); ("", []) when they cancel."""
        places: list[int | None] = list(range(_ANY_RANK if rank is None else rank))
        for node in row:
            axes = axes_of(graph, node, self._opset) if node.op in ("Squeeze", "Unsqueeze") else None
            if not axes or (rank is None and min(axes) < 0):
                return None
            count = len(places) + (len(axes) if node.op == "Unsqueeze" else 0)
            at = normal(axes, count)
            if at is None:
                return None
            if node.op == "Squeeze":
                places = [p for i, p in enumerate(places) if i not in at]
            else:
                rest = iter(places)
                places = [None if i in at else next(rest) for i in range(count)]
        gone = sorted(set(range(_ANY_RANK if rank is None else rank)) - set(places))
        new = [i for i, p in enumerate(places) if p is None]
        if gone and new:
            return ("", []) if gone == new else None
        return ("Squeeze", gone) if gone else ("Unsqueeze", new) if new else ("", [])


def _target(before: Shape | None, after: Shape | None, free: int | None) -> list[int] | None:
    """What a Reshape has to be told; ``free`` is where the row itself leaves a size over.

    None when two sizes can be neither stated nor copied, or one that would be left over might be any.
    """
    if after is None or 0 in after:
        return None
    found: list[int] = []
    for place, size in enumerate(after):
        if isinstance(size, int):
            found.append(size)
        else:
            stays = size is not None and before is not None and place < len(before) and before[place] == size
            found.append(0 if stays else -1)
    left = [i for i, n in enumerate(found) if n == -1]
    if len(left) > 1 or (left and 0 in found and left[0] != free):
        return None
    return found
