"""Which nodes may be computed ahead of time, and why the others may not."""

from __future__ import annotations

import numpy as np

from graphkit import Graph
from graphkit.model.operators import domain_of
from graphkit.model.surgeon import AttributeRef, Constant, GsGraph, Node
from graphkit_passes._functions import Functions

RANDOM = frozenset(
    ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"]
)
QUANTIZERS = frozenset(["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"])
_NO_TENSORS = frozenset(
    [
        "Optional",
        "OptionalGetElement",
        "OptionalHasElement",
        "SequenceConstruct",
        "SequenceEmpty",
        "SplitToSequence",
    ]
)
_DOMAINS = frozenset(["", "ai.onnx.ml"])

_INFLATING = frozenset(
    [
        "AffineGrid",
        "BlackmanWindow",
        "CenterCropPad",
        "Col2Im",
        "ConstantOfShape",
        "Conv",
        "ConvTranspose",
        "DFT",
        "Einsum",
        "Expand",
        "EyeLike",
        "Gather",
        "GatherElements",
        "GatherND",
        "Gemm",
        "GridSample",
        "HammingWindow",
        "HannWindow",
        "ImageDecoder",
        "MatMul",
        "MatMulInteger",
        "MaxUnpool",
        "MelWeightMatrix",
        "OneHot",
        "Pad",
        "QLinearMatMul",
        "Range",
        "Resize",
        "STFT",
        "Tile",
        "TfIdfVectorizer",
        "Upsample",
    ]
)
"""Operators whose result can be larger than what they read by any factor."""
_MOST = 256 << 20  # bytes that one result may take while it is computed, unless its inputs take more


class Rules:
    """What keeps a node with constant inputs from being folded; ``functions`` are those of the model."""

    def __init__(self, main: Graph, *, qdq: bool) -> None:
        self._qdq = qdq
        self._functions = Functions(main.model)
        self._known: dict[int, str | None] = {}

    def calls(self, node: Node) -> bool:
        """Whether the node calls a function of the model."""
        return self._functions.called_by(node) is not None

    def reason(self, graph: Graph, node: Node) -> str | None:
        """Why this node must stay whatever its inputs are; None when nothing is against it."""
        if any(isinstance(v, GsGraph) for v in node.attrs.values()):
            return "it holds a subgraph"
        if any(isinstance(v, AttributeRef) for v in node.attrs.values()):
            return "an attribute is given by the function's caller"
        if any(t.name and t.name in graph.model.pinned for t in node.outputs):
            return "its output is named from a place that no pass can see"
        body = self._functions.called_by(node)
        return self._op_reason(graph, node) if body is None else self._body_reason(body)

    def _op_reason(self, graph: Graph, node: Node) -> str | None:
        from onnx import defs

        domain = domain_of(node)
        if domain not in _DOMAINS or not defs.has(node.op, domain):
            return f"the standard does not define {domain or 'ai.onnx'}::{node.op}"
        if domain:
            return None
        if node.op in RANDOM or (node.op == "Dropout" and _trains(graph, node)):
            return "it gives other values on each run"
        if node.op in QUANTIZERS and not self._qdq:
            return "an engine reads weights in Q/DQ form; option qdq folds it"
        if node.op.startswith("Sequence") or node.op in _NO_TENSORS:
            return "its result is no tensor"
        return None

    def _body_reason(self, body: Graph) -> str | None:
        """A call is as good as every node of the body, and of the bodies that it calls."""
        key = id(body.gs)
        if key not in self._known:
            self._known[key] = "its function calls itself"
            inner = (self._inner_reason(view, n) for view in body.scopes() for n in view.nodes)
            self._known[key] = next((r for r in inner if r is not None), None)
        return self._known[key]

    def _inner_reason(self, graph: Graph, node: Node) -> str | None:
        body = self._functions.called_by(node)
        if body is not None:
            return self._body_reason(body)
        if node.op == "Loop" and not domain_of(node):
            return "its function has Loop, which may run any number of times"
        found = self._op_reason(graph, node)
        allowed = found is None or found == "its result is no tensor"
        return None if allowed else f"its function has {node.op}: {found}"


def _trains(graph: Graph, node: Node) -> bool:
    """Whether a Dropout may drop: its training_mode is neither left out nor a constant false."""
    if graph.opset < 7:
        return not node.attrs.get("is_test", 0)
    if len(node.inputs) < 3 or not node.inputs[2].name:
        return False
    mode = graph.value(node.inputs[2])
    return mode is None or bool(np.any(mode))


def overridable(graph: Graph, node: Node) -> str | None:
    """The name of an input's default value that the node reads: a caller may give another."""
    found = (t.name for t in node.inputs if isinstance(t, Constant) and not graph.is_constant(t))
    return next(found, None)


def unbounded(node: Node, sizes: list[int | None], read: int) -> str | None:
    """Why a node should not be run: its result is too large, or nothing says how large it will be."""
    most = max(_MOST, read)
    known = [s for s in sizes if s is not None]
    if sum(known) > most:
        return f"its result would take {sum(known):,} bytes"
    if len(known) < len(sizes) and node.op in _INFLATING:
        return "the size of its result cannot be told"
    return None
