"""Weights in files beside the model: one file, several, ranges, folders, and every place of a tensor."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper

from tests.features.base import GRAPHS, Data, feature, model, node, put
from tests.features.dtypes import BITS, DTYPES, raw

WEIGHTS = bytes(range(256)) * 64  # 16 KiB


def external(
    name: str, location: str, dims: tuple[int, ...] = (4,), dtype: str = "FLOAT", **keys: Any
) -> TensorProto:
    """A tensor whose values stand in the file ``location``; ``keys`` are further external_data entries."""
    kind = TensorProto.DataType.Value(dtype)
    out = TensorProto(name=name, data_type=kind, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **keys}.items():
        out.external_data.add(key=key, value=str(value))
    return out


def with_tensors(*tensors: TensorProto) -> onnx.ModelProto:
    """A model that reads each of these initializers."""
    out = model("g (float[4] x) => (float[4] y) { y = Relu (x) }")
    out.graph.initializer.extend(tensors)
    out.graph.node.extend(node(f"u{i} = Shape ({one.name})") for i, one in enumerate(tensors))
    return out


def one_file(*tensors: TensorProto, location: str = "weights.bin", content: bytes = WEIGHTS) -> Data:
    return Data(with_tensors(*tensors), {location: content})


@feature(checked=False)  # the checker looks for the data files, and refuses some odd but readable references
def external_data() -> dict[str, Data]:
    both = {"a.bin": WEIGHTS[:16], "b.bin": WEIGHTS[16:32]}
    return {
        "one": one_file(external("w", "weights.bin", offset=0, length=16)),
        "whole_file": one_file(external("w", "weights.bin"), content=WEIGHTS[:16]),
        "no_length": one_file(external("w", "weights.bin", offset=16), content=WEIGHTS[:32]),
        "no_offset": one_file(external("w", "weights.bin", length=16)),
        "checksum": one_file(external("w", "weights.bin", offset=0, length=16, checksum="0" * 40)),
        "unknown_key": one_file(external("w", "weights.bin", offset=0, length=16, compression="none")),
        "two_in_one": one_file(
            external("w", "weights.bin", offset=4096, length=16),
            external("v", "weights.bin", offset=0, length=16),
        ),
        "overlapping": one_file(
            external("w", "weights.bin", offset=0, length=16),
            external("v", "weights.bin", offset=8, length=16),
        ),
        "unaligned": one_file(external("w", "weights.bin", offset=13, length=16)),
        "no_elements": one_file(external("w", "weights.bin", (0,), offset=0, length=0)),
        "scalar": one_file(external("w", "weights.bin", (), offset=4, length=4)),
        "several_files": Data(with_tensors(external("w", "a.bin"), external("v", "b.bin")), both),
        "subfolder": one_file(external("w", "data/part/w", length=16), location="data/part/w"),
        "dot": one_file(external("w", "./weights.bin", length=16)),
        "odd_name": one_file(external("w", "wéights 层.bin.data", length=16), location="wéights 层.bin.data"),
        "unused": _unused(),
        "beside_inline": one_file(
            external("w", "weights.bin", length=16),
            TensorProto(name="v", data_type=1, dims=[1], raw_data=b"\0" * 4),
        ),
        "location_default_explicit": one_file(
            external("w", "weights.bin", length=16),
            TensorProto(
                name="v", data_type=1, dims=[1], raw_data=b"\0" * 4, data_location=TensorProto.DEFAULT
            ),
        ),
    }


def _unused() -> Data:
    out = one_file(external("w", "weights.bin", length=16))
    del out.model.graph.node[1:]
    return out


@feature(checked=False)
def external_dtype() -> dict[str, Data]:
    return {
        dtype: one_file(
            external("w", "weights.bin", (5,), dtype, offset=0, length=len(raw(dtype, 5))),
            content=raw(dtype, 5),
        )
        for dtype in DTYPES
        if BITS[dtype]
    }


@feature(checked=False)
def external_in() -> dict[str, Data]:
    """External tensors as initializers of subgraphs, as constants anywhere, as sparse values."""

    def initializer(scope: Any) -> None:
        scope.initializer.append(external("w", "weights.bin", length=16))
        scope.node.append(node("use = Shape (w)"))

    def constant(scope: Any) -> None:
        scope.node.insert(
            0, helper.make_node("Constant", [], ["k"], value=external("", "weights.bin", length=16))
        )

    def sparse(scope: Any) -> None:
        values = external("sp", "weights.bin", (2,), offset=0, length=8)
        indices = TensorProto(data_type=7, dims=[2], int64_data=[0, 3])
        scope.sparse_initializer.append(onnx.SparseTensorProto(values=values, indices=indices, dims=[4]))

    out = {f"initializer-{place}": made for place, made in put(initializer, GRAPHS).items()}
    out |= {f"constant-{place}": made for place, made in put(constant).items()}
    out |= {f"sparse-{place}": made for place, made in put(sparse, ("main", "if")).items()}
    return {name: Data(made, {"weights.bin": WEIGHTS}) for name, made in out.items()}
