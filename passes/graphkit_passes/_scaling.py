"""The engine of ``fuse-scale-matmul``: where a scale can be moved to, and the nodes on the way made anew."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from graphkit import Graph, NotApplicable, Tally
from graphkit.model.graph import Node, Tensor
from graphkit.model.matching import output_ids
from graphkit.model.operators import attribute, domain_of
from graphkit_passes._placing import is_external

_MOVES = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze"})
_FLOATS = frozenset({"float16", "float32", "float64"})
_LARGEST = 1 << 20
_DEPTH = 12


@dataclass
class Path:
    """From the scale up: the nodes to make anew, the nearest first, and which input leads on."""

    steps: list[tuple[Node, int]] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)  # of the last step: the inputs to scale

    def longer(self, node: Node, place: int) -> Path:
        return Path([*self.steps, (node, place)])


class Scaling:
    """One run over one model."""

    def __init__(self, main: Graph, tally: Tally) -> None:
        self._main = main
        self._tally = tally

    def run(self) -> None:
        """Move every scale that can be moved."""
        self._ends = output_ids(self._main)
        for graph in self._main.scopes():
            self._home = {id(n) for n in graph.nodes}
            for node in [n for n in graph.nodes if n.op in ("Mul", "Div") and not domain_of(n)]:
                try:
                    self._visit(graph, node)
                except NotApplicable as error:
                    self._tally.refuse(graph, node, str(error))

    def _visit(self, graph: Graph, node: Node) -> None:
        place = self._scaled_input(graph, node)
        if place is None:
            return
        path = self._path(graph, node.inputs[place], Path())
        if path is None or len(path.steps) < 2:
            return  # a scale right behind the weights is for fuse-mul-conv
        values = graph.value(node.inputs[1 - place])
        if values is None or values.dtype.name not in _FLOATS:
            return
        scale = float(values.reshape(-1)[0])
        if not math.isfinite(scale) or scale == 0:
            raise NotApplicable(f"its factor {scale:g} is not one to scale weights by")
        self._rewrite(graph, node, path, 1 / scale if node.op == "Div" else scale)

    def _scaled_input(self, graph: Graph, node: Node) -> int | None:
        """The input that a node multiplies by a constant of one element, without giving it another rank."""
        if len(node.inputs) != 2:
            return None
        for place in (0, 1) if node.op == "Mul" else (0,):
            factor = node.inputs[1 - place]
            shape = graph.shape(factor) if graph.is_constant(factor) else None
            if (
                shape is not None
                and (shape == () or shape == (1,))
                and not graph.is_constant(node.inputs[place])
            ):
                return place
        return None

    # -- finding

    def _path(self, graph: Graph, tensor: Tensor, path: Path) -> Path | None:
        """How ``tensor`` comes from weights, through nodes that nothing else reads; None when it does not."""
        node = graph.producer(tensor)
        if node is None or domain_of(node) or id(node) not in self._home or len(path.steps) >= _DEPTH:
            return None
        if len(tensor.outputs) != 1 or id(tensor) in self._ends or tensor.name in graph.model.pinned:
            return None
        constant = [graph.is_constant(t) for t in node.inputs]
        if node.op in _MOVES:
            return self._path(graph, node.inputs[0], path.longer(node, 0))
        if node.op == "Gemm":
            return self._gemm(graph, node, path)
        if node.op == "MatMul" and any(constant):
            return self._weighted(path, node, constant.index(True))
        if node.op == "MatMul":
            sides = (self._path(graph, node.inputs[i], path.longer(node, i)) for i in (0, 1))
            return next((s for s in sides if s is not None), None)
        if node.op == "Add" and constant.count(True) == 1:
            return self._biased(graph, node, path, constant.index(True))
        return None

    @staticmethod
    def _weighted(path: Path, node: Node, place: int) -> Path:
        found = path.longer(node, -1)
        found.weights = [place]
        return found

    def _gemm(self, graph: Graph, node: Node, path: Path) -> Path | None:
        plain = all(isinstance(attribute(graph, node, n), float) for n in ("alpha", "beta"))
        return path.longer(node, -1) if plain else None

    def _biased(self, graph: Graph, node: Node, path: Path, place: int) -> Path | None:
        """The constant Add behind a product with weights: both are scaled."""
        below = self._path(graph, node.inputs[1 - place], path.longer(node, 1 - place))
        direct = (
            below is not None
            and len(below.steps) == len(path.steps) + 2
            and below.steps[-1][0].op == "MatMul"
        )
        return below if direct and below is not None and below.weights else None

    # -- rewriting

    def _rewrite(self, graph: Graph, node: Node, path: Path, scale: float) -> None:
        constants = self._constants(graph, path, scale)
        made: Tensor | None = None
        for step, place in reversed(path.steps):
            inputs = [constants.get((id(step), i), t) for i, t in enumerate(step.inputs)]
            if made is not None:
                inputs[place] = made
            attrs = dict(step.attrs)
            if step.op == "Gemm":
                attrs |= {n: float(attribute(graph, step, n)) * scale for n in ("alpha", "beta")}
            (made,) = graph.add(step.op, inputs, attrs, before=node, of=[step])
            self._home.update(id(n) for n in made.inputs)
        assert made is not None
        old = node.outputs[0]
        gone = [node, *(step for step, _ in path.steps)]
        graph.remove([node])
        graph.replace(old, made)
        graph.remove(gone[1:])
        self._gone = [*getattr(self, "_gone", []), *gone]  # keeps ids from being used again
        self._tally.rewrite()

    def _constants(self, graph: Graph, path: Path, scale: float) -> dict[tuple[int, int], Tensor]:
        """The scaled weights and bias, by node and input."""
        if not path.weights:
            return {}
        last = path.steps[-1][0]
        places = [(last, path.weights[0])]
        if len(path.steps) > 1 and path.steps[-2][0].op == "Add":
            add, on = path.steps[-2]
            places.append((add, 1 - on))
        return {(id(n), i): self._scaled(graph, n.inputs[i], scale) for n, i in places}

    def _scaled(self, graph: Graph, tensor: Tensor, scale: float) -> Tensor:
        if is_external(tensor) and graph.nbytes(tensor) > _LARGEST:
            raise NotApplicable(f"'{tensor.name}' lies in a data file, and would be copied into the model")
        values = graph.value(tensor)
        if values is None or values.dtype.name not in _FLOATS:
            raise NotApplicable(f"'{tensor.name}' has a dtype that is not scaled")
        with np.errstate(over="ignore"):
            scaled = (values.astype(np.float64) * scale).astype(values.dtype)
        if not np.isfinite(scaled).all():
            raise NotApplicable(f"the new weights are not finite in {values.dtype.name}")
        return graph.constant(scaled, tensor.name, of=[tensor])
