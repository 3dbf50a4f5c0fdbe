"""``--fix``: the passes that findings name are run, and the result is kept only if it is better."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from graphkit.errors import BadOutput, GraphkitError
from graphkit.report.checks import VERDICTS, Fixed, ModelCheck, Report

if TYPE_CHECKING:
    from graphkit.check.check import Checker

__all__ = ["places", "with_fixes"]

_ROUNDS = 6  # what one pass mends may hide what another would


def places(files: Sequence[tuple[str, Path]], output: Path) -> list[Path]:
    """Where the results go: ``output``, or files in it when there are several models.

    Raises BadOutput when one could not be written there, or would replace a model that is checked.
    """
    from graphkit.model.file import check_out

    several = len(files) > 1
    targets = [output / Path(name).name for name, _ in files] if several else [output]
    if several and not output.is_dir():
        raise BadOutput(f"{output}: is no folder; several models are written into one, so make it first")
    if len(set(targets)) < len(targets):
        raise BadOutput(f"{output}: two of the models have one name; check them one at a time")
    sources = {os.path.realpath(path) for _, path in files}
    for target in targets:
        if os.path.realpath(target) in sources:
            raise BadOutput(f"{target}: is a model that is checked; the original stays, so write elsewhere")
        check_out(target)
    return targets


def with_fixes(
    checker: Checker, report: Report, files: Sequence[tuple[str, Path]], targets: Sequence[Path]
) -> Report:
    """Mend each model that has something to mend, and write it to its target."""
    models = [
        _Mending(checker, model, path, target).run()
        for model, (_, path), target in zip(report.models, files, targets, strict=True)
    ]
    return checker.report(models)


@dataclass
class _Mending:
    """One model on its way."""

    checker: Checker
    before: ModelCheck
    source: Path
    target: Path
    passes: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Passes that could not be run on this model, and why."""

    def run(self) -> ModelCheck:
        """The model's record after mending, or with the reason why nothing was written."""
        if not _fixes(self.before):
            return replace(
                self.before, fixed=Fixed((), self.before.verdicts, reason="no finding names a pass")
            )
        with tempfile.TemporaryDirectory() as folder:
            return self._tried(Path(folder, "mended.onnx"))

    def _tried(self, scratch: Path) -> ModelCheck:
        found = self.before
        for _ in range(_ROUNDS):
            more = [p for p in _fixes(found) if p not in self.passes and p not in self.failed]
            if not more or not self._add(more, scratch):
                break
            found = self.checker.model(self.before.path, scratch)
        if not self.passes:
            return self._left("; ".join(self.failed.values()), tuple(self.failed))
        if not _is_better(self.before, found):
            return self._left("; ".join(["the verdict did not improve", *self.failed.values()]), self.passes)
        try:
            kept = self._rewrite(self.passes, self.target, proof=True)
        except GraphkitError as error:
            return self._left(f"{error}", self.passes)
        fixed = Fixed(tuple(kept), self.before.verdicts, written=str(self.target))
        return replace(found, path=self.before.path, fixed=fixed)

    def _add(self, more: Sequence[str], scratch: Path) -> bool:
        """Run more passes after those that were run; one that cannot be run does not keep the others off."""
        before = len(self.passes)
        for some in [more] if len(more) == 1 else [more, *([p] for p in more)]:
            try:
                self._rewrite([*self.passes, *some], scratch)
            except GraphkitError as error:
                self.failed |= {some[0]: str(error)} if len(some) == 1 else {}
                continue
            self.passes += some
            if len(some) == len(more):
                break
        return len(self.passes) > before

    def _rewrite(self, passes: Sequence[str], out: Path, *, proof: bool = False) -> list[str]:
        """Write what the passes make of the model; those that did something. With ``proof``, verified."""
        from graphkit.rewrite.pipeline import rewrite

        done = rewrite(self.source, passes, out, verify=proof, require_proof=proof)
        return [spec for spec, told in zip(passes, done.passes, strict=True) if told.rewrites]

    def _left(self, reason: str, passes: Sequence[str]) -> ModelCheck:
        return replace(self.before, fixed=Fixed(tuple(passes), self.before.verdicts, reason=reason))


def _fixes(model: ModelCheck) -> list[str]:
    """The passes that findings name, each once, in the order of the findings."""
    open_ = (f for f in model.findings if f.fix and not f.accepted and f.severity != "note")
    return list(dict.fromkeys(f.fix for f in open_))


def _is_better(before: ModelCheck, after: ModelCheck) -> bool:
    """No verdict is worse, and one is better, or fewer grave findings are left."""
    ranks = [
        (VERDICTS.index(before.verdicts[t]), VERDICTS.index(v))
        for t, v in after.verdicts.items()
        if t in before.verdicts
    ]
    if any(new > old for old, new in ranks):
        return False
    return any(new < old for old, new in ranks) or _weight(after) < _weight(before)


def _weight(model: ModelCheck) -> tuple[int, int]:
    grades = [f.severity for f in model.findings if not f.accepted]
    return grades.count("error"), grades.count("warning")
