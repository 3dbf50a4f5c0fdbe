"""A part of a model as a model of its own: some nodes of the main graph, with what they read as inputs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import onnx
from onnx import helper

from graphkit.model.external import data_ref, read_external
from graphkit.model.infer import infer
from graphkit.model.model import Model

__all__ = ["Parts"]


class Parts:
    """The nodes of one model's main graph, of which any can be taken out together."""

    def __init__(self, path: Path) -> None:
        """Raises BadInput when the file is no model."""
        self._model = Model.load(path)
        self._proto = self._model.to_proto()
        graph = self._proto.graph
        self.nodes: list[onnx.NodeProto] = list(graph.node)
        self._weights = {t.name: t for t in graph.initializer}
        self._sparse = {t.values.name: t for t in graph.sparse_initializer}
        self._made = {name: i for i, node in enumerate(self.nodes) for name in node.output if name}
        self._reads = [list(_reads(node)) for node in self.nodes]
        self._ends = {o.name for o in graph.output}

    @cached_property
    def _types(self) -> dict[str, onnx.TypeProto]:
        """The type of each tensor that inference or the file knows; what inference finds comes first."""
        types = infer(self._model)
        main = self._model.main
        graph = self._proto.graph
        found = {i.name: i.type for i in (*graph.output, *graph.value_info, *graph.input)}
        for tensor in (*main.inputs, *(t for node in main.nodes for t in node.outputs)):
            dtype = types.dtype(tensor)
            if tensor.name and dtype is not None:
                shape = types.shape(tensor)
                kind = helper.np_dtype_to_tensor_dtype(dtype)
                found[tensor.name] = helper.make_tensor_type_proto(
                    kind, None if shape is None else list(shape)
                )
        return found

    def find(self, name: str, op: str) -> int | None:
        """The number of the node with this name (or first output) and type; None when there is none."""
        for i, node in enumerate(self.nodes):
            if node.op_type == op and name in (node.name, *node.output):
                return i
        return None

    def before(self, number: int, steps: int) -> list[int]:
        """A node and those that lead to it in at most so many steps, in order."""
        found, front = {number}, {number}
        for _ in range(steps):
            front = {self._made[r] for i in front for r in self._reads[i] if r in self._made} - found
            if not front:
                break
            found |= front
        return sorted(found)

    def model(self, numbers: Sequence[int]) -> bytes | None:
        """These nodes as a model; None when the type of something that it would take is not known."""
        inside = set(numbers)
        made = {n for i in numbers for n in self.nodes[i].output if n}
        read = dict.fromkeys(r for i in numbers for r in self._reads[i] if r and r not in made)
        wanted = {r for i, reads in enumerate(self._reads) if i not in inside for r in reads} | self._ends
        used = {r for i in numbers for r in self._reads[i]}
        ends = [n for i in numbers for n in self.nodes[i].output if n and (n in wanted or n not in used)]
        given = [r for r in read if r not in self._weights and r not in self._sparse]
        if not ends or any(r not in self._types for r in (*given, *ends)):
            return None
        made_model = onnx.ModelProto()
        made_model.CopyFrom(self._shell)
        graph = made_model.graph
        graph.name = self._proto.graph.name or "part"
        graph.node.extend(self.nodes[i] for i in numbers)
        graph.initializer.extend(self._inline(self._weights[r]) for r in read if r in self._weights)
        graph.sparse_initializer.extend(self._sparse[r] for r in read if r in self._sparse)
        graph.input.extend(helper.make_value_info(r, self._types[r]) for r in given)
        graph.output.extend(helper.make_value_info(n, self._types[n]) for n in ends)
        return bytes(made_model.SerializeToString())

    @cached_property
    def _shell(self) -> onnx.ModelProto:
        """Versions and functions: all but the graph."""
        shell = onnx.ModelProto()
        shell.ir_version = self._proto.ir_version
        shell.opset_import.extend(self._proto.opset_import)
        shell.functions.extend(self._proto.functions)
        return shell

    def _inline(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        """A weight with its values in it: the part has no data file."""
        folder, ref = self._model.file.folder, data_ref(tensor)
        if ref is None or folder is None:
            return tensor
        made = onnx.TensorProto()
        made.CopyFrom(tensor)
        made.ClearField("external_data")
        made.ClearField("data_location")
        made.raw_data = bytes(read_external(folder, ref, tensor.name))
        return made


def _reads(node: onnx.NodeProto) -> list[str]:
    """What a node and the graphs in it take from around it."""
    found = dict.fromkeys(n for n in node.input if n)
    for attribute in node.attribute:
        for graph in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
            own = {n for inner in graph.node for n in inner.output}
            own |= {t.name for t in graph.initializer} | {i.name for i in graph.input}
            inner_reads = [r for inner in graph.node for r in _reads(inner)]
            inner_reads += [o.name for o in graph.output]
            found |= dict.fromkeys(r for r in inner_reads if r not in own)
    return list(found)
