"""Nodes that depend on constants alone, as a small model of their own that can be inferred and run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx

from graphkit import BadInput, Graph, GraphkitError
from graphkit.model.encode import attribute, schema_type
from graphkit.model.operators import domain_of
from graphkit.model.surgeon import Constant, Node, Tensor, onnx_dtype, tensor_proto
from graphkit.run.evaluate import Evaluation, Setting, evaluate
from graphkit_passes._exact import exact
from graphkit_passes._functions import rename_overload

_STUB_OVER = 1024  # bytes; no shape depends on a larger constant


@dataclass
class Result:
    """What inference says of one output before anything runs: element type, dims, bytes; None: not known."""

    dtype: int | None = None
    shape: tuple[int, ...] | None = None
    nbytes: int | None = None


@dataclass
class Batch:
    """Candidates of one root (the main graph with its subgraphs, or a function), in an order that runs.

    ``functions`` are those of the model, see :func:`without_overloads`.
    """

    root: Graph
    functions: Sequence[onnx.FunctionProto] = ()
    nodes: list[tuple[Graph, Node]] = field(default_factory=list)
    protos: list[onnx.NodeProto] = field(default_factory=list)
    leaves: dict[str, tuple[Graph, Tensor]] = field(default_factory=dict)
    _names: dict[int, tuple[str, Tensor]] = field(default_factory=dict)

    def name(self, tensor: Tensor) -> str:
        """The name of a tensor in the small model: branches may use one name twice, so all get new ones."""
        if not tensor.name:
            return ""
        return self._names.setdefault(id(tensor), (f"t{len(self._names)}", tensor))[0]

    def add(self, graph: Graph, node: Node, constants: Iterable[Tensor]) -> str | None:
        """Take a node in; ``constants`` are those of its inputs that no node of the batch makes.

        Returns why not when it cannot be written down.
        """
        try:
            proto = self.proto(graph, node)
        except (GraphkitError, TypeError, ValueError) as error:
            return str(error)
        self.nodes.append((graph, node))
        self.protos.append(proto)
        self.leaves.update((self.name(t), (graph, t)) for t in constants)
        return None

    def proto(self, graph: Graph, node: Node) -> onnx.NodeProto:
        """The node as a message, its tensors by the names of :meth:`name`."""
        domain = domain_of(node)
        proto = onnx.NodeProto(op_type=node.op, domain=domain)
        record = graph.model.records.nodes.get(id(node))
        if record is not None and (record.op, record.domain) == (node.op, node.domain or ""):
            proto.overload = onnx.NodeProto.FromString(bytes(record.view)).overload
            rename_overload(proto)
        proto.input.extend(self.name(t) for t in node.inputs)
        proto.output.extend(self.name(t) for t in node.outputs)
        for key, value in node.attrs.items():
            proto.attribute.append(
                _attribute(key, value, schema_type(node.op, domain, graph.version(domain), key))
            )
        return proto

    def drop(self, gone: set[int]) -> None:
        """Leave out nodes by place, and those that read what they make."""
        kept_nodes, kept_protos, lost = [], [], set[str]()
        for index, (entry, proto) in enumerate(zip(self.nodes, self.protos, strict=True)):
            if index in gone or any(n in lost for n in proto.input):
                lost.update(o for o in proto.output if o)
            else:
                kept_nodes.append(entry)
                kept_protos.append(proto)
        self.nodes, self.protos = kept_nodes, kept_protos

    def setting(self) -> Setting:
        """The opset imports of the root."""
        imports = {o.domain: int(o.version) for o in self.root.gs.import_domains or []}
        imports = {d: v for d, v in imports.items() if d != "ai.onnx"} | {"": self.root.opset}
        return Setting(imports, self.functions, self.root.model.shell.ir_version)

    def infer(self) -> dict[int, Result]:
        """Type, shape and size of every output, by the tensor's identity; large constants are not read."""
        stubs = [_stub(graph, t, name) for name, (graph, t) in self.leaves.items()]
        model = self.setting().model(self.protos, stubs)
        try:
            typed = onnx.shape_inference.infer_shapes(model, data_prop=True)
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
            return {}
        told = {i.name: _result(i.type) for i in (*typed.graph.output, *typed.graph.value_info)}
        return {key: told[name] for key, (name, _) in self._names.items() if name in told}

    def evaluate(self) -> Evaluation:
        """Run the batch; values are by the names of :meth:`name`. Unreadable constants fail their readers.

        What :mod:`~graphkit_passes._exact` knows needs no session; only the rest goes to the runtimes.
        """
        held, unreadable = self._read()
        done = Evaluation()
        left = [i for i in range(len(self.protos)) if not self._exactly(i, held, done.values)]
        if left:
            known = {n: v for i in left for n in self.protos[i].input if (v := held.get(n)) is not None}
            constants = {n: tensor_proto(v, n) for n, v in known.items()}
            rest = evaluate([self.protos[i] for i in left], constants, self.setting())
            done.values.update(rest.values)
            done.failures.update((left[place], reason) for place, reason in rest.failures.items())
        for index, proto in enumerate(self.protos):
            done.failures.update((index, unreadable[n]) for n in proto.input if n in unreadable)
        return done

    def _read(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The values of the leaves that are read, by name, and why others cannot be."""
        used = {i for p in self.protos for i in p.input}
        held: dict[str, Any] = {}
        unreadable: dict[str, str] = {}
        for name, (graph, tensor) in self.leaves.items():
            if name not in used:
                continue
            try:
                values = graph.value(tensor)
            except BadInput as error:
                unreadable[name] = str(error)
                continue
            if values is not None:
                held[name] = values
        return held, unreadable

    def _exactly(self, index: int, held: dict[str, Any], values: dict[str, Any]) -> bool:
        """Compute one node without a runtime; returns whether that could be."""
        (graph, node), proto = self.nodes[index], self.protos[index]
        if any(n and n not in held for n in proto.input):
            return False
        found = exact(graph, node, [held[n] if n else None for n in proto.input])
        if found is None:
            return False
        name = next(n for n in proto.output if n)
        held[name] = values[name] = found
        return True


def _attribute(name: str, value: Any, kind: int | None) -> onnx.AttributeProto:
    if isinstance(value, Constant):
        held = value._values
        tensor = held.tensor if hasattr(held, "tensor") else tensor_proto(held, "")
        return onnx.helper.make_attribute(name, tensor)
    return onnx.AttributeProto.FromString(b"".join(attribute(name, value, kind)))


def _stub(graph: Graph, tensor: Tensor, name: str) -> onnx.TensorProto:
    """A constant for inference: whole when small, else its type and shape."""
    try:
        values = graph.value(tensor) if graph.nbytes(tensor) <= _STUB_OVER else None
    except BadInput:  # told when the batch runs
        values = None
    if values is not None:
        return tensor_proto(values, name)
    dims = [d for d in graph.shape(tensor) or () if isinstance(d, int)]
    stub = onnx.TensorProto(name=name, dims=dims, data_type=onnx_dtype(graph.dtype(tensor)))
    stub.data_location = onnx.TensorProto.EXTERNAL
    stub.external_data.add(key="location", value="left-out")
    return stub


def _result(kind: onnx.TypeProto) -> Result:
    if kind.WhichOneof("value") != "tensor_type" or not kind.tensor_type.elem_type:
        return Result()
    dtype, dims = kind.tensor_type.elem_type, kind.tensor_type.shape.dim
    known = kind.tensor_type.HasField("shape") and all(
        d.HasField("dim_value") and d.dim_value >= 0 for d in dims
    )
    if not known:
        return Result(dtype)
    count = 1
    for d in dims:
        count *= d.dim_value
    size = onnx.helper.tensor_dtype_to_np_dtype(dtype).itemsize
    return Result(dtype, tuple(d.dim_value for d in dims), count * size)
