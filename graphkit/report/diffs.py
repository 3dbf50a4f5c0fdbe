"""The records that a diff leaves behind: plain data, with no import of anything above."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = [
    "SCHEMA",
    "Coverage",
    "DiffReport",
    "Drift",
    "LayerDiff",
    "Metrics",
    "OutputDiff",
    "RunSummary",
    "Unmapped",
    "most_introduced",
]

SCHEMA = "graphkit.diff/1"

Kind = Literal["onnx-engine", "onnx-capture", "onnx-onnx", "engine-engine"]
Verdict = Literal["match", "mismatch"]
Form = Literal["same", "view", "padded", "before bias", "side by side", "scaled", "part"]


@dataclass(frozen=True)
class Metrics:
    """How far a tensor is from its reference, over the places where both are finite.

    ``max_abs`` and ``mean_abs`` are absolute errors; ``rms_rel`` the rms error over the rms of the reference;
    ``max_rel`` the largest error of a value over that value of the reference (0 over 0 is 0); ``to_range``
    is ``max_abs`` over the largest magnitude of the reference; ``ulp`` the largest distance in representable
    values of the compared tensor's own dtype (in steps for integers and booleans); ``cosine`` of the angle
    between the two (1 for two tensors of zeros); ``snr_db`` 20·log10(rms of reference / rms of error),
    infinite without error; ``gain`` the scale of the reference that fits best (1 when it is all zeros).

    ``nan`` and ``inf`` count such values in (reference, actual), ``misplaced`` the places where the two
    disagree about being NaN, +inf or -inf. ``range_ref`` and ``range_actual`` are (least, greatest) of the
    finite values, (0, 0) of none. ``different`` counts values that are not equal bit for bit as numbers.
    """

    max_abs: float = 0.0
    mean_abs: float = 0.0
    rms_rel: float = 0.0
    max_rel: float = 0.0
    to_range: float = 0.0
    ulp: float = 0.0
    cosine: float = 1.0
    snr_db: float = float("inf")
    gain: float = 1.0
    nan: tuple[int, int] = (0, 0)
    inf: tuple[int, int] = (0, 0)
    misplaced: int = 0
    range_ref: tuple[float, float] = (0.0, 0.0)
    range_actual: tuple[float, float] = (0.0, 0.0)
    size: int = 0
    different: int = 0
    custom: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerDiff:
    """One tensor at a kernel boundary (a node's output, ONNX against ONNX) beside what it is paired with.

    ``paired`` are the reference's tensors, ``form`` what the tensor is of them, ``confidence`` 0 to 1 how
    sure that is, ``evidence`` why. ``accumulated`` is the error since the inputs of the model, ``introduced``
    the error that the kernels of ``region`` add to exact inputs (None: not measured). ``share`` is the
    introduced error over ``tolerance``: more than 1 is bad. ``ok`` is False for an accused kernel.
    """

    kernel: str
    type: str = ""
    onnx_nodes: tuple[str, ...] = ()
    tensor: str = ""
    call: int = 0
    dtype: str = ""
    dims: tuple[int, ...] = ()
    paired: tuple[str, ...] = ()
    form: Form = "same"
    confidence: float = 1.0
    evidence: str = ""
    accumulated: Metrics | None = None
    introduced: Metrics | None = None
    tolerance: float | None = None
    share: float | None = None
    ok: bool = True
    region: tuple[str, ...] = ()
    cause: str = ""
    cause_evidence: str = ""


@dataclass(frozen=True)
class OutputDiff:
    """One output of the model: ``metrics`` is None when it could not be compared, and ``reason`` says why.

    ``tolerance`` bounds what ``reason`` names; an output that is fine may carry a remark in ``reason``.
    """

    name: str
    metrics: Metrics | None = None
    tolerance: float | None = None
    ok: bool = True
    reason: str = ""


@dataclass(frozen=True)
class Unmapped:
    """A tensor with no counterpart, and why: counted and listed, never an error."""

    tensor: str
    kernel: str = ""
    dims: tuple[int, ...] = ()
    dtype: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Drift:
    """Whether marking tensors changed the fusion: kernels compared with a plain build's, those that differ.

    ``checked`` is False when there was nothing to compare with; ``reason`` says why.
    """

    checked: bool = False
    kernels: int = 0
    different: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Coverage:
    """``captured`` tensors of B, ``copies`` of them that compute nothing, ``paired`` of the others."""

    captured: int = 0
    paired: int = 0
    copies: int = 0

    @property
    def share(self) -> float:
        """Paired tensors over those that compute something, 0 to 1; 1 when there are none."""
        asked = self.captured - self.copies
        return self.paired / asked if asked > 0 else 1.0


@dataclass(frozen=True)
class RunSummary:
    """One set of inputs: its label, the shapes it had, its verdict and its first bad kernel ("" for none)."""

    label: str
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    verdict: Verdict = "match"
    first_bad: str = ""
    reason: str = ""


@dataclass(frozen=True)
class DiffReport:
    """The whole story of one ``graphkit diff``; ``layers`` are in the order in which B computes them.

    ``notes`` are remarks for a person, ``advice`` what to do next, ``seconds`` wall time by stage,
    ``options`` those that decided the result (inputs, seed, tolerances, …), as plain values.
    """

    a: str
    b: str
    kind: Kind
    verdict: Verdict
    first_bad: LayerDiff | None = None
    layers: tuple[LayerDiff, ...] = ()
    unmapped: tuple[Unmapped, ...] = ()
    outputs: tuple[OutputDiff, ...] = ()
    drift: Drift = Drift()
    coverage: Coverage = Coverage()
    notes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    runs: tuple[RunSummary, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the verdict is that the two match."""
        return self.verdict == "match"

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready tree; its format is ``graphkit/report/schemas/diff-1.json``."""
        return {"schema": SCHEMA, **asdict(self)}


def most_introduced(layers: Iterable[LayerDiff], count: int | None = None) -> list[LayerDiff]:
    """Layers with an introduced error, the accused first, then by share of their tolerance, largest first.

    Without a tolerance the error over the range ranks; ties keep the order of computation.
    """
    measured = [layer for layer in layers if layer.introduced is not None]
    return sorted(measured, key=_rank)[:count]


def _rank(layer: LayerDiff) -> tuple[bool, float]:
    found = layer.introduced.to_range if layer.introduced is not None else 0.0
    share = found if layer.share is None else layer.share
    return layer.ok, -share if share == share else float("-inf")
