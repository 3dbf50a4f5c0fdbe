"""One model moved behind another: its nodes, weights, functions and what the file said of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import onnx

from graphkit import Graph, Model, NotApplicable
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import domain_of
from graphkit.model.surgeon import Constant, Stored, numpy_dtype, stored_tensors
from graphkit_passes._edit import Types, defaults, is_tensor
from graphkit_passes._names import definitions, root
from graphkit_passes._versions import versions

MOST = 1 << 30
"""Bytes of external data that are taken into the file."""


class Moving:
    """``other`` on its way into the model of ``graph``; ``fed`` are its inputs with what feeds them."""

    def __init__(self, graph: Graph, other: Model, fed: Mapping[str, Tensor], prefix: str) -> None:
        self._graph, self._model, self._other = graph, graph.model, other
        self._fed, self._prefix = fed, prefix
        self.notes: list[str] = []
        self._ends = {t.name: t for t in (*defaults(other.main), *other.main.inputs)}

    # -- may it?

    def require(self) -> None:
        """NotApplicable for whatever makes one model of the two impossible, or unsure."""
        if self._other.pinned:
            raise NotApplicable(
                "the other model has a training graph, or attributes that are lists of graphs"
            )
        types = Types(self._graph)
        for name, tensor in self._fed.items():
            _require_fit(types, tensor, self._ends[name])
        self._versions = versions(self._model, self._other)
        self._clashing = self._functions_of_one_name()
        self._inlined = self._external()

    def _external(self) -> list[Tensor]:
        """The constants whose data has to be taken into the file, because it lies in another folder."""
        here, there = self._model.file.folder, self._other.file.folder
        if not self._other.records.external or (here and there and here.resolve() == there.resolve()):
            return []
        if self._other.records.opaque_locations:
            raise NotApplicable("the other model has external data in attributes; put both in one folder")
        found = [t for t in _constants(self._other) if any(_lies_outside(h) for h in _headers(t))]
        size = sum(t._values.nbytes for t in found)
        if size > MOST:
            raise NotApplicable(f"the other model has {size} bytes of external data; put both in one folder")
        return found

    # -- the move

    def run(self) -> dict[str, str]:
        """Move it; returns the names that the other's inputs and outputs have now, by those they had."""
        was = {id(t): t.name for t in (*self._other.main.inputs, *self._other.main.outputs)}
        for tensor in self._inlined:
            tensor._values = Stored(tensor._values.tensor.SerializeToString(), None)
        lost = [t.name for t in defaults(self._other.main) if t.name not in self._fed]
        if lost:
            self.notes.append(f"the default of '{lost[0]}' is a constant now: no input overrides it any more")
        self._functions()
        ends = [t for t in self._other.main.inputs if t.name not in self._fed]
        for name, tensor in self._fed.items():
            self._other.main.replace(self._ends[name], tensor)
        self._other.main.gs.inputs[:] = ends
        self._rename()
        _take_records(self._model, self._other)
        main = self._graph.gs
        main.nodes.extend(self._other.main.nodes)
        main.inputs.extend(ends)
        main.outputs.extend(self._other.main.outputs)
        main.functions = [*main.functions, *self._other.main.gs.functions]
        self._heads()
        return {was[id(t)]: t.name for t in (*ends, *self._other.main.outputs) if id(t) in was}

    def _heads(self) -> None:
        main, other = self._graph.gs, self._other
        main.opset = self._versions.pop("")
        known = {o.domain for o in main.import_domains or []}
        for domain, version in self._versions.items():
            if domain not in known:
                main.import_domains.append(onnx.helper.make_opsetid(domain, version))
        main.ir_version = max(main.ir_version or 0, other.shell.ir_version)
        for key, value in other.metadata.items():
            if self._model.metadata.setdefault(key, value) != value:
                self.notes.append(f"the metadata says '{key}' in both models: this one's stays")

    # -- names

    def _rename(self) -> None:
        """Give the other's tensors and nodes the prefix, and names that this model does not have."""
        mine: dict[str, list[Tensor]] = {}
        for tensor in _named(self._model):
            mine.setdefault(tensor.name, []).append(tensor)
        own = {id(t) for t in (*self._graph.inputs, *self._graph.outputs, *defaults(self._graph))}
        fed = {id(t) for t in self._fed.values()}
        theirs = [t for t in _named(self._other) if id(t) not in fed]
        ends = {id(t) for t in (*self._other.main.inputs, *self._other.main.outputs)}
        wanted = {self._prefix + t.name for t in theirs}
        for tensor in theirs:
            before, name = tensor.name, self._prefix + tensor.name
            held = mine.get(name, ())
            if held and id(tensor) in ends and not any(id(t) in own for t in held):
                for other in mine.pop(name):
                    other.name = self._fresh(name, wanted)  # what a caller reads keeps its name
            elif held:
                name = self._fresh(name, wanted)
                if id(tensor) in ends:
                    self.notes.append(f"'{before}' of the other model is called '{name}'")
            if name != before:
                tensor.name = name
        self._rename_nodes()

    def _rename_nodes(self) -> None:
        mine = {n.name for s in self._model.scopes() for n in s.nodes}
        nodes = [n for s in self._other.scopes() if not root(s).is_function for n in s.nodes if n.name]
        wanted = {self._prefix + n.name for n in nodes}
        for node in nodes:
            name = self._prefix + node.name
            node.name = self._fresh(name, wanted) if name in mine else name

    def _fresh(self, name: str, wanted: set[str]) -> str:
        while True:
            made = self._model.fresh_name(name)
            if made not in wanted:
                return made

    # -- functions

    def _functions_of_one_name(self) -> list[Graph]:
        """The other's functions that need another name; when all are the same as this model's, none does."""
        mine = {_key(f): bytes(self._view(self._model, f)) for f in self._model.functions}
        found = [f for f in self._other.functions if _key(f) in mine]
        if all(bytes(self._view(self._other, f)) == mine[_key(f)] for f in found):
            return []
        if any(self._other.records.scopes[id(f.gs)].overload for f in found):
            raise NotApplicable("both models have functions of one name that differ, and have overloads")
        return found

    def _functions(self) -> None:
        """Functions of one name: the same ones are one, different ones get another name."""
        mine = {_key(f) for f in self._model.functions}
        if not self._clashing:
            self._other.remove_functions([f for f in self._other.functions if _key(f) in mine])
            return
        taken = mine | {_key(f) for f in self._other.functions}
        names = {_key(f): _unlike(*_key(f), taken) for f in self._clashing}
        for function in self._clashing:
            function.gs.name = names[_key(function)]
        for node in (n for s in self._other.scopes() for n in s.nodes):
            node.op = names.get((domain_of(node), node.op), node.op)

    def _view(self, model: Model, function: Graph) -> Any:
        return model.records.scopes[id(function.gs)].view


