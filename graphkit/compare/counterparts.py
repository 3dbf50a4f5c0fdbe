"""Which tensor of model A each tensor of B stands for: by recorded origin, name, output and dataflow."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto

from graphkit.compare import pairing
from graphkit.model.external import data_ref, read_external
from graphkit.run import outline
from graphkit.run.flow import Flow
from graphkit.run.shapes import required_inputs

__all__ = ["Counterpart", "Side", "input_names", "match", "output_names"]

_COMMUTE = frozenset({"Add", "Mul", "Max", "Min", "And", "Or", "Xor", "Equal", "Sum", "Mean"})


@dataclass(frozen=True)
class Counterpart:
    """The tensor of A, how sure that is (0 to 1), and why."""

    name: str
    confidence: float
    evidence: str


class Side:
    """One model: its main graph in topological order, and what its constants hold."""

    def __init__(self, model: ModelProto, folder: Path | None) -> None:
        self.model, self.folder = model, folder
        self.flow = Flow(model.graph.node)
        self.constants = {t.name: t for t in model.graph.initializer}
        for node in model.graph.node:
            tensor = outline.attribute(node, "value") if node.op_type == "Constant" else None
            if isinstance(tensor, TensorProto):
                self.constants[node.output[0]] = tensor
        self.dtypes = {
            n: np.dtype(onnx.helper.tensor_dtype_to_np_dtype(t.data_type)) for n, t in self.constants.items()
        }
        self.same = pairing.renamed(model)
        self.tensors = {*self.flow.maker, *(i.name for i in model.graph.input)}
        self._digests: dict[str, bytes] = {}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.flow.nodes:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)

    def label(self, place: int) -> str:
        """The name of a node, or one made of its first output, as TensorRT's parser makes it."""
        node = self.flow.nodes[place]
        return node.name or f"node_of_{next((o for o in node.output if o), '')}"

    def maker(self, tensor: str) -> NodeProto | None:
        """The main-graph node that makes a tensor; None for inputs and constants."""
        place = self.flow.maker.get(tensor)
        return None if place is None else self.flow.nodes[place]

    def digest(self, name: str) -> bytes:
        """A hash of a constant's values; equal for equal values of one dtype, however they are stored."""
        if name not in self._digests:
            tensor = self.constants[name]
            ref = data_ref(tensor)
            if ref is not None and self.folder is not None:
                data: bytes | memoryview = memoryview(read_external(self.folder, ref, name)).cast("B")
            elif tensor.HasField("raw_data"):
                data = tensor.raw_data
            else:
                from onnx import numpy_helper

                array = numpy_helper.to_array(tensor)
                data = repr(array.tolist()).encode() if array.dtype.kind in "OUS" else array.tobytes()
            self._digests[name] = hashlib.blake2b(data, digest_size=16).digest()
        return self._digests[name]


def input_names(a: Side, b: Side) -> dict[str, str]:
    """B's inputs -> A's: by origin and name, and by place where as many are left over on either side."""
    return _ends(a, b, *([i.name for i in required_inputs(side.model)] for side in (a, b)))


def output_names(a: Side, b: Side) -> dict[str, str]:
    """B's outputs -> A's, found as inputs are."""
    return _ends(a, b, [o.name for o in a.model.graph.output], [o.name for o in b.model.graph.output])


def _ends(a: Side, b: Side, old: Sequence[str], new: Sequence[str]) -> dict[str, str]:
    by_origin = _original(a, b, set(old))
    found = {name: by_origin[name] for name in new if name in by_origin}
    for name in new:
        if name not in found and name in old and name not in found.values():
            found[name] = name
    left_old = [n for n in old if n not in found.values()]
    left_new = [n for n in new if n not in found]
    if len(left_old) == len(left_new):
        found.update(zip(left_new, left_old, strict=True))
    return found


def _original(a: Side, b: Side, known: Iterable[str]) -> dict[str, str]:
    """B's tensors -> A's among ``known``, as far as rewrites of either recorded them."""
    names = set(known)
    newer = {old: new for new, old in a.same.items() if new in names}
    found = {}
    for name in {*b.tensors, *b.same}:
        root = b.same.get(name, name)
        if root != name and root in names:
            found[name] = root
        elif root in newer:
            found[name] = newer[root]
    return found


