"""How two models whose interfaces differ are run on the same data: what a pass that edits says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Values = Mapping[str, np.ndarray[Any, Any]]

__all__ = ["Bridge"]


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """What the model before a pass has to do with the one after it, where the pass changes the interface.

    A pass hands it to ``tally.bridge``. By default each input of the new model is the one of that name, and
    each output is to equal the tensor of that name, be it an output or an inner tensor of the model before.

    ``says``: what changed of the interface, one line for the report.
    ``feeds``: the feeds of the old model (one or several) that one feed of the new model stands for.
    ``taken``: new inputs that were inner tensors of the old model, by their name there. The old model runs
    first then, and the new one gets what it computed. Not together with ``feeds``.
    ``outputs``: what the new model has to give, from what the old one gave for each of its feeds: outputs
    and the inner tensors of ``reads`` by name, and the feed itself. Outputs it leaves out are not compared.
    ``unproven``: outputs of the new model that nothing can be held against, and why.
    ``tolerance``: the largest error relative to a tensor's range; None: that of its dtype.
    """

    says: str
    feeds: Callable[[Values], Sequence[Values]] | None = None
    taken: Mapping[str, str] = field(default_factory=dict)
    outputs: Callable[[Sequence[Values]], Values] | None = None
    reads: tuple[str, ...] = ()
    unproven: Mapping[str, str] = field(default_factory=dict)
    tolerance: float | None = None
