"""Which tensors of the model a kernel may have written: its nodes, their frontier, what lies around."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import onnx

from graphkit.engine.atoms import Atoms
from graphkit.engine.kernel import Kernel

__all__ = ["Structure"]

_REACH = 4  # steps through views and constants on which an engine's tensor was seen to lie further on
_VIEWS = frozenset(
    {
        "Cast",
        "Concat",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Pad",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
    }
    | {"Transpose", "Unsqueeze", "DequantizeLinear", "QuantizeLinear", "Dropout"}
)


class Structure:
    """The atoms of a model as places in its node list, found by TensorRT's names of their nodes.

    ``labels`` gives, for a node of the flat model, the name that TensorRT's Metadata has for it; nodes it
    leaves out are called by their own names.
    """

    def __init__(self, atoms: Atoms, labels: Mapping[str, str]) -> None:
        graph = atoms.model.graph
        self.nodes: Sequence[onnx.NodeProto] = list(graph.node)
        self._owners = atoms.owners
        self.outputs = [o.name for o in graph.output]
        self.maker: dict[str, int] = {}
        self.readers: dict[str, list[int]] = defaultdict(list)
        self._labelled: dict[str, list[int]] = defaultdict(list)
        self._constants = {i.name for i in graph.initializer}
        for place, node in enumerate(self.nodes):
            owner = atoms.owners.get(node.name, node.name)
            for label in dict.fromkeys((labels.get(owner, owner), owner)):
                self._labelled[label].append(place)
            for name in filter(None, node.output):
                self.maker[name] = place
            for name in dict.fromkeys(filter(None, node.input)):
                self.readers[name].append(place)
            if node.op_type in ("Constant", "ConstantOfShape", "Shape"):
                self._constants.update(node.output)

    def owner(self, place: int) -> str:
        """The node of the model that an atom belongs to."""
        return self._owners.get(self.nodes[place].name, self.nodes[place].name)

    def of(self, kernel: Kernel) -> list[int]:
        """The atoms of the nodes that a kernel's Metadata names."""
        return sorted({place for label in kernel.onnx_nodes for place in self._labelled.get(label, ())})

    def made(self, places: Iterable[int]) -> list[str]:
        """The tensors that these nodes make."""
        return [name for place in places for name in self.nodes[place].output if name]

    def frontier(self, places: Collection[int]) -> list[str]:
        """Of the tensors that these nodes make, those read outside of them, and the model's outputs."""
        inside = set(places)
        return [
            name
            for name in self.made(places)
            if name in self.outputs or any(r not in inside for r in self.readers.get(name, ()))
        ]

    def around(self, places: Collection[int]) -> list[int]:
        """These nodes, those a few views or constant factors after them, and the views before them."""
        found, edge = set(places), set(places)
        for _ in range(_REACH):
            edge = {r for p in edge for t in self.nodes[p].output for r in self.readers.get(t, ())} - found
            edge = {r for r in edge if self.light(r)}
            found |= edge
        edge = set(places)
        for _ in range(_REACH):
            edge = {self.maker[t] for p in edge for t in self.nodes[p].input if t in self.maker} - found
            found |= edge
            edge = {p for p in edge if self.light(p)}
        return sorted(found)

    def light(self, place: int) -> bool:
        """Whether a node only moves values, or adds or multiplies by a constant."""
        node = self.nodes[place]
        if node.op_type in _VIEWS:
            return True
        return node.op_type in ("Add", "Sub", "Mul", "Div") and any(t in self._constants for t in node.input)

    def after(self, names: Iterable[str], reach: int) -> set[int]:
        """The nodes at most ``reach`` steps downstream of some tensors."""
        edge = {r for t in names for r in self.readers.get(t, ())}
        found = set(edge)
        for _ in range(reach - 1):
            edge = {r for p in edge for t in self.nodes[p].output for r in self.readers.get(t, ())} - found
            found |= edge
        return found

    def behind(self, names: Iterable[str], cuts: Collection[str]) -> tuple[set[int], set[str]]:
        """The nodes that make some tensors, back to the cut ones, and the cut tensors at which that ends."""
        waiting, found, ends = [n for n in names if n in self.maker], set[int](), set[str]()
        while waiting:
            place = self.maker[waiting.pop()]
            if place in found:
                continue
            found.add(place)
            for name in filter(None, self.nodes[place].input):
                if name in cuts:
                    ends.add(name)
                elif name in self.maker:
                    waiting.append(name)
        return found, ends
