"""What a GraphSurgeon round trip gets wrong without a word, and what it crashes on."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, helper

from tests.features.base import FUNCTION, NODES, feature, model, node, put

SHADOW = """g (float[2] x, bool c, int64 n) => (float[2] y, float[2] z) <float[2] w = {{1, 2}}> {{
 {outer}
 y = If (c) <then_branch: graph = t () => (float[2] a) <float[2] w = {{30, 40}}> {{ a = Add (x, w) }},
             else_branch: graph = e () => (float[2] b) {{ b = Add (x, w) }}>
 z = Loop (n, c, x) <
   body: graph = l (int64 i, bool k, float[2] s) => (bool k2, float[2] r) <float[2] w = {{5, 6}}>
   {{ k2 = Identity (k)  r = Add (s, w) }}> }}"""


@feature(checked=False)
def shadowed_initializer() -> dict[str, onnx.ModelProto]:
    """An initializer of a subgraph that is named like an outer initializer, input, or node output."""
    plain = SHADOW.format(outer="")
    by_node = model(
        plain.replace("<float[2] w = {1, 2}>", "").replace("=> (float[2] y,", "=> (float[2] y,", 1)
    )
    by_node.graph.node.insert(0, node("w = Neg (x)"))
    by_input = model(
        plain.replace("<float[2] w = {1, 2}>", "").replace("int64 n)", "int64 n, float[2] w)", 1)
    )
    return {"initializer": model(plain), "node": by_node, "input": by_input}


@feature(checked=False)
def shadowed_output() -> dict[str, onnx.ModelProto]:
    """A node of a branch that writes a name of the scope around it, and one that shadows two levels up."""
    out = model("""g (float[2] x, bool c) => (float[2] y) { h = Relu (x)
      y = If (c) <then_branch: graph = t () => (float[2] a) { h = Neg (x)  a = Abs (h) },
                  else_branch: graph = e () => (float[2] b) { b = Abs (h) }> }""")
    deep = model("""g (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}> {
      y = If (c) <then_branch: graph = t () => (float[2] a) {
            a = If (c) <then_branch: graph = tt () => (float[2] aa) <float[2] w = {7, 8}> { aa = Add (x, w) },
                        else_branch: graph = te () => (float[2] ab) { ab = Add (x, w) }> },
          else_branch: graph = e () => (float[2] b) { b = Add (x, w) }> }""")
    return {"node": out, "two_levels": deep}


@feature
def same_names_in_both_branches() -> onnx.ModelProto:
    return model("""g (float[2] x, bool c) => (float[2] y) {
      y = If (c) <
        then_branch: graph = b () => (float[2] o) <float[2] w = {1, 2}> { h = Add (x, w)  o = Relu (h) },
        else_branch: graph = b () => (float[2] o) <float[2] w = {3, 4}> { h = Mul (x, w)  o = Neg (h) }> }""")


def _overloads(out: onnx.ModelProto) -> onnx.ModelProto:
    for overload, op in (("", "Abs"), ("one", "Neg"), ("two", "Exp")):
        made = helper.make_function(
            "local", "many", ["a"], ["b"], [node(f"b = {op} (a)")], out.opset_import[:1]
        )
        made.overload = overload
        out.functions.append(made)
    return out


@feature(checked=False)
def function_overload() -> dict[str, onnx.ModelProto]:
    def call(scope: Any) -> None:
        for overload in ("one", "two", ""):
            made = node("h = local.many (x)" if overload == "one" else f"unused{overload} = local.many (h)")
            made.overload = overload
            if overload == "one":
                scope.node[-2].CopyFrom(made)
            else:
                scope.node.append(made)

    return {
        place: _overloads(out) for place, out in put(call, ("main", "if", "function", "function_if")).items()
    }


EMPTY = {
    "INTS": AttributeProto.INTS, "FLOATS": AttributeProto.FLOATS, "STRINGS": AttributeProto.STRINGS,
    "TENSORS": AttributeProto.TENSORS, "GRAPHS": AttributeProto.GRAPHS,
    "TYPE_PROTOS": AttributeProto.TYPE_PROTOS,
    "SPARSE_TENSORS": AttributeProto.SPARSE_TENSORS,
}  # fmt: skip


def plugin(scope: Any, *attributes: AttributeProto) -> None:
    """Put a custom node with these attributes between the two nodes there."""
    made = node("p = custom.Plugin (h)")
    made.attribute.extend(attributes)
    last = onnx.NodeProto()
    last.CopyFrom(scope.node[-1])
    last.input[0] = "p"
    del scope.node[-1]
    scope.node.extend([made, last])


@feature
def empty_list_attribute() -> dict[str, onnx.ModelProto]:
    out = {}
    for name, kind in EMPTY.items():
        for place, made in put(
            lambda scope, kind=kind: plugin(scope, AttributeProto(name="a", type=kind))
        ).items():
            out[f"{name}-{place}"] = made
    return out


@feature
def non_utf8_string_attribute() -> dict[str, onnx.ModelProto]:
    blob = bytes(range(256))
    one = AttributeProto(name="blob", type=AttributeProto.STRING, s=blob)
    many = AttributeProto(name="blobs", type=AttributeProto.STRINGS, strings=[b"", blob, b"text", b"\0"])
    both = put(lambda scope: plugin(scope, one, many))
    empty = put(
        lambda s: plugin(s, AttributeProto(name="blob", type=AttributeProto.STRING, s=b"")), ("main", "if")
    )
    return both | {f"empty-{place}": made for place, made in empty.items()}


@feature(checked=False)
def non_utf8_text() -> dict[str, bytes]:
    """Bytes that are no UTF-8 in fields that should be: old exporters wrote in their code page."""
    plain = model("g (float[2] x) => (float[2] y) { [PLACEHOLD] y = Relu (x) }")
    plain.doc_string = "PLACEHELD"
    meta = plain.metadata_props.add(key="PLACEHOLD", value="PLACEHELD")
    assert len(meta.key) == 9
    data = plain.SerializeToString()
    return {
        "doc_and_metadata": data.replace(b"PLACEHELD", b"\xb0C \xe9\xe8\xff\xfe."[:9].ljust(9, b"!")),
        "node_name": data.replace(b"PLACEHOLD", b"caf\xe9_conv"[:9].ljust(9, b"!"), 1),
    }


@feature
def value_types() -> dict[str, onnx.ModelProto]:
    """Inputs and outputs that are no tensors."""
    types = {
        "sequence": "seq(float[2,3])", "sequence_any": "seq(float)", "optional": "optional(float[2,3])",
        "optional_sequence": "optional(seq(float[2,N]))", "map": "map(int64, float[2])",
        "map_string": "map(string, seq(float))", "sequence_map": "seq(map(string, float))",
    }  # fmt: skip
    out = {}
    for name, text in types.items():
        made = model("g (float[2,3] x) => (float[2,3] y) { y = Relu (x)  o = custom.Plugin (i) }")
        value = onnx.parser.parse_graph(f"g ({text} i) => ({text} o) {{ }}")
        made.graph.input.append(value.input[0])
        made.graph.output.append(value.output[0])
        out[name] = made
    for name in ("opaque", "sparse"):
        made = model("g (float[2,3] x) => (float[2,3] y) { y = Relu (x)  o = custom.Plugin (i) }")
        for value in (made.graph.input.add(name="i"), made.graph.output.add(name="o")):
            if name == "opaque":
                value.type.opaque_type.domain, value.type.opaque_type.name = "custom", "Handle"
            else:
                value.type.CopyFrom(helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [4, "N", None]))
            value.type.denotation = "HANDLE"
        out[name] = made
    return out


@feature(checked=False)
def untyped_output() -> dict[str, onnx.ModelProto]:
    def untype(scope: Any) -> None:
        scope.output[-1].ClearField("type")

    def empty_type(scope: Any) -> None:
        scope.output[-1].type.Clear()

    def no_element(scope: Any) -> None:
        scope.output[-1].type.tensor_type.ClearField("elem_type")

    places = ("main", "if", "loop", "function_if")
    return {
        f"{f.__name__}-{p}": m for f in (untype, empty_type, no_element) for p, m in put(f, places).items()
    }


@feature
def output_without_shape() -> dict[str, onnx.ModelProto]:
    def unshape(scope: Any) -> None:
        scope.output[-1].type.tensor_type.ClearField("shape")

    return put(unshape, ("if", "loop", "function_if"))


@feature(checked=False)
def reversed_chain() -> dict[str, onnx.ModelProto]:
    """Nodes in the order opposite to their data flow; sorting by recursion dies of it."""
    out = {}
    for count in (3, 1000):
        made = model("g (float[2] t0) => (float[2] out) { }")
        made.graph.node.extend(node(f"t{i + 1} = Relu (t{i})") for i in reversed(range(count)))
        made.graph.node.append(node(f"out = Neg (t{count})"))
        out[str(count)] = made
    return out


@feature
def long_chain() -> onnx.ModelProto:
    made = model("g (float[2] t0) => (float[2] out) { }")
    made.graph.node.extend(node(f"t{i + 1} = Relu (t{i})") for i in range(3000))
    made.graph.node.append(node("out = Neg (t3000)"))
    return made


@feature
def constant_forms() -> dict[str, onnx.ModelProto]:
    """Every way that Constant has to hold its value; turning one into another changes its type."""
    forms = {
        "value_float": "value_float = 1.5", "value_int": "value_int = 7",
        "value_floats": "value_floats = [1.5, 2.5]",
        "value_ints": "value_ints = [7, 8]", "value_string": 'value_string = "a"',
        "value_strings": 'value_strings = ["a", "b"]', "value": "value = float[2] {1, 2}",
        "value_scalar": "value = float {1}", "value_text": 'value = string[2] {"a", "b"}',
    }  # fmt: skip
    out = {}
    for name, text in forms.items():
        constant = node(f"k = Constant <{text}> ()")
        out |= {
            f"{name}-{place}": made
            for place, made in put(lambda s, k=constant: s.node.insert(0, k), NODES).items()
        }
    out["fill-main"] = put(
        lambda s: s.node.insert(0, node("k = ConstantOfShape <value = int8[1] {3}> (x)")), ("main",)
    )["main"]
    return out


@feature
def ref_attribute() -> dict[str, onnx.ModelProto]:
    """Attributes that refer to the attributes of the function around them, with and without defaults."""
    call = "g (float[2,3] x) => (float[2,3] y) { y = local.f <alpha = 0.25> (x) }\n"
    plain = model(call + FUNCTION + "f <alpha> (x) => (y) { y = LeakyRelu <alpha: float = @alpha> (x) }")
    default = model(
        call.replace(" <alpha = 0.25>", "")
        + FUNCTION
        + "f <alpha: float = 0.125, axis: int = 1> (x) => (y) "
        + "{ s = Softmax <axis: int = @axis> (x)  y = LeakyRelu <alpha: float = @alpha> (s) }"
    )
    branch = model(
        "g (float[2,3] x, bool c) => (float[2,3] y) { y = local.f <alpha = 0.25> (x, c) }\n"
        + FUNCTION
        + "f <alpha> (x, c) => (y) { y = If (c) <"
        + "then_branch: graph = t () => (float[2,3] a) { a = LeakyRelu <alpha: float = @alpha> (x) },"
        + "else_branch: graph = e () => (float[2,3] b) { b = Constant <value: tensor = @alpha> () }> }"
    )
    return {"plain": plain, "default": default, "branch": branch}
