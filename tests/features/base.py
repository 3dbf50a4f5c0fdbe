"""How a one-feature model is declared, and the places of a model that a feature can be put in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import parser

Built = onnx.ModelProto | bytes
Builder = Callable[[], Any]


@dataclass(frozen=True)
class Feature:
    """One small model that holds one feature: the bytes of the file, and of the data files beside it."""

    id: str
    data: bytes
    checked: bool
    files: Mapping[str, bytes] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Put the model and its data files into ``folder``; returns the model's path."""
        for location, content in self.files.items():
            (folder / location).parent.mkdir(parents=True, exist_ok=True)
            (folder / location).write_bytes(content)
        path = folder / "model.onnx"
        path.write_bytes(self.data)
        return path

    @property
    def proto(self) -> onnx.ModelProto:
        return onnx.ModelProto.FromString(self.data)


@dataclass(frozen=True)
class Data:
    """A model with data files beside it: ``{location: content}``."""

    model: onnx.ModelProto
    files: Mapping[str, bytes]


_builders: dict[str, tuple[Builder, bool]] = {}


def feature(build: Builder | None = None, *, checked: bool = True) -> Any:
    """Register a builder; its name is the feature's id.

    The builder returns a model, wire bytes, ``Data``, or a dict of these whose keys end the ids. ``checked``
    says that ``onnx.checker`` accepts the models: some features are odd, but found in files that people have.
    """

    def register(one: Builder) -> Builder:
        name = one.__name__
        assert name not in _builders, f"two features are named {name}"
        _builders[name] = (one, checked)
        return one

    return register if build is None else register(build)


def _one(name: str, built: Built | Data, checked: bool) -> Feature:
    if isinstance(built, Data):
        return Feature(name, built.model.SerializeToString(), checked, built.files)
    return Feature(name, built if isinstance(built, bytes) else built.SerializeToString(), checked)


def build_all() -> list[Feature]:
    """Every registered feature, built."""
    out = []
    for name, (build, checked) in _builders.items():
        built = build()
        variants = (
            {f"{name}/{key}": one for key, one in built.items()} if isinstance(built, dict) else {name: built}
        )
        out.extend(_one(key, one, checked) for key, one in variants.items())
    return out


def model(text: str) -> onnx.ModelProto:
    """A model from ONNX text; opset 21 and the domains ``local`` and ``custom`` unless it says more."""
    if not text.lstrip().startswith("<"):
        text = '<ir_version: 10, opset_import: ["" : 21, "local" : 1, "custom" : 1]>\n' + text
    return parser.parse_model(text)


BODY = "h = Relu (x)\n {t} = Neg (h)"
CALL = "g (float[2,3] x, bool c) => (float[2,3] y) { y = local.f (x) }\n"
FUNCTION = '<domain: "local", opset_import: ["" : 21, "local" : 1, "custom" : 1]>\n'
IF = """[if] {out} = If (c) <
 then_branch: graph = then () => (float[2,3] t) {{ h = Relu (x)  t = Neg (h) }},
 else_branch: graph = else () => (float[2,3] e) {{ e = Abs (x) }}>"""
LOOP = """g (float[2,3] x, int64 n, bool c) => (float[2,3] y) {
 [loop] y = Loop (n, c, x) <
  body: graph = body (int64 i, bool go, float[2,3] s) => (bool go_on, float[2,3] t) {
   go_on = Identity (go)  h = Relu (s)  t = Neg (h) }> }"""
SCAN = """g (float[2,3] x, float[4,2,3] many) => (float[2,3] y) {
 [scan] y = Scan <num_scan_inputs = 1, body: graph = body (float[2,3] s, float[2,3] one) => (float[2,3] t) {
   h = Add (s, one)  t = Neg (h) }> (x, many) }"""

PLACES = {
    "main": "g (float[2,3] x, bool c) => (float[2,3] y) { h = Relu (x)  y = Neg (h) }",
    "if": "g (float[2,3] x, bool c) => (float[2,3] y) {" + IF.format(out="y") + "}",
    "loop": LOOP,
    "scan": SCAN,
    "function": CALL + FUNCTION + "f (x) => (y) { h = Relu (x)  y = Neg (h) }",
    "function_if": "g (float[2,3] x, bool c) => (float[2,3] y) { y = local.f (x, c) }\n"
    + FUNCTION
    + "f (x, c) => (y) {"
    + IF.format(out="y")
    + "}",
}
GRAPHS = ("main", "if", "loop", "function_if")
NODES = ("main", "if", "loop", "scan", "function", "function_if")


def _target(proto: onnx.ModelProto, place: str) -> Any:
    scope = proto.functions[0] if place.startswith("function") else proto.graph
    if place in ("main", "function"):
        return scope
    return next(a.g for a in scope.node[0].attribute if a.HasField("g"))


def put(change: Callable[[Any], None], places: tuple[str, ...] = NODES) -> dict[str, onnx.ModelProto]:
    """A model a place, with ``change`` applied to the graph or function there.

    Whatever the place, it holds two nodes: the first writes ``h``, and the last is ``Neg (h)``.
    """
    out = {}
    for place in places:
        proto = model(PLACES[place])
        change(_target(proto, place))
        out[place] = proto
    return out


def node(text: str) -> onnx.NodeProto:
    return parser.parse_node(text)


def meta(message: Any, key: str = "key", value: str = "value") -> None:
    """Append one ``metadata_props`` entry."""
    message.metadata_props.add(key=key, value=value)


def unknown(message: Any, extra: bytes) -> None:
    """Append bytes that hold fields which the ONNX schema does not know."""
    message.MergeFromString(extra)
