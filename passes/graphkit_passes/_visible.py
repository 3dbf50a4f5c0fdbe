"""Which tensors a scope can read by name: an inner definition of the same name would hide an outer one."""

from __future__ import annotations

from graphkit import Graph
from graphkit.model.surgeon import Tensor


class Visible:
    """Whether tensors can be read in a scope; looks at each scope once, as it is when first asked."""

    def __init__(self) -> None:
        self._defined: dict[int, dict[str, int]] = {}

    def reads(self, scope: Graph, tensor: Tensor) -> bool:
        """Whether ``tensor``, of this scope or one around it, is what its name means here."""
        here: Graph | None = scope
        while here is not None:
            found = self._names(here).get(tensor.name)
            if found is not None:
                return found == id(tensor)
            here = here.parent
        return True  # a new name, which hides nothing and is hidden by nothing

    def _names(self, scope: Graph) -> dict[str, int]:
        if id(scope.gs) not in self._defined:
            record = scope.model.records.scopes.get(id(scope.gs))
            own = [i.tensor for i in record.initializers.values()] if record is not None else []
            made = (t for n in scope.nodes for t in n.outputs)
            self._defined[id(scope.gs)] = {t.name: id(t) for t in (*own, *scope.inputs, *made) if t.name}
        return self._defined[id(scope.gs)]
