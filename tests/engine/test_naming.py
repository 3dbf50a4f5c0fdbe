"""Every node gets one name, which is the one that TensorRT's Metadata then says; nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import pytest
from onnx import parser

from graphkit.engine.naming import label, named, named_parts
from tests import corpus
from tests.engine.models import scopes

HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'


def nodes_of(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    stack = [*model.graph.node, *(n for f in model.functions for n in f.node)]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(n for a in node.attribute for g in (a.g, *a.graphs) for n in g.node)


def nameless(model: onnx.ModelProto) -> bytes:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in nodes_of(copy):
        node.name = ""
    return bytes(copy.SerializeToString(deterministic=True))


def test_names_of_every_scope_are_kept_or_given() -> None:
    model = scopes()
    made, told = named(model)
    assert [n.name for n in made.graph.node] == [
        "node_of_a",
        "node_of_b",
        "same",
        "same_1",
        "node_of_f",
        "ifn",
        "call",
    ]
    inside = {n.name for n in nodes_of(made)} - {n.name for n in made.graph.node}
    assert inside == {"inn", "node_of_ss0", "node_of_ss", "node_of_q1", "innr"}
    assert told["same_1"] == "one of several named 'same'"
    assert told["node_of_a"] == "had no name"
    assert "same" not in told and "inn" not in told
    assert len(told) == 7


def test_a_name_that_somebody_has_is_not_given_away() -> None:
    text = HEAD + (
        "g (float[1] x) => (float[1] y) { [a] p = Neg(x)  [a] q = Neg(p)  [a_1] s = Neg(q)  u = Neg(s)"
        "  [node_of_u] y = Neg(u) }"
    )
    made, told = named(parser.parse_model(text))
    assert [n.name for n in made.graph.node] == ["a", "a_2", "a_1", "node_of_u_1", "node_of_u"]
    assert set(told) == {"a_2", "node_of_u_1"}


def test_a_name_that_metadata_could_not_hold_is_changed() -> None:
    model = parser.parse_model(HEAD + "g (float[1] x) => (float[1] y) { [n] y = Neg(x) }")
    model.graph.node[0].name = "a | b\x1f[ONNX Layer: c"
    made, told = named(model)
    (name,) = told
    assert made.graph.node[0].name == name == "a_b__c"


def test_a_model_that_needs_nothing_is_given_back() -> None:
    model = named(scopes())[0]
    assert named(model) == (model, {}) and named(model)[0] is model
    assert named_parts(model.SerializeToString()) == (None, {})


def models() -> Iterator[tuple[str, bytes]]:
    yield "scopes", scopes().SerializeToString()
    yield from corpus.node_tests()[::25]


def test_nothing_but_names_changes_in_message_or_bytes() -> None:
    changed = 0
    for name, data in models():
        model = onnx.load_from_string(data)
        before = nameless(model)
        made, told = named(model)
        assert nameless(model) == before, f"{name}: the model that was given was edited"
        names = [n.name for n in nodes_of(made)]
        assert len(set(names)) == len(names) and all(names), name
        assert nameless(made) == before, name
        parts, same = named_parts(data)
        assert same == told, name
        if parts is not None:
            changed += 1
            assert onnx.load_from_string(b"".join(parts)) == made, name
    assert changed > 50


def test_fields_that_this_onnx_does_not_know_stay() -> None:
    unknown = b"\xfa\x3e\x03abc"  # field 1007, three bytes
    parts, told = named_parts(scopes().SerializeToString() + unknown)
    assert told and parts is not None and b"".join(parts).endswith(unknown)


@pytest.mark.parametrize("name", ["rapidocr-onnxruntime", "silero-vad", "ddddocr"])
def test_real_models(name: str) -> None:
    for path in corpus.package_models(name):
        parts, told = named_parts(path.read_bytes())
        assert (parts is None) == (not told)
        if parts is not None:
            model = onnx.load_from_string(b"".join(parts))
            names = [n.name for n in nodes_of(model)]
            assert len(set(names)) == len(names) and all(names), path.name
            assert nameless(model) == nameless(onnx.load(path)), path.name


def test_labels_are_spelled_as_in_metadata() -> None:
    assert label("a") == "a"
    assert label("inn", [("t", "then_branch", "ifn", "If")]) == "inn | t (then_branch) | ifn (If)"
    assert label("innr", ["call (fn)"]) == "innr | call (fn)"


def test_a_name_that_is_no_utf8_does_for_a_nameless_node() -> None:
    text = HEAD + "g (float[2] x) => (float[2] y) { abc = Relu (x) y = Neg (abc) }"
    data = parser.parse_model(text).SerializeToString().replace(b"abc", b"\xff\xfe\xfd")
    parts, told = named_parts(memoryview(data))
    assert parts is not None and len(told) == 2
