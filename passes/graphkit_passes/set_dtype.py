"""The ``set-dtype`` pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from graphkit import BadOption, Bridge, Graph, Pass, Tally, rest
from graphkit.model.graph import Tensor
from graphkit.model.surgeon import numpy_dtype, onnx_dtype, surgeon_dtype
from graphkit.rewrite.suggest import did_you_mean
from graphkit_passes._edit import Names, defaults, is_default, is_tensor, lead, successor, trail

Values = Mapping[str, np.ndarray[Any, Any]]


class SetDtype(Pass):
    """Declare inputs and outputs in another dtype, with a Cast inside: what is computed stays as it was.

    `set-dtype:images=uint8,boxes=float16`: the caller gives `images` as uint8, and a Cast to the dtype that
    the model had follows at once; `boxes` is cast to float16 at the end. The dtypes are bool, int8 to int64,
    uint8 to uint64, float16, bfloat16, float32 and float64.

    ## Why
    Pixels are bytes, and a float input copies four times as much to the device. Tokenizers give int64 where
    an engine wants int32, and a caller wants float32 where a converted model returns float16. TensorRT takes
    uint8 only at the ends of a network, in front of a Cast: this is where it puts it.

    ## Example
    `set-dtype:x=uint8` on
    ```
    (float[4] x) => (float[4] y)
    y = Relu (x)
    ```
    gives
    ```
    (uint8[4] x) => (float[4] y)
    x_float32 = Cast <to = 1> (x)
    y = Relu (x_float32)
    ```

    ## When it refuses
    - An input or output is no tensor of numbers, or its dtype is not known.
    - An input has a default in the file.
    - The opset is below 6, or for bfloat16 below 13, and so has no such Cast.

    It stops, with nothing changed, when a name is no input or output, or a dtype is none.

    ## Issues
    [TensorRT#1503](https://github.com/NVIDIA/TensorRT/issues/1503) ·
    [TensorRT#3026](https://github.com/NVIDIA/TensorRT/issues/3026) ·
    [TensorRT#3985](https://github.com/NVIDIA/TensorRT/issues/3985)

    ## Source
    [Cast](https://onnx.ai/onnx/operators/onnx__Cast.html)
    """

    name = "set-dtype"
    group = "edit"

    dtypes: Mapping[str, str] = rest(help="the new dtype of an input or output", metavar="NAME=DTYPE")

    def __post_init__(self) -> None:
        for name, dtype in self.dtypes.items():
            if dtype not in _DTYPES:
                hint = did_you_mean(dtype, _DTYPES) or f"there are {', '.join(_DTYPES)}"
                raise BadOption(f"set-dtype: {name}={dtype}: there is no dtype '{dtype}'; {hint}")
        if not self.dtypes:
            raise BadOption("set-dtype names no input or output; write set-dtype:images=uint8")

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Put in one Cast for each end that has another dtype."""
        ends = {t.name: t for t in (*graph.outputs, *defaults(graph), *graph.inputs)}
        inputs = {t.name for t in graph.inputs}
        formerly: dict[str, np.dtype[Any]] = {}
        for name, spelled in self.dtypes.items():
            if name not in ends:
                raise Names(graph, self.name).unknown("input or output", name, ends)
            dtype, was = _DTYPES[spelled], numpy_dtype(ends[name].dtype)
            reason = _problem(graph, ends[name], dtype)
            if reason:
                tally.refuse(graph, ends[name], reason)
            elif was is not None and was != dtype:
                (_cast_input if name in inputs else _cast_output)(graph, ends[name], was, dtype)
                formerly[name] = was
        if formerly:
            tally.rewrite(len(formerly))
            told = ", ".join(f"'{n}' is {self.dtypes[n]}, was {was.name}" for n, was in formerly.items())
            given = {n: was for n, was in formerly.items() if n in inputs}
            made = {n: _DTYPES[self.dtypes[n]] for n in formerly if n not in inputs}
            tally.bridge(_bridge(told, given, made, [t.name for t in graph.outputs]))


_DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name)
    for name in (
        "bool",
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
        *(f"float{bits}" for bits in (16, 32, 64)),
    )
} | {"bfloat16": np.dtype(ml_dtypes.bfloat16)}


def _problem(graph: Graph, tensor: Tensor, dtype: np.dtype[Any]) -> str:
    """Why the dtype of an input or output cannot be changed; empty when it can."""
    was = numpy_dtype(tensor.dtype) if is_tensor(tensor) else None
    if was is None or was not in _DTYPES.values():
        return "it is no tensor of numbers, or its dtype is not known"
    if is_default(graph, tensor):
        return "it has a default in the file"
    if any(t is tensor for t in graph.inputs) and any(t is tensor for t in graph.outputs):
        return "it is an input and an output at once"
    if graph.opset < 6:
        return f"Cast of opset {graph.opset} spells its dtypes another way; convert to opset 6 first"
    if graph.opset < 13 and "bfloat16" in (was.name, dtype.name) and was != dtype:
        return f"Cast of opset {graph.opset} has no bfloat16; convert to opset 13 first"
    return ""


def _cast_input(graph: Graph, tensor: Tensor, was: np.dtype[Any], dtype: np.dtype[Any]) -> None:
    """A new input of that name, and the Cast that makes ``tensor`` of it."""
    given = successor(graph, tensor, f"{tensor.name}_{was.name}")
    given.dtype, given.shape = surgeon_dtype(onnx_dtype(dtype)), tensor.shape
    graph.inputs[:] = [given if t is tensor else t for t in graph.inputs]
    lead(graph, "Cast", given, tensor, {"to": onnx_dtype(was)})


def _cast_output(graph: Graph, tensor: Tensor, was: np.dtype[Any], dtype: np.dtype[Any]) -> None:
    """A Cast of ``tensor`` that has its name, and is the output in its stead."""
    made = successor(graph, tensor, f"{tensor.name}_{was.name}")
    made.dtype, made.shape = surgeon_dtype(onnx_dtype(dtype)), tensor.shape
    graph.outputs[:] = [made if t is tensor else t for t in graph.outputs]
    trail(graph, "Cast", tensor, made, {"to": onnx_dtype(dtype)})


def _bridge(
    told: str, given: Mapping[str, np.dtype[Any]], made: Mapping[str, np.dtype[Any]], outputs: Sequence[str]
) -> Bridge:
    """Inputs are cast to what they were; outputs, if any has another dtype, from it."""

    def feeds(new: Values) -> list[Values]:
        return [{n: np.asarray(v).astype(given[n]) if n in given else v for n, v in new.items()}]

    def expected(rows: Sequence[Values]) -> Values:
        return {n: rows[0][n].astype(made[n]) if n in made else rows[0][n] for n in outputs}

    return Bridge(says=told, feeds=feeds if given else None, outputs=expected if made else None)
