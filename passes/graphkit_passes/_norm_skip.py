"""The normalisations that ONNX Runtime's optimizer writes, as standard operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphkit import NotApplicable
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import attribute
from graphkit_passes._looking import Look

SKIPS = {
    "LayerNormalization": (("com.microsoft", "SkipLayerNormalization"),),
    "RMSNormalization": (
        ("com.microsoft", "SkipSimplifiedLayerNormalization"),
        ("com.microsoft", "SimplifiedLayerNormalization"),
        ("", "SimplifiedLayerNormalization"),
    ),
}
"""Domain and type of what becomes each standard operator; ONNX Runtime has the last one in ONNX's domain."""

_EPSILON = {"SimplifiedLayerNormalization": 1e-5}  # the others: 1e-12
_INPUTS = {
    "SkipLayerNormalization": ("x", "skip", "scale", "shift", "bias"),
    "SkipSimplifiedLayerNormalization": ("x", "skip", "scale", "bias"),
    "SimplifiedLayerNormalization": ("x", "scale"),
}


@dataclass(frozen=True)
class SkipNorm:
    """Rewrites one such node to Adds and the operator ``op``."""

    op: str

    def __call__(self, look: Look, node: Node) -> bool:
        """NotApplicable when an output is read that the standard operator does not have."""
        given = dict(zip(_INPUTS[node.op], node.inputs, strict=False))
        given = {name: t for name, t in given.items() if t.name}
        outputs = dict(enumerate(node.outputs))
        for tensor in (outputs.get(1), outputs.get(2)):
            if tensor is not None and (tensor.outputs or look.is_output(tensor)):
                raise NotApplicable(f"its output '{tensor.name}' is used, which {self.op} lacks")
        attrs = {"axis": -1, "epsilon": _EPSILON.get(node.op, 1e-12)}
        attrs |= {name: _plain(look, node, name) for name in node.attrs if name in _KNOWN}
        made: list[Node] = []
        x = given["x"]
        for other in (given[name] for name in ("skip", "bias") if name in given):
            x = self._add(look, node, made, "Add", [x, other])
        shift = [given["shift"]] if "shift" in given else []
        y = self._add(look, node, made, self.op, [x, given["scale"], *shift], attrs)
        if 3 in outputs and outputs[3].name:
            look.graph.replace(outputs[3], x)
        look.replace(node.outputs[0], y, made, [node])
        return True

    def _add(
        self,
        look: Look,
        node: Node,
        made: list[Node],
        op: str,
        inputs: list[Tensor],
        attrs: dict[str, Any] | None = None,
    ) -> Tensor:
        (tensor,) = look.graph.add(op, inputs, attrs, before=node, of=[node])
        made += tensor.inputs
        return tensor


_KNOWN = ("axis", "epsilon", "stash_type")


def _plain(look: Look, node: Node, name: str) -> int | float:
    value = attribute(look.graph, node, name)
    if not isinstance(value, int | float):
        raise NotApplicable(f"its {name} is an attribute of the function that it is in")
    return value