def _named(model: Model) -> list[Tensor]:
    """The tensors of all graphs; those of functions have names of their own."""
    return [d.tensor for d in definitions(model) if not d.ghost and not root(d.scope).is_function]


def _key(function: Graph) -> tuple[str, str]:
    return function.gs.domain or "", function.gs.name


def _unlike(domain: str, name: str, taken: set[tuple[str, str]]) -> str:
    """The name with the first number behind it that no function has."""
    number = next(i for i in range(1, len(taken) + 2) if (domain, f"{name}_{i}") not in taken)
    return f"{name}_{number}"


def _require_fit(types: Types, tensor: Tensor, given: Tensor) -> None:
    """NotApplicable unless ``tensor`` can be what an input of the other model takes."""
    try:
        dtype, shape = types.of(tensor)
    except NotApplicable as error:
        raise NotApplicable(f"'{tensor.name}' feeds '{given.name}', and {error}") from error
    mine, theirs = numpy_dtype(dtype), numpy_dtype(given.dtype)
    if theirs is None or not is_tensor(given):
        raise NotApplicable(
            f"what '{given.name}' of the other model takes is no tensor, or of no known dtype"
        )
    if mine != theirs:
        raise NotApplicable(
            f"'{tensor.name}' is {mine}, and '{given.name}' of the other model takes {theirs}: see set-dtype"
        )
    wanted = given.shape
    pairs = zip(shape, wanted or (), strict=False)
    clash = any(isinstance(a, int) and isinstance(b, int) and a != b and b >= 0 for a, b in pairs)
    if wanted is not None and (len(wanted) != len(shape) or clash):
        sizes = ["x".join("?" if d is None else str(d) for d in s) or "scalar" for s in (shape, wanted)]
        raise NotApplicable(
            f"'{tensor.name}' is of shape {sizes[0]}, and '{given.name}' of the other model takes {sizes[1]}"
        )


# -- constants and records


def _constants(model: Model) -> list[Tensor]:
    """Every initializer, and every tensor in an attribute."""
    found = [i.tensor for i in model.records.initializers.values()]
    nodes: Iterable[Node] = (n for s in model.scopes() for n in s.nodes)
    return found + [v for n in nodes for v in n.attrs.values() if isinstance(v, Constant)]


def _headers(tensor: Tensor) -> Sequence[onnx.TensorProto]:
    return stored_tensors(tensor._values)


def _lies_outside(header: onnx.TensorProto) -> bool:
    return header.data_location == onnx.TensorProto.EXTERNAL


def _take_records(model: Model, other: Model) -> None:
    """Let the export of ``model`` know the messages behind what it has now from ``other``.

    The other's main graph is not among them: its tensors are new here, and its initializers plain constants.
    """
    mine, theirs = model.records, other.records
    main = theirs.scopes[id(other.main.gs)]
    inner = {key: scope for key, scope in theirs.scopes.items() if scope is not main}
    for scope in inner.values():
        scope.ordinal = -1  # it stands nowhere in this file
        mine.tensors.update((id(t), theirs.tensors[id(t)]) for t in scope.local.values())
    for initializer in main.initializers.values():
        initializer.overridable = False
    mine.scopes.update(inner)
    mine.nodes.update(theirs.nodes)
    mine.initializers.update(theirs.initializers)
    mine.stored.update(theirs.stored)
    mine.dangling.update(theirs.dangling)
    mine.opaque_locations.update(theirs.opaque_locations)
    if model.file.folder is not None:
        mine.external.extend(theirs.external)


class Chain:
    """Both models in turn, as the merged one has to be."""

    def __init__(self, model: Model, other: Model, fed: Mapping[str, str], outputs: Sequence[str]) -> None:
        self._data, self._folder = bytes(other.file.data), other.file.folder
        self._inputs = {t.name for t in model.main.inputs}
        self._fed, self._outputs = fed, outputs
        self.names: Mapping[str, str] = {}
        """The names of the other's inputs and outputs in the merged model, by their own."""
        self._given: Mapping[str, Any] = {}

    @cached_property
    def _second(self) -> Any:
        from graphkit.run.reference import open_model

        return open_model([self._data], self._folder)

    def feeds(self, new: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """What the first model takes of it."""
        self._given = new
        return [{n: v for n, v in new.items() if n in self._inputs}]

    def expected(self, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """The outputs of the first, and those of the other on what the first made."""
        feed = {name: rows[0][source] for name, source in self._fed.items()}
        feed |= {was: self._given[now] for was, now in self.names.items() if now in self._given}
        made = self._second.run(feed)
        return {n: rows[0][n] for n in self._outputs} | {
            now: made[was] for was, now in self.names.items() if was in made
        }
