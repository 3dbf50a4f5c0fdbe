"""A flat graph in the making: nodes under unique names, where each came from, and values on demand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from graphkit.engine.naming import label
from graphkit.run import outline
from graphkit.run.flow import reads
from graphkit.run.precision import upcast, upcast_feed
from graphkit.run.scoping import Scope, name_of, renamed
from graphkit.run.stream import Program
from graphkit.run.tensors import Shape

NODES = 20_000  # a larger graph is no longer cheaper to look into than to leave whole
EVALUATIONS = 64  # each runs all that its value depends on
_DOMAINS = ("", "ai.onnx")


class Whole(Exception):
    """A node is left as it is; carries why."""


class Flat:
    """What `unfold` builds: call `add` and `emit` for nodes, `value` and `shape` for what they come to."""

    def __init__(self, model: ModelProto, feed: Mapping[str, Any], folder: Path | None) -> None:
        self.model, self.feed, self.folder = model, feed, folder
        self.nodes: list[NodeProto] = []
        self.labels: dict[str, str] = {}
        self.iterations: dict[str, int | None] = {}
        self.tensors: dict[str, tuple[str, str]] = {}
        self.notes: list[str] = []
        self.initializers = {t.name: t for t in model.graph.initializer}
        self._own = set(self.initializers)
        self._times: Counter[str] = Counter()
        self._maker: dict[str, int] = {}
        self._known = {i.name for i in model.graph.input} | self._own
        self._known |= {s.values.name for s in model.graph.sparse_initializer}
        self._known |= {name for node in model.graph.node for name in node.output}
        self._left = EVALUATIONS
        self.opset = next((o.version for o in model.opset_import if o.domain in _DOMAINS), 1)

    def fresh(self, base: str) -> str:
        """A tensor name that nothing has yet."""
        name, number = base, 0
        while name in self._known:
            number += 1
            name = f"{base}#{number}"
        self._known.add(name)
        return name

    def constant(self, base: str, value: NDArray[Any]) -> str:
        """A new initializer; gives its name."""
        name = self.fresh(base)
        self.initializers[name] = onnx.numpy_helper.from_array(value, name)
        return name

    def emit(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        said: str,
        step: int | None = None,
        **attrs: Any,
    ) -> str:
        """A new node under the Metadata label ``said``; gives the name of its first output."""
        self._check()
        self.place(helper.make_node(op, list(inputs), list(outputs), **attrs), said, step)
        return outputs[0]

    def place(self, node: NodeProto, said: str, step: int | None) -> None:
        """Takes a node whose tensors have their flat names."""
        name, number = said, 0
        while name in self.labels:
            number += 1
            name = f"{said}#{number}"
        node.name = name
        self.labels[name], self.iterations[name] = said, step
        for output in node.output:
            self._maker[output] = len(self.nodes)
        self.nodes.append(node)

    def add(self, node: NodeProto, scope: Scope) -> None:
        """Takes a node of a scope as it is, its tensors renamed; in the main graph they keep their names."""
        if not scope.is_main:
            self._check()
        flat = renamed(node, scope.names or {})
        for index, name in enumerate(node.output):
            flat.output[index] = self.declare(name, scope)
        said = self.said(node, scope)
        self.place(flat, said, self.count(said) if scope.looped else None)

    def _check(self) -> None:
        if len(self.nodes) >= NODES:
            raise Whole(f"it comes to more than {NODES} nodes")

    def attempt(self, action: Callable[[], bool]) -> bool:
        """What ``action`` gives; when it raises, nothing that it added stays."""
        count, times = len(self.nodes), self._times.copy()
        try:
            return action()
        except BaseException:
            for node in self.nodes[count:]:
                del self.labels[node.name], self.iterations[node.name]
                for output in node.output:
                    self._maker.pop(output, None)
            del self.nodes[count:]
            self._times = times
            raise

    def said(self, node: NodeProto, scope: Scope) -> str:
        """TensorRT's label of a node of that scope."""
        return label(name_of(node), scope.steps)

    def count(self, said: str) -> int:
        """How often a node with that label was met before."""
        self._times[said] += 1
        return self._times[said] - 1

    def declare(self, name: str, scope: Scope) -> str:
        """The flat name of a tensor that the scope makes now."""
        if not name or scope.is_main:
            return name
        wanted = (scope.targets or {}).get(name)
        flat = self.fresh(name) if wanted is None else wanted
        assert scope.names is not None
        scope.names[name] = flat
        self.tensors[flat] = (label("", scope.steps).removeprefix(" | "), name)
        return flat

    def deliver(self, pairs: Iterable[tuple[str, str]], said: str) -> None:
        """Identity nodes for results that are not made inside: (flat name, name it has to have)."""
        for source, target in pairs:
            if target and source != target:
                self.emit("Identity", [source], [target], said)

    def value(self, name: str) -> NDArray[Any]:
        """What the tensor is on this feed, in fp32 where it is half; CannotRun where nothing runs it."""
        return self.values([], [name])[name]

    def values(self, more: Sequence[NodeProto], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """What tensors come to, with nodes added to those that are there already."""
        found: dict[str, NDArray[Any]] = {}
        for name in names:
            if name in self.feed:
                found[name] = np.asarray(self.feed[name])
            elif name in self.initializers and not outline.is_external(self.initializers[name]):
                found[name] = np.asarray(onnx.numpy_helper.to_array(self.initializers[name]))
        rest = [n for n in names if n not in found]
        if rest:
            if self._left == 0:
                raise Whole(f"more than {EVALUATIONS} conditions and sizes depend on the input")
            self._left -= 1
            wide, _ = upcast(self.part(more, rest), self.folder)
            feed = {i.name: self.feed[i.name] for i in wide.graph.input if i.name in self.feed}
            Program(wide, self.folder).run(upcast_feed(feed), found.__setitem__, wanted=set(rest))
        return found

    def part(self, more: Sequence[NodeProto], names: Sequence[str]) -> ModelProto:
        """A model of no more than these tensors need."""
        model = self.model
        made = {name: node for node in more for name in node.output}
        waiting, places, last, read = list(names), set[int](), list[NodeProto](), set[str]()
        while waiting:
            name = waiting.pop()
            if name in read:
                continue
            read.add(name)
            if name in made:
                node = made[name]
                last += [] if any(node is n for n in last) else [node]
            elif name in self._maker:
                node = self.nodes[self._maker[name]]
                places.add(self._maker[name])
            else:
                continue
            waiting += reads(node)
        part = ModelProto(ir_version=max(model.ir_version, 4), functions=model.functions)
        part.opset_import.extend(model.opset_import)
        part.graph.name = "part"
        part.graph.node.extend([*(self.nodes[p] for p in sorted(places)), *last])
        part.graph.input.extend(i for i in model.graph.input if i.name in read)
        part.graph.initializer.extend(t for n, t in self.initializers.items() if n in read)
        part.graph.sparse_initializer.extend(
            s for s in model.graph.sparse_initializer if s.values.name in read
        )
        for name in names:
            part.graph.output.add(name=name)
        return part

    def shape(self, name: str) -> Shape:
        """The tensor's shape on this feed: inferred, or from running it."""
        if name in self.feed:
            return tuple(np.shape(self.feed[name]))
        if name in self.initializers:
            return tuple(self.initializers[name].dims)
        feed = {i.name: self.feed[i.name] for i in self.model.graph.input if i.name in self.feed}
        found = Program(self.part([], [name])).shapes(feed).shape(name)
        return tuple(self.value(name).shape) if found is None else found

    def elem_type(self, name: str) -> int:
        """The tensor's ONNX dtype, float where nothing tells."""
        if name in self.initializers:
            return int(self.initializers[name].data_type)
        return Program(self.part([], [name])).shapes(self.feed).elem_type(name) or onnx.TensorProto.FLOAT

    def result(self) -> ModelProto:
        """The flat model: inputs, outputs and the main graph's tensors under their names."""
        model, flat = self.model, ModelProto(ir_version=max(self.model.ir_version, 4))
        flat.opset_import.extend(model.opset_import)
        flat.metadata_props.extend(model.metadata_props)
        if any(self._calls()):
            flat.functions.extend(model.functions)
        flat.graph.name = model.graph.name or "g"
        flat.graph.node.extend(self.nodes)
        flat.graph.input.extend(model.graph.input)
        flat.graph.output.extend(model.graph.output)
        flat.graph.value_info.extend(model.graph.value_info)
        flat.graph.sparse_initializer.extend(model.graph.sparse_initializer)
        read = {name for node in self.nodes for name in reads(node)} | {o.name for o in model.graph.output}
        flat.graph.initializer.extend(t for n, t in self.initializers.items() if n in read or n in self._own)
        return flat

    def made(self) -> dict[str, tuple[str, str]]:
        """Where the tensors come from that the main graph does not have."""
        return {name: origin for name, origin in self.tensors.items() if name in self._maker}

    def _calls(self) -> Iterable[bool]:
        """For each node that is left, whether it calls a local function."""
        local = {(f.domain, f.name) for f in self.model.functions}
        return ((n.domain, n.op_type) in local for n in _deep(self.nodes))


def _deep(nodes: Iterable[NodeProto]) -> Iterable[NodeProto]:
    for node in nodes:
        yield node
        for graph in outline.subgraphs(node):
            yield from _deep(graph.node)
