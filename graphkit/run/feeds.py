"""Seeded inputs for any model: shapes that fit, in ranges that fit each input's dtype and use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, TypeProto

from graphkit.run import outline, ranges
from graphkit.run.domain import Domain
from graphkit.run.shapes import PROFILES, Shape, assignments, required_inputs, tensor_type
from graphkit.run.uses import Facts, Readers, facts

VARIANTS = 4
# half-width of the default float range, by variant: near zero, both saturations, then an image's 0..1
_SCALES = (1.0, 4.0, 0.0, 2.0)


def feeds(
    model: ModelProto, *, seed: int = 0, shapes: Mapping[str, Shape] | None = None
) -> Iterator[dict[str, Any]]:
    """Candidate inputs, most telling first: a bounded number, some of which the model may refuse.

    ``model`` needs no weights. Dynamic dims take several sizes in turn (``shapes`` fixes them by input
    name); values differ from one candidate to the next, each switch and each branch getting its turn.
    Values are numpy arrays (ml_dtypes for dtypes numpy lacks; object arrays of str), lists for
    sequences. Inputs that have an initializer get no feed. The same seed gives the same feeds.
    """
    slim = outline.outline(model)
    source = _Source(slim, seed)
    choices = list(assignments(slim, shapes))
    for number, (which, variant) in enumerate(_schedule(len(choices))):
        yield source.draw(choices[which], variant, number)


def _schedule(count: int) -> Iterator[tuple[int, int]]:
    """(shape assignment, value variant) pairs: the first three shapes, each with other values, lead."""
    first = [(n, n % VARIANTS) for n in range(count)]
    if count == 1:
        first = [(0, v) for v in range(VARIANTS)]
    yield from first
    rest = [(n, (n + shift) % VARIANTS) for shift in range(1, VARIANTS) for n in range(count)]
    yield from (pair for pair in rest if pair not in first and pair[0] < max(6, len(PROFILES) // 2))


class _Source:
    """Draws values for the inputs of one model."""

    def __init__(self, model: ModelProto, seed: int) -> None:
        self._model, self._seed = model, seed
        self._constants = outline.constants(model)
        self._readers = Readers(model)
        self._facts: dict[tuple[tuple[str, Shape], ...], Facts] = {}

    def draw(self, shapes: Mapping[str, Shape], variant: int, number: int) -> dict[str, Any]:
        found = self._known(shapes)
        feed = {}
        for place, info in enumerate(required_inputs(self._model)):
            rng = np.random.default_rng([self._seed, number, place])
            uses = ranges.domain(self._readers.uses(info.name, found))
            asked = _by_name(info.name, info.type).meet(uses) if uses == Domain() else uses
            feed[info.name] = _value(info.type, shapes.get(info.name, ()), asked, rng, variant)
        return feed

    def _known(self, shapes: Mapping[str, Shape]) -> Facts:
        key = tuple(shapes.items())
        if key not in self._facts:
            self._facts = {key: facts(self._model, shapes, self._constants)}
        return self._facts[key]


def _by_name(name: str, info: TypeProto) -> Domain:
    """Integer masks and segment ids are 0 or 1, whatever reads them."""
    t = tensor_type(info)
    lower = name.lower()
    if t is not None and t.elem_type in _INTS and ("mask" in lower or "token_type" in lower):
        return Domain(0, 1)
    return Domain()


_INTS = {TensorProto.INT64, TensorProto.INT32, TensorProto.INT16, TensorProto.INT8, TensorProto.UINT8}


def _value(info: TypeProto, shape: Shape, asked: Domain, rng: np.random.Generator, variant: int) -> Any:
    match info.WhichOneof("value"):
        case "sequence_type":
            element = info.sequence_type.elem_type
            return [_value(element, shape, asked, rng, variant) for _ in range(2)]
        case "optional_type":
            return _value(info.optional_type.elem_type, shape, asked, rng, variant)
        case "map_type":
            return _mapping(info.map_type, rng, variant)
        case _:
            t = tensor_type(info)
            return _array(t.elem_type if t is not None else TensorProto.FLOAT, shape, asked, rng, variant)


def _mapping(info: TypeProto.Map, rng: np.random.Generator, variant: int) -> dict[Any, Any]:
    """ai.onnx.ml's dictionaries: a few keys with values."""
    keys: list[Any] = ["a", "b", "c"] if info.key_type == TensorProto.STRING else [0, 1, 2]
    values = [_value(info.value_type, (), Domain(), rng, variant) for _ in keys]
    return {k: v.item() if isinstance(v, np.ndarray) else v for k, v in zip(keys, values, strict=True)}


def _array(
    elem_type: int, shape: Shape, asked: Domain, rng: np.random.Generator, variant: int
) -> NDArray[Any]:
    if elem_type == TensorProto.STRING:
        return _strings(shape, asked, rng)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(elem_type)
    if asked.make is not None:
        return np.asarray(asked.make(rng, shape)).astype(dtype).reshape(shape)
    if asked.choices:
        options = np.asarray(asked.choices)
        index = rng.integers(0, len(options), shape) if shape else variant % len(options)
        return np.asarray(options[index]).astype(dtype)
    if dtype == np.bool_:
        return np.asarray(rng.random(shape) < 0.5) if shape else np.asarray(variant % 2 == 0)
    low, high = _bounds(dtype, asked, variant)
    # Polygraphy's DataLoader draws the same uniform numbers, but only for dtypes numpy has, one range
    # an input, and from one stream: an input more would change the values of all that follow.
    if _is_whole(dtype):
        return np.asarray(rng.integers(int(low), int(high), shape, endpoint=True)).astype(dtype)
    values = rng.uniform(low, high, shape)
    if dtype.kind == "c":
        return np.asarray(values + 1j * rng.uniform(low, high, shape)).astype(dtype)
    return np.asarray(values).astype(dtype)


def _bounds(dtype: np.dtype[Any], asked: Domain, variant: int) -> tuple[float, float]:
    """The interval to draw from: the one asked for, within the dtype, else the default of the variant."""
    low: float
    high: float
    if _is_whole(dtype):
        low, high = _int_defaults(dtype, variant)
    else:
        scale = _SCALES[variant]
        low, high = (-scale, scale) if scale else (0.0, 1.0)
    if asked.low != -np.inf:
        low, high = asked.low, max(high, asked.low)
    if asked.high != np.inf:
        low, high = (low if asked.low != -np.inf else min(low, asked.high)), asked.high
    return low, max(low, high)


def _is_whole(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" or dtype.name in ("int4", "uint4", "int2", "uint2")


def _int_defaults(dtype: np.dtype[Any], variant: int) -> tuple[int, int]:
    unsigned = dtype.name.startswith("u")
    if dtype.itemsize == 1:
        top = {"int4": 7, "uint4": 15, "int2": 1, "uint2": 3, "int8": 127, "uint8": 255}[dtype.name]
        return (0 if unsigned else -top - 1), top
    return ((0 if unsigned else -8), 8) if variant % 2 else (0, 3)


_WORDS = ("alpha", "Beta", "the", "gamma 12", "3.5", "na\u00efve", "")


def _strings(shape: Shape, asked: Domain, rng: np.random.Generator) -> NDArray[Any]:
    words = [w.decode() if isinstance(w, bytes) else str(w) for w in asked.choices] or list(_WORDS)
    return np.asarray([words[i] for i in rng.integers(0, len(words), int(np.prod(shape)))], object).reshape(
        shape
    )
