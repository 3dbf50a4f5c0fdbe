"""The stages of one model's check, run in a worker's child: the rules, the parser, the builder by target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphkit.check.rule import Rule
from graphkit.errors import BadOption, GraphkitError, NoRuntime
from graphkit.report.checks import Finding

if TYPE_CHECKING:
    from graphkit.run.complaints import Complaint
    from graphkit.run.judge import Judgement
    from graphkit.run.source import Source
    from graphkit.run.trt import Trt

__all__ = ["stages"]

Answer = dict[str, Any]


def stages(request: Mapping[str, Any]) -> Iterator[Answer]:
    """``begin`` and the result of each stage asked for; a model that cannot be read has no other stage."""
    from graphkit.run.profiles import parse_shapes
    from graphkit.run.source import Source

    wanted = list(request["stages"])
    yield {"begin": wanted[0]}
    if wanted == ["runtime"]:
        yield {"stage": "runtime", **_described(request["trt"])}
        return
    try:
        source = Source.load(request["path"])
    except GraphkitError as error:
        yield {"stage": "read", "findings": [_spelled(Finding("unreadable", "error", str(error)))]}
        return
    shapes = parse_shapes(request["shapes"])
    if "rules" in wanted:
        yield {"stage": "rules", "findings": [_spelled(f) for f in _found(source, request)]}
        wanted.remove("rules")
    if not wanted:
        return
    trt = _runtime(request["trt"])
    if wanted == ["mends"]:
        yield {"stage": "mends", "findings": [], "mends": dict(_mends(trt, request))}
        return
    yield from _verdicts(trt, source, wanted, shapes)


def _mends(trt: Trt, request: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    import tempfile
    from pathlib import Path

    from graphkit.check.mend import mends

    with tempfile.TemporaryDirectory() as folder:
        yield from mends(trt, Path(request["path"]), request["complaints"], Path(folder, "part.onnx"))


def _verdicts(trt: Trt, source: Source, wanted: Sequence[str], shapes: Any) -> Iterator[Answer]:
    targets = [w for w in wanted if w != "parse"]
    yield {"begin": "parse"}
    from graphkit.run.judge import judge

    names = [t.name for t in source.model.main.inputs]
    kept = [s for s in shapes if s.name in names]  # many models in one check have inputs of their own
    if len(kept) < len(shapes):
        yield {"stage": "shapes", "findings": [_spelled(_unused_shapes(shapes, names))]}
    try:
        for judgement in judge(trt, source, targets, kept):
            yield {
                "stage": judgement.stage,
                "verdict": judgement.verdict,
                "findings": [_spelled(_finding(c, judgement)) for c in judgement.complaints],
            }
            after = targets[targets.index(judgement.stage) + 1 :] if judgement.stage in targets else targets
            if after:
                yield {"begin": after[0]}
    except BadOption as error:  # the shapes do not fit this model, or no shapes would
        for target in targets:
            odd = Finding("needs-profile", "error", str(error), targets=(target,))
            yield {"stage": target, "verdict": "needs-profile", "findings": [_spelled(odd)]}


def _unused_shapes(shapes: Any, names: Sequence[str]) -> Finding:
    from graphkit.model.disk import shown

    odd = ", ".join(s.name for s in shapes if s.name not in names)
    said = f"--shapes {shown(odd)}: the model's inputs are {shown(', '.join(names))}"
    return Finding("needs-profile", "note", said)


def _described(which: str) -> Answer:
    """Which TensorRT there is, what it builds for, and the GPU here; or why there is none."""
    from graphkit.run.compile import present

    try:
        trt = _runtime(which)
    except NoRuntime as error:
        return {"error": str(error)}
    gpu = present()
    return {
        "name": trt.name,
        "title": trt.title,
        "version": trt.version,
        "capabilities": list(trt.compute_capabilities),
        "gpu": None if gpu is None else gpu.compute_capability,
    }


def _runtime(which: str) -> Trt:
    from graphkit.run import trt

    return trt.load(which)


def _found(source: Source, request: Mapping[str, Any]) -> Iterator[Finding]:
    """What the rules find; a rule that crashes is a finding of its own."""
    from graphkit.check.registry import installed
    from graphkit.check.subject import Subject

    runtime, version = _version(request["trt"])
    shapes = {s.name: (s.least, s.usual, s.greatest) for s in _shapes(request)}
    targets = tuple(s for s in request["targets"])
    subject = Subject(source.model, targets, runtime, version, shapes, request.get("feeds") or ())
    skipped = set(request.get("ignored") or ())
    for name, one in installed().items():
        if name in skipped:
            continue
        try:
            rule = one.load().from_values(request["rules"].get(name, {}))
        except GraphkitError as error:
            yield Finding("rule-failed", "warning", f"rule '{name}' cannot be used: {error}")
            continue
        yield from _of_rule(rule, subject)


def _of_rule(rule: Rule, subject: Any) -> Iterator[Finding]:
    from graphkit.rewrite.failure import describe_failure

    try:
        yield from rule.check(subject)
    except GraphkitError as error:  # of the model: what the rule asked of it cannot be read
        yield Finding("unreadable", "error", str(error))
    except Exception as error:
        said = describe_failure(error, type(rule))
        yield Finding("rule-failed", "warning", f"rule '{rule.name}' failed: {said}")


def _shapes(request: Mapping[str, Any]) -> Any:
    from graphkit.run.profiles import parse_shapes

    return parse_shapes(request["shapes"])


def _version(which: str) -> tuple[str, tuple[int, ...]]:
    try:
        found = _runtime(which)
    except NoRuntime:
        return "", ()
    return found.name, found.numbers


def _finding(complaint: Complaint, judgement: Judgement) -> Finding:
    """A complaint as a finding: an error, unless what is missing is a GPU or a profile."""
    rule = {"needs-gpu": "needs-gpu", "needs-profile": "needs-profile"}.get(
        judgement.verdict, "parser" if complaint.stage == "parse" else "builder"
    )
    severity = "error" if rule in ("parser", "builder") else "warning"
    return Finding(
        rule,
        severity,  # type: ignore[arg-type]
        complaint.reason,
        node=complaint.node,
        op=complaint.op,
        stack=complaint.stack,
        fix=complaint.mend,
        targets=() if judgement.stage == "parse" else (judgement.stage,),
        raw=complaint.raw,
    )


def _spelled(finding: Finding) -> Answer:
    from dataclasses import asdict

    return asdict(finding)
