"""Random graphs with every form of SiLU among other nodes: in the main graph, a branch, a function."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx
import onnx.parser
from hypothesis import strategies as st
from onnx import helper

FUNCTIONS = onnx.parser.parse_model(
    """<ir_version: 10, opset_import: ["": 24, "pkg": 1, "mine": 1]>
none () => () { }
<domain: "pkg", opset_import: ["": 24]>
torch_nn_modules_SiLU_1 (v) => (w) { s = Sigmoid (v) w = Mul (v, s) }
<domain: "pkg", opset_import: ["": 24]>
swapped (v) => (w) { i = Identity (v) s = Sigmoid (i) w = Mul (s, v) }
<domain: "pkg", opset_import: ["": 24, "pkg": 1]>
scaled <k: float = 1.25> (v) => (w) { s = pkg.inner <b: float = @k> (v) w = Mul (v, s) }
<domain: "pkg", opset_import: ["": 24]>
inner <b> (v) => (w) {
  c = Constant <value_float: float = @b> () l = CastLike (c, v) u = Mul (l, v) w = Sigmoid (u)
}
<domain: "pkg", opset_import: ["": 24]>
SiLU_gate (v, g) => (w) { s = Sigmoid (g) w = Mul (v, s) }
<domain: "pkg", opset_import: ["": 24]>
block (v) => (w) { h = Swish <alpha = 0.75> (v) n = Neg (h) w = Swish (n) }
<domain: "pkg", opset_import: ["": 24]>
never_called (v) => (w) { w = Swish (v) }
"""
).functions
CUSTOM = onnx.parser.parse_model(
    """<ir_version: 10, opset_import: ["": 24, "pkg": 1, "mine": 1]>
none () => () { }
<domain: "mine", opset_import: ["": 24]>
Swish_TRT (v) => (w) { w = Swish (v) }
<domain: "mine", opset_import: ["": 24]>
bSwish <beta: float = 1.0> (v) => (w) { w = Swish <alpha: float = @beta> (v) }
"""
).functions
PLAIN = ("Relu", "Neg", "Abs", "Sigmoid", "Tanh", "Add", "Mul", "pkg::SiLU_gate")
FORMS = (
    "Swish",
    "pkg::torch_nn_modules_SiLU_1",
    "pkg::swapped",
    "pkg::scaled",
    "mine::Swish_TRT",
    "mine::bSwish",
)
FACTOR = {"Swish": "alpha", "pkg::scaled": "k", "mine::bSwish": "beta", "com.microsoft::QuickGelu": "alpha"}
DTYPES = {
    "float": onnx.TensorProto.FLOAT,
    "float16": onnx.TensorProto.FLOAT16,
    "double": onnx.TensorProto.DOUBLE,
}


@dataclass
class Random:
    """A model; its twin, whose custom operators are functions and so can be run; how many SiLU it has."""

    model: onnx.ModelProto
    twin: onnx.ModelProto
    forms: int
    plain: list[onnx.NodeProto] = field(default_factory=list)


@st.composite
def models(draw: st.DrawFn) -> Random:
    """A random graph of 1 to 8 nodes on one input [2,5]."""
    kind = DTYPES[draw(st.sampled_from(list(DTYPES)))]
    forms = (*FORMS, "com.microsoft::QuickGelu") if kind == onnx.TensorProto.FLOAT else FORMS
    known, nodes = ["x"], list[onnx.NodeProto]()
    for number in range(draw(st.integers(1, 8))):
        op = draw(st.sampled_from((*PLAIN, *forms, *forms, "pkg::block")))
        nodes.append(_node(draw, op, known, f"t{number}"))
        known.append(f"t{number}")
    branched = draw(st.booleans())
    made = [n.output[0] for n in nodes]
    outputs = sorted({made[-1], *draw(st.lists(st.sampled_from(made), max_size=2))})
    infos = [helper.make_tensor_value_info(o, kind, [2, 5]) for o in outputs]
    inputs = [helper.make_tensor_value_info("x", kind, [2, 5])]
    main = nodes
    if branched:
        inputs.append(helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []))
        infos, main = [helper.make_tensor_value_info("out", kind, [2, 5])], [_branch(nodes, kind)]
    graph = helper.make_graph(main, "g", inputs, infos)
    found = sum(n.op_type in {f.rpartition(":")[2] for f in (*forms, "block")} for n in nodes)
    plain = [n for n in nodes if _name(n) in PLAIN]
    return Random(_model(graph, list(FUNCTIONS)), _model(graph, [*FUNCTIONS, *CUSTOM]), found, plain)


def _node(draw: st.DrawFn, op: str, known: list[str], output: str) -> onnx.NodeProto:
    domain, _, name = op.rpartition("::")
    count = 2 if name in ("Add", "Mul", "SiLU_gate") else 1
    inputs = [draw(st.sampled_from(known)) for _ in range(count)]
    if name == "SiLU_gate" and inputs[0] == inputs[1]:  # that would be a SiLU
        domain, name = "", "Add"
    node = helper.make_node(name, inputs, [output], name=f"node_{output}", domain=domain)
    if op in FACTOR and draw(st.booleans()):
        node.attribute.append(
            helper.make_attribute(FACTOR[op], draw(st.sampled_from([1.0, 0.5, 1.702, -1.5])))
        )
    return node


def _branch(nodes: list[onnx.NodeProto], kind: int) -> onnx.NodeProto:
    info = helper.make_tensor_value_info(nodes[-1].output[0], kind, [2, 5])
    other = helper.make_tensor_value_info("e", kind, [2, 5])
    bodies = {
        "then_branch": helper.make_graph(nodes, "then", [], [info]),
        "else_branch": helper.make_graph(
            [helper.make_node("Swish", ["x"], ["e"], "node_e")], "else", [], [other]
        ),
    }
    return helper.make_node("If", ["c"], ["out"], "choice", **bodies)


def _model(graph: onnx.GraphProto, functions: list[onnx.FunctionProto]) -> onnx.ModelProto:
    domains = {"": 24, "pkg": 1, "mine": 1, "com.microsoft": 1}
    imports = [helper.make_opsetid(d, v) for d, v in domains.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=10, functions=functions)


def _name(node: onnx.NodeProto) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def all_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes of the main graph and of its subgraphs."""
    found, graphs = list[onnx.NodeProto](), [model.graph]
    while graphs:
        for node in graphs.pop().node:
            found.append(node)
            graphs.extend(a.g for a in node.attribute if a.HasField("g"))
    return found
