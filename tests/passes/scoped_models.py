"""Random small models with subgraphs and functions, and what tells whether renaming kept their meaning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx.helper as h
import onnx.reference
from hypothesis import strategies as st

FLOAT, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL
POOL = ["a", "b", "/a", "/b", "h1", "h2", "x/a", "w", "n", "a_1", "b_1"]
OPSETS = [h.make_opsetid("", 21), h.make_opsetid("local", 1)]


class _Builder:
    """Draws scopes whose names are in single assignment where they can be seen, and repeat elsewhere."""

    def __init__(self, draw: Any, functions: list[str]) -> None:
        self.draw = draw
        self.functions = functions

    def fresh(self, taken: set[str], prefix: str = "") -> str:
        name = prefix + self.draw(st.sampled_from(POOL))
        while name in taken:
            name += "0"
        taken.add(name)
        return name

    def body(
        self, visible: list[str], taken: set[str], depth: int
    ) -> tuple[list[Any], list[Any], list[str], set[str]]:
        """Nodes, initializers, what they define, and every name below; ``taken`` grows."""
        nodes: list[Any] = []
        initializers: list[Any] = []
        node_names: set[str] = set()
        mine: list[str] = []
        below: set[str] = set()
        is_function = depth < 0
        if not is_function and self.draw(st.booleans()):
            mine.append(self.fresh(taken))
            initializers.append(onnx.numpy_helper.from_array(np.array([1, -2], np.float32), mine[0]))
        for _ in range(self.draw(st.integers(1, 4))):
            read = [self.draw(st.sampled_from(visible + mine)) for _ in range(2)]
            kind = self.draw(st.sampled_from(["Neg", "Relu", "Add", "If", "call"]))
            label = self.fresh(node_names) if self.draw(st.booleans()) else ""
            if kind == "If" and depth > 0:
                branches = {k: self.graph(visible + mine, set(taken), depth - 1) for k in ("then", "else")}
                out = self.fresh(taken | branches["then"][1] | branches["else"][1])
                below |= branches["then"][1] | branches["else"][1]
                made = {f"{k}_branch": g for k, (g, _) in branches.items()}
                nodes.append(h.make_node("If", ["c"], [out], name=label, **made))
            elif kind == "call" and self.functions:
                out = self.fresh(taken | below)
                function = self.draw(st.sampled_from(self.functions))
                nodes.append(h.make_node(function, read[:1], [out], name=label, domain="local"))
            else:
                out = self.fresh(taken | below)
                op = kind if kind in ("Neg", "Relu") else "Add"
                nodes.append(h.make_node(op, read if op == "Add" else read[:1], [out], name=label))
            taken.add(out)
            mine.append(out)
        return nodes, initializers, mine, below | set(mine)

    def graph(self, visible: list[str], taken: set[str], depth: int) -> tuple[Any, set[str]]:
        nodes, initializers, mine, below = self.body(visible, taken, depth)
        output = h.make_tensor_value_info(mine[-1], FLOAT, [2])
        return h.make_graph(nodes, "sub", [], [output], initializers), below

    def function(self, name: str) -> Any:
        formal = self.fresh(set())
        nodes, _, mine, _ = self.body([formal], {formal}, -1)
        return h.make_function("local", name, [formal], [mine[-1]], nodes, OPSETS)


@st.composite
def models(draw: Any) -> onnx.ModelProto:
    """A valid model: inputs x (float[2]) and c (bool), some outputs, Ifs two deep, and local functions."""
    builder = _Builder(draw, [])
    functions = []
    for place in range(draw(st.integers(0, 2))):
        functions.append(builder.function(f"f{place}"))
        builder.functions.append(f"f{place}")
    nodes, initializers, mine, _ = builder.body(["x"], {"x", "c"}, 2)
    made = [t for t in mine if t not in {i.name for i in initializers}]
    ends = draw(st.lists(st.sampled_from(made), min_size=1, max_size=2, unique=True))
    inputs = [h.make_tensor_value_info("x", FLOAT, [2]), h.make_tensor_value_info("c", BOOL, [])]
    outputs = [h.make_tensor_value_info(t, FLOAT, [2]) for t in ends]
    types = [h.make_tensor_value_info(t, FLOAT, [2]) for t in made if t not in ends]
    graph = h.make_graph(nodes, "main", inputs, outputs, initializers, value_info=types)
    return h.make_model(graph, opset_imports=OPSETS, functions=functions, ir_version=10)


def values(model: onnx.ModelProto) -> list[np.ndarray]:
    """The outputs for both values of the condition."""
    names = [i.name for i in model.graph.input]
    session = onnx.reference.ReferenceEvaluator(model)
    x = np.array([1.5, -2.5], np.float32)
    return [a for c in (True, False) for a in session.run(None, {names[0]: x, names[1]: np.array(c)})]


def shape_of(model: onnx.ModelProto) -> list[Any]:
    """The model with each tensor named by where it is defined: equal for models that differ in names only."""
    found: list[Any] = [_graph_shape(model.graph, {}, "main")]
    for function in model.functions:
        known = {name: f"formal {i}" for i, name in enumerate(function.input)}
        found.append((function.name, _nodes_shape(function.node, known, function.name)))
        found.append([known[o] for o in function.output])
    return found


def _graph_shape(graph: onnx.GraphProto, outer: dict[str, str], where: str) -> Any:
    known = dict(outer)
    known.update({t.name: f"{where} input {i}" for i, t in enumerate(graph.input)})
    known.update({t.name: f"{where} constant {i}" for i, t in enumerate(graph.initializer)})
    nodes = _nodes_shape(graph.node, known, where)
    described = sorted(known[v.name] for v in graph.value_info)
    return nodes, [known[o.name] for o in graph.output], described, [t.raw_data for t in graph.initializer]


def _nodes_shape(nodes: Any, known: dict[str, str], where: str) -> list[Any]:
    found = []
    for place, node in enumerate(nodes):
        inputs = [known[i] for i in node.input]
        below = [_graph_shape(a.g, known, f"{where}/{place}.{a.name}") for a in node.attribute]
        found.append((node.op_type, inputs, below))
        known.update({o: f"{where} {place}.{i}" for i, o in enumerate(node.output)})
    return found


def graphs(model: onnx.ModelProto) -> Iterator[Any]:
    """Every GraphProto and FunctionProto."""
    waiting: list[Any] = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop(0)
        yield graph
        waiting[:0] = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]


def tensors(graph: Any) -> list[str]:
    """The names that one GraphProto or FunctionProto defines, in order."""
    inputs = [i if isinstance(i, str) else i.name for i in graph.input]
    constants = [t.name for t in getattr(graph, "initializer", ())]
    return [*inputs, *constants, *(o for n in graph.node for o in n.output)]
