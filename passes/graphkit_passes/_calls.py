"""Calls of local functions: which may be inlined, and putting the body in the place of one."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

import onnx

from graphkit import Graph, Model, NotApplicable
from graphkit.model.operators import domain_of
from graphkit.model.surgeon import AttributeRef, GsNode, Node, Tensor, Variable, unlink
from graphkit_passes._copying import Copier
from graphkit_passes._functions import Functions
from graphkit_passes._shared import root_of

Place = Node | str


class Calls:
    """The calls of a model's functions, those that ``only`` and ``excepted`` choose by ``domain::name``."""

    def __init__(self, model: Model, only: tuple[str, ...], excepted: tuple[str, ...]) -> None:
        self._model = model
        self._functions = Functions(model)
        self._only = only
        self._excepted = excepted
        self._recursive = _recursive(model, self._functions)
        self.refused: list[tuple[Graph, Place, str]] = []
        self._seen: set[int] = set()

    def unknown(self) -> Iterator[str]:
        """Notes on names that fit no function: a typing error, or a function that is gone already."""
        names = [_name(f) for f in self._model.functions]
        for pattern in (*self._only, *self._excepted):
            if not any(fnmatchcase(n, pattern) for n in names):
                yield f"no function is called '{pattern}' (any more); there are {', '.join(names)}"

    def called(self) -> set[int]:
        """The functions that something calls now, by the id of their graph."""
        return self._functions.called()

    def kept(self) -> Iterator[Graph]:
        """Functions that were chosen, and stay though every call in sight is gone."""
        called = self.called()
        for function in self._model.functions:
            if self._is_chosen(function) and id(function.gs) in called and id(function.gs) not in self._seen:
                yield function

    def prune(self, once_called: set[int]) -> None:
        """Remove the functions that were called and are not any more."""
        self._functions.prune(once_called)

    def inline(self, scope: Graph) -> int:
        """Replace the calls of one scope, not those that come with the bodies; returns how many."""
        made: list[Node] = []
        gone: list[Node] = []
        for node in scope.nodes:
            body = self._body(scope, node)
            if body is None:
                made.append(node)
            else:
                gone.append(node)
                made += body
        scope.nodes[:] = [*made, *gone]
        scope.remove(gone)
        return len(gone)

    def _body(self, scope: Graph, node: Node) -> list[Node] | None:
        """The nodes that take the place of a call; None when it stays, or is none."""
        function = self._functions.called_by(node)
        if function is None or not self._is_chosen(function) or id(node) in self._seen:
            return None
        try:
            self._require(scope, node, function)
            return self._copied(scope, node, function)
        except NotApplicable as error:
            self._seen |= {id(node), id(function.gs)}
            self.refused.append((scope, node, str(error)))
            return None

    def _is_chosen(self, function: Graph) -> bool:
        name = _name(function)
        chosen = not self._only or any(fnmatchcase(name, p) for p in self._only)
        return chosen and not any(fnmatchcase(name, p) for p in self._excepted)

    # -- what has to hold

    def _require(self, scope: Graph, node: Node, function: Graph) -> None:
        if id(function.gs) in self._recursive:
            raise NotApplicable("the function calls itself")
        formals = len(function.inputs), len(function.outputs)
        if len(node.inputs) > formals[0] or len(node.outputs) > formals[1]:
            raise NotApplicable(f"the function has {formals[0]} inputs and {formals[1]} outputs")
        given = {id(f) for f, t in zip(function.inputs, node.inputs, strict=False) if t.name}
        absent = {id(f) for f in function.inputs} - given
        returned = [f for f, t in zip(function.outputs, node.outputs, strict=False) if t.name]
        inner = [s for s in function.scopes() if s.parent is not None]
        for formal in (*returned, *(t for s in inner for t in s.outputs)):
            if id(formal) in absent:
                raise NotApplicable(f"the function returns its input '{formal.name}', which is left out")
        records = [self._model.records.scopes.get(id(s.gs)) for s in (function, *inner)]
        if any(r is not None and not self._model.pinned.isdisjoint(r.local) for r in records):
            raise NotApplicable("a training graph or a list of graphs may name what is in the function")
        if any(r is not None and r.hidden_inputs for r in records):
            raise NotApplicable("an input of a graph in the function has a default")
        self._require_attributes(scope, node, function)
        self._require_versions(scope, function)

    def _require_attributes(self, scope: Graph, node: Node, function: Graph) -> None:
        for name, value in node.attrs.items():
            handed = isinstance(value, AttributeRef) and function.gs.attrs.get(name) is not None
            if handed and self._functions.giving(root_of(scope), value.name) != {True}:
                raise NotApplicable(f"'{name}' has a default, and '{value.name}' may be absent")

    def _require_versions(self, scope: Graph, function: Graph) -> None:
        """Each operator has to mean the same in the function and where it is called."""
        for inner in function.scopes():
            for node in inner.nodes:
                domain = domain_of(node)
                theirs, ours = _version(function, domain), _version(scope, domain)
                local = self._functions.called_by(node) is not None
                if not local and ours and theirs != ours and not _same(node.op, domain, theirs, ours):
                    told = f"{node.op} of {domain or 'ai.onnx'} {theirs}"
                    raise NotApplicable(f"the function uses {told}, which version {ours} may define anew")
                if any(id(t) in self._model.records.dangling for t in node.inputs):
                    raise NotApplicable("the function reads something that nothing defines")

    # -- copying

    def _copied(self, scope: Graph, node: Node, function: Graph) -> list[Node]:
        tensors = {id(f): Variable.empty() for f in function.inputs}
        tensors.update((id(f), t) for f, t in zip(function.inputs, node.inputs, strict=False))
        passed: list[tuple[Tensor, Tensor]] = []
        for formal, tensor in zip(function.outputs, node.outputs, strict=False):
            if not tensor.name:
                continue
            if id(formal) in tensors:
                passed.append((formal, tensor))
            else:
                tensors[id(formal)] = tensor
        attributes = {k: v for k, v in function.gs.attrs.items() if v is not None} | node.attrs
        prefix = f"{node.name}/" if node.name else ""
        names = self._model.first_names(node.outputs)
        copier = Copier(scope, tensors, attributes, prefix)
        for tensor in list(node.outputs):
            unlink(tensor.inputs, node)
        list.clear(node.outputs)
        made = copier.nodes(function.nodes)
        for formal, tensor in passed:
            name = self._model.fresh_name(f"{prefix}Identity")
            made.append(GsNode("Identity", name, {}, [copier.tensor(formal)], [tensor]))
        for copy in made:
            self._model.note_origin(copy, names)
        self._import(scope, function)
        return made

    def _import(self, scope: Graph, function: Graph) -> None:
        """Let the model, or the function around the call, import what the body uses."""
        root = root_of(scope)
        for entry in function.gs.import_domains or []:
            if _version(root, entry.domain):
                continue
            root.gs.import_domains.append(onnx.helper.make_opsetid(entry.domain, entry.version))
            if entry.domain in ("", "ai.onnx"):
                root.gs.opset = int(entry.version)


