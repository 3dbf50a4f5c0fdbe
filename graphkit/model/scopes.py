"""The model as it is now: which scopes it reaches, what each one defines, where every constant lives."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphkit.errors import PassFailed
from graphkit.model import records as r
from graphkit.model import wire
from graphkit.model.surgeon import Constant, GsGraph, Node, Surgeon, Tensor

Names = dict[str, str]


@dataclass(eq=False, slots=True)
class LiveScope:
    """One graph, subgraph or function that the model reaches now."""

    surgeon: Surgeon
    record: r.ScopeRecord
    parent: LiveScope | None
    label: str
    constants: list[Tensor] = field(default_factory=list)
    constant_nodes: list[Tensor] = field(default_factory=list)
    produced: list[Tensor] = field(default_factory=list)
    infos: dict[int, r.InfoRecord] = field(default_factory=dict)
    imports_view: wire.Buffer = b""
    imports_fields: Sequence[wire.Field] = ()

    def chain(self) -> list[LiveScope]:
        """This scope and those around it, outermost first."""
        around: list[LiveScope] = []
        scope: LiveScope | None = self
        while scope is not None:
            around.append(scope)
            scope = scope.parent
        return around[::-1]


def subgraphs_of(node: Node) -> Iterator[tuple[str, Surgeon]]:
    """The graphs among a node's attributes, with the attribute's name."""
    return ((name, value) for name, value in node.attrs.items() if isinstance(value, GsGraph))


def walk(surgeon: Surgeon, label: str, parent: Any = None) -> Iterator[tuple[Surgeon, str, Surgeon | None]]:
    """A scope and all subgraphs below it, outer first: GraphSurgeon graph, label, graph around it."""
    stack = [(surgeon, label, parent)]
    while stack:
        here = stack.pop()
        yield here
        below = []
        for node in here[0].nodes:
            for name, value in node.attrs.items():  # subgraphs_of, without a generator for each node
                if isinstance(value, GsGraph):
                    owner = node.name or (node.outputs[0].name if node.outputs else node.op)
                    below.append((value, f"{here[1]}/{owner}.{name}", here[0]))
        stack.extend(reversed(below))


def function_label(function: Surgeon) -> str:
    """How a local function is called in reports."""
    return f"function {function.domain}::{function.name}" if function.domain else f"function {function.name}"


class Live:
    """What is reachable from the main graph and the functions, computed once for one export."""

    def __init__(
        self,
        records: r.Records,
        main: Surgeon,
        *,
        dropped: frozenset[int],
        keep: frozenset[str],
        spec: str,
        ir_version: int,
    ) -> None:
        self._records = records
        self._dropped = dropped
        self._keep = keep
        self.spec = spec
        self.ir_version = ir_version
        self.scopes: list[LiveScope] = []
        self._known_versions: dict[int, list[tuple[str, int]]] = {}
        self._by_id: dict[int, LiveScope] = {}
        self.main = self._enter(main, "main")
        self.functions = [self._enter(f, function_label(f)) for f in main.functions]
        self._users: dict[int, list[LiveScope]] = {}
        self._alive: dict[int, Tensor] = {}
        for scope in self.scopes:
            self._look_at(scope)
        self._house_constants()

    def _enter(self, surgeon: Surgeon, label: str) -> LiveScope:
        for graph, name, parent in walk(surgeon, label):
            record = self._records.scopes.get(id(graph))
            if record is None:
                record = r.ScopeRecord(graph, None, graph is surgeon and label != "main")
            if id(graph) in self._by_id:
                raise PassFailed(
                    f"{name}: the same graph is an attribute of two nodes; give each its own copy"
                )
            scope = LiveScope(graph, record, self._by_id[id(parent)] if parent is not None else None, name)
            for info in record.infos:
                scope.infos.setdefault(id(info.tensor), info)
            self._by_id[id(graph)] = scope
            self.scopes.append(scope)
        return self._by_id[id(surgeon)]

    def _look_at(self, scope: LiveScope) -> None:
        for node in scope.surgeon.nodes:
            for tensor in node.inputs:
                self._use(tensor, scope)
            for tensor in node.outputs:
                self._alive[id(tensor)] = tensor
                if tensor.name:
                    scope.produced.append(tensor)
        for tensor in scope.surgeon.outputs:
            self._use(tensor, scope)
        for tensor in scope.surgeon.inputs:
            self._alive[id(tensor)] = tensor

    def _use(self, tensor: Tensor, scope: LiveScope) -> None:
        self._alive[id(tensor)] = tensor
        if isinstance(tensor, Constant):
            self._users.setdefault(id(tensor), []).append(scope)

    def _house_constants(self) -> None:
        """Constants stay where the file had them while that scope is in sight; others go to their users."""
        for scope in self.scopes:
            named = set(self._keep) | scope.record.annotations_of(self.has)
            kept = [i.tensor for i in scope.record.initializers.values() if self._stays(i, scope, named)]
            scope.constants.extend(kept)
            self._alive.update((id(t), t) for t in kept)
        housed = {id(t) for scope in self.scopes for t in scope.constants}
        for key, users in self._users.items():
            if key not in housed:
                home = _common(users)
                (home.constant_nodes if home.record.is_function else home.constants).append(self._alive[key])

    def _stays(self, initializer: r.InitializerRecord, scope: LiveScope, named: set[str]) -> bool:
        tensor = initializer.tensor
        if id(tensor) in self._dropped or not isinstance(tensor, Constant):
            return False
        if not initializer.used or initializer.name in named or initializer.overridable:
            return True
        users = self._users.get(id(tensor), [])
        return bool(users) and all(scope in user.chain() for user in users)

    # -- questions that the overlay asks

    def scope(self, surgeon: Surgeon) -> LiveScope:
        """The live scope of a GraphSurgeon graph."""
        return self._by_id[id(surgeon)]

    def has(self, tensor: Tensor) -> bool:
        """Whether anything that is left refers to ``tensor``."""
        return id(tensor) in self._alive

    def first_name(self, tensor: Tensor) -> str | None:
        """The name a tensor was read under; None for one that a pass made."""
        was = self._records.was(tensor)
        return was[0] if was is not None else None

    def renamed(self, tensors: Iterable[Tensor]) -> Names:
        """New name -> name in the file, for those that have another one now."""
        found = {t.name: self.first_name(t) for t in tensors if t.name}
        return {new: old for new, old in found.items() if old is not None and old != new}

    def names(self, scope: LiveScope) -> Names:
        """Name in the file -> name now, for the tensors that a scope of the file defined."""
        return {old: t.name for old, t in scope.record.local.items() if t.name != old}

    def version(self, scope: LiveScope, domain: str) -> int:
        """The opset version of ``domain`` that holds in a scope; 0 when it is not imported."""
        return lookup(dict(self.versions(scope.chain()[0])), domain)

    def versions(self, scope: LiveScope) -> list[tuple[str, int]]:
        """Opset imports of the model (``scope`` is the main one) or of a function, as they should be now."""
        if id(scope) not in self._known_versions:
            self._known_versions[id(scope)] = self._versions(scope)
        return self._known_versions[id(scope)]

    def _versions(self, scope: LiveScope) -> list[tuple[str, int]]:
        surgeon, was = scope.surgeon, dict(scope.record.domains)
        wanted = [(o.domain, int(o.version)) for o in surgeon.import_domains or []]
        key = "ai.onnx" if "ai.onnx" in was and "" not in was else ""
        if surgeon.opset != scope.record.opset and (lookup(was, "") or not len(scope.record.view)):
            wanted = [pair for pair in wanted if pair[0] != key] + [(key, int(surgeon.opset))]
        for domain in sorted(self._new_domains(scope)):
            if not lookup(dict(wanted), domain):
                wanted.append((domain, int(surgeon.opset) if domain in ("", "ai.onnx") else 1))
        return wanted

    def _new_domains(self, root: LiveScope) -> set[str]:
        found = set()
        for scope in self.scopes:
            if scope.chain()[0] is not root:
                continue
            for node in scope.surgeon.nodes:
                record = self._records.nodes.get(id(node))
                if record is None or record.domain != (node.domain or ""):
                    found.add(node.domain or "")
            if scope.constant_nodes:
                found.add("")
        return found

    def check_names(self) -> None:
        """Refuse a graph in which a name would mean another tensor than the one that is wired, or none.

        ONNX knows tensors by name, innermost definition first; two that a pass left with one name would be
        merged, or swapped, in silence. A reader of a tensor that nothing defines (any more) is bound by name.
        """
        defined: dict[int, dict[str, Tensor]] = {}
        for scope in self.scopes:
            defined[id(scope)] = self._defined(scope)
        known = {id(t) for mine in defined.values() for t in mine.values()}
        for scope in self.scopes:
            chain = [defined[id(s)] for s in reversed(scope.chain())]
            for node in scope.surgeon.nodes:
                for tensor in node.inputs:
                    if tensor.name:
                        meant = next((mine[tensor.name] for mine in chain if tensor.name in mine), None)
                        if meant is not tensor:
                            self._check_meaning(scope, node, tensor, meant, id(tensor) in known)
        self._check_functions()
        self._check_pinned()

    def _check_meaning(
        self, scope: LiveScope, node: Node, tensor: Tensor, meant: Tensor | None, wired: bool
    ) -> None:
        where = f"{scope.label}: {node.op} '{node.name}' reads a tensor named '{tensor.name}'"
        if meant is not None and wired:
            raise PassFailed(
                f"{where}, but another of that name is nearer; give what a pass made a name of its own"
            )
        if meant is None and id(tensor) not in self._records.dangling:
            raise PassFailed(f"{where}, which nothing defines (any more) where it is read")

    def _check_functions(self) -> None:
        """A function that the file had may go only with its last call."""
        had = {(s.domain, s.name) for s in self._records.scopes.values() if s.is_function}
        gone = had - {(f.surgeon.domain or "", f.surgeon.name) for f in self.functions}
        for scope in self.scopes if gone else ():
            for node in scope.surgeon.nodes:
                if (node.domain or "", node.op) in gone:
                    raise PassFailed(
                        f"{scope.label}: {node.op} '{node.name}' calls a local function that a pass removed"
                    )

    def _check_pinned(self) -> None:
        """What a training graph or a list of graphs names must keep its name."""
        for record in self._records.scopes.values() if self._keep else ():
            for name in self._keep & record.local.keys():
                if record.local[name].name != name or not self.has(record.local[name]):
                    raise PassFailed(
                        f"tensor '{name}' was renamed or removed by a pass, but training_info or a list of "
                        "graphs reads it by that name; leave it alone"
                    )

    def _defined(self, scope: LiveScope) -> dict[str, Tensor]:
        """Every name that a scope defines now; a second definition that is not the file's own is refused."""
        defined: dict[str, Tensor] = {}
        for tensor in (*scope.constants, *scope.constant_nodes, *scope.surgeon.inputs, *scope.produced):
            other = defined.get(tensor.name, tensor)
            defined[tensor.name] = tensor
            if other is not tensor and tensor.name and not self._were_twins(scope, tensor, other):
                raise PassFailed(
                    f"{scope.label}: a pass made a second tensor named '{tensor.name}'; names must differ"
                )
        return defined

    def _were_twins(self, scope: LiveScope, *tensors: Tensor) -> bool:
        """Whether the file itself has two initializers of that name: ONNX Runtime takes the last."""
        found = [scope.record.initializers.get(id(t)) for t in tensors]
        return all(i is not None and i.name == i.tensor.name for i in found)


