"""The engine of constant folding: rounds of finding, computing and placing, until nothing changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphkit import Graph, Tally
from graphkit.model.operators import domain_of
from graphkit.model.scopes import ordered
from graphkit.model.surgeon import Node, Tensor, onnx_dtype, unlink
from graphkit.rewrite.options import Size
from graphkit_passes._batch import Batch, Result
from graphkit_passes._branches import inline_branches
from graphkit_passes._eligible import Rules, overridable, unbounded
from graphkit_passes._functions import without_overloads
from graphkit_passes._placing import Placing, held, is_external, is_uniform, move_constants
from graphkit_passes._shapes import ShapeFolder
from graphkit_passes._shared import Known

_UNIFORM = 256  # bytes; larger results of one repeated element stay what makes them
_CONE = 1000
_TOGETHER = 1 << 30  # bytes that all results of one round may take while they are computed
_WEIGHED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"})

Array = np.ndarray[Any, Any]


@dataclass
class Folder:
    """Folds a whole model; with ``only_shapes``, just what follows from shapes.

    With ``storing``, results of one repeated element are stored too, and weights of any size.
    """

    main: Graph
    tally: Tally
    max_size: int
    qdq: bool = False
    only_shapes: bool = False
    storing: bool = False
    refused: dict[int, tuple[Graph, Node, str]] = field(default_factory=dict)
    large: dict[int, tuple[Graph, Node, int]] = field(default_factory=dict)
    stems: dict[int, Tensor] = field(default_factory=dict)
    _looked_at: int = 0

    def __post_init__(self) -> None:
        self.rules = Rules(self.main, qdq=self.qdq)
        self.placing = Placing(self.main)
        self.placing.only_nodes &= not self.storing
        self.shapes = ShapeFolder(self.main, self.placing)

    def run(self) -> None:
        """Fold until a round finds nothing; then tell what was refused."""
        total = 0
        while True:
            done = self._move_constants()
            made = self.shapes.run()
            self._done(len(made), made)
            done += len(made) + self._fold_nodes()
            branches = inline_branches(self.main, self.placing, self._wants)
            self.tally.rewrite(branches)
            self.shapes.stale |= bool(branches)
            done += branches
            self.placing.sweep()
            total += done
            if not done and not self._reconsider() and not self._look_again(total):
                break
        for graph, node, reason in self.refused.values():
            if node.outputs:
                self.tally.refuse(graph, node, reason)

    def _look_again(self, total: int) -> bool:
        """Infer once more after all that was folded; within `simplify`, that is for it to decide."""
        if total == self._looked_at or Known.is_shared(self.main.model):
            return False
        self._looked_at = total
        self.shapes.stale = True
        return True

    def _move_constants(self) -> int:
        """Constant nodes become initializers: those of the file, and those that came out of a branch."""
        if self.only_shapes:
            return 0
        moved = sum(move_constants(scope, self.placing) for scope in self.main.scopes())
        self.tally.rewrite(moved)
        return moved

    def _done(self, count: int, made: list[Tensor]) -> None:
        self.tally.rewrite(count)
        self.stems.update((id(t), t) for t in made)

    def _wants(self, condition: Tensor) -> bool:
        return not self.only_shapes or id(condition) in self.stems

    def _reconsider(self) -> bool:
        """A result that was too large may fit now that other readers of its inputs are gone."""
        fitting = [
            key for key, (g, n, size) in self.large.items() if n.outputs and size <= self._vanishing(g, n)
        ]
        for key in fitting:
            del self.large[key], self.refused[key]
        return bool(fitting)

    # -- finding

    def _fold_nodes(self) -> int:
        model = self.main.model
        total = 0
        functions: Any = None
        for root in (self.main, *model.functions):
            batch = Batch(root)
            calls = self._collect(batch)
            if calls:
                if functions is None:
                    functions = without_overloads(model.skeleton().functions)
                batch.functions = functions
            total += self._fold_batch(batch)
        return total

    def _collect(self, batch: Batch) -> bool:
        """Put every node into ``batch`` that constants reach; returns whether one calls a function."""
        made: set[int] = set()
        calls = False
        for graph in batch.root.scopes():
            for node in ordered(graph.nodes):
                if node.op == "Constant" and not domain_of(node):
                    continue
                if id(node) not in self.refused and self._reached(graph, node, made):
                    leaves = [t for t in node.inputs if t.name and id(t) not in made]
                    reason = self._reason(graph, node, leaves) or batch.add(graph, node, leaves)
                    if reason is not None:
                        self.refused[id(node)] = (graph, node, reason)
                        continue
                    calls = calls or self.rules.calls(node)
                    made.update(id(t) for t in node.outputs if t.name)
        return calls

    def _reached(self, graph: Graph, node: Node, made: set[int]) -> bool:
        """Whether all inputs are known, and one follows from a shape where only those are asked for."""
        inputs = [t for t in node.inputs if t.name]
        if self.only_shapes and not any(id(t) in made or id(t) in self.stems for t in inputs):
            return False
        unknown = [t for t in inputs if id(t) not in made and not graph.is_constant(t)]
        if not unknown:
            return any(t.name for t in node.outputs)
        name = overridable(graph, node)
        if name is not None and all(held(t) is not None for t in unknown):
            self.refused[id(node)] = (
                graph,
                node,
                f"'{name}' is the default of an input, which a caller can override",
            )
        return False

    def _reason(self, graph: Graph, node: Node, leaves: list[Tensor]) -> str | None:
        found = self.rules.reason(graph, node)
        large = (t for t in leaves if graph.nbytes(t) > self.max_size and is_external(t))
        tensor = next(large, None) if found is None else None
        return (
            found
            if tensor is None
            else f"'{tensor.name}' lies in a data file, and would be copied into the model"
        )

    # -- computing

    def _fold_batch(self, batch: Batch) -> int:
        if not batch.nodes:
            return 0
        results = batch.infer()
        self._drop_unbounded(batch, results)
        if not batch.nodes:
            return 0
        evaluation = batch.evaluate()
        for index, reason in evaluation.failures.items():
            graph, node = batch.nodes[index]
            self.refused[id(node)] = (graph, node, f"it cannot be computed: {reason}")
        done: dict[int, tuple[Graph, list[Node]]] = {}
        for graph, node in batch.nodes:
            named = [t for t in node.outputs if t.name]
            values = {id(t): v for t in named if (v := evaluation.values.get(batch.name(t))) is not None}
            if len(values) < len(named) or not self._accept(graph, node, values, results):
                continue
            self.shapes.note(graph, node)
            made = self.placing.fold(graph, node, values)
            self._done(1, made)
            done.setdefault(id(graph), (graph, []))[1].append(node)
            self._unlink_early(node)
        for graph, nodes in done.values():
            self.placing.remove(graph, nodes)
        return sum(len(nodes) for _, nodes in done.values())

    @staticmethod
    def _unlink_early(node: Node) -> None:
        """Until the node is taken out with the others, its inputs must not count it as a reader."""
        for tensor in node.inputs:
            unlink(tensor.outputs, node)
        list.clear(node.inputs)

    def _drop_unbounded(self, batch: Batch, results: dict[int, Result]) -> None:
        """Leave out nodes whose results may take any amount of memory; for good, if all inputs are known."""
        gone: set[int] = set()
        together = 0
        made = {id(t) for _, n in batch.nodes for t in n.outputs if t.name}
        for index, (graph, node) in enumerate(batch.nodes):
            sizes = [results.get(id(t), Result()).nbytes for t in node.outputs if t.name]
            read = sum(graph.nbytes(t) for t in node.inputs if t.name)
            reason = unbounded(node, sizes, read)
            if reason is None:
                together += sum(s or 0 for s in sizes)
                if together <= _TOGETHER or together == sum(s or 0 for s in sizes):
                    continue
                reason = f"with others, its result would take {together:,} bytes"
            gone.add(index)
            if not any(id(t) in made for t in node.inputs):
                self.refused[id(node)] = (graph, node, reason)
        batch.drop(gone)

    # -- deciding

    def _accept(self, graph: Graph, node: Node, values: dict[int, Array], results: dict[int, Result]) -> bool:
        for key, value in values.items():
            told = results.get(key, Result())
            if told.dtype is not None and onnx_dtype(value.dtype) != told.dtype:
                self._refuse(
                    graph, node, f"it was computed as {value.dtype}, which is not the type of its output"
                )
                return False
            if told.shape is not None and value.shape != told.shape:
                self._refuse(
                    graph, node, f"it was computed with shape {value.shape}, inference says {told.shape}"
                )
                return False
        nbytes = sum(v.nbytes for v in values.values())
        if nbytes <= self.max_size and (self.storing or not self._repeats(values)):
            return True
        if self.storing and self._is_weight(node):
            return True
        if nbytes <= self._vanishing(graph, node):
            return True
        self.large[id(node)] = (graph, node, nbytes)
        limit = "repeats one element" if nbytes <= self.max_size else f"max-size is {Size(self.max_size)}"
        self._refuse(
            graph, node, f"its result takes {nbytes:,} bytes, more than what it is made of ({limit})"
        )
        return False

    def _refuse(self, graph: Graph, node: Node, reason: str) -> None:
        self.refused[id(node)] = (graph, node, reason)

    @staticmethod
    def _is_weight(node: Node) -> bool:
        """Whether all that reads the results reads them as a weight, which engine builders want stored."""
        uses = [(r, t) for t in node.outputs for r in t.outputs]
        return bool(uses) and all(
            r.op in _WEIGHED and not domain_of(r) and r.inputs[0] is not t for r, t in uses
        )

    @staticmethod
    def _repeats(values: dict[int, Array]) -> bool:
        return any(v.nbytes > _UNIFORM and is_uniform(v) for v in values.values())

    def _vanishing(self, graph: Graph, node: Node) -> int:
        """Bytes of the constants that nothing reads any more once ``node`` is folded."""
        cone = {id(node)}
        waiting, total, seen = [node], 0, set[int]()
        while waiting and len(cone) < _CONE:
            for tensor in self._only_read_by(waiting.pop(), cone, seen):
                if graph.is_constant(tensor):
                    total += graph.nbytes(tensor)
                maker = graph.producer(tensor)
                if maker is not None and id(maker) not in cone and id(maker) in self.large:
                    cone.add(id(maker))
                    waiting.append(maker)
        return total

    def _only_read_by(self, node: Node, cone: set[int], seen: set[int]) -> Iterator[Tensor]:
        for tensor in node.inputs:
            if tensor.name and id(tensor) not in seen and not self.placing.is_end(tensor):
                seen.add(id(tensor))
                if all(id(r) in cone for r in tensor.outputs):
                    yield tensor