def _name(function: Graph) -> str:
    return f"{function.gs.domain or ''}::{function.gs.name}"


def _version(graph: Graph, domain: str) -> int:
    """The version of a domain that is imported where ``graph`` lies; 0 when none is."""
    imported = {"" if o.domain == "ai.onnx" else o.domain for o in root_of(graph).gs.import_domains or []}
    return graph.version(domain) if ("" if domain == "ai.onnx" else domain) in imported else 0


def _same(op: str, domain: str, one: int, other: int) -> bool:
    """Whether two versions of a domain have one definition of an operator."""
    try:
        found = [onnx.defs.get_schema(op, v, domain).since_version for v in (one, other)]
    except onnx.defs.SchemaError:
        return False
    return found[0] == found[1]


def _recursive(model: Model, functions: Functions) -> set[int]:
    """The functions that end up calling themselves."""
    import networkx as nx

    calls: nx.DiGraph[int] = nx.DiGraph()
    for function in model.functions:
        for scope in function.scopes():
            for node in scope.nodes:
                callee = functions.called_by(node)
                if callee is not None:
                    calls.add_edge(id(function.gs), id(callee.gs))
    knots = nx.strongly_connected_components(calls)
    return {n for c in knots for n in c if len(c) > 1 or calls.has_edge(n, n)}
