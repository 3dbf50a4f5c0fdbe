"""The ``rename`` pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from graphkit import BadOption, Pass, option
from graphkit_passes._names import Tree, definitions, interface
from graphkit_passes._renames import Ends, check_expression, exact, looked_up

if TYPE_CHECKING:
    from graphkit import Graph, Tally


class Rename(Pass):
    r"""Rename nodes and tensors: by a regular expression, or exactly, one by one or from a file.

    With `pattern` and `to`, each name becomes `re.sub(pattern, to, name)`: the expression may match anywhere
    in the name and several times, `^` and `$` anchor it, and `\1` or `\g<group>` in `to` stand for what a
    group matched. The main graph, subgraphs and local functions are all renamed; the inputs and outputs of
    the main graph, which are the model's interface, only with `io=true`. Types, quantization annotations and
    device configurations follow.

    With `map=old->new+…` or `file=renames.toml` the names are exact, and those of inputs and outputs change
    as any other. A file holds `old = "new"` (TOML), `{"old": "new"}` (JSON) or lines `old,new` (CSV), for
    nodes and tensors of that name; in TOML and JSON, tables called `nodes` and `tensors`, and in CSV a third
    column with one of those words, tell the two apart. In a name on the command line, write `\,` for a comma
    and `\+` for a plus sign.

    All new names are given at once, so `a` can become `b` while `b` becomes `c`. An expression that
    matches its own results renames them again in the next run: write `^(?!x/)` instead of `^` to put
    `x/` in front once.

    ## Why
    Two models that are to be merged need names that differ; tools that trip over `/` or `::` need names
    without; and an engine's layers are easier to find under names that a person chose.

    ## Example
    `rename:pattern=^/,to=x/`

    ```
    g (float[2] x) => (float[2] y) {
      ["/act/Relu"] "/act/out" = Relu(x)
      ["/neg/Neg"] y = Neg("/act/out")
    }
    ```
    becomes
    ```
    g (float[2] x) => (float[2] y) {
      ["x/act/Relu"] "x/act/out" = Relu(x)
      ["x/neg/Neg"] y = Neg("x/act/out")
    }
    ```

    ## When it refuses
    It stops, with nothing changed, when nothing has an exact old name, nor its new one. A name stays as it is
    when

    - it belongs to an input or output of the main graph, and an expression is given without `io=true`,
    - it is no text (not UTF-8), or the new name would be empty,
    - the new name is that of another tensor that is visible there: in the same scope, in one around it, or
      in a subgraph below, where it would be captured by mistake; for nodes, of another node in the same
      scope,
    - a training graph or an attribute that is a list of graphs refers to the tensor, or to the new name.

    ## Source
    The names that a scope sees: https://onnx.ai/onnx/repo-docs/IR.html#names-within-a-graph. The expressions:
    https://docs.python.org/3/library/re.html.
    """

    name = "rename"
    group = "edit"

    pattern: str | None = option(
        default=None, help="Python regular expression to look for in each name", metavar="REGEX"
    )
    to: str | None = option(
        default=None, help=r"what to put in place of each match; \1 is its first group", metavar="TEXT"
    )
    map: tuple[str, ...] = option(default=(), help="exact names instead of a pattern", metavar="OLD->NEW+…")
    file: str = option(default="", help="a .toml, .json or .csv file of exact names", metavar="FILE")
    io: bool = option(default=False, help="rename inputs and outputs of the main graph too")
    what: Literal["both", "nodes", "tensors"] = option(default="both", help="which names to change")

    def __post_init__(self) -> None:
        exact_ones = bool(self.map or self.file)
        if exact_ones and (self.pattern, self.to) != (None, None):
            raise BadOption("rename takes exact names (map, file) or an expression (pattern, to), not both")
        if not exact_ones and (self.pattern is None or self.to is None):
            raise BadOption(
                "pass 'rename' needs pattern=… and to=…, or map=old->new, or file=…; "
                "see `graphkit explain rename`"
            )
        if exact_ones:
            exact(self.map, "", self.what)
        else:
            check_expression(self.pattern or "", self.to or "")

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Rename in every scope; nodes first, then tensors."""
        renames = exact(self.map, self.file, self.what) if self.pattern is None else None
        if renames is None:
            substitute = partial(re.compile(self.pattern or "").sub, self.to or "")
            of_node = of_tensor = substitute
        else:
            of_node, of_tensor = (partial(looked_up, m) for m in (renames.nodes, renames.tensors))
        names = [] if self.what == "tensors" else _nodes(graph, of_node)
        tensors = [] if self.what == "nodes" else _tensors(graph, of_tensor, self.io or renames is not None)
        if renames is not None:
            wrong = renames.missing(*([n.old for n in side] for side in (names, tensors)))
            if wrong:
                raise BadOption(f"rename: {wrong}")
        ends = Ends(graph)
        names += tensors
        for name in names:
            if name.reason:
                tally.refuse(name.scope, name.place, name.reason)
            elif name.new != name.old:
                name.give()
                tally.rewrite(len(name.nodes) or 1)
        again = next(
            (n for n in names if n.new != n.old and (of_node if n.nodes else of_tensor)(n.new) != n.new), None
        )
        if again is not None:
            matched = "the pattern matches" if renames is None else "the new names are among"
            made = "the names it makes" if renames is None else "the old ones"
            tally.note(f"{matched} {made}: another run would rename '{again.new}' again")
        _count(tally, [n for n in names if n.new != n.old])
        ends.tell(tally)


