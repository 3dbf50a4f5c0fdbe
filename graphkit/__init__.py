"""Rewrite ONNX models, build engines, compare the two: all the names that a pass or a script needs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphkit.check.check import check
    from graphkit.check.rule import Rule
    from graphkit.check.subject import Subject
    from graphkit.compare.bridge import Bridge
    from graphkit.compare.diff import diff
    from graphkit.engine.layers import LayerMap
    from graphkit.errors import (
        BadCapture,
        BadEngine,
        BadInput,
        BadOption,
        BadOutput,
        BadPass,
        BadRecipe,
        BuildFailed,
        GraphkitError,
        NoRuntime,
        NotApplicable,
        PassFailed,
        RewriteRefused,
        UnknownPass,
    )
    from graphkit.model.graph import Graph
    from graphkit.model.model import Model
    from graphkit.model.pattern import Match, find
    from graphkit.report.checks import Finding, ModelCheck, Report
    from graphkit.report.records import PassReport, Refusal, RewriteReport, TensorDifference, Verification
    from graphkit.rewrite.builder import Builder
    from graphkit.rewrite.framework import Pass, PatternPass, Tally
    from graphkit.rewrite.options import Size, option, rest
    from graphkit.rewrite.pipeline import apply, rewrite
    from graphkit.rewrite.recipe import load_recipe
    from graphkit.rewrite.registry import load_pass, passes
    from graphkit.run.build import build
    from graphkit.run.capture import capture
    from graphkit.run.capture_file import Capture

    __version__: str

_HOMES = {
    "graphkit.check.rule": "Rule",
    "graphkit.check.subject": "Subject",
    "graphkit.compare.bridge": "Bridge",
    "graphkit.compare.diff": "diff",
    "graphkit.engine.layers": "LayerMap",
    "graphkit.errors": (
        "BadCapture BadEngine BadInput BadOption BadOutput BadPass BadRecipe BuildFailed GraphkitError "
        "NoRuntime NotApplicable PassFailed RewriteRefused UnknownPass"
    ),
    "graphkit.model.graph": "Graph",
    "graphkit.model.model": "Model",
    "graphkit.model.pattern": "Match find",
    "graphkit.report.checks": "Finding ModelCheck Report",
    "graphkit.report.records": "PassReport Refusal RewriteReport TensorDifference Verification",
    "graphkit.rewrite.builder": "Builder",
    "graphkit.rewrite.framework": "Pass PatternPass Tally",
    "graphkit.rewrite.options": "Size option rest",
    "graphkit.rewrite.pipeline": "apply",
    "graphkit.rewrite.recipe": "load_recipe",
    "graphkit.rewrite.registry": "load_pass passes",
    "graphkit.run.build": "build",
    "graphkit.run.capture": "capture",
    "graphkit.run.capture_file": "Capture",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "BadCapture",
    "BadEngine",
    "BadInput",
    "BadOption",
    "BadOutput",
    "BadPass",
    "BadRecipe",
    "Bridge",
    "BuildFailed",
    "Builder",
    "Capture",
    "Finding",
    "Graph",
    "GraphkitError",
    "LayerMap",
    "Match",
    "Model",
    "ModelCheck",
    "NoRuntime",
    "NotApplicable",
    "Pass",
    "PassFailed",
    "PassReport",
    "PatternPass",
    "Refusal",
    "Report",
    "RewriteRefused",
    "RewriteReport",
    "Rule",
    "Size",
    "Subject",
    "Tally",
    "TensorDifference",
    "UnknownPass",
    "Verification",
    "__version__",
    "apply",
    "build",
    "capture",
    "check",
    "diff",
    "find",
    "load_pass",
    "load_recipe",
    "option",
    "passes",
    "rest",
    "rewrite",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: ``graphkit --help`` loads no numpy and no onnx."""
    if name in ("check", "rewrite"):  # packages, which can be called: see graphkit._callable
        return import_module(f"graphkit.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("graphkit")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'graphkit' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
