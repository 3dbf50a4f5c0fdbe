"""Findings that are known and accepted: a file of fingerprints, by model, that people can read and review."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphkit.errors import BadInput
from graphkit.report.checks import Finding, Report

__all__ = ["SCHEMA", "Baseline"]

SCHEMA = "graphkit.check.baseline/1"


@dataclass(frozen=True)
class Baseline:
    """Fingerprints by the name of the model's file, so that a checkout in another folder has them too."""

    accepted: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | str) -> Baseline:
        """Read a baseline; BadInput when it is none."""
        try:
            tree = json.loads(Path(path).read_text("utf-8"))
            if tree["schema"] != SCHEMA:
                raise ValueError(f"its schema is {tree['schema']!r}")
            models = {
                str(m): frozenset(str(f["fingerprint"]) for f in fs) for m, fs in tree["models"].items()
            }
        except OSError as error:
            raise BadInput(
                f"{path}: cannot be read: {error.strerror}; --write-baseline {path} makes one"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{path}: is no baseline of graphkit check; --write-baseline makes one") from error
        return cls(models)

    def accepts(self, name: str, finding: Finding) -> bool:
        """Whether this finding of the model called ``name`` is accepted."""
        return finding.fingerprint in self.accepted.get(Path(name).name, frozenset())

    @staticmethod
    def dumps(report: Report) -> str:
        """A baseline that accepts all that the report has, in a stable order."""
        models: dict[str, list[dict[str, Any]]] = {}
        for model in report.models:
            lines = models.setdefault(Path(model.path).name, [])
            for finding in model.findings:
                line = {"fingerprint": finding.fingerprint, "rule": finding.rule, "message": finding.message}
                if line not in lines:
                    lines.append(line)
        ordered = {
            m: sorted(f, key=lambda x: (x["rule"], x["fingerprint"])) for m, f in sorted(models.items())
        }
        tree = {"schema": SCHEMA, "models": {m: f for m, f in ordered.items() if f}}
        text = json.dumps(tree, indent=2, ensure_ascii=False) + "\n"
        return text.encode("utf-8", "replace").decode()  # a message may hold a name that is no Unicode
