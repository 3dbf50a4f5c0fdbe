"""The records that a rewrite leaves behind: plain data, with no import of anything above."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

SCHEMA = "graphkit.rewrite/1"

Status = Literal["held", "differs", "not-run", "not-asked", "unchanged"]


@dataclass(frozen=True)
class Refusal:
    """A place where a pass could have acted and did not: the graph it is in, the node, and the reason."""

    graph: str
    node: str
    op: str
    reason: str

    def __str__(self) -> str:
        place = "" if self.graph == "main" else f" in {self.graph}"
        return f"{self.op} '{self.node}'{place}: {self.reason}"


@dataclass(frozen=True)
class PassReport:
    """What one pass did: its spec, rewrites made, refusals, nodes by op type before/after, wall seconds."""

    spec: str
    rewrites: int
    refusals: tuple[Refusal, ...] = ()
    nodes_before: Mapping[str, int] = field(default_factory=dict)
    nodes_after: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TensorDifference:
    """How far one tensor of the rewritten model is from the original's.

    ``max_abs`` is the largest absolute difference, ``relative`` that difference over the largest
    magnitude of the original tensor (its range), ``tolerance`` the bound ``relative`` was held to.
    """

    tensor: str
    original: str
    dtype: str
    max_abs: float
    relative: float
    tolerance: float
    ok: bool
    reason: str = ""


@dataclass(frozen=True)
class Verification:
    """Whether the numbers held.

    ``status``: ``held`` (ran, and agreed), ``differs`` (ran, and did not), ``not-run`` (could not be
    run: ``reason`` says why), ``not-asked`` (``--no-verify``), ``unchanged`` (no pass changed anything).
    ``culprit`` is the spec of the first pass after which the numbers differ, ``first`` the first
    differing tensor in topological order, ``runs`` one input-shape assignment a run.
    """

    status: Status
    reason: str = ""
    runner: str = ""
    runs: tuple[Mapping[str, tuple[int, ...]], ...] = ()
    compared: int = 0
    worst: TensorDifference | None = None
    first: TensorDifference | None = None
    culprit: str | None = None


@dataclass(frozen=True)
class RewriteReport:
    """The whole story of one ``graphkit rewrite``."""

    input: str
    output: str | None
    passes: tuple[PassReport, ...]
    verification: Verification
    written: bool
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready tree whose ``schema`` field names its stable format."""
        return {"schema": SCHEMA, **asdict(self)}
