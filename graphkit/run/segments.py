"""How long a stretch of a graph fits a given memory, and that stretch as a model of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto

from graphkit.run.flow import Flow
from graphkit.run.rounding import Rounding, is_float, operands, split, through
from graphkit.run.tensors import Tensors
from graphkit.run.weights import Weights


@dataclass(frozen=True)
class Segment:
    """Nodes that one session runs, what it gives, and the tensors whose readers get another value."""

    places: tuple[int, ...]
    outputs: tuple[str, ...]
    cuts: frozenset[str]


class Picker:
    """Divides what is to run into segments that need at most ``memory`` bytes besides the weights."""

    def __init__(self, flow: Flow, weights: Weights, memory: int) -> None:
        self._flow, self._weights, self._memory = flow, weights, memory
        self.alone: set[int] = set()
        """Places of nodes that do not run in one session with others."""

    def take(
        self,
        places: Sequence[int],
        *,
        tensors: Tensors,
        held: Collection[str],
        last: Mapping[str, int],
        wanted: Callable[[str], bool],
        given: Callable[[str], int | None],
        rounding: Rounding,
    ) -> Segment:
        """The longest segment at the head of ``places`` that fits; one node when even that does not.

        ``held`` are tensors from before that somebody still reads, ``last`` is each tensor's last reader,
        ``given`` is the size of what a cut tensor's readers get, None for one that is not cut.
        """
        fixed, peak = sum(tensors.nbytes(n) for n in held), 0
        mine: list[int] = []
        live: dict[str, int] = {}
        cuts, weighed = set(), set[str]()
        for place in places:
            if mine and (place in self.alone or mine[-1] in self.alone):
                break
            fresh = [n for n in self._flow.reads[place] if n not in weighed]
            weighed.update(fresh)
            fixed += sum(self._weights.cost(n) for n in fresh)
            # a result that inference knows nothing of is taken to be as large as the node's largest operand
            guess = max((tensors.nbytes(n) for n in self._flow.reads[place]), default=0)
            for name in self._flow.makes[place]:
                size, lent = tensors.nbytes(name, guess), given(name)
                fixed += (lent or 0) + (size if wanted(name) else 0)
                if lent is not None:
                    cuts.add(name)
                elif not wanted(name):
                    live[name] = size
            scratch, kept = self._scratch(place, tensors, rounding)
            fixed += kept
            peak = max(peak, scratch + sum(live.values()))
            if mine and fixed + peak > self._memory:
                break
            mine.append(place)
            live = {n: size for n, size in live.items() if last.get(n, -1) > place}
        return self._segment(mine, cuts, last, wanted)

    def _scratch(self, place: int, tensors: Tensors, rounding: Rounding) -> tuple[int, int]:
        """Bytes that rounding needs beside a node's own: while it runs, and as copies of its weights."""
        node = self._flow.nodes[place]
        names = {node.input[i] for i in operands(node)} if rounding.tf32 else set[str]()
        weights = [n for n in names if n in self._weights.fed]
        passing = sum(2 * tensors.nbytes(n) for n in names.difference(weights))
        native = sum(2 * tensors.nbytes(n) for n in node.output if n in rounding.native)
        return passing + native, sum(tensors.nbytes(n) for n in weights)

    def _segment(
        self, mine: list[int], cuts: set[str], last: Mapping[str, int], wanted: Callable[[str], bool]
    ) -> Segment:
        made = [n for place in mine for n in self._flow.makes[place]]
        cuts = cuts.intersection(made)
        outputs = (n for n in made if wanted(n) or (n not in cuts and last.get(n, -1) > mine[-1]))
        return Segment(tuple(mine), tuple(outputs), frozenset(cuts))


@dataclass(frozen=True)
class Part:
    """A segment as model bytes; ``fetched`` and ``fed`` say which tensor each output and input of it is.

    ``rounded`` are those inputs that get their tensor rounded to TF32.
    """

    model: bytes
    fed: Mapping[str, str]
    fetched: Mapping[str, str]
    rounded: frozenset[str]


