"""What a GraphSurgeon round trip leaves out: each field that has no place in its classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, helper

from tests.features.base import CALL, FUNCTION, GRAPHS, NODES, feature, meta, model, node, put
from tests.features.silent import plugin

PLAIN = "g (float[2,3] x) => (float[2,3] y) <float[2,3] w = {1,2,3,4,5,6}> { h = Add (x, w)  y = Relu (h) }"


@feature
def model_fields() -> dict[str, onnx.ModelProto]:
    def changed(change: Callable[[Any], Any]) -> onnx.ModelProto:
        out = model(PLAIN)
        change(out)
        return out

    return {
        "metadata": changed(
            lambda m: [meta(m, "author", "a"), meta(m, "stride", "32"), meta(m, "names", "{}")]
        ),
        "metadata_twice": changed(lambda m: [meta(m, "empty", ""), meta(m, "b", "1"), meta(m, "c", "1")]),
        "domain": changed(lambda m: setattr(m, "domain", "ai.example")),
        "version": changed(lambda m: setattr(m, "model_version", -7)),
        "doc": changed(lambda m: setattr(m, "doc_string", 'line one\nline "two" π')),
        "producer": changed(
            lambda m: m.MergeFrom(onnx.ModelProto(producer_name="p", producer_version="2.13.0"))
        ),
        "producer_empty": changed(
            lambda m: m.MergeFrom(onnx.ModelProto(producer_name="", producer_version=""))
        ),
        "opsets": changed(lambda m: m.opset_import.add(domain="ai.onnx.ml", version=3)),
        "configuration": changed(_configure),
    }


def _configure(out: onnx.ModelProto) -> None:
    out.ir_version = 11
    out.configuration.add(name="two", num_devices=2, device=["cuda:0", "cuda:1"])
    out.configuration.add(name="none", num_devices=0)


@feature
def training_info() -> onnx.ModelProto:
    """Two graphs beside the main one, and bindings that name the main graph's initializer ``w``."""
    out = model(PLAIN)
    info = out.training_info.add()
    start = "i () => (float[2,3] w0) { w0 = RandomUniform <shape = [2,3]> () }"
    info.initialization.CopyFrom(onnx.parser.parse_graph(start))
    info.algorithm.CopyFrom(
        onnx.parser.parse_graph("a (float[2,3] d) => (float[2,3] w1) { w1 = Sub (w, d) }")
    )
    info.initialization_binding.add(key="w", value="w0")
    info.update_binding.add(key="w", value="w1")
    return out


@feature
def graph_doc() -> dict[str, onnx.ModelProto]:
    return put(lambda scope: setattr(scope, "doc_string", "what it is\nπ"))


@feature
def graph_metadata() -> dict[str, onnx.ModelProto]:
    return put(lambda scope: [meta(scope), meta(scope, "other", "")])


@feature
def quantization_annotation() -> dict[str, onnx.ModelProto]:
    def annotate(scope: Any) -> None:
        scope.initializer.add(name="scale", data_type=1, float_data=[0.1])
        scope.initializer.add(name="zero", data_type=3, int32_data=[0])
        note = scope.quantization_annotation.add(tensor_name="h")
        note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")
        note.quant_parameter_tensor_names.add(key="ZERO_POINT_TENSOR", value="zero")

    return put(annotate, GRAPHS)


@feature
def own_metadata() -> dict[str, onnx.ModelProto]:
    """Files that graphkit itself wrote: their record of origins is a feature of the input like any other."""

    def add(scope: Any) -> None:
        meta(scope.node[0], "graphkit.origin", '{"pass": "silu", "of": ["a"], "same": {"h": "h0"}}')
        meta(scope.node[-1], "graphkit.origin", "not JSON {")

    return put(add)


@feature
def unused_initializer() -> dict[str, onnx.ModelProto]:
    return put(
        lambda scope: scope.initializer.add(name="unused", data_type=1, dims=[2], raw_data=b"12345678"),
        GRAPHS,
    )


def sparse(name: str, flat: bool, dims: tuple[int, ...] = (3, 4)) -> onnx.SparseTensorProto:
    """Two values of a 3x4 tensor, by linear index or by coordinates."""
    values = TensorProto(name=name, data_type=1, dims=[2], float_data=[1.5, -2.5])
    where = TensorProto(data_type=7, dims=[2], int64_data=[1, 7])
    if not flat:
        where = TensorProto(data_type=7, dims=[2, 2], int64_data=[0, 1, 1, 3])
    return onnx.SparseTensorProto(values=values, indices=where, dims=dims)


@feature
def sparse_initializer() -> dict[str, onnx.ModelProto]:
    def used(scope: Any, flat: bool) -> None:
        scope.sparse_initializer.append(sparse("sp", flat))
        scope.node.append(node("use = Shape (sp)"))

    return {
        f"{kind}-{place}": made
        for kind, flat in (("flat", True), ("coordinates", False))
        for place, made in put(lambda scope, flat=flat: used(scope, flat), GRAPHS).items()
    } | {
        f"unused-{place}": made
        for place, made in put(
            lambda scope: scope.sparse_initializer.append(sparse("sp", True)), GRAPHS
        ).items()
    }


@feature
def value_info_of_initializer() -> dict[str, onnx.ModelProto]:
    def add(scope: Any) -> None:
        scope.initializer.add(name="w", data_type=1, dims=[2], raw_data=b"12345678")
        scope.value_info.append(helper.make_tensor_value_info("w", 1, [2]))
        scope.node.append(node("use = Shape (w)"))

    return put(add, GRAPHS)


