"""A protobuf wire walker and encoder for tests, on its own feet: it shares nothing with graphkit's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

VARINT, FIXED64, BYTES, START, END, FIXED32 = range(6)


def varint(number: int, width: int = 0) -> bytes:
    """``number`` (as 64 bit) in a varint, over-long when ``width`` asks for more bytes than it needs."""
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F or len(out) + 1 < width:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def tag(number: int, wire: int, width: int = 0) -> bytes:
    """The key before a field's value."""
    return varint(number << 3 | wire, width)


def integer(number: int, value: int, width: int = 0) -> bytes:
    """A varint field."""
    return tag(number, VARINT) + varint(value, width)


def chunk(number: int, payload: bytes | str, tag_width: int = 0, length_width: int = 0) -> bytes:
    """A length-delimited field: a string, bytes, a message, or packed numbers."""
    raw = payload.encode() if isinstance(payload, str) else payload
    return tag(number, BYTES, tag_width) + varint(len(raw), length_width) + raw


@dataclass(frozen=True)
class Field:
    """One field as it stands on the wire: ``head`` is the tag, ``size`` the length prefix, as encoded."""

    number: int
    wire: int
    head: bytes
    size: bytes
    payload: bytes

    @property
    def raw(self) -> bytes:
        return self.head + self.size + self.payload


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _skip_group(data: bytes, at: int) -> int:
    depth = 1
    while depth:
        key, at = _read_varint(data, at)
        wire = key & 7
        depth += {START: 1, END: -1}.get(wire, 0)
        at = _value_end(data, at, wire)
    return at


def _value_end(data: bytes, at: int, wire: int) -> int:
    if wire == VARINT:
        return _read_varint(data, at)[1]
    if wire == BYTES:
        length, at = _read_varint(data, at)
        return at + length
    return at + {FIXED64: 8, FIXED32: 4, START: 0, END: 0}[wire]


def fields(data: bytes) -> Iterator[Field]:
    """The fields of one message in wire order; ``IndexError`` or ``ValueError`` when it is not one."""
    at = 0
    while at < len(data):
        key, value_at = _read_varint(data, at)
        wire = key & 7
        head, start = data[at:value_at], value_at
        if wire == BYTES:
            start = _read_varint(data, value_at)[1]
        end = _skip_group(data, start) if wire == START else _value_end(data, value_at, wire)
        if end > len(data):
            raise ValueError(f"field {key >> 3} at byte {at} runs past the end")
        yield Field(key >> 3, wire, head, data[value_at:start], data[start:end])
        at = end


Step = tuple[str, int, int]  # message type, field number, how many fields of that number came before


@dataclass(frozen=True)
class Difference:
    """The smallest place where two messages part; ``before`` or ``after`` is None for a field in one only."""

    path: tuple[Step, ...]
    before: bytes | None
    after: bytes | None

    def innermost(self, kind: str) -> tuple[Step, ...]:
        """The path down to the innermost enclosing message of type ``kind``; empty when there is none."""
        for end in range(len(self.path), 0, -1):
            if end < len(self.path) and self.path[end][0] == kind:
                return self.path[:end]
        return ()


def _message_type(descriptor: Any, field: Field) -> Any:
    known = descriptor.fields_by_number.get(field.number)
    return known.message_type if known is not None and field.wire == BYTES else None


def _numbered(data: bytes) -> list[tuple[int, Field]]:
    seen: dict[int, int] = {}
    out = []
    for field in fields(data):
        index = seen.get(field.number, 0)
        seen[field.number] = index + 1
        out.append((index, field))
    return out


def _aligned(before: bytes, after: bytes) -> Iterator[tuple[int, Field | None, Field | None]]:
    """Pairs of fields, in order; a field that one side lacks (or has more of) stands alone."""
    left, right = _numbered(before), _numbered(after)
    if [(f.number, f.wire) for _, f in left] == [(f.number, f.wire) for _, f in right]:
        yield from ((index, a, b) for (index, a), (_, b) in zip(left, right, strict=True))
        return
    keys = [[(field.number, field.wire) for _, field in side] for side in (left, right)]
    for kind, from_left, to_left, from_right, to_right in SequenceMatcher(
        None, *keys, autojunk=False
    ).get_opcodes():
        if kind == "equal":
            pairs = zip(left[from_left:to_left], right[from_right:to_right], strict=True)
            yield from ((index, a, b) for (index, a), (_, b) in pairs)
            continue
        yield from ((index, field, None) for index, field in left[from_left:to_left])
        yield from ((index, None, field) for index, field in right[from_right:to_right])


def differences(
    before: bytes, after: bytes, descriptor: Any, path: tuple[Step, ...] = ()
) -> list[Difference]:
    """Every smallest place where two messages of type ``descriptor`` differ on the wire.

    The tags and length prefixes of the messages around a difference do not count: they go with it.
    """
    if before == after:
        return []
    found: list[Difference] = []
    for index, a, b in _aligned(before, after):
        one = a or b
        assert one is not None
        here = (*path, (descriptor.name, one.number, index))
        if a is None or b is None:
            found.append(Difference(here, a and a.payload, b and b.payload))
        elif a.raw != b.raw:
            kind = _message_type(descriptor, a)
            inner = differences(a.payload, b.payload, kind, here) if kind is not None else []
            found.extend(inner or [Difference(here, a.payload, b.payload)])
    return found


def at(data: bytes, path: tuple[Step, ...]) -> bytes:
    """The payload of the field that ``path`` leads to."""
    for _, number, index in path:
        data = [field.payload for field in fields(data) if field.number == number][index]
    return data


def messages(data: bytes, descriptor: Any, kind: str) -> Iterator[tuple[tuple[Step, ...], bytes]]:
    """Every message of type ``kind`` inside ``data``, outermost first, with the path that leads to it."""
    stack: list[tuple[tuple[Step, ...], bytes, Any]] = [((), data, descriptor)]
    while stack:
        path, payload, descriptor = stack.pop()
        below = []
        for index, field in _numbered(payload):
            inner = _message_type(descriptor, field)
            if inner is None:
                continue
            here = (*path, (descriptor.name, field.number, index))
            if inner.name == kind:
                yield here, field.payload
            below.append((here, field.payload, inner))
        stack.extend(reversed(below))
