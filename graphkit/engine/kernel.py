"""One kernel of an engine: what TensorRT calls it, what it reads and writes, and the ONNX nodes in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

__all__ = ["EngineTensor", "Kernel", "dtype_of", "nodes_of_metadata", "nodes_of_name"]

# What TensorRT 8 to 11 and TensorRT-RTX call a dtype, alone ("Half") or within the name of a format
# ("Channel major FP16 format where channel % 8 == 0"); longer words first.
_DTYPES = {
    "BFLOAT16": "bfloat16",
    "BF16": "bfloat16",
    "FLOAT8E8M0": "float8_e8m0fnu",
    "E8M0": "float8_e8m0fnu",
    "FLOAT8": "float8_e4m3fn",
    "FP8": "float8_e4m3fn",
    "E4M3": "float8_e4m3fn",
    "FLOAT4": "float4_e2m1fn",
    "FP4": "float4_e2m1fn",
    "FLOAT16": "float16",
    "FP16": "float16",
    "HALF": "float16",
    "FLOAT32": "float32",
    "FP32": "float32",
    "FLOAT": "float32",
    "INT64": "int64",
    "INT32": "int32",
    "UINT8": "uint8",
    "INT8": "int8",
    "INT4": "int4",
    "BOOL": "bool",
}
_WORD = re.compile(rf"\b({'|'.join(_DTYPES)})\b", re.IGNORECASE)
_MARK = "[ONNX Layer: "
# Metadata of fused layers are joined by a unit separator (RTX, TensorRT 10) or a record separator (8, 10).
_BETWEEN = re.compile("[\x1e\x1f]")
_SYNC = frozenset({"signal", "wait", "jmp", "cjmp", "shape_call", "memset", "noop"})
_COPY = frozenset({"copy", "reformat"})
_MOVES = re.compile(r"__myl_(?:Move|Tran|Resh|Slic|Conc)+_")


@dataclass(frozen=True, slots=True)
class EngineTensor:
    """A tensor at a kernel's border: ``dims`` has -1 for a dynamic dim; ``dtype`` is numpy's or ml_dtypes'
    name, and empty where TensorRT does not say."""

    name: str
    dims: tuple[int, ...]
    dtype: str

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "dims": list(self.dims), "dtype": self.dtype}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Self:
        return cls(str(tree["name"]), tuple(int(d) for d in tree["dims"]), str(tree["dtype"]))


@dataclass(frozen=True, slots=True)
class Kernel:
    """One layer of a built engine.

    ``onnx_nodes`` is what TensorRT's Metadata says, in its spelling (``inn | t (then_branch) | ifn (If)``),
    without duplicates and in its order; TensorRT 8 has none, so there it is taken from the layer's name.
    ``constants`` are weights, where the version tells them.
    """

    name: str
    type: str
    onnx_nodes: tuple[str, ...]
    inputs: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    constants: tuple[EngineTensor, ...] = ()
    tactic: str = ""
    stream: int = 0

    @property
    def is_sync(self) -> bool:
        """Whether it orders, jumps or clears, and computes nothing."""
        return self.type.lower() in _SYNC

    @property
    def is_copy(self) -> bool:
        """Whether it only moves data, for no ONNX node: a copy, a reformat, a transposition of a layout."""
        if self.type.lower() in _COPY:
            return True
        return not self.onnx_nodes and _MOVES.match(self.name) is not None

    def to_json(self) -> dict[str, Any]:
        """The record of schema graphkit.layers/1."""
        return {
            "name": self.name,
            "type": self.type,
            "onnx_nodes": list(self.onnx_nodes),
            "inputs": [t.to_json() for t in self.inputs],
            "outputs": [t.to_json() for t in self.outputs],
            "constants": [t.to_json() for t in self.constants],
            "tactic": self.tactic,
            "stream": self.stream,
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Self:
        """The inverse of to_json; KeyError, TypeError or ValueError when ``tree`` is no such record."""
        return cls(
            str(tree["name"]),
            str(tree["type"]),
            tuple(str(n) for n in tree["onnx_nodes"]),
            tuple(EngineTensor.from_json(t) for t in tree["inputs"]),
            tuple(EngineTensor.from_json(t) for t in tree["outputs"]),
            tuple(EngineTensor.from_json(t) for t in tree.get("constants", ())),
            str(tree.get("tactic", "")),
            int(tree.get("stream", 0)),
        )


def dtype_of(text: str) -> str:
    """The dtype in a Datatype or Format/Datatype field, as numpy or ml_dtypes names it; empty for none."""
    found = _WORD.search(text)
    return _DTYPES[found[1].upper()] if found else ""


def dims_of(values: Iterable[str | int]) -> tuple[int, ...]:
    """Dims with -1 for every dynamic one: TensorRT 8 writes -8, -10 and so on for different unknowns."""
    return tuple(max(int(v), -1) for v in values)


def nodes_of_metadata(text: str) -> tuple[str, ...]:
    """The ONNX nodes of a Metadata field, each once: its parts of the form ``[ONNX Layer: x]``."""
    found = []
    for part in _BETWEEN.split(text):
        start = part.find(_MARK)
        end = part.rfind("]")
        if 0 <= start < end:
            found.append(part[start + len(_MARK) : end])
    return tuple(dict.fromkeys(n for n in found if n))


def nodes_of_name(name: str) -> tuple[str, ...]:
    """What a layer's name without Metadata (TensorRT 8) is made of: ``w + Conv_9 + PWN(Clip_13)``.

    Weights stand among the nodes. Layers that TensorRT added itself have none, and none are given for a
    ``{ForeignNode[a...b]}``, which names the first and the last of what may be the whole model.
    """
    if name.startswith(("Reformatting CopyNode", "{ForeignNode[")):
        return ()
    parts = (_balanced(p.strip()) for p in re.split(r" \+ | \|\| |, ", name.replace("PWN(", "")))
    return tuple(dict.fromkeys(p for p in parts if p and not p.startswith(("(Unnamed", "ONNXTRT_"))))


def _balanced(part: str) -> str:
    """``part`` without the closing parentheses of a PWN that began before it."""
    while part.endswith(")") and part.count(")") > part.count("("):
        part = part[:-1]
    return part
