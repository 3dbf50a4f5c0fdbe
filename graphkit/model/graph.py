"""The model that a pass edits: typed views of its scopes, over real GraphSurgeon graphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from graphkit.errors import BadInput, PassFailed
from graphkit.model import external, wire
from graphkit.model import records as r
from graphkit.model.adopt import adopt
from graphkit.model.file import ModelFile, save
from graphkit.model.messages import first_line, parse
from graphkit.model.overlay import Origin, Overlay
from graphkit.model.pinned import pinned_names
from graphkit.model.reader import Reader, default_version
from graphkit.model.scopes import Live, function_label, lookup, ordered, subgraphs_of, walk
from graphkit.model.surgeon import (
    Array,
    Constant,
    GsFunction,
    GsNode,
    Node,
    Stored,
    StoredSparse,
    Surgeon,
    Tensor,
    Variable,
    at_home,
    numpy_dtype,
    unlink,
)

Shape = tuple[int | str | None, ...]
_SCALARS = frozenset({1})  # ir_version
_NOT_SHELL = frozenset({r.MODEL_GRAPH, r.MODEL_FUNCTIONS, r.MODEL_TRAINING})


class Model:
    """A whole model: its file, its main graph, and what is needed to write it back untouched."""

    def __init__(self, file: ModelFile) -> None:
        """Read ``file``. Raises BadInput when its bytes are no ONNX model or its data files are not right."""
        self.file = file
        try:
            self._read()
        except (wire.WireError, ValueError, RecursionError) as error:
            raise BadInput(f"{self.where}: not an ONNX model ({first_line(error)})") from error
        except BadInput as error:
            if str(error).startswith(self.where):
                raise
            raise BadInput(f"{self.where}: {error}") from error
        self._views: dict[int, Graph] = {}
        self._dropped: set[int] = set()
        self._origins: dict[int, tuple[Any, Origin]] = {}
        self._names: set[str] | None = None
        self._counts: dict[str, int] = {}
        self._locations: set[str] | None = None
        self.spec = ""
        self.main = self._view(self._surgeon, "main", None)

    def _read(self) -> None:
        data = self.file.data
        self._fields = wire.scan(data)
        shell = parse(onnx.ModelProto, wire.without(data, self._fields, _NOT_SHELL))
        graph = wire.merged(data, self._fields, r.MODEL_GRAPH)
        if graph is None:
            raise BadInput(f"{self.where}: holds no graph; it is not an ONNX model")
        self.shell = shell
        reader = Reader(shell, self.file.folder)
        functions = wire.payloads(data, self._fields, r.MODEL_FUNCTIONS)
        self._surgeon = reader.model(graph, functions, shell)
        self.records = reader.records
        self.records.scopes[id(self._surgeon)].domains = [(o.domain, o.version) for o in shell.opset_import]
        training = wire.payloads(data, self._fields, r.MODEL_TRAINING)
        self.pinned = pinned_names(reader.opaque_graphs, training)
        self._check_data()

    def _check_data(self) -> None:
        """Every data file must be there, inside the model's folder, and long enough; else nothing begins."""
        if not self.records.external:
            return
        if self.file.folder is None:
            raise BadInput(
                f"{self.where}: has external data; load it from its file, or give the folder it lies in"
            )
        furthest: dict[str, tuple[int, str, external.DataRef, int | None]] = {}
        for name, ref, nbytes in self.records.external:
            end = ref.offset + max(ref.length or 0, nbytes or 0)
            short = ref.length is not None and nbytes is not None and ref.length < nbytes
            if short or ref.location not in furthest or furthest[ref.location][0] < end:
                furthest[name if short else ref.location] = (end, name, ref, nbytes)
        for _, name, ref, nbytes in furthest.values():
            external.resolve(self.file.folder, ref, name, nbytes)

    @property
    def where(self) -> str:
        """What to call this model in a message."""
        return str(self.file.path) if self.file.path is not None else "model in memory"

    @classmethod
    def load(cls, path: Path | str) -> Model:
        """Read a model file; BadInput says in one line what is wrong with it."""
        return cls(ModelFile.load(path))

    @classmethod
    def from_file(cls, file: ModelFile) -> Model:
        """Read a model file that is open already."""
        return cls(file)

    @classmethod
    def from_proto(cls, model: onnx.ModelProto, folder: Path | None = None) -> Model:
        """Take a model from memory; ``folder`` is where its external data lies, if it has any."""
        return cls(ModelFile.from_proto(model, folder))

    # -- scopes

    def scopes(self) -> list[Graph]:
        """The main graph, its subgraphs depth first, then each function and its subgraphs."""
        return [view for root in (self.main, *self.functions) for view in self._below(root)]

    @property
    def functions(self) -> list[Graph]:
        """The local functions, in the order of the file."""
        return [self._view(f, function_label(f), None) for f in self._surgeon.functions]

    def remove_functions(self, functions: Iterable[Graph]) -> None:
        """Take local functions out of the model; nothing may call them any more."""
        gone = {id(f.gs) for f in functions}
        self._surgeon.functions = [f for f in self._surgeon.functions if id(f) not in gone]

    def _below(self, root: Graph) -> list[Graph]:
        found = []
        for surgeon, label, parent in walk(root.gs, root.label):
            found.append(self._view(surgeon, label, self._views[id(parent)] if parent is not None else None))
        return found

    def _view(self, surgeon: Surgeon, label: str, parent: Graph | None) -> Graph:
        view = self._views.get(id(surgeon))
        if view is None or view.gs is not surgeon:
            view = self._views[id(surgeon)] = Graph(self, surgeon, parent, label)
        view.parent, view.label = parent, label
        return view

    # -- names and origins

    def fresh_name(self, hint: str) -> str:
        """A name like ``hint`` that no tensor and no node of any scope has."""
        if self._names is None:
            self._names = self._all_names()
        name, count = hint, self._counts.get(hint, 0)
        while name in self._names or not name:
            count += 1
            name = f"{hint}_{count}"
        self._counts[hint] = count
        self._names.add(name)
        return name

    def _all_names(self) -> set[str]:
        names: set[str] = set(self.pinned)
        for record in self.records.scopes.values():
            names.update(record.local)
        for view in self.scopes():
            names.update(t.name for t in (*view.inputs, *view.outputs))
            for node in view.nodes:
                names.add(node.name)
                names.update(t.name for t in (*node.inputs, *node.outputs))
        return names

    def begin(self, spec: str) -> None:
        """Name the pass whose edits follow; it is written into the origin of what it makes."""
        self.spec = spec
        self._names = None

    def note_origin(self, made: Any, of: Iterable[str]) -> None:
        """Record that ``made`` (a node or a constant) stands for the tensors of those names."""
        first: list[str] = []
        for name in of:
            first.extend(n for n in self.records.origins.get(name) or [name] if n not in first)
        self._origins[id(made)] = (made, Origin(self.spec, first))

    def first_names(self, tensors: Iterable[Tensor]) -> list[str]:
        """The names under which the file had these tensors, or what the ones that a pass made stand for."""
        found: list[str] = []
        for tensor in tensors:
            was = self.records.was(tensor)
            if was is not None:
                found.append(was[0])
            else:
                maker = tensor.inputs[0] if tensor.inputs else tensor
                entry = self._origins.get(id(maker))
                found.extend(entry[1].of if entry is not None else [tensor.name])
        return [n for n in dict.fromkeys(found) if n]

    def adopt(self, surgeon: Surgeon) -> None:
        """Take another GraphSurgeon graph, a copy or one imported anew, for the main graph of this model.

        Its nodes and tensors are found again by name, so that what it left alone keeps its bytes.
        """
        adopt(self.records, self._surgeon, surgeon)

    # -- out

    def live(self) -> Live:
        """What the model reaches now, as the export sees it."""
        keep = frozenset(self.pinned)
        return Live(self.records, self._surgeon, dropped=frozenset(self._dropped), keep=keep, spec=self.spec)

    def export(self) -> wire.Parts:
        """The model's wire bytes in pieces; what no pass touched is a view of the file.

        Raises PassFailed when the edits do not make a graph: two tensors of one name, a value without type.
        """
        overlay = self._overlay()
        self._locations = overlay.locations
        return self._written(overlay)

    def skeleton(self, *, value_info: bool = False) -> onnx.ModelProto:
        """The model without the data of large initializers, and without value_info unless it is asked for.

        It is what shape inference and the checker need, and costs little for a model of any size.
        """
        parts = self._written(self._overlay(light=True, value_info=value_info))
        proto: onnx.ModelProto = parse(onnx.ModelProto, b"".join(parts))
        return proto

    def _overlay(self, *, light: bool = False, value_info: bool = True) -> Overlay:
        live = self.live()
        live.check_names()
        live.main.imports_view, live.main.imports_fields = self.file.data, self._fields
        return Overlay(self.records, live, self._origins, light=light, value_info=value_info)

    def _written(self, overlay: Overlay) -> wire.Parts:
        live = overlay.live
        edits: dict[int, Sequence[wire.Item]] = {}
        graph, changed = overlay.graph(live.main)
        if changed:
            edits[r.MODEL_GRAPH] = [wire.bytes_field(r.MODEL_GRAPH, graph)]
        items: list[wire.Item] = []
        for scope in live.functions:
            parts, touched = overlay.function(scope)
            new = touched or scope.record.ordinal < 0
            items.append(wire.bytes_field(r.MODEL_FUNCTIONS, parts) if new else scope.record.ordinal)
        if items != list(range(wire.count(self._fields, r.MODEL_FUNCTIONS))):
            edits[r.MODEL_FUNCTIONS] = items
        overlay.opsets(live.main, r.MODEL_OPSET, edits)
        self._head(edits)
        return wire.splice(self.file.data, self._fields, edits, _SCALARS) if edits else [self.file.data]

    def _head(self, edits: dict[int, Sequence[wire.Item]]) -> None:
        """IR version and producer, which GraphSurgeon keeps on the graph."""
        version = self._surgeon.ir_version or self.shell.ir_version
        if version != self.shell.ir_version:
            edits[1] = [wire.number_field(1, version)]
        for number, was, now in (
            (2, self.shell.producer_name, self._surgeon.producer_name),
            (3, self.shell.producer_version, self._surgeon.producer_version),
        ):
            if (now or "") != was:
                edits[number] = [wire.text_field(number, now)]

    def to_bytes(self) -> bytes:
        """The exported model as one string; for small ones."""
        return b"".join(self.export())

    def to_proto(self) -> onnx.ModelProto:
        """The exported model as a message; external data stays a reference."""
        proto: onnx.ModelProto = parse(onnx.ModelProto, self.to_bytes())
        return proto

    def locations(self) -> set[str]:
        """The external data files that the model names, as it was last exported."""
        if self._locations is None:
            self.export()
        return set(self._locations or ())

    def save(self, out: Path | str) -> None:
        """Write the model to ``out`` atomically, with the data files it names; see graphkit.model.save."""
        parts = self.export()
        unchanged = len(parts) == 1 and parts[0] is self.file.data
        save(parts, Path(out), self.file, self.locations(), unchanged=unchanged)


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
        return self.model.scopes() if self is self.model.main else self.model._below(self)

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
        ends = {id(t) for view in self.model.scopes() for t in view.outputs}
        return [
            i.tensor
            for i in record.initializers.values()
            if isinstance(i.tensor, Constant)
            and not i.tensor.outputs
            and not i.overridable
            and i.name not in named
            and id(i.tensor) not in self.model._dropped
            and id(i.tensor) not in ends
        ]

    def remove_initializer(self, tensor: Tensor) -> None:
        """Drop an initializer; nobody may read it any more."""
        if tensor.outputs:
            raise PassFailed(
                f"{self.label}: initializer '{tensor.name}' is still read by '{tensor.outputs[0].name}'"
            )
        self.model._dropped.add(id(tensor))

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

__all__ = ["Graph", "Model", "Node", "Shape", "Stored", "Tensor"]
