"""The shapes that an engine is built for: ``--shapes images=1x3x320x320/1x3x640x640/4x3x640x640``."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from graphkit.errors import BadOption
from graphkit.model.disk import shown

if TYPE_CHECKING:
    from graphkit.run.trt import api

__all__ = ["Shapes", "parse_shapes", "profile_of"]

Dims = tuple[int, ...]

_DIMS = re.compile(r"\d{1,9}(?:x\d{1,9})*", re.ASCII)
_LIKELY = {4: 224, 5: 32}  # a size for an example: that of an image, or of a clip


@dataclass(frozen=True)
class Shapes:
    """The least, the usual and the greatest shape of one input, each dim between them."""

    name: str
    least: Dims
    usual: Dims
    greatest: Dims

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``name=min/opt/max``, or ``name=1x3x640x640`` for one alone; BadOption says what is wrong."""
        name, equals, right = text.rpartition("=")
        parts = right.split("/")
        if not equals or not name or len(parts) not in (1, 3) or not all(map(_DIMS.fullmatch, parts)):
            raise BadOption(
                f"--shapes {shown(text)}: is not NAME=MIN/OPT/MAX; write images=1x3x640x640, or "
                "images=1x3x320x320/1x3x640x640/4x3x640x640"
            )
        dims = [tuple(int(d) for d in part.split("x")) for part in parts]
        return cls(name, *(dims if len(dims) == 3 else dims * 3)).checked()

    def checked(self) -> Self:
        """Itself; BadOption when the three are of different ranks, or not in order."""
        three = (self.least, self.usual, self.greatest)
        if len({len(s) for s in three}) != 1:
            raise BadOption(f"--shapes {self}: MIN, OPT and MAX need as many dims each")
        if any(not low <= mid <= high for low, mid, high in zip(*three, strict=True)):
            raise BadOption(f"--shapes {self}: in every dim, MIN <= OPT <= MAX has to hold")
        return self

    def __str__(self) -> str:
        three = ("x".join(map(str, s)) for s in (self.least, self.usual, self.greatest))
        kept = list(dict.fromkeys(three))
        return f"{self.name}={kept[0] if len(kept) == 1 else '/'.join(self._all())}"

    def _all(self) -> list[str]:
        return ["x".join(map(str, s)) for s in (self.least, self.usual, self.greatest)]


def parse_shapes(given: Iterable[str | Shapes] | Mapping[str, Any]) -> tuple[Shapes, ...]:
    """Shapes from specs, or from a mapping of input names to one shape or to three; BadOption otherwise."""
    if isinstance(given, Mapping):
        given = [_of_pair(name, value) for name, value in given.items()]
    found = [s if isinstance(s, Shapes) else Shapes.parse(s) for s in given]
    names = [s.name for s in found]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise BadOption(f"--shapes names input '{shown(twice)}' twice; give its MIN/OPT/MAX once")
    return tuple(found)


def _of_pair(name: str, value: Sequence[Any]) -> Shapes:
    three = value if value and not isinstance(value[0], int) else (value, value, value)
    if len(three) != 3:
        raise BadOption(f"shapes of '{shown(name)}': give one shape, or three: least, usual, greatest")
    return Shapes(name, *(tuple(int(d) for d in shape) for shape in three)).checked()


def profile_of(network: api.INetworkDefinition, shapes: Sequence[Shapes]) -> Any:
    """A Polygraphy Profile of the network's dynamic inputs, or None when it has none.

    Raises BadOption when a dynamic input has no shapes, and when shapes name no input or do not fit it.
    """
    from polygraphy.backend.trt import Profile

    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    given = {s.name: s for s in shapes}
    names = [i.name for i in inputs]
    for unknown in (n for n in given if n not in names):
        raise BadOption(f"--shapes {shown(unknown)}: the model's inputs are {shown(', '.join(names))}")
    open_ = [i for i in inputs if _is_open(i)]
    missing = [i for i in open_ if i.name not in given]
    if missing:
        told = ", ".join(f"'{i.name}' {_dims(i)}" for i in missing)
        example = " ".join(f"--shapes {_example(i)}" for i in missing)
        raise BadOption(f"shapes are not fixed: {told}; say what to build for, for instance {example}")
    profile = Profile()
    for tensor in inputs:
        if tensor.name in given:
            one = _fitting(tensor, given[tensor.name])
            # Polygraphy takes names for patterns: x[0] would match x0 alone
            profile.add(glob.escape(tensor.name), one.least, one.usual, one.greatest)
    return profile if open_ else None


def _shape(tensor: api.ITensor) -> Dims:
    """The dims that the network knows, -1 for a dynamic one."""
    dims = tensor.shape
    try:
        return tuple(dims[i] for i in range(len(dims)))
    except ValueError as error:
        raise BadOption(f"input '{shown(tensor.name)}' has no rank; fix its shape in the model") from error


def _is_open(tensor: api.ITensor) -> bool:
    return -1 in _shape(tensor) or tensor.is_shape_tensor


def _dims(tensor: api.ITensor) -> str:
    if tensor.is_shape_tensor:
        return "(a shape: its values are asked for)"
    return "[" + ",".join("?" if d < 0 else str(d) for d in _shape(tensor)) + "]"


def _example(tensor: api.ITensor) -> str:
    shape = _shape(tensor)
    if tensor.is_shape_tensor:
        return f"{tensor.name}={'x'.join(['8'] * (shape[0] if shape else 1))}"
    likely = _LIKELY.get(len(shape), 64)
    dims = ((1 if i == 0 else likely) if d < 0 else d for i, d in enumerate(shape))
    return f"{tensor.name}={'x'.join(map(str, dims))}"


def _fitting(tensor: api.ITensor, shapes: Shapes) -> Shapes:
    shape = _shape(tensor)
    if tensor.is_shape_tensor:
        wanted = shape[0] if shape else 1
        if len(shapes.usual) != wanted:
            raise BadOption(f"--shapes {shapes}: '{tensor.name}' is a shape of {wanted} values")
        return shapes
    fits = len(shape) == len(shapes.usual) and all(
        d < 0 or d == s
        for each in (shapes.least, shapes.usual, shapes.greatest)
        for d, s in zip(shape, each, strict=True)
    )
    if not fits:
        raise BadOption(f"--shapes {shapes}: does not fit the model's {_dims(tensor)}")
    return shapes
