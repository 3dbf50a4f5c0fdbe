"""Giving the branches of an If one rank, where nothing that reads the result can tell."""

from __future__ import annotations

import numpy as np

from graphkit import Graph
from graphkit.model.infer import Types
from graphkit.model.operators import attribute, domain_of
from graphkit.model.surgeon import Node, Surgeon, Tensor, Variable
from graphkit_passes._ifs import branch
from graphkit_passes._losing import Losing
from graphkit_passes._proven import Proven
from graphkit_passes._visible import Visible

_BROADCASTING = frozenset(
    ["Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min"]
    + ["Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor"]
)
_VIEWS = frozenset(["Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"])


class Alignment:
    """What is known of the ranks in a model, and the edits that make those of two branches equal."""

    def __init__(self, main: Graph, proven: Proven, placing: Losing) -> None:
        self._main = main
        self._proven = proven
        self._placing = placing
        self._visible = Visible()
        self._views = {id(s.gs): s for s in main.scopes()}

    @property
    def types(self) -> Types:
        """What inference says."""
        return self._proven.types

    def results(self, node: Node) -> list[tuple[Tensor, Tensor]]:
        """What the then branch and the else branch of an If give for each of its outputs."""
        pair = branch(node, True), branch(node, False)
        if pair[0] is None or pair[1] is None:
            return []
        return list(zip(pair[0].outputs, pair[1].outputs, strict=False))[: len(node.outputs)]

    def ranks(self, pair: tuple[Tensor, Tensor]) -> tuple[int | None, int | None]:
        """How many dims the two results have."""
        first, second = (self.types.shape(t) for t in pair)
        return None if first is None else len(first), None if second is None else len(second)

    def uneven(self, node: Node) -> list[int]:
        """The outputs of an If for which its branches give another number of dims."""
        ranks = [self.ranks(pair) for pair in self.results(node)]
        return [k for k, (a, b) in enumerate(ranks) if a is not None and b is not None and a != b]

    # -- who reads the result

    def obstacle(self, node: Node, place: int) -> str | None:
        """Why the rank of an output cannot change; None when nothing that reads it can tell."""
        tensor = node.outputs[place]
        ranks = self.ranks(self.results(node)[place])
        if self._placing.is_end(tensor):
            return (
                f"'{tensor.name}' leaves the graph with {ranks[0]} or {ranks[1]} dims, which its reader sees"
            )
        highest = max(r or 0 for r in ranks)
        for reader in self._main.consumers(tensor):
            if not self._is_blind(reader, tensor, highest):
                label = reader.name or next((t.name for t in reader.outputs if t.name), "")
                told = f"'{tensor.name}' has {ranks[0]} or {ranks[1]} dims"
                return f"{told}, which {reader.op} '{label}' can tell apart"
        return None

    def _is_blind(self, reader: Node, tensor: Tensor, rank: int) -> bool:
        if domain_of(reader):
            return False
        return self._takes_any_form(reader, tensor) or self._broadcasts(reader, tensor, rank)

    def _takes_any_form(self, reader: Node, tensor: Tensor) -> bool:
        """Whether the node sees the elements in their order, and nothing of the shape."""
        graph = self._proven.home(reader)
        if reader.op == "Reshape" and len(reader.inputs) == 2 and reader.inputs[1] is not tensor:
            shape = graph.value(reader.inputs[1])
            kept = shape is None or not shape.all()  # a 0 keeps a dim of the input
            return not kept or bool(attribute(graph, reader, "allowzero") == 1)
        if reader.op == "Flatten":
            return bool(attribute(graph, reader, "axis") == 0)
        if reader.op.startswith("Reduce"):
            axes = [t for t in reader.inputs[1:] if t.name]
            whole = "axes" not in reader.attrs and not axes
            kept = attribute(graph, reader, "keepdims") or attribute(graph, reader, "noop_with_empty_axes")
            return whole and not kept
        return bool(reader.op == "Size")

    def _broadcasts(self, reader: Node, tensor: Tensor, rank: int) -> bool:
        """Whether leading dims of 1 vanish, because something else that the node reads has as many dims."""
        if reader.op == "Expand" and reader.inputs[0] is tensor:
            shape = self._shape(reader, reader.inputs[1])
            return shape is not None and len(shape) == 1 and isinstance(shape[0], int) and shape[0] >= rank
        if reader.op not in _BROADCASTING or self._proven.home(reader).opset < 7:
            return False
        others = [self._shape(reader, t) for t in reader.inputs if t is not tensor]
        return any(s is not None and len(s) >= rank for s in others)

    def _shape(self, reader: Node, tensor: Tensor) -> tuple[int | str | None, ...] | None:
        graph = self._proven.home(reader)
        return graph.shape(tensor) if graph.is_constant(tensor) else self.types.shape(tensor)

    # -- editing

    def same_source(self, node: Node) -> Tensor | None:
        """The tensor that both branches only give another shape, if whoever reads the If sees no shape."""
        pairs = self.results(node)
        if len(node.outputs) != 1 or len(pairs) != 1:
            return None
        first, second = (
            self._source(t, branch(node, b)) for t, b in zip(pairs[0], (True, False), strict=True)
        )
        readers = self._main.consumers(node.outputs[0])
        if first is not second or first.name == "" or not readers:
            return None
        scopes = [self._proven.home(r) for r in readers]
        seen = all(self._visible.reads(s, first) for s in scopes)
        blind = all(self._takes_any_form(r, node.outputs[0]) for r in readers)
        return first if seen and blind else None

    def _source(self, tensor: Tensor, body: object) -> Tensor:
        """Where a result comes from, through nodes of its branch that only give it another shape."""
        while tensor.inputs and tensor.inputs[0].op in _VIEWS and not domain_of(tensor.inputs[0]):
            maker = tensor.inputs[0]
            if self._proven.home(maker).gs is not body:
                break
            tensor = maker.inputs[0]
        return tensor

    def bypass(self, node: Node, source: Tensor) -> None:
        """Let the readers of an If read what both of its branches are made of."""
        tensor = node.outputs[0]
        for reader in self._main.consumers(tensor):
            self._main.rewire(reader, tensor, source)
        self._placing.lose(tensor)

    def align(self, node: Node, place: int) -> None:
        """Unsqueeze the result of the branch with fewer dims; the If gives a new tensor."""
        pair = self.results(node)[place]
        ranks = [r or 0 for r in self.ranks(pair)]
        lower = ranks.index(min(ranks))
        body: Surgeon = branch(node, lower == 0)
        body.outputs[place] = self._unsqueezed(
            self._views[id(body)], pair[lower], max(ranks) - min(ranks), node
        )
        old = node.outputs[place]
        new = Variable(self._main.model.fresh_name(f"{old.name or 'aligned'}_aligned"), dtype=old.dtype)
        node.outputs[place] = new
        for reader in self._main.consumers(old):
            self._main.rewire(reader, old, new)

    def _unsqueezed(self, body: Graph, tensor: Tensor, count: int, node: Node) -> Tensor:
        axes = np.arange(count, dtype=np.int64)
        name = f"{tensor.name}_aligned"
        if body.opset < 13:
            (made,) = body.add("Unsqueeze", [tensor], {"axes": axes.tolist()}, outputs=[name], of=[node])
        else:
            given = [tensor, body.constant(axes, "axes")]
            (made,) = body.add("Unsqueeze", given, outputs=[name], of=[node])
        made.dtype = tensor.dtype if tensor.dtype is not None else self.types.dtype(tensor)
        made.shape = [1] * count + list(self.types.shape(tensor) or ())
        return made
