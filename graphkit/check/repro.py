"""``--repro``: of each kind of refusal the smallest part of a model that has it, by delta debugging."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from graphkit.errors import BadOutput, GraphkitError
from graphkit.report.checks import Finding, ModelCheck, Report

if TYPE_CHECKING:
    from graphkit.check.check import Checker
    from graphkit.check.subgraph import Parts

__all__ = ["made_folder", "with_repros"]

_RULES = ("parser", "builder", "crashed")
_SECONDS = 120.0  # for one repro; what is smallest by then is written
_KINDS = 8  # of a model

Fails = Callable[[Sequence[int]], bool]


def made_folder(folder: Path) -> Path:
    """The folder for repros, made when it is not there; BadOutput when it cannot be."""
    if folder.exists() and not folder.is_dir():
        raise BadOutput(f"{folder}: is no folder; --repro writes several models into one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadOutput(f"{folder}: cannot be made: {error.strerror}; choose another folder") from error
    return folder


def with_repros(checker: Checker, report: Report, files: Sequence[tuple[str, Path]], folder: Path) -> Report:
    """Write repros into ``folder``, and name them in the findings."""
    models = []
    for number, (model, (name, path)) in enumerate(zip(report.models, files, strict=True)):
        checker.progress("reducing", number, len(files))
        models.append(_with_repros(checker, model, path, folder, Path(name).stem))
    return checker.report(models)


def _with_repros(checker: Checker, model: ModelCheck, path: Path, folder: Path, stem: str) -> ModelCheck:
    from graphkit.check.subgraph import Parts

    kinds = list(dict.fromkeys(_kind(f) for f in model.findings if f.rule in _RULES))[:_KINDS]
    if not kinds:
        return model
    try:
        parts = Parts(path)
    except GraphkitError:
        return model
    written: dict[tuple[str, ...], str] = {}
    for kind in kinds:
        first = next(f for f in model.findings if _kind(f) == kind)
        data = _Reduction(checker, parts, first).smallest()
        if data is not None:
            out = _free(folder, f"{stem}-{first.op or first.rule}".replace("/", "_"))
            out.write_bytes(data)
            written[kind] = str(out)
    findings = tuple(replace(f, repro=written.get(_kind(f), f.repro)) for f in model.findings)
    return replace(model, findings=findings)


def _kind(finding: Finding) -> tuple[str, ...]:
    return finding.rule, finding.op, _plain(finding.message)


def _plain(message: str) -> str:
    """A message without the names in it: in a part of the model, tensors have others."""
    return re.sub(r"'[^']*'|\d+", "", message)


def _free(folder: Path, stem: str) -> Path:
    """A name that no file in the folder has."""
    names: Iterator[str] = (f"{stem}{'' if n == 1 else f'-{n}'}.onnx" for n in range(1, 1 << 20))
    return next(folder / name for name in names if not (folder / name).exists())


@dataclass
class _Reduction:
    """The search for one finding."""

    checker: Checker
    parts: Parts
    finding: Finding
    _end: float = field(default_factory=lambda: time.monotonic() + _SECONDS)

    def smallest(self) -> bytes | None:
        """The smallest part found that fails in the same way; None when not even the whole does."""
        with tempfile.TemporaryDirectory() as folder:
            self._scratch = Path(folder, "part.onnx")
            start = self._start()
            if start is None:
                return None
            return self.parts.model(minimal(start, self._fails, lambda: time.monotonic() > self._end))

    def _start(self) -> list[int] | None:
        """The fewest steps back from the node that was named which fail; else the whole model."""
        everything = list(range(len(self.parts.nodes)))
        number = self.parts.find(self.finding.node, self.finding.op)
        steps = 0
        while number is not None and steps < len(everything):
            some = self.parts.before(number, steps)
            if self._fails(some):
                return some
            if len(some) == len(self.parts.before(number, steps + 1)):
                break
            steps = 2 * steps + 1
        return everything if self._fails(everything) else None

    def _fails(self, numbers: Sequence[int]) -> bool:
        """Whether this part has the same finding; past the time, nothing has."""
        if time.monotonic() > self._end:
            return False
        data = self.parts.model(numbers)
        if data is None:
            return False
        self._scratch.write_bytes(data)
        found = self.checker.model(str(self._scratch), self._scratch, rules=False)
        return any(_kind(f) == _kind(self.finding) for f in found.findings)


def minimal(items: Sequence[int], fails: Fails, over: Callable[[], bool] = lambda: False) -> list[int]:
    """A part of ``items``, which fail, of which no item can be left out (Zeller's ddmin, complements only).

    Source: Zeller, Hildebrandt: Simplifying and isolating failure-inducing input, IEEE TSE 28(2), 2002.
    """
    left, pieces = list(items), 2
    while len(left) > 1 and not over():
        size = -(-len(left) // pieces)
        chunks = [left[i : i + size] for i in range(0, len(left), size)]
        for chunk in reversed(chunks):  # what comes last is read by nobody, and goes most often
            gone = set(chunk)
            rest = [i for i in left if i not in gone]
            if rest and fails(rest):
                left, pieces = rest, max(pieces - 1, 2)
                break
        else:
            if pieces >= len(left):
                break
            pieces = min(2 * pieces, len(left))
    return left
