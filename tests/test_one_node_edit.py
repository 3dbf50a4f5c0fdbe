"""One edit of a node, and nothing else: all wire bytes but those of that node stay."""

from __future__ import annotations

import random
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from graphkit import rewrite
from graphkit.cli import main
from tests import corpus, one_feature, wiretools
from tests.edits import (
    FEATURES,
    MODEL,
    NAME,
    Subject,
    exported,
    in_pieces,
    node_tests,
    of_files,
    one_features,
    places,
    require,
    sweep,
    the_one,
)
from tests.features.base import Feature

SCRIPT = """
def edit(graph, at=0):
    graph.nodes[int(at)].name = "an edited name"

def edit_branch(graph):
    node = next(n for n in graph.nodes if n.op in ("If", "Loop", "Scan"))
    next(iter(node.subgraphs())).nodes[-1].name = "an edited name"
"""


def renamed_only(before: bytes, after: bytes) -> onnx.NodeProto:
    """Of a node message, only the name differs: on the wire, and as a message."""
    rest = [[f.raw for f in wiretools.fields(data) if f.number != 3] for data in (before, after)]
    require(rest[0] == rest[1], "other fields of the node changed")
    node, expected = onnx.NodeProto.FromString(after), onnx.NodeProto.FromString(before)
    expected.name = NAME
    require(node == expected, "the node has another meaning")
    return node


def edit_name(subject: Subject, scope: int, ordinal: int) -> tuple[wiretools.Step, ...]:
    """Rename one node of one scope; returns where on the wire it was."""
    model = subject.open()
    node = model.scopes()[scope].nodes[ordinal]
    node.name = NAME
    after = exported(model)
    path = the_one(subject.data, after, "NodeProto")
    done = renamed_only(wiretools.at(subject.data, path), wiretools.at(after, path))
    require(done.op_type == node.op, "another node was renamed")
    require(list(done.output) == [tensor.name for tensor in node.outputs], "another node was renamed")
    return path


def edit_nodes(subject: Subject, rng: random.Random, most: int = 12) -> None:
    """Rename nodes one at a time, each in a fresh copy of the model; they are all different places."""
    chosen = places(subject, rng, most)
    paths = {edit_name(subject, scope, ordinal) for scope, ordinal in chosen}
    require(len(paths) == len(chosen), "two nodes of the graph are one node of the file")


def whole(subject: Subject, rng: random.Random) -> None:
    """One node of each kind of scope."""
    edit_nodes(subject, rng, 0)


def test_one_feature_models(tmp_path: Path) -> None:
    sweep(one_features(tmp_path), edit_nodes)


def test_graph_in_pieces() -> None:
    """The pieces become one graph with the same fields in the same order."""
    for feature in FEATURES:
        if not in_pieces(feature):
            continue
        model = Subject(feature.id, feature.data).open()
        model.main.nodes[0].name = NAME
        expected = feature.proto
        expected.graph.node[0].name = NAME
        assert onnx.ModelProto.FromString(exported(model)) == expected, feature.id


def test_node_tests() -> None:
    sweep(node_tests(), whole)


def test_wheel_models() -> None:
    sweep(of_files(corpus.wheel_models()), whole)


@pytest.mark.parametrize("name", corpus.PACKAGES)
def test_package_models(name: str) -> None:
    sweep(of_files(corpus.package_models(name)), whole)


def test_shared_models() -> None:
    sweep(of_files(corpus.shared_models()), whole)


def test_every_scope_is_seen(tmp_path: Path) -> None:
    """Every node that ONNX can run is in a scope: those of GRAPHS attributes and of training are not."""
    for subject in one_features(
        tmp_path, "attribute_types/GRAPHS", "attribute_references/GRAPHS", "training_info"
    ):
        nodes = sum(1 for _ in wiretools.messages(subject.data, MODEL, "NodeProto"))
        assert sum(len(scope.nodes) for scope in subject.open().scopes()) == nodes, subject.name


# -- attributes


def add_attribute(subject: Subject, rng: random.Random) -> None:
    data = subject.data
    for scope, ordinal in places(subject, rng, 4):
        model = subject.open()
        model.scopes()[scope].nodes[ordinal].attrs["added"] = 3
        after = exported(model)
        path = the_one(data, after, "NodeProto")
        fields = [[f.raw for f in wiretools.fields(wiretools.at(d, path))] for d in (data, after)]
        extra = [raw for raw in fields[1] if raw not in fields[0]]
        require(
            len(extra) == 1 and [f for f in fields[1] if f != extra[0]] == fields[0],
            "more than one field is new",
        )
        made = onnx.NodeProto.FromString(wiretools.at(after, path)).attribute[-1]
        require(
            (made.name, made.i, made.type) == ("added", 3, onnx.AttributeProto.INT), f"wrong attribute {made}"
        )


