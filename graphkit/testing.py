"""What the author of a pass imports in tests: fixture files, and what every pass owes on each of them.

A fixture is a text file: header lines, a model in ONNX's text syntax, and the model that it has to become::

    # pass: silu
    # refuses: its attribute 'gain' is not known
    <ir_version: 10, opset_import: ["": 24]>
    g (float[2,4] x) => (float[2,4] y) { y = Swish (x) }
    # output
    <ir_version: 10, opset_import: ["": 24]>
    g (float[2,4] x) => (float[2,4] y) { s = Sigmoid (x)  y = Mul (x, s) }

Without ``# output`` the model must stay as it is, byte for byte. Each ``# refuses:`` is a part of one
refusal of the report. ``# not-run:`` is a part of the reason why the model cannot be run, for operators that
no runtime at hand knows. ``# refused-by: rtx-1.4: Swish`` says that a version of TensorRT refuses the model
before, and with which words (a part of them), and builds it after; ``# broken-on: TensorRT 8.6: why`` names
one where it failed in another way. Both are for readers and for tests that have that version.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from graphkit.report.records import PassReport, Verification
    from graphkit.rewrite.framework import Pass

__all__ = ["Case", "assert_equivalent", "case", "cases", "check", "run"]

_OUTPUT = "# output"
_HEADERS = ("pass", "refuses", "not-run", "refused-by", "broken-on")


@dataclass(frozen=True)
class Case:
    """One fixture: a pass spec, the model before, the one after (None: unchanged), and expected reasons."""

    path: Path
    spec: str
    before: onnx.ModelProto
    after: onnx.ModelProto | None
    refuses: tuple[str, ...] = ()
    not_run: str = ""
    refused_by: tuple[tuple[str, str], ...] = ()
    broken_on: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"


def cases(folder: Path | str) -> Iterator[Case]:
    """Read every ``*.onnxtxt`` below ``folder``, ordered by path. ValueError for one that is no fixture."""
    for path in sorted(Path(folder).rglob("*.onnxtxt")):
        yield case(path)


def case(path: Path | str) -> Case:
    """Read one fixture. ValueError when its header or its models cannot be read."""
    path = Path(path)
    lines = path.read_text("utf-8").splitlines()
    cut = next((n for n, line in enumerate(lines) if line.strip() == _OUTPUT), None)
    told = _header(path, lines[:cut])
    if len(told["pass"]) != 1 or len(told["not-run"]) > 1:
        raise ValueError(f"{path}: needs one line '# pass: spec', and at most one '# not-run: reason'")
    after = None if cut is None else _parse(path, lines[cut + 1 :])
    before = _parse(path, lines[:cut])
    refused = tuple(_who_and_why(path, line) for line in told["refused-by"])
    return Case(
        path,
        told["pass"][0],
        before,
        after,
        tuple(told["refuses"]),
        "".join(told["not-run"]),
        refused,
        tuple(told["broken-on"]),
    )


def _who_and_why(path: Path, line: str) -> tuple[str, str]:
    who, colon, why = line.partition(":")
    if not colon or not why.strip():
        raise ValueError(f"{path}: write '# refused-by: rtx-1.4: part of what it says', not '{line}'")
    return who.strip(), why.strip()


def _header(path: Path, lines: list[str]) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {key: [] for key in _HEADERS}
    for line in lines:
        if not line.startswith("# "):
            break
        key, separator, value = line[2:].partition(":")
        if separator and key in told:
            told[key].append(value.strip())
    return told


def _parse(path: Path, lines: list[str]) -> onnx.ModelProto:
    import onnx.parser

    try:
        return onnx.parser.parse_model("\n".join(line for line in lines if not line.startswith("#")))
    except onnx.parser.ParseError as error:
        raise ValueError(f"{path}: {error}") from error


def run(step: str | Pass, model: onnx.ModelProto) -> tuple[onnx.ModelProto, PassReport]:
    """Run a pass (or the spec of one) on a model in memory: the result, and the report; ``model`` stays."""
    from graphkit.model.model import Model

    twin = Model.from_proto(model)
    report = _built(step).run(twin)
    return twin.to_proto(), report


def _built(step: str | Pass) -> Pass:
    from graphkit.rewrite.registry import load_pass

    return load_pass(step) if isinstance(step, str) else step


def check(case: Case, seed: int = 0) -> PassReport:
    """Assert all that a pass owes on a fixture, and return its report.

    That is: the expected text (names of nodes and metadata aside), a model that onnx.checker takes in full,
    the same numbers, the same outputs in the same order, a second run that changes nothing, and the reasons
    of its refusals.
    """
    got, report = run(case.spec, case.before)
    _assert_refusals(case, report)
    if case.after is None:
        different = got.SerializeToString() != case.before.SerializeToString()
        assert not different, f"{case}: must not change\n{_difference(case.before, got)}"
        assert report.rewrites == 0, f"{case}: {report.rewrites} rewrites reported, and nothing changed"
        return report
    difference = _difference(case.after, got)
    assert not difference, f"{case}: not what is expected\n{difference}"
    _assert_valid(case, got)
    _assert_stable(case, got)
    _assert_numbers(case, seed)
    return report


def _assert_refusals(case: Case, report: PassReport) -> None:
    said = [str(refusal) for refusal in report.refusals]
    for reason in case.refuses:
        assert any(reason in text for text in said), f"{case}: no refusal says '{reason}'; they are {said}"


def _assert_valid(case: Case, got: onnx.ModelProto) -> None:
    import onnx.checker

    try:
        onnx.checker.check_model(got, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise AssertionError(f"{case}: the result is not valid: {error}") from error


def _assert_stable(case: Case, got: onnx.ModelProto) -> None:
    again, second = run(case.spec, got)
    assert second.rewrites == 0, f"{case}: a second run makes {second.rewrites} rewrites"
    same = again.SerializeToString() == got.SerializeToString()
    assert same, f"{case}: a second run changes the model\n{_difference(got, again)}"


def _assert_numbers(case: Case, seed: int) -> None:
    found = _compared(case.spec, case.before, seed)
    told = f"{found.status}: {found.reason}"
    if case.not_run:
        assert found.status == "not-run" and case.not_run in found.reason, f"{case}: {told}"
    else:
        assert found.status in ("held", "unchanged"), f"{case}: {told}"


def assert_equivalent(step: str | Pass, model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """Run a pass on a model and assert that the result computes the same on seeded inputs; return the result.

    Compared are the outputs, in their order, and every tensor that the pass computes in another way.
    """
    found = _compared(step, model, seed)
    assert found.status in ("held", "unchanged"), f"{found.status}: {found.reason}"
    return run(step, model)[0]


def _compared(step: str | Pass, model: onnx.ModelProto, seed: int) -> Verification:
    from graphkit.model.model import Model
    from graphkit.rewrite.stages import verify_one
    from graphkit.rewrite.touched import Snapshot

    twin = Model.from_proto(model)
    before = Snapshot(twin)
    _built(step).run(twin)
    parts = twin.export()
    if twin.bridge is None:
        renamed = before.renamed(twin)
        wanted = [renamed.get(o.name, o.name) for o in model.graph.output]
        now = [o.name for o in twin.to_proto().graph.output]
        assert now == wanted, f"outputs are {now}, were {wanted}"
    return verify_one(twin.file, parts, before, twin, seed=seed)


def _difference(wanted: onnx.ModelProto, got: onnx.ModelProto) -> str:
    """A unified diff of two models as text; empty when they say the same."""
    lines = difflib.unified_diff(_text(wanted), _text(got), "expected", "got", lineterm="")
    return "\n".join(lines)


def _text(model: onnx.ModelProto) -> list[str]:
    """A model as lines, without the names of nodes and without metadata."""
    import onnx
    import onnx.printer

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    graphs, nodes = [bare.graph], [n for f in bare.functions for n in f.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            nodes.extend(graph.node)
            for tensor in graph.initializer:
                _plain(tensor)
            continue
        node = nodes.pop()
        node.ClearField("name")
        for attribute in node.attribute:
            if attribute.HasField("g"):
                graphs.append(attribute.g)
            if attribute.HasField("t"):
                _plain(attribute.t)
    return onnx.printer.to_text(bare).splitlines()


def _plain(tensor: onnx.TensorProto) -> None:
    """Write the values of a tensor in one of the two ways in which a file can hold them."""
    import onnx.numpy_helper

    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
