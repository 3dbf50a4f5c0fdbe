"""Letting one tensor stand for another, and taking out what nothing reads any more."""

from __future__ import annotations

from functools import cached_property

from graphkit import Graph, NotApplicable
from graphkit.model.graph import Node, Tensor
from graphkit.model.surgeon import Variable, unlink
from graphkit_passes._placing import Placing


class Standing(Placing):
    """Edits of one pass in which a tensor takes the place of another with the same values."""

    @property
    def scopes(self) -> list[Graph]:
        """All scopes of the model, as they were at the start."""
        return self._scopes

    def stand_in(self, graph: Graph, old: Tensor, new: Tensor) -> None:
        """Let ``new`` stand wherever ``old``, made in ``graph``, does; the maker of ``old`` is left.

        Where ``old`` is an output of its graph, the node that makes ``new`` writes it from now on: the
        output keeps its name. NotApplicable, with nothing changed, where that cannot be.
        """
        reason = self.obstacle(graph, old, new)
        if reason is not None:
            raise NotApplicable(reason)
        if self.is_end(old):
            _hand_over(graph, old, new)
            return
        for reader in list(old.outputs):
            graph.rewire(reader, old, new)

    def stand_in_or_copy(self, graph: Graph, old: Tensor, new: Tensor) -> None:
        """The same; an output that has to keep its own node gets an Identity."""
        if self.obstacle(graph, old, new) is None:
            self.stand_in(graph, old, new)
        elif {old.name, new.name} & (self.hidden_names | self._main.model.pinned):
            raise NotApplicable(self.obstacle(graph, old, new) or "")
        else:
            graph.replace(old, new)

    def require_visible(self, tensor: Tensor) -> None:
        """NotApplicable where a reader in another scope might take another tensor for this one."""
        if tensor.name in self.hidden_names:
            raise NotApplicable(f"a graph inside has another tensor called '{tensor.name}'")

    def obstacle(self, graph: Graph, old: Tensor, new: Tensor) -> str | None:
        """Why ``new`` cannot stand in for ``old``; None when it can."""
        kept = old if self.is_end(old) else new
        if kept.name in self.hidden_names:
            return f"a graph inside has another tensor called '{kept.name}'"
        if kept is new:
            return None
        if old.name in self._main.model.pinned:
            return f"'{old.name}' is named from a place that no pass can see"
        if self.is_end(new):
            return f"'{old.name}' and '{new.name}' are both outputs of a graph, each with its name"
        maker = graph.producer(new)
        if maker is None or not self._is_in(graph, maker):
            return f"'{old.name}' is an output of its graph, and only this node gives it that name"
        return None

    def _is_in(self, graph: Graph, node: Node) -> bool:
        """Whether a node is one of this scope, not of one around it."""
        if graph.parent is None:
            return True
        return any(n is node for n in graph.nodes)

    @cached_property
    def hidden_names(self) -> frozenset[str]:
        """Names that a subgraph gives to a tensor of its own though a graph around it has one, too."""
        if all(s.parent is None for s in self._scopes):
            return frozenset()
        names = {id(s): _names(s) for s in self._scopes}
        hidden: set[str] = set()
        for scope in self._scopes:
            around = scope.parent
            while around is not None:
                hidden |= names[id(scope)] & names[id(around)]
                around = around.parent
        return frozenset(hidden - {""})


def _names(scope: Graph) -> set[str]:
    record = scope.model.records.scopes.get(id(scope.gs))
    stored = () if record is None else (i.tensor for i in record.initializers.values())
    made = (t for n in scope.nodes for t in n.outputs)
    return {t.name for t in (*stored, *scope.inputs, *made)}


def _hand_over(graph: Graph, old: Tensor, new: Tensor) -> None:
    """Let the node that writes ``new`` write ``old`` instead, for the readers of both."""
    former, maker = old.inputs[0], new.inputs[0]
    list.__setitem__(former.outputs, _place(former, old), Variable.empty())
    unlink(old.inputs, former)
    for reader in list(new.outputs):
        graph.rewire(reader, new, old)
    list.__setitem__(maker.outputs, _place(maker, new), old)
    unlink(new.inputs, maker)
    list.append(old.inputs, maker)


def _place(node: Node, tensor: Tensor) -> int:
    return next(i for i, t in enumerate(node.outputs) if t is tensor)
