"""What a pass edits: a typed view of one scope, over a real GraphSurgeon graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from graphkit.errors import PassFailed
from graphkit.model.reader import default_version
from graphkit.model.scopes import lookup, ordered, subgraphs_of
from graphkit.model.surgeon import (
    Array,
    Constant,
    GsFunction,
    GsNode,
    Node,
    StoredSparse,
    Surgeon,
    Tensor,
    Variable,
    at_home,
    numpy_dtype,
    unlink,
)

if TYPE_CHECKING:
    from graphkit.model.model import Model

__all__ = ["Graph", "Node", "Shape", "Tensor"]

Shape = tuple[int | str | None, ...]


class Graph:
    """One scope: the main graph, a subgraph, or a local function.

    ``gs`` is the real ``gs.Graph`` or ``gs.Function``, and can be edited as such; the methods here work
    by identity, which GraphSurgeon's do by name, and keep track of where new tensors come from.
    """

    def __init__(self, model: Model, surgeon: Surgeon, parent: Graph | None, label: str) -> None:
        self.model = model
        self.gs = surgeon
        self.parent = parent
        self.label = label
        self._last_place = 0

    def __repr__(self) -> str:
        return f"<Graph {self.label}: {len(self.nodes)} nodes>"

    @property
    def is_function(self) -> bool:
        """Whether this is the body of a local function: it has no initializers, and no types."""
        return isinstance(self.gs, GsFunction)

    @property
    def nodes(self) -> list[Node]:
        """The nodes of this scope alone, in order; the list itself, so it can be edited."""
        return self.gs.nodes  # type: ignore[no-any-return]

    @property
    def inputs(self) -> list[Tensor]:
        """Inputs that have no initializer."""
        return self.gs.inputs  # type: ignore[no-any-return]

    @property
    def outputs(self) -> list[Tensor]:
        """Outputs, in order."""
        return self.gs.outputs  # type: ignore[no-any-return]

    def version(self, domain: str = "") -> int:
        """The opset version of ``domain`` that holds here; 0 when it is not imported."""
        root = self
        while root.parent is not None:
            root = root.parent
        imports = {o.domain: o.version for o in root.gs.import_domains or []}
        if domain in ("", "ai.onnx") and root.gs.opset != default_version(root.gs.import_domains or []):
            return int(root.gs.opset)
        return int(lookup(imports, domain))

    @property
    def opset(self) -> int:
        """The opset version of the default domain."""
        return self.version()

    def scopes(self) -> list[Graph]:
        """This scope and all below it; for the main graph, every scope of the model."""
        return self.model.scopes() if self is self.model.main else self.model.below(self)

    # -- looking

    def producer(self, tensor: Tensor) -> Node | None:
        """The node that makes ``tensor``, here or in a scope around; None for inputs and initializers."""
        return tensor.inputs[0] if tensor.inputs else None

    def consumers(self, tensor: Tensor) -> list[Node]:
        """The nodes of any scope that read ``tensor``, one entry a use."""
        return list(tensor.outputs)

    def is_output(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` is an output of any scope, or named from where no pass can see."""
        if tensor.name in self.model.pinned:
            return True
        return any(t is tensor for view in self.model.scopes() for t in view.outputs)

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether the value is in the file: an initializer that no input overrides, or a Constant node."""
        return self._stored(tensor) is not None

    def _stored(self, tensor: Tensor) -> Any:
        """The values of a constant as they are held: an array, or Stored; None when it is none."""
        if isinstance(tensor, Constant):
            record = self.model.records.initializers.get(id(tensor))
            return None if record is not None and record.overridable else at_home(tensor)
        node = self.producer(tensor)
        if node is None or node.op != "Constant" or (node.domain or "") not in ("", "ai.onnx"):
            return None
        return _constant_value(node)

    def value(self, tensor: Tensor) -> Array | None:
        """The value of a constant as an array; None when ``tensor`` is none.

        Looking does not count as touching. Sparse values come dense; bfloat16, fp8 and int4 as ml_dtypes.
        """
        held = self._stored(tensor)
        if held is None or isinstance(held, np.ndarray):
            return held
        return held.read()  # type: ignore[no-any-return]

    def nbytes(self, tensor: Tensor) -> int:
        """Bytes of a constant's values; 0 when ``tensor`` is no constant. Nothing is read."""
        held = self._stored(tensor)
        return 0 if held is None else int(held.nbytes)

    def shape(self, tensor: Tensor) -> Shape | None:
        """The shape that the file or a pass gives for ``tensor``; annotations can be wrong (see infer)."""
        held = self._stored(tensor)
        shape = held.shape if held is not None else tensor.shape
        return None if shape is None else tuple(shape)

    def dtype(self, tensor: Tensor) -> np.dtype[Any] | None:
        """The dtype that the file or a pass gives for ``tensor``, ml_dtypes included."""
        held = self._stored(tensor)
        return numpy_dtype(held.dtype if held is not None else tensor.dtype)

    def counts(self) -> Counter[str]:
        """Number of nodes by op type (``domain::op`` outside the default domain), here and below."""
        return Counter(_op_name(node) for view in self.scopes() for node in view.nodes)

    # -- editing

    def constant(self, values: Array, name: str = "const", of: Sequence[Tensor] = ()) -> Tensor:
        """A new constant tensor of this scope; ``of`` are the tensors it was computed from.

        It becomes an initializer, or a Constant node in a function, when something reads it.
        """
        made = Constant(self.model.fresh_name(name), np.asarray(values))
        if of:
            self.model.note_origin(made, self.model.first_names(of))
        return made

    def add(
        self,
        op: str,
        inputs: Sequence[Tensor | None],
        attrs: Mapping[str, Any] | None = None,
        *,
        outputs: int | Sequence[str] = 1,
        domain: str = "",
        name: str = "",
        before: Node | None = None,
        of: Sequence[Node] = (),
    ) -> list[Tensor]:
        """Insert a node and return its new output tensors.

        None among ``inputs`` is an omitted optional one. It goes before the node ``before``, or at the end;
        ``of`` are the nodes it was made from: it takes its name from the first, and records their outputs.
        """
        hint = name or (of[0].name and f"{of[0].name}/{op}" if of else "") or op
        named = [f"{hint}_output_{i}" for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
        made = [Variable(self.model.fresh_name(n)) if n else Variable.empty() for n in named]
        given = [Variable.empty() if t is None else t for t in inputs]
        node = GsNode(op, self.model.fresh_name(hint), dict(attrs or {}), given, made, domain or None)
        self.nodes.insert(len(self.nodes) if before is None else self._place(before), node)
        if of:
            self.model.note_origin(node, self.model.first_names(t for n in of for t in n.outputs))
        return made

    def replace(self, old: Tensor, new: Tensor) -> None:
        """Let ``new`` stand wherever ``old`` does; names of outputs survive.

        A node that a pass just made writes ``old`` itself from now on, so that name, annotations and readers
        stay. Otherwise the readers are rewired, and where ``old`` is an output an Identity keeps its name.
        The node that wrote ``old`` is left, with an output that nobody reads: remove it.
        """
        if old is new:
            return
        maker = self.producer(new)
        if maker is not None and self.model.records.was(new) is None and self._place(maker) < len(self.nodes):
            self._take_over(old, new, maker)
            return
        former = self.producer(old)
        for reader in list(old.outputs):
            self.rewire(reader, old, new)
        if self.is_output(old):
            if former is not None:
                _detach_output(former, old, self.model.fresh_name(old.name))
            self._identity(new, old, former)

    def _take_over(self, old: Tensor, new: Tensor, maker: Node) -> None:
        former = self.producer(old)
        if former is not None and former is not maker:
            _detach_output(former, old, self.model.fresh_name(old.name))
        if isinstance(old, Constant):
            old.to_variable(old.dtype, list(old.shape))
        if isinstance(old, Variable) and isinstance(new, Variable):
            old.dtype = old.dtype if old.dtype is not None else new.dtype
            old.shape = old.shape if old.shape is not None else new.shape
        for reader in list(new.outputs):
            self.rewire(reader, new, old)
        place = next(i for i, t in enumerate(maker.outputs) if t is new)
        list.__setitem__(maker.outputs, place, old)
        unlink(new.inputs, maker)
        list.append(old.inputs, maker)

    def _identity(self, new: Tensor, old: Tensor, former: Node | None) -> None:
        (made,) = self.add("Identity", [new], of=[former] if former is not None else (), before=former)
        self._take_over(old, made, made.inputs[0])
        self.sort()

    def rewire(self, node: Node, old: Tensor, new: Tensor) -> None:
        """Let ``node`` read ``new`` in every place where it read ``old``."""
        for place, tensor in enumerate(node.inputs):
            if tensor is old:
                list.__setitem__(node.inputs, place, new)
                unlink(old.outputs, node)
                list.append(new.outputs, node)

    def remove(self, nodes: Iterable[Node]) -> None:
        """Take nodes out of this scope and unlink them from their tensors (and those of their subgraphs)."""
        gone = {id(n): n for n in nodes}
        if len(gone) <= _FEW:
            for node in gone.values():
                place = self._place(node)
                del self.nodes[place : place + 1]
        else:
            self.nodes[:] = [n for n in self.nodes if id(n) not in gone]
        for node in gone.values():
            _unlink_node(node)

    def _place(self, node: Node) -> int:
        """The index of ``node``, sought near the last one asked for, since passes go in order; or the end."""
        start = min(max(self._last_place - _FEW, 0), len(self.nodes))
        for place in range(start, min(start + 4 * _FEW, len(self.nodes))):
            if self.nodes[place] is node:
                self._last_place = place
                return place
        self._last_place = next((i for i, n in enumerate(self.nodes) if n is node), len(self.nodes))
        return self._last_place

    def unused_initializers(self) -> list[Tensor]:
        """Initializers of this scope that nothing reads or names."""
        record = self.model.records.scopes.get(id(self.gs))
        if record is None:
            return []
        named = self.model.pinned | record.annotations_of(lambda t: bool(t.inputs or t.outputs))
        ends = {id(t) for view in self.scopes() for t in view.outputs}
        return [
            i.tensor
            for i in record.initializers.values()
            if isinstance(i.tensor, Constant)
            and not i.tensor.outputs
            and not i.overridable
            and i.name not in named
            and id(i.tensor) not in self.model.dropped
            and id(i.tensor) not in ends
        ]

    def remove_initializer(self, tensor: Tensor) -> None:
        """Drop an initializer; nobody may read it any more."""
        if tensor.outputs:
            raise PassFailed(
                f"{self.label}: initializer '{tensor.name}' is still read by '{tensor.outputs[0].name}'"
            )
        self.model.dropped.add(id(tensor))

    def rename(self, tensor: Tensor, name: str) -> None:
        """Give a tensor another name; all that refers to it follows."""
        tensor.name = name

    def sort(self) -> None:
        """Put the nodes of this scope in topological order, each as near to its place as that allows."""
        self.nodes[:] = ordered(self.nodes)


_FEW = 16


def _op_name(node: Node) -> str:
    domain = node.domain or ""
    return node.op if domain in ("", "ai.onnx") else f"{domain}::{node.op}"


def _detach_output(node: Node, tensor: Tensor, name: str) -> None:
    """Let ``node`` write a tensor nobody reads, called ``name``, in the place of ``tensor``."""
    place = next(i for i, t in enumerate(node.outputs) if t is tensor)
    unlink(tensor.inputs, node)
    spare = Variable(name)
    list.__setitem__(node.outputs, place, spare)
    list.append(spare.inputs, node)


def _unlink_node(node: Node) -> None:
    for tensor in list(node.inputs):
        unlink(tensor.outputs, node)
    for tensor in list(node.outputs):
        unlink(tensor.inputs, node)
    list.clear(node.inputs)
    list.clear(node.outputs)
    for _, graph in subgraphs_of(node):
        for below in graph.nodes:
            _unlink_node(below)


def _constant_value(node: Node) -> Any:
    """What a Constant node holds: Stored, or an array for the forms with plain numbers; None for others."""
    for name, value in node.attrs.items():
        if isinstance(value, Constant):
            return value._values
        if name in _PLAIN:
            try:
                return np.array(value, _PLAIN[name])
            except (TypeError, ValueError, OverflowError):
                return None  # a reference to an attribute of the function
        if name == "sparse_value" and isinstance(value, onnx.SparseTensorProto):
            return StoredSparse(value.SerializeToString(), None)
    return None


_PLAIN = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_string": object,
    "value_strings": object,
}
