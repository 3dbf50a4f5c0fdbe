"""An engine's inputs and outputs: their names, dtypes, dims and profiles, and whether they are a model's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx
from onnx import ModelProto, TypeProto

from graphkit.errors import BadEngine, BadInput
from graphkit.model.disk import shown
from graphkit.run.shapes import Shape, tensor_type

if TYPE_CHECKING:
    from graphkit.run.trt import api as trt

POINTS = ("min", "opt", "max")


@dataclass(frozen=True)
class EngineIo:
    """One input or output: ``dims`` has -1 where dynamic; ``host``: its memory is the host's.

    ``profiles``: for an input, its (min, opt, max) dims in each optimization profile; ``values`` likewise of
    a shape tensor, whose values are bounded.
    """

    name: str
    dtype: str
    dims: Shape
    is_input: bool
    host: bool = False
    profiles: tuple[tuple[Shape, ...], ...] = ()
    values: tuple[tuple[Shape, ...], ...] = ()


def disagreement(model: ModelProto, io: Sequence[EngineIo]) -> str:
    """How the engine's inputs and outputs are not those of the model; empty when they are.

    TensorRT has no DOUBLE: such a tensor is FLOAT in the engine. Inputs that nothing reads may be absent.
    """
    for is_input, infos in ((True, model.graph.input), (False, model.graph.output)):
        what = "input" if is_input else "output"
        have = {t.name: t for t in io if t.is_input == is_input}
        want = {i.name: i.type for i in infos}
        for name in have.keys() - want.keys():
            return f"the engine has an {what} '{shown(name, 60)}', which the model does not have"
        for name, info in want.items():
            if name in have:
                wrong = _difference(have[name], info)
                if wrong:
                    return f"{what} '{shown(name, 60)}' {wrong}"
            elif not is_input:
                return f"the engine lacks the output '{shown(name, 60)}'"
    return ""


def _difference(tensor: EngineIo, info: TypeProto) -> str:
    t = tensor_type(info)
    if t is None:
        return "is no tensor in the model"
    dtype = onnx.helper.tensor_dtype_to_np_dtype(t.elem_type).name
    if tensor.dtype != {"float64": "float32"}.get(dtype, dtype):
        return f"is {tensor.dtype} in the engine and {dtype} in the model"
    if t.HasField("shape"):
        dims = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in t.shape.dim)
        # The engine may know more than the model, or less (an output of dynamic size).
        if len(dims) != len(tensor.dims) or any(
            a >= 0 and b >= 0 and a != b for a, b in zip(dims, tensor.dims, strict=True)
        ):
            return f"has the dims {_text(tensor.dims)} in the engine and {_text(dims)} in the model"
    return ""


def profile_for(io: Sequence[EngineIo], shapes: Mapping[str, Shape]) -> int:
    """The first optimization profile that these input dims fit; BadInput says which input fits none."""
    inputs = [t for t in io if t.is_input]
    count = max((len(t.profiles) for t in inputs), default=0)
    outside = ""
    for index in range(max(count, 1)):
        wrong = [w for t in inputs if (w := _outside(t, index, shapes[t.name]))]
        if not wrong:
            return index
        outside = outside or wrong[0]
    raise BadInput(f"{outside}; choose dims that the profile allows, or build with other --shapes")


def _outside(tensor: EngineIo, index: int, dims: Shape) -> str:
    name, given = shown(tensor.name, 60), _text(dims)
    if len(dims) != len(tensor.dims) or any(
        a >= 0 and a != b for a, b in zip(tensor.dims, dims, strict=True)
    ):
        return f"input '{name}' of {given} does not fit the engine, where it is {_text(tensor.dims)}"
    if index < len(tensor.profiles):
        low, _, high = tensor.profiles[index]
        if any(not a <= n <= b for a, n, b in zip(low, dims, high, strict=True)):
            return f"input '{name}' of {given} is outside the profile: min {_text(low)}, max {_text(high)}"
    return ""


def shapes_at(io: Sequence[EngineIo], point: str, profile: int = 0) -> dict[str, Shape]:
    """The dims of every input at ``point`` of a profile: "min", "opt" or "max"."""
    at = POINTS.index(point)
    return {
        t.name: t.profiles[profile][at] if profile < len(t.profiles) else t.dims for t in io if t.is_input
    }


def sweep(io: Sequence[EngineIo], points: Sequence[str]) -> Iterator[tuple[str, int, dict[str, Shape]]]:
    """(point, profile, dims of every input) of each profile; the same dims come once."""
    seen = []
    for profile in range(max([1, *(len(t.profiles) for t in io)])):
        for point in points:
            shapes = shapes_at(io, point, profile)
            if shapes not in seen:
                seen.append(shapes)
                yield point, profile, shapes


def _text(dims: Shape) -> str:
    return "[" + ",".join("?" if d < 0 else str(d) for d in dims) + "]"


def engine_io(engine: trt.ICudaEngine) -> tuple[EngineIo, ...]:
    """What a deserialized engine reads and writes; BadEngine for tensors that are not in linear order."""
    from graphkit.run.trt import api as trt

    found = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        if engine.get_tensor_format(name) != trt.TensorFormat.LINEAR:
            raise BadEngine(
                f"'{shown(name, 60)}' of the engine is {engine.get_tensor_format(name)}; build it with "
                "linear inputs and outputs"
            )
        host = engine.get_tensor_location(name) == trt.TensorLocation.HOST
        profiles, values = _profiles(engine, name, host) if is_input else ((), ())
        found.append(
            EngineIo(
                name,
                dtype_name(engine.get_tensor_dtype(name)),
                dims_of(engine.get_tensor_shape(name)),
                is_input,
                host,
                profiles,
                values,
            )
        )
    return tuple(found)


def _profiles(engine: trt.ICudaEngine, name: str, host: bool) -> tuple[Any, Any]:
    """(dims, values) of an input in every profile, each (min, opt, max)."""
    dims, values = [], []
    for index in range(engine.num_optimization_profiles):
        three = tuple(dims_of(d) for d in engine.get_tensor_profile_shape(name, index))
        if len(three) == 3 and all(d >= 0 for s in three for d in s):
            dims.append(three)
        if host and engine.is_shape_inference_io(name):
            bounds = engine.get_tensor_profile_values(index, name)
            values.append(tuple(tuple(int(v) for v in b) for b in bounds or ()))
    return tuple(dims), tuple(v for v in values if len(v) == 3)


def dims_of(dims: Any) -> Shape:
    """TensorRT's Dims as a tuple."""
    return tuple(int(d) for d in dims)


def dtype_name(dtype: trt.DataType) -> str:
    """numpy's or ml_dtypes' name of TensorRT's dtype; TensorRT's own where they have none."""
    from graphkit.run.trt import np_dtype

    try:
        return np_dtype(dtype).name
    except (KeyError, AttributeError):
        return dtype.name
