"""A model's weights by reference: large ones are fed from where they lie, small ones travel inline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto

from graphkit.errors import BadInput
from graphkit.model.disk import shown
from graphkit.model.external import data_ref, read_external, resolve
from graphkit.run import outline
from graphkit.run.held import size_of
from graphkit.run.rounding import tf32

_SUB_BYTE = {TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1, TensorProto.STRING}
_SUB_BYTE |= {getattr(TensorProto, name) for name in ("INT2", "UINT2") if hasattr(TensorProto, name)}


class Weights:
    """Initializers, and Constant nodes as large as one.

    ``fed`` holds those that a session gets as an input: they are never copied into a session, and each needs
    no more than its own bytes. ``inline`` holds the rest: shapes and axes, whose values ONNX Runtime wants to
    know when it loads the graph, 4-bit tensors and text, and what operators of other domains read (their
    kernels may insist on a constant).
    """

    def __init__(self, model: ModelProto, folder: Path | None, memory: int) -> None:
        self._folder = folder
        self._arrays: dict[str, NDArray[Any]] = {}
        self._rounded: dict[str, NDArray[Any]] = {}
        self.sparse = {s.values.name: s for s in model.graph.sparse_initializer}
        tensors = {t.name: t for t in model.graph.initializer}
        large = {n.output[0]: t for n in model.graph.node if (t := _large_constant(n)) is not None}
        tensors.update(large)
        pinned = _pinned(model.graph.node)
        self.constants = frozenset(large)
        self.fed = {n: t for n, t in tensors.items() if _is_large(t) and n not in pinned}
        self.inline = {n: _inlined(t, folder) for n, t in tensors.items() if n not in self.fed}
        copied = sum(self.cost(n) for n in self.fed)
        self._keeps = copied <= memory // 4

    def __contains__(self, name: str) -> bool:
        return name in self.fed or name in self.inline or name in self.sparse

    def cost(self, name: str) -> int:
        """Bytes that feeding this weight takes besides the model's own: none for mapped, external data."""
        tensor = self.fed.get(name)
        if tensor is None or outline.is_external(tensor):
            return 0
        return size_of(tensor.dims, tensor.data_type)

    def array(self, name: str) -> NDArray[Any]:
        """The weight's values; kept for the next run when all of them together are small."""
        found = self._arrays.get(name)
        if found is None:
            found = read_tensor(self.fed[name], self._folder)
            if self._keeps or outline.is_external(self.fed[name]):
                self._arrays[name] = found
        return found

    def rounded(self, name: str) -> NDArray[Any]:
        """The weight's values rounded to TF32; kept as those of `array` are."""
        found = self._rounded.get(name)
        if found is None:
            found = tf32(self.array(name))
            if self._keeps and not outline.is_external(self.fed[name]):
                self._rounded[name] = found
        return found


def read_tensor(tensor: TensorProto, folder: Path | None) -> NDArray[Any]:
    """The tensor's values: a view of the mapped file where they are external.

    Raises BadInput when the file is not in ``folder``, or there is no folder to look in.
    """
    ref = data_ref(tensor)
    if ref is None:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    if folder is None:
        raise BadInput(
            f"tensor '{tensor.name}': its data lies in '{shown(ref.location)}'; say in which folder that is"
        )
    if tensor.data_type in _SUB_BYTE:
        return np.asarray(onnx.numpy_helper.to_array(tensor, str(folder)))
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    data = read_external(folder, ref, tensor.name)[: size_of(tensor.dims, tensor.data_type)]
    return np.frombuffer(data, dtype).reshape(tuple(tensor.dims))


def slim_nodes(nodes: Iterable[NodeProto], constants: Mapping[str, Any] | frozenset[str]) -> list[NodeProto]:
    """The nodes without the Constants that are kept as weights."""
    return [n for n in nodes if not (n.op_type == "Constant" and n.output and n.output[0] in constants)]


def _is_large(tensor: TensorProto) -> bool:
    return outline.elements(tensor) > outline.KEPT_ELEMENTS and tensor.data_type not in _SUB_BYTE


def _large_constant(node: NodeProto) -> TensorProto | None:
    """The tensor of a Constant node, when it is as large as a weight."""
    if node.op_type != "Constant" or len(node.attribute) != 1 or node.attribute[0].name != "value":
        return None
    tensor = node.attribute[0].t
    return tensor if _is_large(tensor) else None


def _inlined(tensor: TensorProto, folder: Path | None) -> TensorProto:
    """The tensor as a session gets it: a small one with its data, a large one by its place, looked at."""
    ref = data_ref(tensor)
    if ref is None:
        return tensor
    if folder is None or outline.elements(tensor) <= outline.KEPT_ELEMENTS:
        return onnx.numpy_helper.from_array(read_tensor(tensor, folder), tensor.name)
    resolve(folder, ref, tensor.name, size_of(tensor.dims, tensor.data_type))
    return tensor


def _pinned(nodes: Iterable[NodeProto]) -> set[str]:
    """What operators outside the standard domain read."""
    return {name for node in nodes if node.domain not in ("", "ai.onnx") for name in node.input if name}
