"""Wire encodings that protobuf reads but would not write: they too have to come out as they went in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.features.base import NODES, feature, model, put, unknown
from tests.wiretools import BYTES, END, START, VARINT, chunk, fields, integer, tag, varint

TEXT = """g (float[2,3] x) => (float[2,3] y) <float[2,3] w = {1,2,3,4,5,6}, float[2,3] h> {
 [first] h = Add (x, w)  [second] n = Transpose <perm = [0, 1]> (h)  [third] y = Relu (n) }"""

GROUP = tag(77, START) + integer(1, 5) + tag(2, START) + tag(2, END) + chunk(3, b"in a group") + tag(77, END)
UNKNOWN = {
    "varint": integer(2047, 300),
    "bytes": chunk(2047, b"from a later version"),
    "fixed": tag(2047, 1) + b"12345678" + tag(2046, 5) + b"1234",
    "group": GROUP,
    "highest": integer((1 << 29) - 1, 1),
}


def plain() -> bytes:
    return model(TEXT).SerializeToString()


def attributed() -> bytes:
    """A model whose first node has an attribute, ``perm``."""
    text = "g (float[2,3] x) => (float[2,3] y) { n = Transpose <perm = [0, 1]> (x)  y = Relu (n) }"
    return model(text).SerializeToString()


def message(data: bytes, number: int) -> bytes:
    """The payload of the first field of that number."""
    return next(field.payload for field in fields(data) if field.number == number)


def inside(data: bytes, path: tuple[int, ...], change: Callable[[bytes], bytes]) -> bytes:
    """``data`` with the first message along ``path`` (field numbers) changed."""
    if not path:
        return change(data)
    out, done = b"", False
    for field in fields(data):
        if field.number == path[0] and not done:
            out, done = out + chunk(field.number, inside(field.payload, path[1:], change)), True
        else:
            out += field.raw
    return out


GRAPH, NODE, ATTRIBUTE, INITIALIZER, INPUT = (7,), (7, 1), (7, 1, 5), (7, 5), (7, 11)
LEVELS = {
    "model": (), "opset": (8,), "graph": GRAPH, "node": NODE, "initializer": INITIALIZER, "input": INPUT,
    "type": (*INPUT, 2), "tensor_type": (*INPUT, 2, 1), "shape": (*INPUT, 2, 1, 2), "value_info": (7, 13),
}  # fmt: skip


@feature
def unknown_field() -> dict[str, Any]:
    """Fields that this version of ONNX does not know, at every level and of every wire type."""
    out: dict[str, Any] = {
        f"{level}-bytes": inside(plain(), path, lambda data: data + UNKNOWN["bytes"])
        for level, path in LEVELS.items()
    }
    for kind, extra in UNKNOWN.items():
        for level in ("model", "graph", "node", "initializer"):
            out[f"{level}-{kind}"] = inside(plain(), LEVELS[level], lambda data, extra=extra: data + extra)
            out[f"{level}-{kind}-first"] = inside(
                plain(), LEVELS[level], lambda data, extra=extra: extra + data
            )
    both = put(
        lambda scope: [unknown(scope.node[-1], UNKNOWN["bytes"]), unknown(scope, UNKNOWN["varint"])], NODES
    )
    return out | {f"scope-{place}": made for place, made in both.items()}


@feature
def unknown_in_attribute() -> dict[str, bytes]:
    data = attributed()
    return {
        kind: inside(data, ATTRIBUTE, lambda one, extra=extra: one + extra) for kind, extra in UNKNOWN.items()
    }


@feature(checked=False)
def order_of_fields() -> dict[str, bytes]:
    """Fields reversed, interleaved, or in an order of their own, in every message of the file."""

    def backwards(data: bytes) -> bytes:
        groups: dict[int, bytes] = {}
        for field in fields(data):
            groups[field.number] = groups.get(field.number, b"") + field.raw
        return b"".join(groups[number] for number in sorted(groups, reverse=True))

    def interleaved(data: bytes) -> bytes:
        groups: dict[int, list[bytes]] = {}
        for field in fields(data):
            groups.setdefault(field.number, []).append(field.raw)
        longest = max(len(group) for group in groups.values())
        return b"".join(g[i] for i in range(longest) for g in reversed(groups.values()) if i < len(g))

    out = {f"reversed-{level}": inside(plain(), path, backwards) for level, path in LEVELS.items()}
    out |= {f"interleaved-{level}": inside(plain(), path, interleaved) for level, path in LEVELS.items()}
    everything = inside(inside(inside(plain(), NODE, backwards), GRAPH, interleaved), (), backwards)
    return out | {"everything": everything}


@feature
def long_varints() -> dict[str, bytes]:
    """Tags, lengths and values in more bytes than they need."""
    widen: dict[str, Callable[[Any], bytes]] = {
        "tag": lambda f: tag(f.number, f.wire, 5) + f.size + f.payload,
        "length": lambda f: f.head + varint(len(f.payload), 5) + f.payload if f.wire == BYTES else f.raw,
        "value": lambda f: (
            f.head + f.payload[:-1] + bytes([f.payload[-1] | 0x80, 0x80, 0]) if f.wire == VARINT else f.raw
        ),
    }
    return {
        f"{kind}-{level}": inside(plain(), path, lambda data, one=one: b"".join(map(one, fields(data))))
        for kind, one in widen.items()
        for level, path in LEVELS.items()
    }


def _packed(number: int, *values: int) -> bytes:
    return chunk(number, b"".join(map(varint, values)))


@feature
def packing() -> dict[str, bytes]:
    """Repeated numbers packed where the schema has them apart, apart where it has them packed, and mixed."""

    def initializer(payload: bytes) -> bytes:
        return inside(plain(), INITIALIZER, lambda _: payload)

    head, name = integer(2, 1), chunk(8, "w")
    floats = [b"\0\0\x80?"] * 6
    apart = b"".join(tag(4, 5) + one for one in floats)
    perm = integer(20, 7) + chunk(1, "perm")
    attribute = attributed()
    return {
        "dims_packed": initializer(_packed(1, 2, 3) + head + name + chunk(4, b"".join(floats))),
        "dims_mixed": initializer(integer(1, 2) + head + name + _packed(1, 3) + chunk(4, b"".join(floats))),
        "dims_packed_empty_too": initializer(
            _packed(1) + _packed(1, 2, 3) + head + name + chunk(4, b"".join(floats))
        ),
        "floats_apart": initializer(integer(1, 2) + integer(1, 3) + head + name + apart),
        "floats_two_packs": initializer(
            integer(1, 2)
            + integer(1, 3)
            + chunk(4, b"".join(floats[:2]))
            + head
            + name
            + chunk(4, b"".join(floats[2:]))
        ),
        "ints_packed": inside(attribute, ATTRIBUTE, lambda _: _packed(8, 0, 1) + perm),
        "ints_mixed": inside(attribute, ATTRIBUTE, lambda _: integer(8, 0) + perm + _packed(8, 1)),
    }


@feature(checked=False)
def message_in_pieces() -> dict[str, bytes]:
    """A message that may occur once, twice: protobuf merges them. Plain fields twice: the last one counts."""

    def halves(data: bytes, number: int, at: int) -> bytes:
        out = b""
        for field in fields(data):
            if field.number != number:
                out += field.raw
                continue
            parts = [one.raw for one in fields(field.payload)]
            out += chunk(number, b"".join(parts[:at])) + chunk(number, b"".join(parts[at:]))
        return out

    def inserted(path: tuple[int, ...], extra: bytes) -> bytes:
        return inside(plain(), path, lambda data: extra + data)

    whole = plain()
    apart = [f.raw for f in fields(whole) if f.number != 7]
    pieces = [f.raw for f in fields(message(whole, 7))]
    between = chunk(7, b"".join(pieces[:2])) + b"".join(apart) + chunk(7, b"".join(pieces[2:]))
    value = model(
        "g (float[2] x) => (float[2] y) { k = Constant <value = float[2] {1, 2}> ()  y = Add (x, k) }"
    )
    constant = value.SerializeToString()
    head = integer(1, 2) + integer(1, 3) + integer(2, 1) + chunk(8, "w")
    return {
        "graph": halves(whole, 7, 2),
        "graph_apart": between,
        "graph_empty_first": inserted((), chunk(7, b"")),
        "graph_empty_last": whole + chunk(7, b""),
        "graph_one_field_each": b"".join(apart) + b"".join(chunk(7, one) for one in pieces),
        "type": inside(whole, INPUT, lambda data: halves(data, 2, 0)),
        "tensor_attribute": inside(constant, ATTRIBUTE, lambda data: halves(data, 5, 1)),
        "ir_version_twice": inserted((), integer(1, 4)),
        "op_type_twice": inserted(NODE, chunk(4, "Wrong")),
        "name_twice": inserted(NODE, chunk(3, "wrong")),
        "tensor_name_twice": inserted(INITIALIZER, chunk(8, "wrong")),
        "raw_data_twice": inside(
            whole, INITIALIZER, lambda _: chunk(9, b"wrong") + chunk(9, b"\0" * 24) + head
        ),
        "oneof_twice": inside(whole, (*INPUT, 2), lambda data: chunk(4, b"") + data),
        "dim_twice": inside(whole, (*INPUT, 2, 1, 2, 1), lambda data: chunk(2, "N") + data),
    }


@feature
def explicit_defaults() -> dict[str, bytes]:
    """Fields that are there and hold what they would hold if they were not."""
    return {
        "node": inside(plain(), NODE, lambda data: data + chunk(7, "") + chunk(8, "") + chunk(6, "")),
        "model": plain() + chunk(4, "") + integer(5, 0) + chunk(6, ""),
        "graph": inside(plain(), GRAPH, lambda data: data + chunk(10, "")),
        "tensor": inside(plain(), INITIALIZER, lambda data: data + integer(14, 0) + chunk(12, "")),
        "value": inside(plain(), INPUT, lambda data: data + chunk(3, "")),
        "empty_packed": inside(plain(), INITIALIZER, lambda data: data + chunk(5, b"") + chunk(7, b"")),
    }


@feature(checked=False)
def odd_numbers() -> dict[str, bytes]:
    """Enums of a later version, a negative int32 in five bytes or ten, an int32 beyond 32 bits."""
    return {
        "negative_dtype": inside(plain(), INITIALIZER, lambda data: data + integer(2, -1) + integer(2, 1)),
        "five_byte_negative": inside(
            plain(), (*INPUT, 2, 1), lambda d: tag(1, VARINT) + b"\xff\xff\xff\xff\x0f" + d
        ),
        "dtype_beyond_32_bits": inside(plain(), INITIALIZER, lambda data: data + integer(2, (1 << 40) + 1)),
        "unknown_location": inside(plain(), INITIALIZER, lambda data: data + integer(14, 9)),
        "unknown_attribute_type": _attribute_type(99),
        "wrong_wire_type_of_graph": integer(7, 3) + plain(),
    } | _wrong_wire_types()


def _wrong_wire_types() -> dict[str, bytes]:
    """Numbers where messages or strings belong: to protobuf these are unknown fields."""
    fields_of = {"model": (8, 14, 20, 25), "graph": (1, 2, 5, 10, 11, 12, 13, 14, 15, 16)}
    fields_of |= {
        "node": (1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
        "initializer": (4, 8, 9, 13, 16),
        "input": (1, 2, 4),
    }
    return {
        f"wrong_wire_type_{level}-{number}": inside(
            plain(), LEVELS[level], lambda data, number=number: data + integer(number, 3)
        )
        for level, numbers in fields_of.items()
        for number in numbers
    }


def _attribute_type(number: int) -> bytes:
    return inside(attributed(), ATTRIBUTE, lambda data: data + integer(20, number))
