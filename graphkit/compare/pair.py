"""A model and its rewritten form: opened with the same tensors exposed, fed under their own names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from onnx import ModelProto

from graphkit.compare.trial import Feed
from graphkit.run.reference import CannotRun, Runnable, open_model

Parts = Sequence[bytes | memoryview]


@dataclass
class Side:
    """One of the two models: its bytes, its outline, and where its external data lies (None: it has none).

    ``only`` is the runtime it is held to, once one has been chosen; ``defaults`` the values of inputs that
    need no feed.
    """

    parts: Parts
    outline: ModelProto
    folder: Path | None
    only: str | None = None
    defaults: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def open(self, outputs: Iterable[str] = (), only: str | None = None) -> Runnable:
        """Load it with more outputs; raises CannotRun."""
        own = {o.name for o in self.outline.graph.output}
        extra = [n for n in dict.fromkeys(outputs) if n not in own]
        return open_model(self.parts, self.folder, extra, only=only or self.only)

    def exposable(self, outputs: Sequence[str]) -> set[str]:
        """Those tensors that can be made outputs, found by halving when not all can."""
        if not outputs:
            return set()
        try:
            self.open(outputs)
            return set(outputs)
        except CannotRun:
            if len(outputs) == 1:
                return set()
        half = len(outputs) // 2
        return self.exposable(outputs[:half]) | self.exposable(outputs[half:])


def renamed_feed(feed: Mapping[str, Any], names: Mapping[str, str], wanted: set[str]) -> Feed:
    """The feed under the rewritten model's input names, without inputs that it now has a default for."""
    return {names.get(k, k): v for k, v in feed.items() if names.get(k, k) in wanted}
