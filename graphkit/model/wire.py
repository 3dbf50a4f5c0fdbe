"""The protobuf wire format, as far as an overlay needs it: find a message's fields, and splice new ones in.

Re-serializing a parsed message keeps its meaning but not its bytes: unknown fields move to the end,
packed and unpacked lists become one, over-long numbers get short. So what is not edited is copied as it
stands in the file, and only the fields that changed are encoded anew.
Format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

Buffer: TypeAlias = bytes | memoryview
Parts: TypeAlias = list[Buffer]
"""Consecutive pieces of a message; joined they are its bytes. Pieces of a file stay views into it."""

Item: TypeAlias = int | Parts
"""One entry of a field's new content: the ordinal of an original entry, or a new, encoded one."""

VARINT, FIXED64, LEN, GROUP, END_GROUP, FIXED32 = range(6)


class WireError(ValueError):
    """The bytes are not a protobuf message; ``before`` are the fields that :func:`scan` found until then."""

    before: Sequence[Field] = ()


class CutShort(WireError):
    """The last field says that it goes on past the end of the bytes."""

    def __init__(self, number: int, wire_type: int, end: int, size: int) -> None:
        super().__init__(f"field {number} ends at byte {end} of {size}")
        self.number, self.wire_type, self.end, self.size = number, wire_type, end, size


class Field(NamedTuple):
    """One field of a message: its bytes are ``[start, end)``, its payload ``[payload, end)``."""

    number: int
    wire_type: int
    start: int
    payload: int
    end: int


def scan(buffer: Buffer, limit: int | None = None) -> list[Field]:
    """List the top-level fields of the message in ``buffer``, in file order.

    Nested messages are not entered, so the time is linear in the number of fields, not of bytes.
    Raises WireError when the bytes are no message, or when there are more than ``limit`` fields.
    """
    found: list[Field] = []
    position, size = 0, len(buffer)
    try:
        while position < size:
            start = position
            tag, position = _varint(buffer, position, size)
            number, wire_type = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise WireError(f"field number {number} at byte {start}")
            payload, position = _skip(buffer, position, size, number, wire_type)
            found.append(Field(number, wire_type, start, payload, position))
            if limit is not None and len(found) > limit:
                raise WireError(f"more than {limit} fields")
    except WireError as error:
        error.before = found
        raise
    return found


