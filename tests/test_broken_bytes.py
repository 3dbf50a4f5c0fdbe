"""Truncated, bit-flipped and random files: each is read or refused, and none is an internal error."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphkit.errors import GraphkitError
from graphkit.model.file import ModelFile
from graphkit.model.model import Model
from tests import one_feature
from tests.wiretools import chunk, fields, integer


def survives(data: bytes) -> str:
    """Load, look at everything, edit, export: each works, or is refused in one line."""
    try:
        loaded = Model.from_file(ModelFile.from_bytes(data))
        assert b"".join(loaded.export()) == data
        for scope in loaded.scopes():
            for one in scope.nodes:
                for tensor in (*one.inputs, *one.outputs):
                    scope.value(tensor), scope.shape(tensor), scope.dtype(tensor)
        if loaded.main.nodes:
            loaded.main.nodes[0].name = "edited"
            onnx.ModelProto.FromString(b"".join(loaded.export()))
    except GraphkitError as error:
        assert str(error).isprintable()
        return "refused"
    return "fine"


@pytest.mark.parametrize(
    "name", ["function_overload/function_if", "attribute_types/SPARSE_TENSOR-if", "training_info"]
)
def test_truncated_at_every_byte(name: str) -> None:
    data = one_feature.by_id(name).data
    ends, at = {0}, 0
    graph_ends = len(data)
    for field in fields(data):
        at += len(field.raw)
        ends.add(at)
        graph_ends = at if field.number == 7 else graph_ends
    for end in range(len(data)):
        outcome = survives(data[:end])
        if end not in ends or end < graph_ends:
            assert outcome == "refused", f"cut at byte {end} of {len(data)}"


BASES = ["function_overload/function_if", "attribute_types/SPARSE_TENSORS-loop",
         "dtype_initializer/INT4-typed", "value_types/sequence_map", "training_info",
         "captured/deep", "quantization_annotation/if"]  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(BASES),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), min_size=1, max_size=6),
)
def test_flipped_bits(name: str, flips: list[tuple[int, int]]) -> None:
    data = bytearray(one_feature.by_id(name).data)
    for where, bits in flips:
        data[where % len(data)] ^= bits
    survives(bytes(data))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(min_size=1, max_size=200), st.sampled_from([(), (7,), (7, 1), (7, 5), (25,)]))
def test_random_bytes(junk: bytes, path: tuple[int, ...]) -> None:
    data = junk
    for number in reversed(path):
        data = chunk(number, data)
    survives(integer(1, 10) + chunk(8, integer(2, 21)) + data)


def test_odd_tensors_are_refused_or_read() -> None:
    """Values whose data does not fit their shape are an error of ours, not of numpy's."""
    for feature in one_feature.features():
        if feature.id.startswith("odd_tensor/"):
            survives(feature.data)
