"""The ONNX text format, both ways: parsed with one-line errors, printed only when nothing is lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from graphkit.errors import BadInput, BadOutput
from graphkit.model.disk import shown

if TYPE_CHECKING:
    import onnx

ORIGIN_KEY = "graphkit.origin"  # our own metadata, which a later comparison reads; not part of the model

# protobuf reads 100 levels; the parser of onnx recurses without a limit and crashes in some thousands.
_DEEPEST = 256
# The closing quote is optional so that an unterminated string is passed over once, not once per quote in it.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|#[^\n]*+|[({\[]|[)}\]]', re.DOTALL)
_PLACE = re.compile(r"line: (\d+) column: (\d+)")
_VALUES = frozenset({"raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"})


def parse(text: bytes, name: str) -> bytes:
    """The wire bytes of the model that ``text`` (UTF-8) writes, or BadInput begun with ``name``."""
    try:
        source = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{name}: byte {error.start} is not UTF-8 text; a binary model ends in .onnx"
        ) from error
    if _depth(source) > _DEEPEST:
        raise BadInput(f"{name}: brackets are nested deeper than {_DEEPEST}; that is not a model")
    try:
        return _parsed(source)
    except MemoryError:
        raise
    except Exception as error:  # the parser lets C++ and protobuf errors through besides its own
        raise BadInput(f"{name}: {_why(error)}; correct the ONNX text") from error


def _parsed(source: str) -> bytes:
    import onnx.parser

    data: bytes = onnx.parser.parse_model(source).SerializeToString()
    return data


def _depth(source: str) -> int:
    """How deep round, curly and square brackets nest outside of strings and comments."""
    depth = deepest = 0
    for token in _TOKEN.finditer(source):
        first = source[token.start()]
        if first in "({[":
            depth += 1
            deepest = max(deepest, depth)
        elif first in ")}]":
            depth -= 1
    return deepest


def _why(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    lines = (said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)).strip().splitlines()
    last = shown(lines[-1].rstrip(". "), 120) if lines else type(error).__name__
    place = _PLACE.search(lines[0]) if lines else None
    return f"line {place[1]}, column {place[2]}: {last}" if place else f"not ONNX text ({last})"


def render(data: bytes, name: str) -> bytes:
    """``data`` (wire bytes) as text that parses back to the same model, our origin metadata left out.

    Raises BadOutput, begun with ``name``, that says what the text format cannot hold.
    """
    import onnx
    import onnx.printer

    try:
        model = onnx.ModelProto.FromString(data)
        _strip_origin(model)
        text: str = onnx.printer.to_text(model)
        again = onnx.ModelProto.FromString(_parsed(text))
        lost = next(_differences(model, again, ""), None)
    except MemoryError:
        raise
    except Exception as error:  # text that is not UTF-8, a field that the printer or the parser stops at
        raise BadOutput(
            f"{name}: the text format cannot hold this model ({_why(error)}); write .onnx instead"
        ) from error
    if lost is not None:
        raise BadOutput(f"{name}: the text format cannot hold {shown(lost)}; write .onnx instead")
    return text.encode()


def _strip_origin(message: Any) -> None:
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.name == "metadata_props":
            kept = [entry for entry in value if entry.key != ORIGIN_KEY]
            if len(kept) < len(value):
                del value[:]
                value.extend(kept)
        for child in _each(value):
            _strip_origin(child)


def _each(value: Any) -> Any:
    return [value] if hasattr(value, "ListFields") else value


def _differences(left: Any, right: Any, path: str) -> Iterator[str]:
    """Paths of the fields in which two messages differ; how a tensor stores its numbers does not count."""
    values = left.DESCRIPTOR.name == "TensorProto"
    for oneof in left.DESCRIPTOR.oneofs:
        if left.WhichOneof(oneof.name) != right.WhichOneof(oneof.name):
            yield f"{path}{oneof.name}"
    fields = {field.name: field for message in (left, right) for field, _ in message.ListFields()}
    for name, field in fields.items():
        if values and name in _VALUES:
            continue
        ours, theirs, here = getattr(left, name), getattr(right, name), f"{path}{name}"
        if hasattr(ours, "ListFields"):
            if left.HasField(name) != right.HasField(name):
                yield here
            else:
                yield from _differences(ours, theirs, f"{here}.")
        elif field.message_type is not None:
            yield from _list_differences(ours, theirs, here)
        elif repr(ours) != repr(theirs):  # repr tells -0.0 from 0.0 and takes NaN for NaN
            yield here
    if values and _numbers(left) != _numbers(right):
        yield f"{path}values of tensor '{left.name}'"


def _list_differences(left: Any, right: Any, path: str) -> Iterator[str]:
    if len(left) != len(right):
        yield path
    for index, (ours, theirs) in enumerate(zip(left, right, strict=False)):
        yield from _differences(ours, theirs, f"{path}[{index}].")


def _numbers(tensor: onnx.TensorProto) -> bytes | None:
    """The tensor's numbers in one form, whichever field holds them; None for strings and external data."""
    from onnx import TensorProto, numpy_helper

    if tensor.data_location == TensorProto.EXTERNAL or tensor.data_type in (0, TensorProto.STRING):
        return None
    return numpy_helper.to_array(tensor).tobytes()
