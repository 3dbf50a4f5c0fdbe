"""Every data type of ONNX: as raw and typed initializer, as a constant attribute, as an input and output."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.features.base import feature, meta, model, node

BITS = {
    "FLOAT": 32, "UINT8": 8, "INT8": 8, "UINT16": 16, "INT16": 16, "INT32": 32, "INT64": 64, "STRING": 0,
    "BOOL": 8, "FLOAT16": 16, "DOUBLE": 64, "UINT32": 32, "UINT64": 64, "COMPLEX64": 64, "COMPLEX128": 128,
    "BFLOAT16": 16, "FLOAT8E4M3FN": 8, "FLOAT8E4M3FNUZ": 8, "FLOAT8E5M2": 8, "FLOAT8E5M2FNUZ": 8, "UINT4": 4,
    "INT4": 4, "FLOAT4E2M1": 4, "FLOAT8E8M0": 8, "UINT2": 2, "INT2": 2, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6,
}  # fmt: skip
DTYPES = [name for name in BITS if name in TensorProto.DataType.keys()]  # noqa: SIM118  (an enum, not a dict)
STRINGS = [b"", b"a b", "π".encode(), b"\x00", b'"quoted"']


def raw(name: str, count: int) -> bytes:
    """``count`` elements, packed as in ``raw_data``; every bit pattern may come up, NaNs among them."""
    if name == "BOOL":
        return bytes(i % 2 for i in range(count))
    size = -(-count * BITS[name] // 8)
    return np.random.default_rng(BITS[name]).bytes(size)


def tensor(name: str, dtype: str, count: int = 5) -> onnx.TensorProto:
    """A one-dimensional tensor with its values in ``raw_data`` (strings: ``string_data``)."""
    out = TensorProto(name=name, dims=[count], data_type=TensorProto.DataType.Value(dtype))
    if dtype == "STRING":
        out.string_data.extend((STRINGS * count)[:count])
    else:
        out.raw_data = raw(dtype, count)
    return out


def typed(name: str, dtype: str, count: int = 5) -> onnx.TensorProto:
    """The same tensor with its values in the field of its type (``int32_data``, ``double_data``, …)."""
    if dtype == "STRING":
        return tensor(name, dtype, count)
    out, data = tensor(name, dtype, count), raw(dtype, count)
    out.ClearField("raw_data")
    floats = {"FLOAT": "<f4", "DOUBLE": "<f8", "COMPLEX64": "<f4", "COMPLEX128": "<f8"}
    ints = {"INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT32": "<u4", "UINT64": "<u8"}
    if dtype in floats:
        values: Any = np.nan_to_num(np.frombuffer(data, floats[dtype])).tolist()
        (out.float_data if floats[dtype] == "<f4" else out.double_data).extend(values)
    elif dtype.startswith("FLOAT6"):
        out.int32_data.extend([0, 1, 31, 32, 63][:count])
    else:
        kind = ints.get(dtype, "<u2" if BITS[dtype] == 16 else "u1")
        field = {"INT64": out.int64_data, "UINT32": out.uint64_data, "UINT64": out.uint64_data}
        field.get(dtype, out.int32_data).extend(np.frombuffer(data, kind).tolist())
    return out


def base(dtype: str) -> onnx.ModelProto:
    """``w`` (of that type) goes through Identity to the output ``y``; a Relu stands beside it."""
    head = '<ir_version: 14, opset_import: ["" : 28, "custom" : 1]>'
    out = model(head + "g (float[2] x) => (float[2] z) { z = Relu (x) }")
    if dtype.startswith("FLOAT6"):  # Identity does not take them
        out.graph.node.append(node("y = custom.Plugin (w)"))
        return out
    out.graph.node.append(node("y = Identity (w)"))
    out.graph.output.append(helper.make_tensor_value_info("y", TensorProto.DataType.Value(dtype), [5]))
    return out


@feature(checked=False)  # the typed 6-bit tensors are right, yet some checkers count their elements otherwise
def dtype_initializer() -> dict[str, onnx.ModelProto]:
    out = {}
    for dtype in DTYPES:
        for kind, make in (("raw", tensor), ("typed", typed)):
            out[f"{dtype}-{kind}"] = one = base(dtype)
            one.graph.initializer.append(make("w", dtype))
    return out


@feature(checked=False)
def dtype_constant() -> dict[str, onnx.ModelProto]:
    out = {}
    for dtype in DTYPES:
        out[dtype] = one = base(dtype)
        constant = helper.make_node("Constant", [], ["w"], value=tensor("", dtype))
        one.graph.node.insert(0, constant)
    return out


@feature(checked=False)
def dtype_io() -> dict[str, onnx.ModelProto]:
    out = {}
    for dtype in DTYPES:
        out[dtype] = one = base(dtype)
        one.graph.input.append(helper.make_tensor_value_info("w", TensorProto.DataType.Value(dtype), [5]))
        one.graph.input[-1].type.denotation = "TENSOR"
    return out


@feature(checked=False)
def dtype_in_branch() -> dict[str, onnx.ModelProto]:
    """An initializer of a branch, which the branch returns."""
    out = {}
    for dtype in DTYPES:
        kind = TensorProto.DataType.Value(dtype)
        one = model('<ir_version: 14, opset_import: ["" : 28]> g (bool c) => (float[2] z) { z = Relu (x) }')
        one.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]))
        branches = [
            helper.make_graph(
                [], name, [], [helper.make_tensor_value_info("w", kind, [5])], [tensor("w", dtype)]
            )
            for name in ("then", "else")
        ]
        choice = helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
        one.graph.node.append(choice)
        one.graph.output.append(helper.make_tensor_value_info("y", kind, [5]))
        out[dtype] = one
    return out


@feature(checked=False)
def odd_tensor() -> dict[str, onnx.ModelProto]:
    """Shapes and encodings at the edge: scalars, no elements, no data at all, both encodings, wrong sizes."""
    tensors = {
        "scalar": TensorProto(name="w", data_type=1, raw_data=b"\0\0\x80?"),
        "scalar_typed": TensorProto(name="w", data_type=1, float_data=[1.0]),
        "empty": TensorProto(name="w", data_type=1, dims=[0, 3]),
        "empty_raw": TensorProto(name="w", data_type=1, dims=[0], raw_data=b""),
        "empty_string": TensorProto(name="w", data_type=8, dims=[0]),
        "undefined": TensorProto(name="w", data_type=0),
        "no_type": TensorProto(name="w", dims=[1]),
        "future_type": TensorProto(name="w", data_type=99, dims=[1], raw_data=b"\1"),
        "short_raw": TensorProto(name="w", data_type=1, dims=[4], raw_data=b"\0" * 15),
        "long_raw": TensorProto(name="w", data_type=1, dims=[1], raw_data=b"\0" * 8),
        "short_typed": TensorProto(name="w", data_type=1, dims=[4], float_data=[1.0]),
        "both": TensorProto(name="w", data_type=1, dims=[1], raw_data=b"\0\0\x80?", float_data=[2.0]),
        "negative_dim": TensorProto(name="w", data_type=1, dims=[-1], raw_data=b"\0" * 4),
        "huge_dims": TensorProto(name="w", data_type=1, dims=[1 << 40, 1 << 40], raw_data=b"\0" * 4),
        "segment": TensorProto(
            name="w", data_type=1, dims=[1], raw_data=b"\0" * 4, segment={"begin": 0, "end": 1}
        ),
        "non_utf8_strings": TensorProto(name="w", data_type=8, dims=[2], string_data=[b"\xff\xfe", b"text"]),
        "nan_payloads": TensorProto(
            name="w", data_type=1, dims=[2], raw_data=b"\1\0\x80\x7f\xff\xff\xff\xff"
        ),
        "bool_not_0_or_1": TensorProto(name="w", data_type=9, dims=[2], raw_data=b"\2\xff"),
        "int4_odd_high_bits": TensorProto(name="w", data_type=22, dims=[1], raw_data=b"\xf3"),
    }
    out = {}
    for name, one in tensors.items():
        out[name] = made = model("g (float[2] x) => (float[2] z) { z = Relu (x)  unused = Identity (w) }")
        made.graph.initializer.append(one)
        meta(made.graph.initializer[0], "note", name)
    return out
