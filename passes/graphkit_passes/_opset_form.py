"""What a node has to look like in an older opset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import onnx

from graphkit import NotApplicable
from graphkit.model.graph import Tensor
from graphkit_passes._lowering import Lowering


@dataclass
class Form:
    """What a node has to look like; ``low`` is the node as it is, ``opset`` the one it is to fit."""

    low: Lowering
    now: onnx.defs.OpSchema
    then: onnx.defs.OpSchema
    attrs: dict[str, Any] = field(default_factory=dict)
    inputs: list[Tensor | None] = field(default_factory=list)

    def crosses(self, version: int) -> bool:
        """Whether the operator changed in this version on the way."""
        return self.then.since_version < version <= self.now.since_version

    def drop(self, name: str, allowed: bool, reason: str) -> None:
        """Leave an attribute out when it may be."""
        if name in self.attrs and name not in self.then.attributes:
            if not allowed:
                raise NotApplicable(reason)
            del self.attrs[name]

    def input(self, place: int) -> Tensor | None:
        """An input as it is to be."""
        return self.inputs[place] if place < len(self.inputs) else None

    def to_attribute(self, place: int, name: str) -> list[int] | None:
        """Make an attribute of an input that has to be constant; its values."""
        tensor = self.input(place)
        if tensor is None:
            return None
        values = [int(v) for v in self.low.value(tensor, name).reshape(-1)]
        self.attrs[name] = values
        del self.inputs[place:]
        return values