def match(a: Side, b: Side, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> dict[str, Counterpart]:
    """The counterpart of each tensor of B's main graph that has one, inputs included."""
    found = {new: Counterpart(old, 1.0, "the same input") for new, old in inputs.items()}
    recorded = _original(a, b, a.flow.maker)
    for name in b.flow.maker:
        if outputs.get(name) in a.flow.maker:
            said = "same name" if outputs[name] == name else "the same output"
            found[name] = Counterpart(outputs[name], 1.0, said)
        elif name in recorded:
            found[name] = Counterpart(recorded[name], 1.0, "recorded origin")
        elif name in a.flow.maker:
            found[name] = Counterpart(name, 1.0, "same name")
    return _Dataflow(a, b, found).spread()


class _Dataflow:
    """Spreads pairs forward: the same operator on paired inputs makes paired outputs."""

    def __init__(self, a: Side, b: Side, found: dict[str, Counterpart]) -> None:
        self._a, self._b, self._found = a, b, found
        self._taken = {c.name for c in found.values()}

    def spread(self) -> dict[str, Counterpart]:
        """All pairs: those that agree in constants too first, since they leave fewer for the others."""
        open_ = [n for n in self._b.flow.nodes if not any(o in self._found for o in n.output)]
        while open_:
            left = [n for n in open_ if not self._pair(n, exact=True)]
            for place, node in enumerate(left):
                if self._pair(node, exact=False):
                    del left[place]
                    break
            else:
                return self._found
            open_ = left
        return self._found

    def _pair(self, node: NodeProto, *, exact: bool) -> bool:
        fitting = [c for c in self._candidates(node) if self._fits(node, c)]
        if exact:
            fitting = [c for c in fitting if self._equal(node, c)][:1]
        if len(fitting) != 1:
            return False
        sure = 0.9 if exact else 0.6
        which = "the same operator and constants" if exact else "the only such operator"
        self._note(node, fitting[0], sure, f"{which} on paired inputs")
        return True

    def _note(self, node: NodeProto, twin: NodeProto, sure: float, said: str) -> None:
        for new, old in zip(node.output, twin.output, strict=False):
            if new and old:
                self._found[new] = Counterpart(old, sure, said)
                self._taken.add(old)

    def _candidates(self, node: NodeProto) -> list[NodeProto]:
        first = next((self._found[i].name for i in node.input if i in self._found), None)
        return [] if first is None else self._a.readers.get(first, [])

    def _fits(self, new: NodeProto, old: NodeProto) -> bool:
        """Whether the operators and all inputs that are computed agree, and no output is spoken for."""
        if (new.op_type, new.domain) != (old.op_type, old.domain) or len(new.output) != len(old.output):
            return False
        if self._taken.intersection(o for o in old.output if o) or any(outline.subgraphs(new)):
            return False
        return self._inputs_agree(list(new.input), list(old.input)) or (
            new.op_type in _COMMUTE and self._inputs_agree(list(new.input), list(old.input)[::-1])
        )

    def _inputs_agree(self, new: list[str], old: list[str]) -> bool:
        return len(new) == len(old) and all(map(self._agree, new, old))

    def _agree(self, new: str, old: str) -> bool:
        mine, theirs = self._b.constants.get(new), self._a.constants.get(old)
        if mine is not None and theirs is not None:
            return list(mine.dims) == list(theirs.dims)
        if not new or not old:
            return new == old
        return new in self._found and self._found[new].name == old

    def _equal(self, new: NodeProto, old: NodeProto) -> bool:
        """Whether attributes and constants agree too."""
        if sorted(a.SerializeToString() for a in new.attribute) != sorted(
            a.SerializeToString() for a in old.attribute
        ):
            return False
        return Counter(map(self._key_b, new.input)) == Counter(map(self._key_a, old.input))

    def _key_a(self, name: str) -> bytes | None:
        return self._a.digest(name) if name in self._a.constants else None

    def _key_b(self, name: str) -> bytes | None:
        return self._b.digest(name) if name in self._b.constants else None
