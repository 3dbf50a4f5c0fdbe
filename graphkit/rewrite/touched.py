"""Which tensors of the main graph a rewrite computes in a new way: those are compared besides the outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphkit.model.model import Model
    from graphkit.model.surgeon import Node

__all__ = ["Snapshot"]


class Snapshot:
    """What made each tensor of a model's main graph when the snapshot was taken."""

    def __init__(self, model: Model) -> None:
        self._makers = {t.name: (n, _state(n)) for n in model.main.nodes for t in n.outputs if t.name}
        self._ends = [(t, t.name) for t in (*model.main.inputs, *model.main.outputs)]
        self._names = {id(t): (t.name, t) for n in model.main.nodes for t in n.outputs if t.name}

    def touched(self, model: Model) -> list[tuple[str, str]]:
        """(name then, name now) of the tensors of both models that other nodes, or changed ones, make now.

        A tensor is the same one when it is the same object or, made anew, has the same name.
        """
        found: list[tuple[str, str]] = []
        for node in model.main.nodes:
            for tensor in node.outputs:
                was = self._names[id(tensor)][0] if id(tensor) in self._names else tensor.name
                maker = self._makers.get(was)
                if tensor.name and maker is not None and (maker[0] is not node or maker[1] != _state(node)):
                    found.append((was, tensor.name))
        return found

    def renamed(self, model: Model) -> dict[str, str]:
        """Graph inputs and outputs that have another name now: name then -> name now.

        A name that another end had is no new name: ends that swap theirs are wired wrongly, not renamed.
        """
        ends = {id(t) for t in (*model.main.inputs, *model.main.outputs)}
        taken = {name for _, name in self._ends}
        renamed = ((name, t.name) for t, name in self._ends if t.name != name and id(t) in ends)
        return {was: now for was, now in renamed if now not in taken}


def _state(node: Node) -> tuple[Any, ...]:
    """What a node computes, apart from the names of the tensors: renaming is no touch."""
    attributes = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in node.attrs.items())
    plain = tuple(
        (k, v if isinstance(v, int | float | str | bytes | tuple) else id(v)) for k, v in attributes
    )
    return node.op, node.domain or "", plain, tuple(id(t) for t in node.inputs)
