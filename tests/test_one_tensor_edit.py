"""A new name, new values or a new shape for one tensor: all wire bytes that do not say so stay."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphkit.model.graph import Graph
from tests import one_feature, wiretools
from tests.edits import (
    MODEL,
    NAME,
    Subject,
    exported,
    node_tests,
    one_features,
    require,
    sweep,
    the_one,
)
from tests.features.dtypes import DTYPES

ORIGIN = b"graphkit.origin"


def _rename_everywhere(graph: onnx.GraphProto, old: str, new: str) -> None:
    """What a rename means, on a graph where that name is defined once."""
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _rename_everywhere(inner, old, new)
        for spec in (s for c in node.device_configurations for s in c.sharding_spec):
            spec.tensor_name = new if spec.tensor_name == old else spec.tensor_name
    for info in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
        if info.name == old:
            info.name = new
    for sparse in graph.sparse_initializer:
        sparse.values.name = new if sparse.values.name == old else sparse.values.name
    for note in graph.quantization_annotation:
        note.tensor_name = new if note.tensor_name == old else note.tensor_name
        for entry in note.quant_parameter_tensor_names:
            entry.value = new if entry.value == old else entry.value


def _definitions(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (name for node in graph.node for name in node.output)
    yield from (one.name for one in (*graph.initializer, *graph.input))
    yield from (sparse.values.name for sparse in graph.sparse_initializer)
    for attribute in (a for node in graph.node for a in node.attribute):
        for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            yield from _definitions(inner)


def rename_tensor(subject: Subject, rng: random.Random) -> None:
    data, proto = subject.data, onnx.ModelProto.FromString(subject.data)
    names = list(_definitions(proto.graph))
    model = subject.open()
    outputs = {tensor.name for tensor in model.main.outputs} | set(model.pinned)
    made = [t for node in model.main.nodes for t in (*node.inputs, *node.outputs)]
    inner = [t for t in made if names.count(t.name) == 1 and t.name not in outputs and not t.is_empty()]
    inner = [t for t in inner if t not in model.main.inputs]
    if not inner:
        return
    tensor = rng.choice(inner)
    old = tensor.name
    model.main.rename(tensor, NAME)
    after = exported(model)
    _rename_everywhere(proto.graph, old, NAME)
    require(
        _without_origins(onnx.ModelProto.FromString(after)) == proto, f"not the model with '{old}' renamed"
    )
    for one in wiretools.differences(data, after, MODEL):
        renamed = one.before == one.after or (one.before, one.after) == (old.encode(), NAME.encode())
        noted = one.before is None and one.after is not None and ORIGIN in one.after
        require(renamed or noted, f"changed at {one.path}")


def _without_origins(message: Any) -> Any:
    """The message without graphkit's own notes on what a renamed tensor was called before, at any depth."""
    for field, value in message.ListFields():
        if field.name == "metadata_props":
            kept = [entry for entry in value if entry.key != ORIGIN.decode()]
            del value[:]
            value.extend(kept)
        elif field.message_type is not None:
            for one in [value] if hasattr(value, "ListFields") else value:
                _without_origins(one)
    return message


def test_rename_a_tensor(tmp_path: Path) -> None:
    sweep(one_features(tmp_path, "training_info", "own_metadata"), rename_tensor)
    sweep(node_tests(8), rename_tensor)


def _constants(graph: Graph) -> Iterator[Any]:
    for node in graph.nodes:
        yield from (
            t for t in node.inputs if not t.is_empty() and graph.value(t) is not None and t.name == "w"
        )


def _bits(array: np.ndarray) -> Any:
    return array.tolist() if array.dtype.kind in "OUT" else np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["dtype_initializer/{}-raw", "dtype_initializer/{}-typed"])
