"""The records that a check leaves behind: plain data, with no import of anything above."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA = "graphkit.check/1"

Severity = Literal["error", "warning", "note"]
Verdict = Literal["ok", "needs-profile", "needs-gpu", "fails-build", "fails-parse", "crashed"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
VERDICTS: tuple[Verdict, ...] = ("ok", "needs-profile", "needs-gpu", "fails-build", "fails-parse", "crashed")
"""From the best to the worst."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a model, or may be.

    ``rule`` is the id of the rule that found it. ``node``, ``op`` and ``tensor`` say where, ``stack`` the
    local functions around, outermost first; empty when it is the whole model. ``message`` is in plain words,
    ``raw`` what TensorRT said. ``fix`` is the spec of a pass that mends it, or empty. ``targets`` are those
    that it is true of; none means that it does not depend on one. ``repro`` is a file with the smallest model
    that still has it. ``accepted``: a baseline has it.
    """

    rule: str
    severity: Severity
    message: str
    node: str = ""
    op: str = ""
    tensor: str = ""
    stack: tuple[str, ...] = ()
    fix: str = ""
    targets: tuple[str, ...] = ()
    raw: str = ""
    repro: str = ""
    accepted: bool = False

    @property
    def where(self) -> str:
        """Operator and node, or the tensor, and functions; empty for the whole model."""
        what = " ".join(p for p in (self.op, f"'{self.node}'" if self.node else "") if p)
        what = what or (f"tensor '{self.tensor}'" if self.tensor else "")
        return f"{what} in {' > '.join(self.stack)}" if self.stack and what else what

    @property
    def fingerprint(self) -> str:
        """What a baseline knows it by: 16 hex digits of rule, place and message; not of targets or words."""
        key = "\0".join([self.rule, self.op, self.node, self.tensor, *self.stack, self.message])
        return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON; what is empty is left out, apart from what the schema always has."""
        tree: dict[str, Any] = {
            "rule": self.rule,
            "severity": self.severity,
            "node": self.node,
            "op": self.op,
            "message": self.message,
            "fix": self.fix,
            "fingerprint": self.fingerprint,
        }
        extra: dict[str, Any] = {
            "tensor": self.tensor,
            "stack": list(self.stack),
            "targets": list(self.targets),
            "raw": self.raw,
            "repro": self.repro,
            "accepted": self.accepted,
        }
        return tree | {k: v for k, v in extra.items() if v}


@dataclass(frozen=True)
class Fixed:
    """What ``--fix`` did to one model: the passes, the verdicts before, and where the result is.

    ``written`` is empty when nothing was; ``reason`` says why.
    """

    passes: tuple[str, ...]
    before: Mapping[str, Verdict] = field(default_factory=dict)
    written: str = ""
    reason: str = ""


@dataclass(frozen=True)
class ModelCheck:
    """One model: the verdict for each target, and the findings, the gravest first."""

    path: str
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0
    fixed: Fixed | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of all targets; ok when there is none."""
        return max(self.verdicts.values(), key=VERDICTS.index, default="ok")

    def fails(self, fail_on: Severity) -> bool:
        """Whether a finding that no baseline accepts is as grave as ``fail_on``."""
        limit = SEVERITIES.index(fail_on)
        return any(not f.accepted and SEVERITIES.index(f.severity) <= limit for f in self.findings)

    def to_json(self) -> dict[str, Any]:
        tree: dict[str, Any] = {
            "path": self.path,
            "verdicts": dict(self.verdicts),
            "findings": [f.to_json() for f in self.findings],
            "seconds": round(self.seconds, 3),
        }
        if self.fixed is not None:
            tree["fixed"] = {
                "passes": list(self.fixed.passes),
                "before": dict(self.fixed.before),
                "written": self.fixed.written,
                "reason": self.fixed.reason,
            }
        return tree


@dataclass(frozen=True)
class Report:
    """A check of one or several models, in the order in which they were given.

    ``targets`` are the compute capabilities asked for, as sm89; ``runtime`` is the TensorRT that judged,
    empty when there was none; ``fail_on`` the severity from which the answer is no.
    """

    models: tuple[ModelCheck, ...]
    targets: tuple[str, ...] = ()
    runtime: str = ""
    fail_on: Severity = "error"
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no finding is as grave as ``fail_on``."""
        return not any(model.fails(self.fail_on) for model in self.models)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Those of all models."""
        return tuple(f for model in self.models for f in model.findings)

    def counts(self) -> Counter[str]:
        """How many findings of each severity no baseline accepts."""
        return Counter(f.severity for f in self.findings if not f.accepted)

    def to_json(self) -> dict[str, Any]:
        """The report as it is written with ``--format json``: docs/check.md, schemas/check-1.json."""
        return {
            "schema": SCHEMA,
            "ok": self.ok,
            "fail_on": self.fail_on,
            "targets": list(self.targets),
            "runtime": self.runtime,
            "models": [m.to_json() for m in self.models],
            "versions": dict(self.versions),
        }


def kinds(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Findings that differ in their place alone, together; in the order of the first of each."""
    found: dict[tuple[str, ...], list[Finding]] = {}
    for f in findings:
        found.setdefault((f.rule, f.severity, f.op, f.message, f.fix, *f.targets), []).append(f)
    return list(found.values())