def _shard(scope: Any) -> None:
    one = scope.node[-1].device_configurations.add(configuration_id="two", pipeline_stage=-1)
    spec = one.sharding_spec.add(tensor_name="h", device=[0, 1, -1])
    spec.index_to_device_group_map.add(key=-1, value=[0, 1])
    dim = spec.sharded_dim.add(axis=-1)
    dim.simple_sharding.add(dim_value=2, num_shards=2)
    dim.simple_sharding.add(dim_param="N", num_shards=1)


def _trace(scope: Any) -> None:
    meta(scope.node[0], "pkg.torch.onnx.stack_trace", 'File "a.py", line 1\n  x = self.conv(x)\n')
    meta(scope.node[-1], "pkg.torch.onnx.name_scopes", "['', 'model.0']")


NODE_CHANGES: dict[str, Callable[[Any], Any]] = {
    "doc": lambda scope: setattr(scope.node[-1], "doc_string", "why\nthis"),
    "metadata": _trace,
    "device_configurations": _shard,
    "domain_alias": lambda scope: setattr(scope.node[-1], "domain", "ai.onnx"),
    "no_domain_field": lambda scope: scope.node[-1].ClearField("domain"),
    "named": lambda scope: setattr(scope.node[-1], "name", "/a/b.0/Neg_1"),
    "same_names": lambda scope: [setattr(one, "name", "same") for one in scope.node],
    "attribute_doc": lambda scope: plugin(scope, AttributeProto(name="a", type=2, i=3, doc_string="the a")),
    "overload_of_custom": lambda scope: setattr(scope.node[-1], "overload", "variant"),
}


@feature(checked=False)
def node_fields() -> dict[str, onnx.ModelProto]:
    return {
        f"{name}-{place}": made
        for name, change in NODE_CHANGES.items()
        for place, made in put(change).items()
    }


def _inner_graph() -> onnx.GraphProto:
    """A graph in a GRAPHS attribute, which reads the outer ``x``."""
    return onnx.parser.parse_graph("inner () => (float[2,3] o) <float[3] w = {1,2,3}> { o = Add (x, w) }")


def attributes() -> dict[str, AttributeProto]:
    """One attribute of every type, lists with two elements and with different contents."""
    kind = helper.make_tensor_type_proto(1, [1, "N"])
    kind.denotation = "IMAGE"
    sequence = helper.make_sequence_type_proto(kind)
    tensors = [helper.make_tensor("first", 1, [2], [1.0, 2.0]), TensorProto(data_type=7, dims=[0])]
    return {
        "FLOAT": AttributeProto(type=1, f=float("nan")),
        "INT": AttributeProto(type=2, i=-(1 << 63)),
        "STRING": AttributeProto(type=3, s="π".encode()),
        "TENSOR": AttributeProto(type=4, t=tensors[0]),
        "GRAPH": AttributeProto(type=5, g=_inner_graph()),
        "FLOATS": AttributeProto(type=6, floats=[1.0, float("inf"), 1e-45]),
        "INTS": AttributeProto(type=7, ints=[-1, 0, (1 << 63) - 1]),
        "STRINGS": AttributeProto(type=8, strings=[b"a", b""]),
        "TENSORS": AttributeProto(type=9, tensors=tensors),
        "GRAPHS": AttributeProto(type=10, graphs=[_inner_graph(), _inner_graph()]),
        "SPARSE_TENSOR": AttributeProto(type=11, sparse_tensor=sparse("s", False)),
        "SPARSE_TENSORS": AttributeProto(type=12, sparse_tensors=[sparse("s", True), sparse("", False)]),
        "TYPE_PROTO": AttributeProto(type=13, tp=sequence),
        "TYPE_PROTOS": AttributeProto(type=14, type_protos=[kind, sequence]),
    }


@feature(checked=False)
def attribute_types() -> dict[str, onnx.ModelProto]:
    out = {}
    for name, one in attributes().items():
        one.name = "a"
        for place, made in put(lambda scope, one=one: plugin(scope, one)).items():
            out[f"{name}-{place}"] = made
    return out


@feature(checked=False)
def attribute_references() -> dict[str, onnx.ModelProto]:
    """A function whose custom node takes every type of attribute from the call."""
    out = {}
    for name, one in attributes().items():
        made = model(CALL + FUNCTION + "f <a> (x) => (y) { h = Relu (x)  y = Neg (h) }")
        reference = AttributeProto(name="b", type=one.type, ref_attr_name="a")
        plugin(made.functions[0], reference)
        one.name = "a"
        made.graph.node[0].attribute.append(one)
        out[name] = made
    return out


@feature(checked=False)
def attribute_type_missing() -> dict[str, onnx.ModelProto]:
    """Attributes without a type: files of IR version 1 have none, and readers guess."""
    out = put(
        lambda scope: plugin(scope, AttributeProto(name="a", i=3), AttributeProto(name="b")), ("main", "if")
    )
    twice = AttributeProto(name="a", type=2, i=3)
    out |= {
        f"twice-{p}": m for p, m in put(lambda scope: plugin(scope, twice, twice), ("main", "if")).items()
    }
    return out


@feature
def sparse_constant() -> dict[str, onnx.ModelProto]:
    def add(scope: Any, flat: bool) -> None:
        value = AttributeProto(name="sparse_value", type=11, sparse_tensor=sparse("", flat))
        scope.node.insert(0, onnx.NodeProto(op_type="Constant", output=["k"], attribute=[value]))

    return {
        f"{kind}-{place}": made
        for kind, flat in (("flat", True), ("coordinates", False))
        for place, made in put(lambda scope, flat=flat: add(scope, flat), NODES).items()
    }
