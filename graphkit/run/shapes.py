"""Concrete sizes for dynamic input dims: small ones first, then those that some models insist on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from onnx import ModelProto, TypeProto, ValueInfoProto

Shape = tuple[int, ...]
Kind = Literal["batch", "channel", "height", "width", "past", "total", "length"]
MAX_ELEMENTS = 1 << 26  # one input of more elements than this is no small trial


@dataclass(frozen=True)
class Profile:
    """Sizes by kind of dim."""

    batch: int
    height: int
    width: int
    length: int
    channel: int = 3
    past: int = 4

    def size(self, kind: Kind) -> int:
        """The size that this profile gives a dim of that kind."""
        return self.past + self.length if kind == "total" else int(getattr(self, kind))


# The first three differ in every kind and keep height != width, so that a transposed or a baked-in size
# shows. Later ones are what models insist on: multiples of 32, OCR's 48 rows, audio windows, 224 crops.
PROFILES = (
    Profile(1, 64, 64, 8),
    Profile(2, 64, 96, 12, past=3),
    Profile(3, 96, 64, 5, past=7),
    Profile(1, 48, 192, 512, 1),
    Profile(2, 48, 320, 576),
    Profile(1, 32, 128, 256),
    Profile(2, 32, 32, 16, 1),
    Profile(1, 128, 96, 1),
    Profile(1, 8, 8, 64, 4),
    Profile(1, 224, 224, 128),
    Profile(1, 256, 256, 77, 4),
    Profile(1, 28, 28, 1024, 1),
    Profile(1, 320, 320, 1536, 1),
    Profile(1, 640, 640, 32),
    Profile(1, 1, 1, 1, 1, 1),
    Profile(2, 2, 2, 2, 2, 2),
    Profile(1, 299, 299, 4000),
    Profile(1, 512, 512, 16000, 4),
)


def static_shape(info: TypeProto) -> Shape | None:
    """The tensor type's shape when every dim is a known, non-negative size; else None."""
    if not info.HasField("tensor_type") or not info.tensor_type.HasField("shape"):
        return None
    dims = info.tensor_type.shape.dim
    if any(not d.HasField("dim_value") or d.dim_value < 0 for d in dims):
        return None
    return tuple(int(d.dim_value) for d in dims)


def required_inputs(model: ModelProto) -> list[ValueInfoProto]:
    """Graph inputs that need a feed: those with an initializer of the same name have a default."""
    defaults = {t.name for t in model.graph.initializer}
    defaults.update(s.values.name for s in model.graph.sparse_initializer)
    return [i for i in model.graph.input if i.name not in defaults]


def assignments(
    model: ModelProto,
    fixed: Mapping[str, Shape] | None = None,
    profiles: Sequence[Profile] = PROFILES,
) -> Iterator[dict[str, Shape]]:
    """Shapes for all tensor inputs, best first; exactly one when nothing is dynamic.

    ``fixed`` gives inputs their shape by name; symbols it decides are decided for the other inputs too.
    """
    inputs = [(i.name, tensor_type(i.type)) for i in required_inputs(model)]
    known = _decided(inputs, fixed or {})
    seen: set[tuple[tuple[str, Shape], ...]] = set()
    for profile in profiles:
        chosen = {
            name: (fixed or {}).get(name) or _assign(t, profile, known) for name, t in inputs if t is not None
        }
        key = tuple(chosen.items())
        if key not in seen and all(_volume(s) <= MAX_ELEMENTS for s in chosen.values()):
            seen.add(key)
            yield chosen


def tensor_type(info: TypeProto) -> TypeProto.Tensor | None:
    """The tensor type inside a tensor, optional or sequence type; None for maps and opaque types."""
    for _ in range(4):
        match info.WhichOneof("value"):
            case "tensor_type":
                return info.tensor_type
            case "optional_type":
                info = info.optional_type.elem_type
            case "sequence_type":
                info = info.sequence_type.elem_type
            case _:
                return None
    return None


def _decided(inputs: list[tuple[str, TypeProto.Tensor | None]], fixed: Mapping[str, Shape]) -> dict[str, int]:
    known: dict[str, int] = {}
    for name, t in inputs:
        if name in fixed and t is not None and len(t.shape.dim) == len(fixed[name]):
            known.update(
                {d.dim_param: n for d, n in zip(t.shape.dim, fixed[name], strict=True) if d.dim_param}
            )
    return known


def _assign(t: TypeProto.Tensor, profile: Profile, known: Mapping[str, int]) -> Shape:
    if not t.HasField("shape"):
        return (profile.batch, profile.length)
    sizes = []
    rank = len(t.shape.dim)
    leading = next((n for n, d in enumerate(t.shape.dim) if not _is_static(d)), 0)
    for axis, dim in enumerate(t.shape.dim):
        if _is_static(dim):
            sizes.append(int(dim.dim_value))
        else:
            sizes.append(_symbol(dim.dim_param, axis, rank, leading, profile, known))
    return tuple(sizes)


def _is_static(dim: object) -> bool:
    return bool(dim.HasField("dim_value") and dim.dim_value >= 0)  # type: ignore[attr-defined]


def _symbol(name: str, axis: int, rank: int, leading: int, profile: Profile, known: Mapping[str, int]) -> int:
    if name in known:
        return known[name]
    # exporters write sums such as "past_sequence_length + 1"
    terms = [term.strip() for term in name.split("+")]
    if len(terms) > 1 and all(terms):
        return sum(int(t) if t.isdigit() else _symbol(t, axis, rank, leading, profile, known) for t in terms)
    return profile.size(_kind(name.lower(), axis, rank, leading))


def _kind(name: str, axis: int, rank: int, leading: int) -> Kind:
    if re.search(r"total", name):
        return "total"
    if re.search(r"past|cache", name):
        return "past"
    if re.search(r"batch|^bs$|^b$|^n$", name):
        return "batch"
    if re.search(r"seq|len|time|token|^t$|^s$", name):
        return "length"
    if re.search(r"height|^h$", name):
        return "height"
    if re.search(r"width|^w$", name):
        return "width"
    return _kind_by_place(axis, rank, leading)


def _kind_by_place(axis: int, rank: int, leading: int) -> Kind:
    if axis == 0 and rank > 1:
        return "batch"
    if rank >= 4:
        return "channel" if axis == 1 else "width" if axis == rank - 1 else "height"
    # an LSTM state (layers, batch, hidden): its first open dim is the batch
    return "batch" if rank == 3 and axis == 1 and leading == 1 else "length"


def _volume(shape: Shape) -> int:
    total = 1
    for n in shape:
        total *= n
    return total