class Writer:
    """Writes segments as models of their own."""

    def __init__(self, model: ModelProto, flow: Flow, weights: Weights) -> None:
        self._model, self._flow, self._weights = model, flow, weights
        names = [*weights.fed, *weights.inline, *(name for made in flow.makes for name in made)]
        self.mark = "@"  # in no tensor's name, so that what is written here clashes with nothing
        while any(self.mark in name for name in names):
            self.mark += "@"

    def write(
        self, segment: Segment, kind: Callable[[str], TypeProto], tensors: Tensors, rounding: Rounding
    ) -> Part:
        """The segment's model; ``kind`` gives the type of a tensor from outside."""
        part = ModelProto(ir_version=max(self._model.ir_version, 4))
        part.opset_import.extend(self._model.opset_import)
        part.functions.extend(self._model.functions)
        part.graph.name = self._model.graph.name or "g"
        rounder = _Rounder(rounding, tensors, self.mark, self._weights.fed)
        for place in segment.places:
            part.graph.node.extend(rounder.nodes(self._flow.nodes[place], segment.cuts))
        fed = {n: n for n in self._inlined(part.graph, segment)}
        fed.update(rounder.fed)
        for name, source in fed.items():
            part.graph.input.append(ValueInfoProto(name=name, type=kind(source)))
        fetched = {f"{n}{self.mark}computed" if n in segment.cuts else n: n for n in segment.outputs}
        for name in fetched:
            part.graph.output.add(name=name)
        return Part(bytes(part.SerializeToString()), fed, fetched, frozenset(rounder.fed))

    def _inlined(self, graph: GraphProto, segment: Segment) -> list[str]:
        """Adds the small weights that the segment reads; gives the names of what it has to be fed."""
        own = {n for place in segment.places for n in self._flow.makes[place]} - segment.cuts
        rest = []
        for name in dict.fromkeys(n for place in segment.places for n in self._flow.reads[place]):
            if name in self._weights.inline:
                graph.initializer.append(self._weights.inline[name])
            elif name in self._weights.sparse:
                graph.sparse_initializer.append(self._weights.sparse[name])
            elif name not in own:
                rest.append(name)
        return rest


class _Rounder:
    """Writes one node at a time, with what rounds its operands before it and its results after it."""

    def __init__(self, rounding: Rounding, tensors: Tensors, mark: str, weights: Collection[str]) -> None:
        self._rounding, self._tensors, self._mark, self._weights = rounding, tensors, mark, weights
        self._done: set[str] = set()
        self.fed: dict[str, str] = {}

    def nodes(self, original: NodeProto, cuts: Collection[str]) -> list[NodeProto]:
        """The node under its segment's names: a cut tensor's own name is what its readers get."""
        node = NodeProto()
        node.CopyFrom(original)
        before = self._operands(node) if self._rounding.tf32 else []
        after: list[NodeProto] = []
        for index, name in enumerate(original.output):
            final = f"{name}{self._mark}computed" if name in cuts else name
            native = self._rounding.native.get(name)
            wide = self._tensors.elem_type(name) or TensorProto.FLOAT
            if name and native is not None and is_float(wide):
                node.output[index] = f"{name}{self._mark}wide"
                after += through(node.output[index], final, native, wide)
            else:
                node.output[index] = final
        return [*before, node, *after]

    def _operands(self, node: NodeProto) -> list[NodeProto]:
        """Rounds what the node multiplies, each tensor once; large weights come rounded."""
        before = []
        for index in operands(node):
            name = node.input[index]
            if (self._tensors.elem_type(name) or TensorProto.FLOAT) != TensorProto.FLOAT:
                continue
            node.input[index] = f"{name}{self._mark}tf32"
            if name in self._weights:
                self.fed[node.input[index]] = name
            elif name not in self._done:
                self._done.add(name)
                before += split(name, node.input[index])
        return before
