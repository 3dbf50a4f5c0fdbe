"""Mutated models: bytes flipped, cut and spliced, and protobuf messages that say absurd things."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from _mutate_messages import (
    Random,
    arity,
    attribute,
    content,
    cycle,
    dims,
    drop,
    dtypes,
    external,
    functions,
    names,
    nest,
    ops,
    opsets,
    strings,
)
from _mutate_sizes import giant, sparse
from google.protobuf.message import DecodeError
from onnx import ModelProto


def flip(data: bytes, rng: Random, _: bytes) -> bytes:
    """A few bits are others."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def cut(data: bytes, rng: Random, _: bytes) -> bytes:
    """The end is missing, or a stretch in the middle."""
    start = rng.randrange(len(data))
    end = len(data) if rng.random() < 0.5 else min(len(data), start + rng.randint(1, 64))
    return data[:start] + data[end:]


def splice(data: bytes, rng: Random, other: bytes) -> bytes:
    """A stretch of another model, or of noise, lies in this one."""
    at, start = rng.randrange(len(data)), rng.randrange(len(other))
    piece = (
        other[start : start + rng.randint(1, 256)]
        if rng.random() < 0.7
        else rng.randbytes(rng.randint(1, 64))
    )
    return data[:at] + piece + data[at + rng.choice((0, len(piece))) :]


def repeat(data: bytes, rng: Random, _: bytes) -> bytes:
    """A stretch stands there several times: fields of protobuf may repeat."""
    start = rng.randrange(len(data))
    piece = data[start : start + rng.randint(1, 512)]
    return data[:start] + piece * rng.randint(2, 50) + data[start:]


def odd_text(data: bytes, rng: Random, _: bytes) -> bytes:
    """A name that is no UTF-8, which only bytes can say."""
    words = [i for i in range(len(data) - 4) if data[i : i + 3].isalpha()]
    if not words:
        return flip(data, rng, data)
    at = rng.choice(words)
    word = data[at : at + 3]
    everywhere = rng.random() < 0.5
    return data.replace(word, b"\xff\xfe\x80") if everywhere else data[:at] + b"\xff\xfe\x80" + data[at + 3 :]


def deep(data: bytes, rng: Random, _: bytes) -> bytes:
    """Graphs in attributes of nodes in graphs, deeper than protobuf itself writes them."""
    inner = b""
    for _ in range(rng.choice((20, 40, 200, 5000))):
        inner = field(1, field(5, field(6, inner)))
    return data + field(7, inner)


def field(number: int, content: bytes) -> bytes:
    """A message in a field, as bytes."""
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


BYTES: tuple[Callable[[bytes, Random, bytes], bytes], ...] = (flip, flip, cut, splice, repeat, odd_text, deep)
MESSAGES: tuple[Callable[[ModelProto, Random], None], ...] = (
    *(dims, dims, dtypes, content, content, strings, attribute, attribute, names, names, external, external),
    *(nest, cycle, ops, opsets, functions, giant, giant, giant, sparse, drop, arity),
)


def mutant(seeds: Sequence[bytes], number: int) -> tuple[bytes, tuple[str, ...]]:
    """The mutant of that number, and the names of what was done to its seed; the same each time."""
    rng = Random(number)
    data, done = seeds[number % len(seeds)], []
    messages = rng.random() < 0.65
    if messages:
        model = ModelProto.FromString(data)
        for _ in range(rng.choice((1, 1, 2, 3))):
            change = rng.choice(MESSAGES)
            try:
                change(model, rng)
            except (
                ValueError,
                OverflowError,
                TypeError,
                DecodeError,
            ):  # protobuf takes no such value, or depth
                continue
            done.append(change.__name__)
        data = model.SerializeToString()
    if not messages or rng.random() < 0.1:
        edit = rng.choice(BYTES)
        data = edit(data, rng, rng.choice(seeds)) if data else data
        done.append(edit.__name__)
    return data, tuple(done)
