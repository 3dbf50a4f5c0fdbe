"""An operator that options name, with its attributes written as text: ``alpha=0.1``, ``pads=1+1+1+1``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import onnx
import onnx.defs

from graphkit import BadOption, Graph
from graphkit.rewrite.options import escape, split, unescape
from graphkit.rewrite.suggest import did_you_mean

A = onnx.AttributeProto

_KINDS = {
    A.INT: "int",
    A.FLOAT: "float",
    A.STRING: "string",
    A.INTS: "ints",
    A.FLOATS: "floats",
    A.STRINGS: "strings",
}
_TYPED = re.compile(rf"({'|'.join(_KINDS.values())}):(.*)", re.DOTALL)
_DTYPES = {n.lower(): v for n, v in onnx.TensorProto.DataType.items() if n not in ("UNDEFINED", "STRING")} | {
    "float32": onnx.TensorProto.FLOAT,
    "float64": onnx.TensorProto.DOUBLE,
}
HELP = "attribute: 1, 0.5, text, 1+2, or with its type: ints:1, string:1, …; attr.NAME where an option has it"


def value_of(text: str, kind: str = "") -> Any:
    """The value that ``text`` spells: of ``kind`` (such as ``ints``), of the type in front, or by its looks.

    ValueError when it does not spell one of that kind.
    """
    typed = _TYPED.fullmatch(text)
    if typed is not None:
        return _as(typed[1], typed[2])
    if kind:
        return _as(kind, text)
    for guess in ("int", "float"):
        try:
            return _as(guess, text)
        except ValueError:
            pass
    pieces = split(text, "+")
    for guess in ("ints", "floats") if len(pieces) > 1 and all(pieces) else ():
        try:
            return _as(guess, text)
        except ValueError:
            pass
    return text


def _as(kind: str, text: str) -> Any:
    if kind.endswith("s"):
        if not text and kind != "strings":
            raise ValueError("an empty list has no type in GraphSurgeon")
        return [_as(kind[:-1], unescape(p, "+")) for p in split(text, "+")]
    if kind == "int" and text.lower() in _DTYPES:
        return _DTYPES[text.lower()]
    readers: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "string": str}
    return readers[kind](text)


def as_text(value: Any) -> str:
    """The text that :func:`value_of` turns back into a value that a recipe gave."""
    if isinstance(value, str):
        return (
            value if isinstance(value_of(value), str) and not _TYPED.fullmatch(value) else f"string:{value}"
        )
    if isinstance(value, list | tuple) and value and len({type(v) for v in value}) == 1:
        return f"{_kind(value[0])}s:{'+'.join(escape(str(v), '+') for v in value)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadOption(f"an attribute is a number, a text or a list of such, not {value!r}")
    return f"{_kind(value)}:{value}"


def _kind(value: Any) -> str:
    return "float" if isinstance(value, float) else "int" if isinstance(value, int) else "string"


class Operator:
    """One operator as ONNX, or nobody, knows it, in the opset of a graph."""

    def __init__(self, who: str, graph: Graph, op: str, domain: str) -> None:
        self._who, self._graph, self.op = who, graph, op
        self.domain = "" if domain == "ai.onnx" else domain
        self.function = any(
            (f.gs.name, f.gs.domain or "") == (op, self.domain) for f in graph.model.functions
        )
        self._schema = None if self.function else self._find()
        if self._schema is None and not self.function and not self.domain:
            raise self._unknown()

    @property
    def computable(self) -> bool:
        """Whether a runtime at hand may know what it computes."""
        return self.function or self._schema is not None or self.domain == "com.microsoft"

    def _find(self) -> Any:
        version = self._graph.version(self.domain) or onnx.defs.onnx_opset_version()
        try:
            return onnx.defs.get_schema(self.op, version, self.domain)
        except onnx.defs.SchemaError:
            return None

    def _unknown(self) -> BadOption:
        known = {s.name for s in onnx.defs.get_all_schemas() if not s.domain}
        hint = did_you_mean(self.op, known)
        found = f"; {hint}" if hint else ""
        return BadOption(
            f"{self._who}: ONNX has no operator '{self.op}' in opset {self._graph.opset}{found}; "
            "a plug-in needs a domain of its own, such as domain=trt.plugins"
        )

    def attributes(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """The attributes that ``texts`` spell, of the types that ONNX declares where it does.

        BadOption for one that the operator does not have, or not of that type, and for one that is missing.
        """
        found = {}
        declared = self._schema.attributes if self._schema is not None else {}
        for key, text in texts.items():
            name = key.removeprefix("attr.")
            if self._schema is not None and name not in declared:
                raise BadOption(f"{self._who}: {self.op} has no attribute '{name}'; {_few(name, declared)}")
            kind = _KINDS.get(declared[name].type.value, "") if name in declared else ""
            try:
                found[name] = value_of(text, kind)
            except ValueError:
                raise BadOption(f"{self._who}: {name}={text} is no {kind or 'value'}") from None
        missing = next((n for n, a in declared.items() if a.required and n not in found), None)
        if missing is not None:
            raise BadOption(f"{self._who}: {self.op} needs the attribute '{missing}'; write {missing}=…")
        return found

    def takes_sequences(self) -> bool:
        """Whether its first input may be a sequence; of what ONNX does not know, nobody can tell."""
        if self._schema is None:
            return True
        allowed = {c.type_param_str: c.allowed_type_strs for c in self._schema.type_constraints}
        declared = self._schema.inputs[0].type_str
        return any(t.startswith("seq(") for t in allowed.get(declared, [declared]))

    def takes(self, inputs: int, outputs: int) -> str:
        """Why the operator cannot have so many inputs and outputs; empty when it can."""
        schema = self._schema
        if schema is None or (
            schema.min_input <= inputs <= schema.max_input
            and schema.min_output <= outputs <= schema.max_output
        ):
            return ""
        return f"{self.op} takes {_span(schema.min_input, schema.max_input)} inputs and makes " + (
            f"{_span(schema.min_output, schema.max_output)} outputs, not {inputs} and {outputs}"
        )


def _span(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}" if most < 1 << 20 else f"{least} or more"


def _few(name: str, known: Iterable[str]) -> str:
    names = list(known)
    return did_you_mean(name, names) or (f"it has {', '.join(names)}" if names else "it has none")


def same(
    node: Any,
    op: str,
    domain: str,
    attrs: Mapping[str, Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
) -> bool:
    """Whether a node is that operator, of those inputs and outputs, with those attributes."""
    given = {k: list(v) if isinstance(v, tuple) else v for k, v in node.attrs.items()}
    ends = [[id(t) for t in side] for side in (node.inputs, node.outputs)]
    wanted = [[id(t) for t in side] for side in (inputs, outputs)]
    return (node.op, node.domain or "") == (op, domain) and ends == wanted and given == dict(attrs)
