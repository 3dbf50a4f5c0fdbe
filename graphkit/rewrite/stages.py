"""Proof of a pipeline in which passes change the interface: piece by piece, each beside what it was given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING

from graphkit.report.records import Verification
from graphkit.rewrite.bisect import Bisection

if TYPE_CHECKING:
    from graphkit.model.file import ModelFile
    from graphkit.model.model import Model
    from graphkit.rewrite.framework import Pass
    from graphkit.rewrite.pipeline import Parts, Progress
    from graphkit.rewrite.touched import Snapshot

__all__ = ["Stages", "verify_one"]


@dataclass
class Stages:
    """The passes of one pipeline; ``edits`` are the numbers of those that change the interface.

    Runs of passes between edits are held to compute the same, an edit to what its bridge says. A feed of the
    user's own fits the first interface only, so every piece has seeded inputs.
    """

    file: ModelFile
    passes: Sequence[Pass]
    edits: Sequence[int]
    seed: int
    memory: int
    progress: Progress
    parts: Parts = field(default_factory=list)
    """The model that was proven, in pieces: what is to be written."""

    def prove(self) -> Verification:
        """The verdict over all pieces: the first that differs, else not-run if one could not be run."""
        from graphkit.model.file import ModelFile

        found: list[Verification] = []
        file = self.file
        for steps in self._pieces():
            self.progress(f"verifying {steps[0]}", 0, 0)
            verdict, parts = self._piece(file, steps)
            found.append(verdict)
            if verdict.status == "differs":
                return verdict
            self.parts = parts
            file = ModelFile.from_bytes(b"".join(parts), self.file.folder)
        return reduce(_both, found)

    def _pieces(self) -> Iterator[Sequence[Pass]]:
        start = 0
        for edit in self.edits:
            if edit > start:
                yield self.passes[start:edit]
            yield self.passes[edit : edit + 1]
            start = edit + 1
        if start < len(self.passes):
            yield self.passes[start:]

    def _piece(self, file: ModelFile, steps: Sequence[Pass]) -> tuple[Verification, Parts]:
        from graphkit.model.model import Model
        from graphkit.rewrite.touched import Snapshot

        model = Model.from_file(file)
        before = Snapshot(model)
        for step in steps:
            step.run(model)
        parts = model.export()
        found = self._compare(file, parts, before, model)
        if found.status != "differs":
            return found, parts
        if len(steps) == 1:
            return replace(found, culprit=str(steps[0])), parts
        culprit, found = Bisection(file, steps).differing(
            found, lambda p, b, m: self._compare(file, p, b, m), lambda count: None
        )
        return replace(found, culprit=culprit), parts

    def _compare(self, file: ModelFile, parts: Parts, before: Snapshot, model: Model) -> Verification:
        return verify_one(file, parts, before, model, seed=self.seed, memory=self.memory)


def verify_one(
    file: ModelFile, parts: Parts, before: Snapshot, model: Model, *, seed: int = 0, memory: int = 4 << 30
) -> Verification:
    """Hold ``parts``, the export of ``model``, to ``file``; across a bridge, if the last pass gave one."""
    from graphkit.compare.bridged import verify_bridge
    from graphkit.compare.equivalence import verify
    from graphkit.model.file import same_bytes

    if same_bytes(parts, file.data):
        return Verification("unchanged")
    touched, names = before.touched(model), before.renamed(model)
    if model.bridge is not None:
        return verify_bridge(
            file, parts, model.bridge, file.folder, touched=touched, names=names, seed=seed, memory=memory
        )
    return verify(file, parts, file.folder, touched=touched, names=names, seed=seed, memory=memory)


def _both(a: Verification, b: Verification) -> Verification:
    """Two verdicts on two pieces as one, neither of which differs."""
    from graphkit.compare.metrics import worse

    if "not-run" in (a.status, b.status):
        status = "not-run"
    else:
        status = "held" if "held" in (a.status, b.status) else "unchanged"
    reason = "; ".join(r for r in (a.reason, b.reason) if r)
    worst = a.worst if b.worst is None else worse(a.worst, b.worst)
    return Verification(
        status,  # type: ignore[arg-type]
        reason,
        a.runner or b.runner,
        (*a.runs, *b.runs),
        a.compared + b.compared,
        worst,
    )