def _varint(buffer: Buffer, position: int, size: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= size or shift > 63:
            raise WireError(f"a number that does not end at byte {position}")
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _skip(buffer: Buffer, position: int, size: int, number: int, wire_type: int) -> tuple[int, int]:
    """Return where the payload starts and where the field ends."""
    payload = position
    if wire_type == VARINT:
        end = _varint(buffer, position, size)[1]
    elif wire_type == LEN:
        length, payload = _varint(buffer, position, size)
        end = payload + length
    elif wire_type in (FIXED64, FIXED32):
        end = position + (8 if wire_type == FIXED64 else 4)
    elif wire_type == GROUP:
        end = _skip_group(buffer, position, size, number)
    else:
        raise WireError(f"wire type {wire_type} at byte {position}")
    if end > size:
        raise CutShort(number, wire_type, end, size)
    return payload, end


def _skip_group(buffer: Buffer, position: int, size: int, number: int) -> int:
    open_groups = [number]
    while open_groups:
        tag, position = _varint(buffer, position, size)
        if tag & 7 == GROUP:
            open_groups.append(tag >> 3)
        elif tag & 7 == END_GROUP:
            if open_groups.pop() != tag >> 3:
                raise WireError(f"unbalanced group at byte {position}")
        else:
            position = _skip(buffer, position, size, tag >> 3, tag & 7)[1]
    return position


def payloads(buffer: Buffer, fields: Iterable[Field], number: int) -> list[memoryview]:
    """The payloads of every occurrence of a length-delimited field."""
    view = memoryview(buffer)
    return [view[f.payload : f.end] for f in fields if f.number == number and f.wire_type == LEN]


def count(fields: Iterable[Field], number: int) -> int:
    """How many occurrences of a length-delimited field there are."""
    return sum(1 for f in fields if f.number == number and f.wire_type == LEN)


def merged(buffer: Buffer, fields: Iterable[Field], number: int) -> memoryview | None:
    """The payload of a singular message field; several occurrences merge, as the format says."""
    found = payloads(buffer, fields, number)
    if len(found) > 1:
        return memoryview(b"".join(found))
    return found[0] if found else None


def without(buffer: Buffer, fields: Iterable[Field], numbers: frozenset[int]) -> bytes:
    """The message without the fields of those numbers."""
    view = memoryview(buffer)
    return b"".join(view[f.start : f.end] for f in fields if f.number not in numbers)


def varint(value: int) -> bytes:
    """Encode a number; negative ones take ten bytes, as int64 fields do."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number_field(number: int, value: int) -> Parts:
    """Encode an integer or enum field."""
    return [varint(number << 3 | VARINT) + varint(value)]


def bytes_field(number: int, payload: Buffer | Parts) -> Parts:
    """Encode a string, bytes or message field."""
    parts = payload if isinstance(payload, list) else [payload]
    return [varint(number << 3 | LEN) + varint(sum(map(len, parts))), *parts]


def text_field(number: int, text: str | bytes) -> Parts:
    """Encode a name; one that is no UTF-8 is bytes already."""
    return bytes_field(number, text if isinstance(text, bytes) else text.encode())


def splice(
    buffer: Buffer,
    fields: Sequence[Field],
    edits: Mapping[int, Sequence[Item]],
    scalars: frozenset[int] = frozenset(),
) -> Parts:
    """Return the message with the entries of each field in ``edits`` replaced by that sequence.

    Originals that stay keep their bytes and, as far as the new order allows, their place; new entries
    follow the one before them. A field that the message lacked goes where ascending numbers put it.
    Entries of another wire type than strings and messages have are unknown to protobuf and stay, except for
    the field numbers in ``scalars``.
    """
    own = {number: [f for f in fields if _is(f, number, scalars)] for number in edits}
    view = memoryview(buffer)
    out = _Out(view)
    queues = {number: _Queue(items) for number, items in edits.items()}
    last = {
        f.number: index for index, f in enumerate(fields) if f.number in own and _is(f, f.number, scalars)
    }
    absent = sorted(number for number in queues if number not in last)
    for index, f in enumerate(fields):
        while absent and absent[0] < f.number:
            number = absent.pop(0)
            out.emit(queues[number].rest(), [])
        queue = queues.get(f.number)
        if queue is None or not _is(f, f.number, scalars):
            out.keep(f)
        else:
            out.emit(queue.rest() if last[f.number] == index else queue.until_next_original(), own[f.number])
    for number in absent:
        out.emit(queues[number].rest(), [])
    return out.parts()


def _is(f: Field, number: int, scalars: frozenset[int]) -> bool:
    return f.number == number and (f.wire_type == LEN or number in scalars)


class _Queue:
    """The new entries of one field, handed out as the walk passes the original ones."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items
        self._place = {item: place for place, item in enumerate(items) if isinstance(item, int)}
        self._passed = -1
        self._done = 0

    def until_next_original(self) -> Sequence[Item]:
        self._passed += 1
        stop = self._place.get(self._passed, -1) + 1
        taken = self._items[self._done : stop]
        self._done = max(self._done, stop)
        return taken

    def rest(self) -> Sequence[Item]:
        taken = self._items[self._done :]
        self._done = len(self._items)
        return taken


class _Out:
    """Collects pieces; runs of original bytes become one view."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._parts: Parts = []
        self._run: tuple[int, int] | None = None

    def keep(self, f: Field) -> None:
        if self._run is not None and self._run[1] == f.start:
            self._run = (self._run[0], f.end)
        else:
            self._flush()
            self._run = (f.start, f.end)

    def emit(self, items: Iterable[Item], originals: Sequence[Field]) -> None:
        for item in items:
            if isinstance(item, int):
                self.keep(originals[item])
            else:
                self._flush()
                self._parts.extend(item)

    def _flush(self) -> None:
        if self._run is not None:
            self._parts.append(self._view[self._run[0] : self._run[1]])
            self._run = None

    def parts(self) -> Parts:
        self._flush()
        return self._parts
