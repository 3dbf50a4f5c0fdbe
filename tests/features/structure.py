"""Graphs of unusual make: captures, nesting, functions in functions, odd names, nothing in them, versions."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import helper

from tests.features.base import FUNCTION, GRAPHS, NODES, feature, model, node, put

CAPTURE = """g (float[2] x, bool c, int64 n) => (float[2] y, float[2] z)
 <float[2] w = {1, 2}, float[2] only_loop = {3, 4}> {
 y = If (c) <then_branch: graph = t () => (float[2] a) { a = Add (x, w) },
             else_branch: graph = e () => (float[2] b) { b = Mul (x, w) }>
 z = Loop (n, c, x) <body: graph = l (int64 i, bool k, float[2] s) => (bool k2, float[2] r)
   { k2 = Identity (k)  r = Add (s, only_loop) }> }"""


@feature
def outer_initializer_only_in_bodies() -> onnx.ModelProto:
    """GraphSurgeon copies such a weight into each branch that reads it."""
    return model(CAPTURE)


@feature
def captured() -> dict[str, onnx.ModelProto]:
    """Bodies that read an outer node's output, an outer input, and each other's surroundings, three deep."""
    deep = model("""g (float[2] x, bool c, int64 n) => (float[2] y) <float[2] w = {1, 2}> {
      h = Relu (x)
      y = If (c) <then_branch: graph = t () => (float[2] a) {
          p = Add (h, w)
          a = Loop (n, c, p) <body: graph = l (int64 i, bool k, float[2] s) => (bool k2, float[2] r) {
              k2 = Identity (k)
              q = Add (p, s)
              r = If (k) <then_branch: graph = tt () => (float[2] aa) { aa = Add (q, w) },
                          else_branch: graph = ee () => (float[2] bb) {
                m = Add (h, q)  bb = Sub (m, x) }> }> },
        else_branch: graph = e () => (float[2] b) { b = Identity (h) }> }""")
    scan = model("""g (float[2] x, float[5,2] many) => (float[2] last, float[5,2] all) { h = Relu (x)
      last, all = Scan <num_scan_inputs = 1,
        body: graph = s (float[2] v, float[2] one) => (float[2] v2, float[2] o) {
          v2 = Add (v, one)  o = Mul (v2, h) }> (x, many) }""")
    return {"deep": deep, "scan": scan}


@feature(checked=False)
def branch_is_a_captured_tensor() -> onnx.ModelProto:
    return model("""g (float[2] x, bool c) => (float[2] y) { h = Relu (x)
      y = If (c) <then_branch: graph = t () => (float[2] h) { },
                  else_branch: graph = e () => (float[2] x) { }> }""")


def _nested(levels: int) -> onnx.ModelProto:
    inner = onnx.parser.parse_graph("b () => (float[2] o) { h = Neg (x)  o = Relu (h) }")
    for _ in range(levels):
        choice = helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([choice], "b", [], [helper.make_tensor_value_info("o", 1, [2])])
    out = model("g (float[2] x, bool c) => (float[2] o) { }")
    out.graph.node.extend(inner.node)
    return out


@feature
def nested_ifs() -> dict[str, onnx.ModelProto]:
    return {str(levels): _nested(levels) for levels in (2, 5)}


@feature(checked=False)
def deeply_nested() -> bytes:
    """25 Ifs in one another: below the 100 messages that protobuf nests."""
    inner = onnx.parser.parse_graph("b () => (float[2] o) { o = Neg (x) }")
    for _ in range(25):
        choice = helper.make_node("If", ["c"], ["o"], then_branch=inner)
        inner = helper.make_graph([choice], "b", [], [helper.make_tensor_value_info("o", 1, [2])])
    out = model("g (float[2] x, bool c) => (float[2] o) { }")
    out.graph.node.extend(inner.node)
    return out.SerializeToString()


@feature
def functions() -> dict[str, onnx.ModelProto]:
    """Functions that call functions, are called twice, never called, from a branch, or hold a subgraph."""
    leaf = FUNCTION + "leaf (a) => (b) { b = Relu (a) }\n"
    mid = FUNCTION + "f (a) => (b) { h = local.leaf (a)  b = local.leaf (h) }\n"
    call = "g (float[2,3] x, bool c) => (float[2,3] y) { h = local.f (x)  y = local.f (h) }\n"
    branch = """g (float[2,3] x, bool c) => (float[2,3] y) {
      y = If (c) <then_branch: graph = t () => (float[2,3] a) { a = local.f (x) },
                  else_branch: graph = e () => (float[2,3] b) { b = local.leaf (x) }> }\n"""
    holds = (
        FUNCTION
        + """f (a) => (b) { k = Constant <value = bool {1}> ()
      b = If (k) <then_branch: graph = t () => (float[2,3] o) { o = local.leaf (a) },
                  else_branch: graph = e () => (float[2,3] p) { p = Neg (a) }> }\n"""
    )
    many = FUNCTION + "f (a) => (b, d) { b = Relu (a)  d = Neg (a) }"
    return {
        "nested": model(call + mid + leaf),
        "callee_first": model(call + leaf + mid),
        "never_called": model("g (float[2,3] x) => (float[2,3] y) { y = Relu (x) }\n" + leaf),
        "from_a_branch": model(branch + mid + leaf),
        "with_a_branch": model(call + holds + leaf),
        "output_is_input": model(CALL_SPLIT + FUNCTION + "f (a) => (a) { h = Relu (a) }"),
        "no_nodes": model(CALL_SPLIT + FUNCTION + "f (a) => (a) { }"),
        "two_outputs": model("g (float[2] x) => (float[2] y) { u, y = local.f (x) }\n" + many),
        "same_tensor_names": model(call + FUNCTION + "f (x) => (y) { h = Relu (x)  y = Neg (h) }"),
        "standard_op_redefined": _redefined(),
        "optional_input_left_out": model(
            'g (float[2] x) => (float[2] y) { y = local.f (x, "") }\n'
            + FUNCTION
            + "f (a, lo) => (b) { b = Clip (a, lo) }"
        ),
    }


@feature(checked=False)
def function_twice() -> onnx.ModelProto:
    """Two functions of one name: which of them is meant is not for an editor to say, so both stay."""
    body = FUNCTION + "f (a) => (b) { b = Relu (a) }\n"
    return model(CALL_SPLIT + body + body)


CALL_SPLIT = "g (float[2,3] x) => (float[2,3] y) { y = local.f (x) }\n"


def _redefined() -> onnx.ModelProto:
    """A model-local function that is named like an operator of a domain it imports."""
    out = model(CALL_SPLIT + FUNCTION + "f (a) => (b) { b = Relu (a) }")
    out.functions[0].name = out.graph.node[0].op_type = "Swish"
    return out


@feature(checked=False)
def empty_things() -> dict[str, onnx.ModelProto]:
    zero = model("g (float[2] x) => (float[2] x) { }")
    nothing = model("g () => () { }")
    initializer = model("g () => (float[2] w) <float[2] w = {1, 2}> { }")
    no_outputs = model("g (float[2] x) => () { y = Relu (x) }")
    twice = model("g (float[2] x) => (float[2] y, float[2] y) { y = Relu (x) }")
    dead = model("g (float[2] x) => (float[2] y) { y = Relu (x)  dead = Neg (x) }")
    unused = model("g (float[2] x, float[2] spare) => (float[2] y) { y = Relu (x) }")
    unnamed = model("g (float[2] x) => (float[2] y) { y = Relu (x) }")
    unnamed.graph.name = ""
    nameless = model("g (float[2] x) => (float[2] y) { y = Relu (x) }")
    nameless.graph.ClearField("name")
    missing = model("g (float[2] x) => (float[2] y) { y = Relu (not_there) }")
    output_missing = model("g (float[2] x) => (float[2] not_there) { y = Relu (x) }")
    return {
        "output_is_input": zero, "no_nodes": nothing, "output_is_initializer": initializer,
        "no_outputs": no_outputs,
        "output_twice": twice, "dead_node": dead, "unused_input": unused, "graph_name_empty": unnamed,
        "graph_name_missing": nameless, "input_undefined": missing, "output_undefined": output_missing,
    }  # fmt: skip


@feature(checked=False)
def optional_slots() -> dict[str, onnx.ModelProto]:
    """Inputs and outputs left out in the middle, at the end, all of them, and an operator without any."""
    cases: dict[str, Any] = {
        "input_middle": lambda s: s.node.append(node('u = Clip (h, "", h)')),
        "input_trailing": lambda s: s.node.append(node('u = Clip (h, "", "")')),
        "input_all": lambda s: s.node.append(
            onnx.NodeProto(op_type="Opt", domain="custom", input=["", ""], output=["u"])
        ),
        "output_middle": lambda s: s.node.append(
            helper.make_node("LSTM", ["x", "w", "r"], ["", "u_h", "u_c"], hidden_size=4)
        ),
        "output_trailing": lambda s: s.node.append(helper.make_node("Dropout", ["h"], ["u", ""])),
        "output_all": lambda s: s.node.append(
            onnx.NodeProto(op_type="Print", domain="custom", input=["h"], output=["", ""])
        ),
        "no_output": lambda s: s.node.append(onnx.NodeProto(op_type="Print", domain="custom", input=["h"])),
        "no_input": lambda s: s.node.append(node("u = RandomNormal <shape = [2]> ()")),
        "same_input_twice": lambda s: s.node.append(node("u = Mul (h, h)")),
        "no_op_type": lambda s: s.node.append(onnx.NodeProto(input=["h"], output=["u"])),
    }
    return {f"{name}-{place}": m for name, change in cases.items() for place, m in put(change, NODES).items()}


@feature
def names() -> dict[str, onnx.ModelProto]:
    """Names that break formats: separators, quotes, line ends, other scripts, very long ones, numbers."""
    odd = {
        "slashes": "/model.0/conv/Conv_output_0", "spaces": "a b  c ", "quotes": "a\"b'c\\",
        "newline": "a\nb\r\tc",
        "unicode": "层·π😀", "long": "n" * 5000, "number": "123", "colon": "a:0,b=1;c", "nul": "a\0b",
        "ansi": "\x1b[31mred",
        "origin": "graphkit.origin",
    }  # fmt: skip
    out = {}
    for key, name in odd.items():

        def rename(scope: Any, name: str = name) -> None:
            scope.node[0].output[0] = scope.node[-1].input[0] = name
            scope.node[0].name = name

        for place, made in put(rename, ("main", "if", "function")).items():
            out[f"{key}-{place}"] = made
    return out


@feature(checked=False)
def ir_version() -> dict[str, onnx.ModelProto]:
    opsets = {3: 8, 4: 9, 5: 10, 6: 11, 7: 12, 8: 18, 9: 20, 10: 21, 11: 23, 12: 25, 13: 26, 14: 28}
    out = {
        str(ir): model(
            f'<ir_version: {ir}, opset_import: ["" : {opset}]>'
            "g (float[2] x) => (float[2] y) { y = Relu (x) }"
        )
        for ir, opset in opsets.items()
    }
    for key, ir in (("none", None), ("future", 99)):
        out[key] = model("g (float[2] x) => (float[2] y) { y = Relu (x) }")
        out[key].ClearField("ir_version") if ir is None else setattr(out[key], "ir_version", ir)
    return out


@feature(checked=False)
def opsets() -> dict[str, onnx.ModelProto]:
    def of(*imports: tuple[str | None, int | None]) -> onnx.ModelProto:
        out = model("g (float[2] x) => (float[2] y) { y = Relu (x) }")
        del out.opset_import[:]
        for domain, version in imports:
            out.opset_import.add(**({"domain": domain} if domain is not None else {}), version=version)
        return out

    return {
        "alias": of(("ai.onnx", 21)), "both": of(("", 21), ("ai.onnx", 21)), "twice": of(("", 21), ("", 21)),
        "disagree": of(("", 21), ("", 13)), "domain_missing": of((None, 21)), "future": of(("", 9999)),
        "unused": of(("", 21), ("com.microsoft", 1), ("ai.onnx.ml", 3)), "very_old": of(("", 1)),
    }  # fmt: skip


@feature(checked=False)
def initializer_odd() -> dict[str, onnx.ModelProto]:
    """Initializers twice, unnamed, read by many, used as outputs, or of a body's own."""

    def add(scope: Any, *names: str, use: str = "use = Shape (w)") -> None:
        for name in names:
            scope.initializer.add(name=name, data_type=1, dims=[1], float_data=[len(scope.initializer)])
        if use:
            scope.node.append(node(use))

    cases: dict[str, Any] = {
        "unnamed": lambda s: add(s, "w", ""),
        "twice": lambda s: add(s, "w", "w"),  # ONNX Runtime warns, and takes the last one
        "twice_unused": lambda s: add(s, "w", "w", use=""),
        "read_twice": lambda s: add(s, "w", use="use = Add (w, w)"),
        "many": lambda s: add(s, *[f"w{i}" for i in range(20)], use="use = Sum (w0, w19, w7)"),
        "is_value_info_too": lambda s: [add(s, "w"), s.value_info.add(name="w")],
    }
    return {
        f"{name}-{place}": m for name, change in cases.items() for place, m in put(change, GRAPHS).items()
    }
