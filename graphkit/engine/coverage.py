"""Which ONNX nodes a layer map accounts for, of those that an engine can be expected to still compute.

A node *survives* the build when something has to be computed for it while the engine runs. These do not,
and are not asked for:

- **dead** nodes: no output of the model depends on them; nor do nodes of functions that nothing calls;
- **constant** ones: all that they depend on is weights and shapes (``Constant``, ``Shape`` and what follows
  from them alone), so that TensorRT computes them once, or on the host, and not in a kernel; nor do the
  nodes of an ``If`` whose condition is such a constant, since one branch of it is gone;
- **moves**: nodes that only rename, reorder, pick or join elements (``Reshape``, ``Transpose``, ``Slice``,
  ``Concat``, …), which TensorRT does by reading or writing elsewhere; calls and control flow, which are what
  their own nodes are;
- **no-ops**: a ``Mul`` or ``Div`` by one, an ``Add`` or ``Sub`` of zero, a ``Cast`` to the dtype that is
  there.

Everything else survives, and is *uncovered* when no kernel's Metadata names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import onnx

from graphkit.engine.kernel import Kernel
from graphkit.engine.naming import named

__all__ = ["Coverage", "coverage"]

_SHAPE = frozenset({"Shape", "Size", "EyeLike"})
_RANDOM = frozenset({"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial"})
_MOVES = frozenset(
    {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "Transpose", "Slice", "Split"}
    | {"Concat", "Expand", "Gather", "DepthToSpace", "SpaceToDepth", "Tile"}
)
_NEUTRAL = {"Mul": 1.0, "Div": 1.0, "Add": 0.0, "Sub": 0.0}
_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


@dataclass(frozen=True)
class Coverage:
    """Node names, unique in their model: those that survive, those of them that no kernel names (with their
    operators), and what became of the others (name -> "dead", "constant", "move" or "no-op")."""

    surviving: tuple[str, ...]
    uncovered: tuple[tuple[str, str], ...]
    gone: Mapping[str, str]

    @property
    def share(self) -> float:
        """The part of the surviving nodes that some kernel names, 0 to 1; 1 when none survives."""
        if not self.surviving:
            return 1.0
        return 1 - len(self.uncovered) / len(self.surviving)


def coverage(model: onnx.ModelProto, kernels: Iterable[Kernel]) -> Coverage:
    """What the Metadata of an engine's kernels says of the model that it was built from.

    ``model`` may lack the data of its weights. Nodes in subgraphs and functions count once, whatever the
    number of calls or iterations.
    """
    model = named(model)[0]
    told = {label.split(" | ")[0] for kernel in kernels for label in kernel.onnx_nodes}
    walk = _Walk(model)
    walk.run()
    surviving = tuple(walk.computed)
    missing = tuple((name, op) for name, op in walk.computed.items() if name not in told)
    gone = {name: why for name, why in walk.fate.items() if name not in walk.computed}
    return Coverage(surviving, missing, gone)


class _Walk:
    """Follows what depends on the inputs' values through every scope, and notes the fate of each node."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._functions = {(f.domain, f.name, f.overload): f for f in model.functions}
        self.fate = {node.name: "dead" for node in _all_nodes(model)}
        self.computed: dict[str, str] = {}
        self._depth = 0
        self._scalars = _scalars(model)
        self._dtypes = _dtypes(model)

    def run(self) -> None:
        graph = self._model.graph
        constants = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
        inputs = {i.name for i in graph.input} - constants
        self._scope(graph.node, inputs, {o.name for o in graph.output})

    def _scope(self, nodes: Sequence[onnx.NodeProto], values: set[str], wanted: set[str]) -> set[str]:
        """The tensors of a scope that depend on the inputs' values; ``values`` are those around it."""
        live = _live(nodes, wanted)
        values = set(values)
        for place, node in enumerate(nodes):
            if place in live:
                values.update(self._node(node, values))
        return values

    def _node(self, node: onnx.NodeProto, values: set[str]) -> set[str]:
        """The outputs of ``node`` that depend on values; notes whether it computes any."""
        outputs = {o for o in node.output if o}
        function = self._functions.get((node.domain, node.op_type, node.overload))
        depends = node.op_type in _RANDOM or any(i in values for i in _reads(node))
        if node.op_type in _SHAPE or not depends:
            self._note(node, "constant")
            for graph in _subgraphs(node):
                self._constant(graph.node)
            return set()
        if function is not None and self._depth < 64:
            self._note(node, "move")  # a call is what its nodes are
            return self._call(node, function, values)
        if any(True for _ in _subgraphs(node)):
            self._control(node, values)
            return outputs
        self._note(node, "move" if node.op_type in _MOVES else "no-op" if self._idle(node) else "")
        return outputs

    def _idle(self, node: onnx.NodeProto) -> bool:
        """Whether the output is the input: what TensorRT's builder leaves out."""
        if node.op_type == "Cast":
            to = next((a.i for a in node.attribute if a.name == "to"), None)
            return self._dtypes.get(node.input[0]) == to
        neutral = _NEUTRAL.get(node.op_type)
        if neutral is None:
            return False
        operands = node.input[1:] if node.op_type in ("Div", "Sub") else node.input
        return any(self._scalars.get(i) == neutral for i in operands)

    def _control(self, node: onnx.NodeProto, values: set[str]) -> None:
        self._note(node, "move")  # so is an If or a Loop: what Metadata names are its nodes
        decided = node.op_type == "If" and node.input[0] not in values
        for graph in _subgraphs(node):
            if decided:
                self._constant(graph.node)
            else:
                own = {i.name for i in graph.input}
                self._scope(graph.node, values | own, {o.name for o in graph.output})

    def _call(self, node: onnx.NodeProto, function: onnx.FunctionProto, values: set[str]) -> set[str]:
        given = zip(function.input, node.input, strict=False)
        self._depth += 1
        inside = self._scope(function.node, {f for f, i in given if i in values}, set(function.output))
        self._depth -= 1
        return {o for f, o in zip(function.output, node.output, strict=False) if o and f in inside}

    def _constant(self, nodes: Iterable[onnx.NodeProto]) -> None:
        for node in nodes:
            self._note(node, "constant")
            for graph in _subgraphs(node):
                self._constant(graph.node)

    def _note(self, node: onnx.NodeProto, fate: str) -> None:
        """A node that computes in one call of its function does, whatever it is in another."""
        if fate:
            self.fate[node.name] = fate
        else:
            self.computed[node.name] = node.op_type


