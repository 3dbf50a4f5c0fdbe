"""One input's values: drawn in a range that fits its dtype, its use and the kind of feed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, TypeProto

from graphkit.run.domain import Domain
from graphkit.run.shapes import Shape, tensor_type


@dataclass(frozen=True)
class Spread:
    """The values of one feed where nothing else is asked for.

    ``top``: the largest float, of both signs, or of one (``sign`` 1, -1). ``log``: uniform in the
    logarithm of the magnitude. ``whole``: bounds of integers. ``turn``: which choice a switch gets.
    """

    turn: int
    top: float
    sign: int = 0
    log: bool = False
    whole: tuple[int, int] = (0, 3)

    @property
    def lean(self) -> int:
        """The sign that masks lean to as well; ordinary feeds are mixed."""
        return self.sign if self not in SPREADS else 0


# near zero, both saturations, an image's 0..1, between
SPREADS = (
    Spread(0, 1.0),
    Spread(1, 4.0, whole=(-8, 8)),
    Spread(2, 1.0, sign=1),
    Spread(3, 2.0, whole=(-8, 8)),
)


def value(info: TypeProto, shape: Shape, asked: Domain, rng: np.random.Generator, spread: Spread) -> Any:
    match info.WhichOneof("value"):
        case "sequence_type":
            element = info.sequence_type.elem_type
            return [value(element, shape, asked, rng, spread) for _ in range(2)]
        case "optional_type":
            return value(info.optional_type.elem_type, shape, asked, rng, spread)
        case "map_type":
            return _mapping(info.map_type, rng, spread)
        case _:
            t = tensor_type(info)
            return _array(t.elem_type if t is not None else TensorProto.FLOAT, shape, asked, rng, spread)


def _mapping(info: TypeProto.Map, rng: np.random.Generator, spread: Spread) -> dict[Any, Any]:
    """ai.onnx.ml's dictionaries: a few keys with values."""
    keys: list[Any] = ["a", "b", "c"] if info.key_type == TensorProto.STRING else [0, 1, 2]
    values = [value(info.value_type, (), Domain(), rng, spread) for _ in keys]
    return {k: v.item() if isinstance(v, np.ndarray) else v for k, v in zip(keys, values, strict=True)}


def _array(
    elem_type: int, shape: Shape, asked: Domain, rng: np.random.Generator, spread: Spread
) -> NDArray[Any]:
    if elem_type == TensorProto.STRING:
        return _strings(shape, asked, rng)
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(elem_type)
    except KeyError:  # a dtype that there is not: whatever comes, no runtime takes it
        dtype = np.dtype(np.float32)
    if asked.make is not None:
        return np.asarray(asked.make(rng, shape)).astype(dtype).reshape(shape)
    if asked.choices:
        options = np.asarray(asked.choices)
        index = rng.integers(0, len(options), shape) if shape else spread.turn % len(options)
        return np.asarray(options[index]).astype(dtype)
    if dtype == np.bool_:
        share = {0: 0.5, 1: 1.0, -1: 0.0}[spread.lean]
        return np.asarray(rng.random(shape) < share) if shape else np.asarray(spread.turn % 2 == 0)
    low, high = _bounds(dtype, asked, spread)
    # Polygraphy's DataLoader draws the same uniform numbers, but only for dtypes numpy has, one range
    # an input, and from one stream: an input more would change the values of all that follow.
    if _is_whole(dtype):
        least = int(np.ceil(low))  # a divisor may be asked for that no whole number of the dtype is
        whole = np.asarray(rng.integers(least, max(int(high), least), shape, endpoint=True))
        return _apart(whole, float(np.ceil(asked.apart)), low).astype(dtype)
    values = _uniform(rng, low, high, shape, log=spread.log and not asked.bounded)
    values = _apart(values, asked.apart, low)
    if dtype.kind == "c":
        return np.asarray(values + 1j * rng.uniform(low, high, shape)).astype(dtype)
    return np.asarray(values).astype(dtype)


def _uniform(rng: np.random.Generator, low: float, high: float, shape: Shape, *, log: bool) -> NDArray[Any]:
    """Uniform in the interval, or (about zero) in the logarithm of the magnitude: a few large, many small."""
    if not log:
        return np.asarray(rng.uniform(low, high, shape))
    signs = rng.choice([-1.0, 1.0], shape)
    return np.asarray(signs * high * 2.0 ** rng.uniform(-10, 0, shape))


def _apart(values: NDArray[Any], least: float, low: float) -> NDArray[Any]:
    """No value nearer to zero than ``least``: for divisors."""
    if not least:
        return values
    return np.where(np.abs(values) < least, np.where((values < 0) & (low < 0), -least, least), values)


def _bounds(dtype: np.dtype[Any], asked: Domain, spread: Spread) -> tuple[float, float]:
    """The interval to draw from: the one asked for, within the dtype, else the spread's."""
    low: float
    high: float
    floor: float
    if _is_whole(dtype):
        low, high = _int_defaults(dtype, spread)
        floor = low
    else:
        top = min(spread.top, _TOPS.get(dtype.name[:6], np.inf))
        low, high = (0.0 if spread.sign > 0 else -top), (0.0 if spread.sign < 0 else top)
        floor = -np.inf
    if asked.low != -np.inf:
        low, high = asked.low, max(high, asked.low)
    if asked.high != np.inf:
        low, high = (low if asked.low != -np.inf else min(low, asked.high)), asked.high
    if asked.apart:  # both signs, in turn with the positive one alone
        low = max(low, floor)
        low = low if low <= -asked.apart and spread.turn % 2 else max(low, asked.apart)
    return low, max(low, high)


# overflow tells nothing: what the narrow floats hold with room to spare
_TOPS = {"float1": 64.0, "float8": 4.0, "float4": 4.0}


def _is_whole(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" or dtype.name in ("int4", "uint4", "int2", "uint2")


def _int_defaults(dtype: np.dtype[Any], spread: Spread) -> tuple[int, int]:
    unsigned = dtype.name.startswith("u")
    if dtype.itemsize == 1:
        top = {"int4": 7, "uint4": 15, "int2": 1, "uint2": 3, "int8": 127, "uint8": 255}[dtype.name]
        return (0 if unsigned else -top - 1), top
    low, high = spread.whole
    high = min(high, 1 << 14)
    return max(low, 0 if unsigned else -(1 << 14)), max(high, 0)


_WORDS = ("alpha", "Beta", "the", "gamma 12", "3.5", "na\u00efve", "")


def _strings(shape: Shape, asked: Domain, rng: np.random.Generator) -> NDArray[Any]:
    words = [w.decode() if isinstance(w, bytes) else str(w) for w in asked.choices] or list(_WORDS)
    return np.asarray([words[i] for i in rng.integers(0, len(words), int(np.prod(shape)))], object).reshape(
        shape
    )
