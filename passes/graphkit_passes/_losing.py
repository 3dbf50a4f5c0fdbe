"""Taking out what a rewrite left without readers, and nothing that had none before."""

from __future__ import annotations

from graphkit import Graph
from graphkit.model.surgeon import Node, Tensor
from graphkit_passes._placing import Placing


class Losing(Placing):
    """A :class:`Placing` that can be told of tensors which lost a reader in another way."""

    def lose(self, *tensors: Tensor) -> None:
        """Note tensors whose makers go with the next :meth:`sweep`, if nothing else reads them."""
        self._lost.update((id(t), t) for t in tensors if t.name)

    def drop_unread(self, graph: Graph, nodes: list[Node]) -> int:
        """Remove those of ``nodes`` that nobody reads, and what only they needed; returns how many."""
        gone = [n for n in nodes if self._is_dead(n)]
        self.remove(graph, gone)
        return len(gone) + self.sweep() if gone else 0
