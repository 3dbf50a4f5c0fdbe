"""What is said of values, tensors and functions besides what they compute; a round trip leaves it out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, helper

from tests.features.base import GRAPHS, NODES, feature, meta, model, node, put

PLAIN = "g (float[2,3] x) => (float[2,3] y) <float[2,3] w = {1,2,3,4,5,6}> { h = Add (x, w)  y = Relu (h) }"


def _denote(info: Any) -> None:
    info.type.denotation = "IMAGE"
    for dim, name in zip(info.type.tensor_type.shape.dim, ("DATA_BATCH", "DATA_CHANNEL"), strict=False):
        dim.denotation = name


def _value_changes() -> dict[str, Callable[[Any], Any]]:
    return {
        "doc": lambda info: setattr(info, "doc_string", "pixels, RGB, 0 to 1"),
        "metadata": lambda info: meta(info, "range", "0..1"),
        "denotation": _denote,
        "dim_names": lambda info: setattr(info.type.tensor_type.shape.dim[0], "dim_param", "batch*2+1"),
        "dim_unknown": lambda info: info.type.tensor_type.shape.dim[0].Clear(),
        "dim_zero": lambda info: setattr(info.type.tensor_type.shape.dim[0], "dim_value", 0),
        "dim_negative": lambda info: setattr(info.type.tensor_type.shape.dim[0], "dim_value", -1),
    }


@feature(checked=False)
def value_fields() -> dict[str, onnx.ModelProto]:
    """Documentation, metadata, denotations and odd dims on inputs, outputs and value_info."""
    out = {}
    for name, change in _value_changes().items():
        for kind in ("input", "output", "value_info"):
            for place in ("main", "loop", "if", "function"):
                if (kind, place) in (("input", "if"), ("input", "function"), ("output", "function")):
                    continue

                def apply(scope: Any, kind: str = kind, change: Any = change) -> None:
                    if kind == "value_info":
                        scope.value_info.append(helper.make_tensor_value_info("h", 1, [2, 3]))
                    change({"input": lambda: scope.input[-1 if len(scope.input) > 2 else 0],
                            "output": lambda: scope.output[-1],
                            "value_info": lambda: scope.value_info[0]}[kind]())  # fmt: skip

                out[f"{name}-{kind}-{place}"] = put(apply, (place,))[place]
    return out


@feature(checked=False)
def value_info_odd() -> dict[str, onnx.ModelProto]:
    """Annotations that occur twice, disagree, name inputs, outputs or nothing at all, or say nothing."""

    def of(*infos: onnx.ValueInfoProto) -> dict[str, onnx.ModelProto]:
        return put(lambda scope: scope.value_info.extend(infos), ("main", "if", "function"))

    info = helper.make_tensor_value_info
    cases = {
        "twice": of(info("h", 1, [2, 3]), info("h", 1, [2, 3])),
        "disagree": of(info("h", 1, [2, 3]), info("h", 7, ["N"])),
        "wrong": of(info("h", 1, [99, 98, 97])),
        "of_input": of(info("x", 1, [2, 3])),
        "of_nothing": of(info("nowhere", 1, [2, 3])),
        "untyped": of(onnx.ValueInfoProto(name="h")),
        "unnamed": of(onnx.ValueInfoProto(type=helper.make_tensor_type_proto(1, [1]))),
        "sequence": of(helper.make_tensor_sequence_value_info("h", 1, [2, "N"])),
        "sparse": of(helper.make_sparse_tensor_value_info("h", 1, [2, "N"])),
    }
    return {f"{name}-{place}": made for name, places in cases.items() for place, made in places.items()}


@feature
def function_fields() -> dict[str, onnx.ModelProto]:
    def of(change: Callable[[Any], Any]) -> onnx.ModelProto:
        return put(change, ("function",))["function"]

    default = AttributeProto(name="alpha", type=1, f=0.5, doc_string="the default")
    return {
        "doc": of(lambda f: setattr(f, "doc_string", "what it does")),
        "metadata": of(lambda f: meta(f, "pkg.torch.class", "torch.nn.SiLU")),
        "value_info": of(lambda f: f.value_info.append(helper.make_tensor_value_info("h", 1, [2, "N"]))),
        "attributes": of(lambda f: f.attribute.extend(["alpha", "beta"])),
        "defaults": of(lambda f: f.attribute_proto.append(default)),
        "opsets": of(lambda f: f.opset_import.add(domain="ai.onnx.ml", version=3)),
        "other_opset": of(lambda f: setattr(f.opset_import[0], "version", 17)),
    }


@feature
def tensor_fields() -> dict[str, onnx.ModelProto]:
    def add(scope: Any) -> None:
        one = scope.initializer.add(
            name="w", data_type=1, dims=[2], float_data=[1, 2], doc_string="the weight"
        )
        meta(one, "quantised", "no")
        scope.node.append(node("use = Shape (w)"))

    def constant(scope: Any) -> None:
        one = TensorProto(name="inner", data_type=1, dims=[2], float_data=[1, 2], doc_string="the weight")
        meta(one)
        scope.node.insert(0, helper.make_node("Constant", [], ["k"], value=one))

    out = {f"initializer-{place}": made for place, made in put(add, GRAPHS).items()}
    return out | {f"constant-{place}": made for place, made in put(constant, NODES).items()}


@feature
def initializers_as_inputs() -> dict[str, onnx.ModelProto]:
    """IR version 3 lists every initializer among the inputs; later ones may, to give a default."""

    def of(ir: int, opset: int) -> onnx.ModelProto:
        text = PLAIN.replace("float[2,3] x", "float[2,3] x, float[2,3] w")
        return model(f'<ir_version: {ir}, opset_import: ["" : {opset}]> {text}')

    out = {"ir3": of(3, 8), "ir4": of(4, 9), "ir10": of(10, 13)}
    first = of(3, 8)
    first.graph.input.insert(0, first.graph.input.pop())
    out["before_the_real_input"] = first
    out["documented"] = of(10, 13)
    out["documented"].graph.input[1].doc_string = "a weight that can be replaced"
    return out
