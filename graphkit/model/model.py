"""A whole model: read once, edited through its scopes, written back with what was not touched as it was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import onnx

from graphkit.errors import BadInput
from graphkit.model import encode, external, wire
from graphkit.model import records as r
from graphkit.model.adopt import adopt
from graphkit.model.file import ModelFile, save
from graphkit.model.graph import Graph
from graphkit.model.messages import no_graph, parse, unreadable
from graphkit.model.overlay import Origin, Overlay
from graphkit.model.pinned import pinned_names
from graphkit.model.reader import Reader
from graphkit.model.scopes import Live, function_label, walk
from graphkit.model.surgeon import Surgeon, Tensor

__all__ = ["Model"]

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
            raise BadInput(f"{self.where}: {unreadable(file.data, error)}") from error
        except BadInput as error:
            if str(error).startswith(self.where):
                raise
            raise BadInput(f"{self.where}: {error}") from error
        self._views: dict[int, Graph] = {}
        self.dropped: set[int] = set()
        self._origins: dict[int, tuple[Any, Origin]] = {}
        self._names: set[str] | None = None
        self._counts: dict[str, int] = {}
        self._locations: set[str] | None = None
        self.metadata = {p.key: p.value for p in self.shell.metadata_props}
        """The model's own metadata_props; what a pass adds or changes is written."""
        self.spec = ""
        self.bridge: Any = None  # how the last pass changed the interface: a graphkit.Bridge, or None
        self.main = self._view(self._surgeon, "main", None)

    def _read(self) -> None:
        data = self.file.data
        self._fields = wire.scan(data)
        shell = parse(onnx.ModelProto, wire.without(data, self._fields, _NOT_SHELL))
        graph = wire.merged(data, self._fields, r.MODEL_GRAPH)
        if graph is None:
            raise BadInput(f"{self.where}: {no_graph()}")
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
        return self.file.name or "model in memory"

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
        return [view for root in (self.main, *self.functions) for view in self.below(root)]

    @property
    def functions(self) -> list[Graph]:
        """The local functions, in the order of the file."""
        return [self._view(f, function_label(f), None) for f in self._surgeon.functions]

    def remove_functions(self, functions: Iterable[Graph]) -> None:
        """Take local functions out of the model; nothing may call them any more."""
        gone = {id(f.gs) for f in functions}
        self._surgeon.functions = [f for f in self._surgeon.functions if id(f) not in gone]

    def below(self, root: Graph) -> list[Graph]:
        """A scope and the subgraphs below it, outer first."""
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

    def made_by(self, made: Any) -> str:
        """The spec of the pass that made a node or constant, now or as the file says; empty when none did."""
        entry = self._origins.get(id(made))
        if entry is not None:
            return entry[1].spec
        node, constant = self.records.nodes.get(id(made)), self.records.initializers.get(id(made))
        if node is not None:
            return encode.spec_in(parse(onnx.NodeProto, node.view).metadata_props)
        header = constant.stored.header if constant is not None else None
        return encode.spec_in(getattr(header, "metadata_props", ()))

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
        version = int(self._surgeon.ir_version or self.shell.ir_version)
        return Live(
            self.records,
            self._surgeon,
            dropped=frozenset(self.dropped),
            keep=keep,
            spec=self.spec,
            ir_version=version,
        )

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
        """IR version and producer, which GraphSurgeon keeps on the graph, and metadata."""
        version = self._surgeon.ir_version or self.shell.ir_version
        if version != self.shell.ir_version:
            edits[1] = [wire.number_field(1, version)]
        for number, was, now in (
            (2, self.shell.producer_name, self._surgeon.producer_name),
            (3, self.shell.producer_version, self._surgeon.producer_version),
        ):
            if (now or "") != was:
                edits[number] = [wire.text_field(number, now)]
        props = [(p.key, p.value) for p in self.shell.metadata_props]
        if self.metadata != dict(props):
            kept: list[wire.Item] = [i for i, (k, v) in enumerate(props) if self.metadata.get(k) == v]
            new = [pair for pair in self.metadata.items() if pair not in props]
            edits[r.MODEL_METADATA] = [*kept, *(encode.entry(r.MODEL_METADATA, *pair) for pair in new)]

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

    def data_files(self) -> set[str]:
        """The external data files that the model named when it was read; OUT may replace none of them."""
        return {ref.location for _, ref, _ in self.records.external}

    def save(self, out: Path | str) -> None:
        """Write the model to ``out`` atomically, with the data files it names; see graphkit.model.save."""
        parts = self.export()
        unchanged = len(parts) == 1 and parts[0] is self.file.data
        save(parts, Path(out), self.file, self.locations(), spared=self.data_files(), unchanged=unchanged)