def change_attribute(subject: Subject, rng: random.Random) -> None:
    data, model = subject.data, subject.open()
    candidates = [
        (node, key)
        for scope in model.scopes()
        for node in scope.nodes
        for key, value in node.attrs.items()
        if type(value) is int or (type(value) is list and value and type(value[0]) is int)
    ]
    if not candidates:
        return
    node, key = rng.choice(candidates)
    value = node.attrs[key]
    node.attrs[key] = value ^ 1 if type(value) is int else [*value, 7]
    after = exported(model)
    path = the_one(data, after, "AttributeProto")
    was, now = (onnx.AttributeProto.FromString(wiretools.at(d, path)) for d in (data, after))
    require(now.name == key and onnx.helper.get_attribute_value(now) == node.attrs[key], "wrong value")
    for one in (was, now):
        one.ClearField("i")
        one.ClearField("ints")
    require(was == now, "more than the value changed")


def test_add_an_attribute(tmp_path: Path) -> None:
    sweep(one_features(tmp_path, "attribute_type_missing/twice"), add_attribute)


def test_values_of_constants_keep_their_type() -> None:
    """``value_float`` is a float of 32 bits before and after, though Python's is one of 64."""
    for key, new in {"value_float": 2.5, "value_floats": [2.5], "value_int": 3, "value_string": "π"}.items():
        feature = one_feature.by_id(f"constant_forms/{key}-main")
        model = Subject(feature.id, feature.data).open()
        model.main.nodes[0].attrs[key] = new
        after = exported(model)
        path = the_one(feature.data, after, "AttributeProto")
        was, now = (onnx.AttributeProto.FromString(wiretools.at(d, path)) for d in (feature.data, after))
        assert (now.name, now.type) == (was.name, was.type)
        value = onnx.helper.get_attribute_value(now)
        assert (value.decode() if isinstance(value, bytes) else value) == new


def test_change_an_attribute(tmp_path: Path) -> None:
    sweep(
        one_features(tmp_path, "attribute_type_missing/twice", "odd_numbers/unknown_attribute"),
        change_attribute,
    )
    sweep(node_tests(4), change_attribute)


# -- the same through a pass


def _edited(feature: Feature) -> onnx.ModelProto:
    proto = feature.proto
    proto.graph.node[0].name = NAME
    return proto


THROUGH_A_PASS = ["function_overload/main", "attribute_types/TENSORS-main", "external_data/subfolder",
                  "node_fields/device_configurations-function", "order_of_fields/everything", "training_info",
                  "shadowed_initializer/initializer", "names/newline-if"]  # fmt: skip


@pytest.mark.parametrize("name", THROUGH_A_PASS)
@pytest.mark.parametrize("through", ["api", "cli"])
def test_a_plain_function(name: str, through: str, tmp_path: Path) -> None:
    """A function on a GraphSurgeon graph, as people have them, is a pass; the rest stays untouched."""
    feature = one_feature.by_id(name)
    (tmp_path / "edits.py").write_text(SCRIPT)
    path, out = feature.write(tmp_path), tmp_path / "out.onnx"
    spec = f"{tmp_path / 'edits.py'}:edit"
    if through == "api":
        rewrite(path, [spec], out, verify=False)
    else:
        result = CliRunner().invoke(
            main, ["rewrite", str(path), "--pass", spec, "-o", str(out), "--no-verify"]
        )
        assert result.exit_code == 0, result.output
    after = out.read_bytes()
    assert onnx.ModelProto.FromString(after) == _edited(feature)
    renamed_only(*(wiretools.at(d, the_one(feature.data, after, "NodeProto")) for d in (feature.data, after)))


@pytest.mark.parametrize("name", ["node_fields/doc-if", "node_fields/doc-loop", "graph_metadata/if"])
def test_a_plain_function_on_a_branch(name: str, tmp_path: Path) -> None:
    feature = one_feature.by_id(name)
    (tmp_path / "edits.py").write_text(SCRIPT)
    path, out = feature.write(tmp_path), tmp_path / "out.onnx"
    rewrite(path, [f"{tmp_path / 'edits.py'}:edit_branch"], out)
    nodes = the_one(feature.data, out.read_bytes(), "NodeProto")
    assert len(nodes) > 2, "the node is inside of a node"
