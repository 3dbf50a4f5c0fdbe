"""The walk of ``remove-identity``: which of its inputs a node gives back, by one rule an operator."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import onnx

from graphkit import Graph, NotApplicable, Tally
from graphkit.model.graph import Node, Shape, Tensor
from graphkit.model.operators import domain_of
from graphkit_passes._shared import Known, root_of
from graphkit_passes._standing import Standing

_OLDEST = 7  # before that, operands broadcast in other ways, and Dropout trains unless told
Rule = Callable[["Idle", Graph, Node], Tensor | None]


class Idle:
    """One run over a model; also what the rules ask: shapes, dtypes, opsets."""

    def __init__(self, main: Graph, tally: Tally) -> None:
        self._main = main
        self._tally = tally
        self._known = Known.of(main.model)
        self._opsets: dict[int, int] = {}

    def run(self) -> None:
        """Walk until nothing goes; refusals are those of the last walk."""
        from graphkit_passes._idle_rules import RULES

        self._standing = Standing(self._main)
        while True:
            refused: list[tuple[Graph, Node, str]] = []
            self._skipped = 0
            done = sum(self._walk(scope, RULES, refused) for scope in self._standing.scopes)
            done += self._skipped
            self._tally.rewrite(done)
            if not done:
                break
        self._standing.sweep()
        for scope, node, reason in refused:
            self._tally.refuse(scope, node, reason)

    def _walk(self, graph: Graph, rules: dict[str, Rule], refused: list[tuple[Graph, Node, str]]) -> int:
        done = 0
        if self.opset(graph) < _OLDEST:
            rules = {"Identity": rules["Identity"]}
        for node in list(graph.nodes):
            rule = rules.get(node.op)
            if rule is None or domain_of(node) or not node.outputs:
                continue
            if not _has_inputs(node, self.opset(graph)):
                continue
            try:
                done += self._visit(graph, node, rule)
            except NotApplicable as error:
                # a body returns a tensor of its own, so that is what an Identity in it is for
                if node.op != "Identity" or graph.parent is None:
                    refused.append((graph, node, str(error)))
        return done

    def _visit(self, graph: Graph, node: Node, rule: Rule) -> bool:
        same = rule(self, graph, node)
        if same is None or not same.name:
            return False
        self._standing.stand_in(graph, node.outputs[0], same)
        self._standing.remove(graph, [node])
        return True

    def skip(self, graph: Graph, node: Node, before: Node) -> None:
        """Let ``node`` read what the node before it does, if that one is there for nothing else."""
        tensor, first = before.outputs[0], before.inputs[0]
        if self._standing.is_end(tensor) or any(r is not node for r in tensor.outputs):
            return
        self._standing.require_visible(first)
        graph.rewire(node, tensor, first)
        self._standing.lose(tensor)
        self._skipped += 1

    # -- what rules ask

    def opset(self, graph: Graph) -> int:
        """The opset of the default domain in a scope."""
        root = root_of(graph)
        if id(root) not in self._opsets:
            self._opsets[id(root)] = root.opset
        return self._opsets[id(root)]

    def dtype(self, graph: Graph, tensor: Tensor) -> Any:
        """The dtype of a tensor that is certain: of a constant, or inferred; None for others."""
        if graph.is_constant(tensor):
            return graph.dtype(tensor)
        return None if root_of(graph).is_function else self._known.types.dtype(tensor)

    def shape(self, graph: Graph, tensor: Tensor) -> Shape | None:
        """The shape that is certain; dims of one name have one size, None is a dim that has no name."""
        if graph.is_constant(tensor):
            return graph.shape(tensor)
        return None if root_of(graph).is_function else self._known.types.named(tensor)

    def keeps_shape(self, graph: Graph, node: Node, tensor: Tensor) -> bool:
        """Whether the first output is known to have the shape of ``tensor``."""
        shape = self.shape(graph, tensor)
        return shape is not None and None not in shape and shape == self.shape(graph, node.outputs[0])

    def is_read(self, tensor: Tensor) -> bool:
        """Whether anything reads a tensor, or a scope returns it."""
        return bool(tensor.name) and (bool(tensor.outputs) or self._standing.is_end(tensor))

    def require_fit(self, graph: Graph, x: Tensor, other: Tensor) -> None:
        """NotApplicable unless ``x`` keeps its shape when ``other`` is broadcast against it."""
        small = self.shape(graph, other)
        if small == ():
            return
        shape = self.shape(graph, x)
        if small is not None and shape is not None and len(small) <= len(shape):
            pairs = zip(small, shape[len(shape) - len(small) :], strict=True)
            if all(s == 1 or (s is not None and s == d) for s, d in pairs):
                return
            raise NotApplicable(f"'{other.name}' may stretch '{x.name}' when it is broadcast")
        rank = "an unknown number of" if small is None else len(small)
        raise NotApplicable(f"'{other.name}' has {rank} dimensions, and '{x.name}' may have fewer")


def _has_inputs(node: Node, opset: int) -> bool:
    """Whether a node has as many inputs as its operator may have: the rules read them."""
    fewest, most = _arity(node.op, opset)
    return fewest <= len(node.inputs) <= most


@lru_cache(maxsize=256)
def _arity(op: str, opset: int) -> tuple[int, int]:
    try:
        schema = onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return 1, sys.maxsize
    return max(int(schema.min_input), 1), int(schema.max_input)
