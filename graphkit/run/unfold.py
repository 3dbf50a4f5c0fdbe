"""Control flow and recurrence laid open for one feed, so that every tensor inside has a name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto

from graphkit.run import outline
from graphkit.run.flat import Flat, Whole
from graphkit.run.reference import CannotRun
from graphkit.run.scoping import Scope, bound, name_of
from graphkit.run.unfold_cells import CELLS
from graphkit.run.unfold_loop import loop, scan
from graphkit.run.unfold_rnn import recurrent

__all__ = ["Unfolded", "unfold"]


@dataclass(frozen=True)
class Unfolded:
    """A model without functions, branches, loops and recurrent nodes, as far as they could be laid open.

    ``labels``: node -> what TensorRT's Metadata calls it; ``iterations``: node -> how often it ran before, in
    a loop or a recurrence (None outside); ``tensors``: tensor that the main graph does not have -> the scope
    it comes from, as in Metadata, and its name there; ``notes``: what was left whole, and why.
    """

    model: ModelProto
    labels: Mapping[str, str]
    iterations: Mapping[str, int | None]
    tensors: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def unfold(model: ModelProto, feed: Mapping[str, Any], folder: Path | None = None) -> Unfolded:
    """Lay a model open for one feed; names of the main graph's tensors stay, and so do all values.

    Local functions are inlined, one copy a call; If becomes the branch that this feed takes; Loop and Scan
    are unrolled up to 512 iterations and 20,000 nodes; LSTM, GRU and RNN become the products, gates and
    states of each step. A tensor that a branch, body or function gives to the outside has the outer name. A
    model with nothing to lay open comes back itself. Conditions, trip counts and lengths that depend on the
    feed are computed in ONNX Runtime; what does not run there stays whole, with a note.
    """
    flat = Flat(model, feed, folder)
    walker = _Walker(flat)
    walker.walk(model.graph.node, Scope(names={}))
    if not walker.changed:
        names = {n.name: name_of(n) for n in model.graph.node if n.name}
        return Unfolded(model, names, dict.fromkeys(names), {}, tuple(flat.notes))
    return Unfolded(flat.result(), flat.labels, flat.iterations, flat.made(), tuple(flat.notes))


class _Walker:
    """Goes through nodes in order and lays each open, or takes it as it is."""

    def __init__(self, flat: Flat) -> None:
        self.flat, self.changed = flat, False
        self._functions = {(f.domain, f.name, f.overload): f for f in flat.model.functions}

    def walk(self, nodes: Iterable[NodeProto], scope: Scope) -> None:
        """Lays the nodes of one scope open."""
        for original in nodes:
            node = bound(original, scope.attributes)
            try:
                opened = self.flat.attempt(partial(self._open, node, scope))
            except (Whole, CannotRun) as error:
                said = f"{self.flat.said(node, scope)} ({node.op_type}) is left whole: {error}"
                if said not in self.flat.notes:
                    self.flat.notes.append(said)
                opened = False
            if opened:
                self.changed = True
            else:
                self.flat.add(node, scope)

    def _open(self, node: NodeProto, scope: Scope) -> bool:
        """Whether the node was laid open; raises before anything is added when it cannot be."""
        function = self._functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            return self._call(node, function, scope)
        if node.domain not in ("", "ai.onnx"):
            return False
        if node.op_type == "If":
            return self._branch(node, scope)
        if node.op_type in ("Loop", "Scan"):
            (loop if node.op_type == "Loop" else scan)(self.flat, self.body, node, scope)
            return True
        return node.op_type in CELLS and recurrent(self.flat, node, scope)

    def _branch(self, node: NodeProto, scope: Scope) -> bool:
        taken = bool(np.asarray(self.flat.value(scope.flat(node.input[0]))).reshape(-1)[0])
        which = "then_branch" if taken else "else_branch"
        graph = outline.attribute(node, which)
        step = (graph.name, which, name_of(node), node.op_type)
        outputs = [self.flat.declare(o, scope) for o in node.output]
        inner = scope.inner(step, names=dict(scope.names or {}), targets=None)
        self.flat.deliver(self.body(graph, inner, outputs), self.flat.said(node, scope))
        return True

    def _call(self, node: NodeProto, function: FunctionProto, scope: Scope) -> bool:
        self._same_operators(function)
        step = f"{name_of(node)} ({node.op_type})"
        names = {f: scope.flat(a) for f, a in zip(function.input, node.input, strict=False)}
        names.update(dict.fromkeys(list(function.input)[len(node.input) :], ""))
        given = {a.name: a for a in (*function.attribute_proto, *node.attribute)}
        outputs = [self.flat.declare(o, scope) for o in node.output]
        targets = _targets([n for f in function.node for n in f.output], function.output, outputs)
        inner = scope.inner(step, names=names, targets=targets, attributes=given)
        self.walk(function.node, inner)
        found = [inner.flat(f) for f in function.output]
        self.flat.deliver(zip(found, outputs, strict=False), self.flat.said(node, scope))
        return True

    def body(self, graph: GraphProto, scope: Scope, outputs: Sequence[str]) -> list[tuple[str, str]]:
        """Lays one run of a subgraph open; its results get the flat names ``outputs`` ("" for any).

        Gives each result's flat name beside the one it has to have: they differ for what is not made inside.
        """
        assert scope.names is not None
        for tensor in graph.initializer:
            name = self.flat.fresh(tensor.name)
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name = name
            self.flat.initializers[name] = copy
            scope.names[tensor.name] = name
        made = [name for node in graph.node for name in node.output]
        inner = [o.name for o in graph.output]
        self.walk(graph.node, Scope(**{**scope.__dict__, "targets": _targets(made, inner, outputs)}))
        return [(scope.flat(name), out) for name, out in zip(inner, outputs, strict=False)]

    def _same_operators(self, function: FunctionProto) -> None:
        """Refuses a function whose operators mean something else in the model's opsets."""
        versions = {_domain(o.domain): o.version for o in self.flat.model.opset_import}
        for used in function.opset_import:
            ours = versions.get(_domain(used.domain))
            if ours is None:
                raise Whole(f"the model does not import the domain '{used.domain}' that it uses")
            for op in {n.op_type for n in function.node if _domain(n.domain) == _domain(used.domain)}:
                if ours != used.version and _since(op, used.domain, ours) != _since(
                    op, used.domain, used.version
                ):
                    raise Whole(f"its {op} is that of opset {used.version}, the model's is of {ours}")


def _targets(made: Iterable[str], inner: Iterable[str], outputs: Sequence[str]) -> dict[str, str]:
    """Flat names for the results that are made inside, the first of them where one is given twice."""
    own, found = set(made), dict[str, str]()
    for name, out in zip(inner, outputs, strict=False):
        if out and name in own:
            found.setdefault(name, out)
    return found


def _since(op: str, domain: str, version: int) -> int:
    try:
        return int(onnx.defs.get_schema(op, version, domain).since_version)
    except onnx.defs.SchemaError:
        return version


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name