def lookup(versions: Mapping[str, int], domain: str) -> int:
    """The version of ``domain``; the default domain has two names."""
    if domain in ("", "ai.onnx"):
        return versions.get("", versions.get("ai.onnx", 0))
    return versions.get(domain, 0)


def _common(scopes: Sequence[LiveScope]) -> LiveScope:
    """The innermost scope around all of ``scopes``."""
    shared = scopes[0].chain()
    for scope in scopes[1:]:
        chain = scope.chain()
        length = 0
        while length < min(len(shared), len(chain)) and shared[length] is chain[length]:
            length += 1
        shared = shared[:length]
    if not shared:
        raise PassFailed("a constant is used in two functions; each needs a constant of its own")
    return shared[-1]


def reads(node: Node) -> Iterator[Tensor]:
    """Every tensor a node reads: its inputs, and what its subgraphs take from outside (and from inside)."""
    yield from node.inputs
    for _, graph in subgraphs_of(node):
        for inner, _, _ in walk(graph, ""):
            yield from inner.outputs
            for below in inner.nodes:
                yield from below.inputs


def ordered(nodes: Sequence[Node]) -> list[Node]:
    """``nodes`` in topological order, each as near to its place as the order allows.

    A node that captures a tensor in a subgraph comes after the tensor's producer. Nodes of a cycle keep
    their order at the end, where the checker names them.
    """
    place = {id(node): index for index, node in enumerate(nodes)}
    maker = {id(t): node for node in nodes for t in node.outputs if t.name}
    waiting = [0] * len(nodes)
    readers: list[list[int]] = [[] for _ in nodes]
    for index, node in enumerate(nodes):
        for key in {id(m) for t in reads(node) if (m := maker.get(id(t))) is not None and m is not node}:
            waiting[index] += 1
            readers[place[key]].append(index)
    ready = [index for index, count in enumerate(waiting) if count == 0]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers[index]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                heapq.heappush(ready, reader)
    done = set(order)
    return [nodes[i] for i in (*order, *(i for i in range(len(nodes)) if i not in done))]