def _live(nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> set[int]:
    """The places of the nodes that some wanted tensor depends on; nodes are in topological order."""
    wanted, live = set(wanted), set()
    for place in range(len(nodes) - 1, -1, -1):
        node = nodes[place]
        if wanted.intersection(node.output):
            live.add(place)
            wanted.update(_reads(node))
    return live


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads: its inputs, and whatever its subgraphs name (their own tensors too: harmless)."""
    yield from (i for i in node.input if i)
    for graph in _subgraphs(node):
        yield from (o.name for o in graph.output)
        for inner in graph.node:
            yield from _reads(inner)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type in _GRAPHS:
            yield from (attribute.g, *attribute.graphs) if attribute.type == _GRAPHS[0] else attribute.graphs


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    stack = [*model.graph.node, *(n for f in model.functions for n in f.node)]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(n for graph in _subgraphs(node) for n in graph.node)


def _scalars(model: onnx.ModelProto) -> dict[str, float]:
    """The values of constants of one element, of all scopes."""
    tensors = {t.name: t for t in model.graph.initializer}
    found: dict[str, float] = {}
    for node in _all_nodes(model):
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.HasField("t"):
                tensors.update((o, attribute.t) for o in node.output)
            elif attribute.name in ("value_float", "value_int"):
                found.update((o, float(attribute.f or attribute.i)) for o in node.output)
    for name, tensor in tensors.items():
        if len(tensor.dims) <= 4 and all(d == 1 for d in tensor.dims):
            with suppress(Exception):  # data that lies elsewhere, or was left out: not known then
                found[name] = float(onnx.numpy_helper.to_array(tensor).reshape(()))
    return found


def _dtypes(model: onnx.ModelProto) -> dict[str, int]:
    """ONNX dtypes by tensor name, as far as shape inference tells."""
    inferred = model
    with suppress(Exception):  # over 2 GiB, or not valid: what the model says itself has to do
        inferred = onnx.shape_inference.infer_shapes(model)
    graphs = [inferred.graph, *(g for n in _all_nodes(inferred) for g in _subgraphs(n))]
    infos = (v for g in graphs for v in (*g.input, *g.value_info, *g.output))
    return {v.name: v.type.tensor_type.elem_type for v in infos}
