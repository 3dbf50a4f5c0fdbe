"""What the tests of this folder share: models from text, and passes on them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import onnx.parser

from graphkit.model.graph import Graph
from graphkit.model.model import Model

HEADER = '<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1, "local": 1]>\n'


def proto(text: str, *, header: str = HEADER) -> onnx.ModelProto:
    """Parse a model from the body of its graph."""
    return onnx.parser.parse_model(header + text)


def graph_of(text: str) -> Graph:
    return Model.from_proto(proto(text)).main


def saved(text: str, path: Path) -> Path:
    onnx.save(proto(text), path)
    return path


def ops(model: onnx.ModelProto) -> Counter[str]:
    return Counter(n.op_type for n in model.graph.node)


SILU_TWICE = """g (float[2,3] x) => (float[2,3] y) {
    s = Sigmoid (x)
    h = Mul (s, x)
    c = Constant <value_float = 2.0> ()
    y = Mul (h, c)
}"""

CALLS = """g (float[2] x, bool c) => (float[2] y, float[2] z) {
    y = If (c) <
        then_branch = t () => (float[2] a) { s = Sigmoid (x)  a = Mul (x, s) },
        else_branch = e () => (float[2] b) { b = Neg (x) }
    >
    z = local.silu (x)
}
<domain: "local", opset_import: ["": 21]>
silu (v) => (w) { u = Sigmoid (v)  w = Mul (u, v) }
"""