def _count(tally: Tally, changed: Sequence[_Name]) -> None:
    """Say how many names of what were changed."""
    nodes, tensors = sum(len(n.nodes) for n in changed), sum(1 for n in changed if not n.nodes)
    told = [f"{n} {what}{'' if n == 1 else 's'}" for n, what in ((nodes, "node"), (tensors, "tensor")) if n]
    if told:
        tally.note(f"renamed {' and '.join(told)}")


@dataclass(eq=False, slots=True)
class _Name:
    """One name in one scope: of a tensor, or of the nodes that share it; ``reason`` says why it must stay."""

    scope: Graph
    old: str
    new: str
    tensor: Any = None
    nodes: Sequence[Any] = ()
    reason: str = ""

    @property
    def place(self) -> Any:
        """What a refusal points at."""
        return self.nodes[0] if self.nodes else self.tensor

    def keep(self, reason: str) -> None:
        """Take the new name back."""
        self.new, self.reason = self.old, reason

    def give(self) -> None:
        """Hand the new name out."""
        for node in self.nodes:
            node.name = self.new
        if self.tensor is not None:
            self.scope.rename(self.tensor, self.new)


def _named(
    scope: Graph, old: Any, substitute: Callable[[str], str], tensor: Any = None, nodes: Sequence[Any] = ()
) -> _Name:
    """A name and what it should become; one that is no UTF-8 comes as bytes, and no expression fits it."""
    if isinstance(old, str):
        return _Name(scope, old, substitute(old), tensor, nodes)
    return _Name(scope, old, old, tensor, nodes, "its name is no text (not UTF-8)")


def _nodes(graph: Graph, substitute: Callable[[str], str]) -> list[_Name]:
    """The names of nodes, scope by scope; nodes without one have none to change."""
    found: list[_Name] = []
    for scope in graph.scopes():
        sharing: dict[str, list[Any]] = {}
        for node in scope.nodes:
            if node.name:
                sharing.setdefault(node.name, []).append(node)
        names = [_named(scope, old, substitute, nodes=nodes) for old, nodes in sharing.items()]
        _settle(names, "node", lambda a, b: True)
        found += names
    return found


def _tensors(graph: Graph, substitute: Callable[[str], str], io: bool) -> list[_Name]:
    """The names of tensors in all scopes; those of the interface, and those that are pinned, are kept."""
    model = graph.model
    ends = {} if io else interface(model)
    names = []
    for found in definitions(model):
        old = found.tensor.name
        name = _named(found.scope, old, str if found.ghost else substitute, tensor=found.tensor)
        names.append(name)
        if name.new != old and id(found.tensor) in ends:
            name.keep(f"it is {ends[id(found.tensor)]}; io=true renames those too")
        elif name.new != old and old in model.pinned:
            name.keep("a training graph or a list of graphs refers to it")
        elif name.new != old and name.new in model.pinned:
            name.keep(f"a training graph or a list of graphs uses the new name, '{name.new}'")
    _settle(names, "tensor", Tree(model).related)
    return names


def _settle(names: Iterable[_Name], kind: str, related: Callable[[Graph, Graph], bool]) -> None:
    """Take new names back until no two that were different, of related scopes, are one."""
    holders: dict[str, list[_Name]] = {}
    for name in names:
        if not name.new:
            name.keep("the new name would be empty")
        holders.setdefault(name.new, []).append(name)
    waiting = list(holders)
    while waiting:
        wanted = waiting.pop()
        group = holders[wanted]
        for name, other in _clashes(group, related):
            name.keep(f"the new name, '{wanted}', {_holder(name, other, kind)}")
            holders.setdefault(name.old, []).append(name)
            waiting.append(name.old)
        holders[wanted] = [n for n in holders[wanted] if n.new == wanted]


def _clashes(group: Sequence[_Name], related: Callable[[Graph, Graph], bool]) -> list[tuple[_Name, _Name]]:
    """The renamed ones of a group with one new name, each with another that had a different name before."""
    if len({n.old for n in group}) == 1:
        return []
    found = []
    for name in (n for n in group if n.new != n.old):
        other = next((o for o in group if o.old != name.old and related(o.scope, name.scope)), None)
        if other is not None:
            found.append((name, other))
    return found


def _holder(name: _Name, other: _Name, kind: str) -> str:
    """Who else has, or would get, a name."""
    where = "" if other.scope is name.scope else f" in {other.scope.label}"
    if other.old == other.new and not other.reason:
        return f"is that of another {kind}{where}"
    return f"would be that of '{other.old}'{where} too"