def test_change_the_values_of_an_initializer(form: str, dtype: str) -> None:
    """New values in the same type: the tensor's own message changes, and reads back as what was put in."""
    feature = one_feature.by_id(form.format(dtype))
    model = Subject(feature.id, feature.data).open()
    proto = feature.proto.graph.initializer[0]
    tensor = next(_constants(model.main), None)
    if tensor is None:
        pytest.skip("no node reads this type")
    old = model.main.value(tensor)
    assert old is not None and old.shape == (5,)
    if dtype != "STRING":
        assert _bits(old) == _bits(numpy_helper.to_array(proto))
    tensor.values = np.roll(old, 1)
    after = exported(model)
    path = the_one(feature.data, after, "TensorProto")
    done = onnx.TensorProto.FromString(wiretools.at(after, path))
    assert (done.name, list(done.dims), done.data_type) == ("w", [5], proto.data_type)
    again = Subject("again", after).open()
    value = again.main.value(next(_constants(again.main)))
    assert value is not None and _bits(value) == _bits(np.roll(old, 1))
    if dtype != "STRING":
        assert _bits(numpy_helper.to_array(done)) == _bits(np.roll(old, 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_change_the_values_of_a_constant_node(dtype: str) -> None:
    feature = one_feature.by_id(f"dtype_constant/{dtype}")
    model = Subject(feature.id, feature.data).open()
    node = model.main.nodes[0]
    old = model.main.value(node.outputs[0])
    assert old is not None
    node.attrs["value"].values = np.roll(old, 1)
    after = exported(model)
    path = the_one(feature.data, after, "TensorProto")
    done = onnx.TensorProto.FromString(wiretools.at(after, path))
    assert done.data_type == onnx.TensorProto.DataType.Value(dtype)
    if dtype == "STRING":  # onnx's own reader drops a final NUL
        assert [s.decode() for s in done.string_data] == np.roll(old, 1).tolist()
    else:
        assert _bits(numpy_helper.to_array(done)) == _bits(np.roll(old, 1))


@pytest.mark.parametrize("place", ["main", "if", "loop", "function_if"])
def test_new_values_keep_what_is_said_of_the_tensor(place: str) -> None:
    feature = one_feature.by_id(f"tensor_fields/initializer-{place}")
    model = Subject(feature.id, feature.data).open()
    scope, tensor = next((s, t) for s in model.scopes() for t in _constants(s))
    tensor.values = np.array([5, 6], np.float32)
    after = exported(model)
    path = the_one(feature.data, after, "TensorProto")
    was, now = (onnx.TensorProto.FromString(wiretools.at(d, path)) for d in (feature.data, after))
    assert numpy_helper.to_array(now).tolist() == [5, 6]
    assert (now.name, now.doc_string, now.metadata_props) == (was.name, was.doc_string, was.metadata_props)


def test_new_values_for_external_data(tmp_path: Path) -> None:
    """The touched tensor comes inline, without a stale reference; its neighbour stays a reference."""
    feature = one_feature.by_id("external_data/two_in_one")
    feature.write(tmp_path)
    model = Subject(feature.id, feature.data, tmp_path).open()
    tensor = next(_constants(model.main))
    tensor.values = np.array([1, 2, 3, 4], np.float32)
    after = exported(model)
    path = the_one(feature.data, after, "TensorProto")
    done = onnx.TensorProto.FromString(wiretools.at(after, path))
    assert done.data_location == onnx.TensorProto.DEFAULT and not done.external_data
    assert numpy_helper.to_array(done).tolist() == [1, 2, 3, 4]
    assert model.locations() == {"weights.bin"}


def set_shape(subject: Subject, rng: random.Random, field: str) -> None:
    """Another first dim for one annotated tensor of a graph: its value info changes, and only there."""
    data, proto = subject.data, onnx.ModelProto.FromString(subject.data)
    listed = [info.name for info in (*proto.graph.output, *proto.graph.input, *proto.graph.value_info)]
    model = subject.open()
    tensors = {
        t.name: t for node in model.main.nodes for t in node.outputs if t.name and listed.count(t.name) == 1
    }
    infos = [
        info
        for info in getattr(proto.graph, field)
        if info.name in tensors and info.type.tensor_type.shape.dim and info.type.tensor_type.elem_type
    ]
    if not infos:
        return
    info = rng.choice(infos)
    shape = tensors[info.name].shape
    tensors[info.name].shape = [41, *list(shape)[1:]]
    after = exported(model)
    path = the_one(data, after, "ValueInfoProto")
    info.type.tensor_type.shape.dim[0].dim_value = 41
    require(onnx.ValueInfoProto.FromString(wiretools.at(after, path)) == info, "more than a dim changed")


@pytest.mark.parametrize("field", ["value_info", "output"])
def test_change_a_shape(field: str, tmp_path: Path) -> None:
    sweep(one_features(tmp_path), lambda subject, rng: set_shape(subject, rng, field))
    sweep(node_tests(8), lambda subject, rng: set_shape(subject, rng, field))
