"""Passes in order on one model, the result proven, and then saved or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from graphkit.errors import BadInput, BadOption, GraphkitError, PassFailed, RewriteRefused
from graphkit.report.records import PassReport, RewriteReport, Verification
from graphkit.report.text import differences
from graphkit.rewrite.bisect import Bisection
from graphkit.rewrite.framework import Pass
from graphkit.rewrite.registry import load_pass

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from graphkit.model.file import ModelFile
    from graphkit.model.model import Model
    from graphkit.rewrite.touched import Snapshot

    Source = str | Path | onnx.ModelProto | Model
    Feeds = Iterable[Mapping[str, np.ndarray[Any, Any]]]

__all__ = ["apply", "rewrite"]

Parts = list[bytes | memoryview]
Need = Literal["none", "try", "proof"]


class Progress(Protocol):
    """Told what is being done: a stage, and how many of how many steps are behind it."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


def rewrite(
    source: Source,
    passes: Sequence[str | Pass] = (),
    output: str | Path | None = None,
    *,
    recipe: str | Path | None = None,
    verify: bool = True,
    verify_memory: int = 4 << 30,
    verify_seconds: float = 600.0,
    require_proof: bool = False,
    seed: int = 0,
    feeds: Feeds | None = None,
    progress: Progress | None = None,
) -> RewriteReport:
    """Run passes on a model, prove that it computes the same, and save it to ``output`` (if given).

    ``source`` is a path, a ModelProto or a Model, and is not changed; the passes of ``recipe`` run before
    ``passes``. ``verify_memory`` (bytes) and ``verify_seconds`` are the most that verification may take,
    ``seed`` that of its inputs unless ``feeds`` gives them. With ``require_proof``, a result that cannot be
    verified is refused too.
    Without passes, or when none changed anything, the output is the input byte for byte.

    Raises BadInput, BadOutput, UnknownPass, BadOption, BadPass or BadRecipe for what cannot be done,
    PassFailed when a pass crashes or leaves an invalid model, RewriteRefused when the numbers differ (or,
    with ``require_proof``, are not known): nothing is written then. The last two have the report so far as
    ``report``.
    """
    return prepare(
        source,
        passes,
        output,
        recipe=recipe,
        verify=verify,
        verify_memory=verify_memory,
        verify_seconds=verify_seconds,
        require_proof=require_proof,
        seed=seed,
        feeds=feeds,
        progress=progress,
    ).run()


def prepare(
    source: Source,
    passes: Sequence[str | Pass] = (),
    output: str | Path | None = None,
    *,
    recipe: str | Path | None = None,
    verify: bool = True,
    verify_memory: int = 4 << 30,
    verify_seconds: float = 600.0,
    require_proof: bool = False,
    seed: int = 0,
    feeds: Feeds | None = None,
    progress: Progress | None = None,
) -> Job:
    """What :func:`rewrite` would run, with its model read and its passes built; nothing has run yet."""
    from graphkit.model import dataflow
    from graphkit.model.file import check_out

    _check_options(verify, require_proof, seed)
    target = None if output is None else Path(output)
    if target is not None:
        check_out(target)
    chosen = _chosen(passes, recipe)
    model = _loaded(source)
    wrong = dataflow.defect(model)
    if wrong is not None:
        raise BadInput(f"{model.where}: {wrong}")
    needed: Need = ("proof" if require_proof else "try") if verify else "none"
    tell = progress or _silent
    return Job(model.file, model, chosen, target, needed, verify_memory, seed, feeds, tell, verify_seconds)


def apply(model: onnx.ModelProto, *passes: str | Pass) -> onnx.ModelProto:
    """Run passes on a model in memory and return the result; ``model`` stays as it is, and nothing is
    verified.

    Tensors with external data keep their references. Raises as :func:`rewrite` does.
    """
    from graphkit.model.model import Model

    if not hasattr(model, "SerializeToString"):
        raise TypeError(
            f"apply takes a ModelProto in memory, not {_a(model)}; onnx.load a file, or use graphkit.rewrite"
        )
    twin = Model.from_proto(model)
    for step in _chosen(passes, None):
        step.run(twin)
    return twin.to_proto()


def _check_options(verify: bool, require_proof: bool, seed: int) -> None:
    if require_proof and not verify:
        raise BadOption("a proof is required, and verification is off; leave out one of the two")
    if seed < 0:
        raise BadOption(f"the seed must be 0 or more, not {seed}")


def _a(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _chosen(passes: Iterable[str | Pass], recipe: str | Path | None) -> list[Pass]:
    from graphkit.rewrite.recipe import load_recipe

    if isinstance(passes, str | Pass):
        raise TypeError(f'passes must be a list of passes, such as ["{passes}"], not {_a(passes)}')
    first = [] if recipe is None else load_recipe(recipe)
    return [*first, *(load_pass(p) if isinstance(p, str) else p for p in passes)]


def _loaded(source: Source) -> Model:
    """A model of our own: passes edit it in place, so a caller's Model is exported and read again."""
    from graphkit.model.file import ModelFile, same_bytes
    from graphkit.model.model import Model

    if isinstance(source, Model):
        parts = source.export()
        if same_bytes(parts, source.file.data):
            return Model.from_file(source.file)
        return Model.from_file(ModelFile.from_bytes(b"".join(parts), source.file.folder))
    if isinstance(source, str | Path):
        return Model.load(source)
    return Model.from_proto(source)


def _silent(stage: str, done: int, total: int) -> None:
    """No progress is shown."""


@dataclass
class Job:
    """One rewrite, from a loaded model to a report."""

    file: ModelFile
    model: Model
    passes: list[Pass]
    output: Path | None
    need: Need
    memory: int
    seed: int
    feeds: Feeds | None
    progress: Progress
    seconds: float = 600.0
    edits: list[int] = field(default_factory=list)
    """The numbers of the passes that changed the interface."""
    proven: Parts | None = None
    """What was proven, where that was made anew, piece by piece: it is what is written."""

    def run(self) -> RewriteReport:
        from graphkit.model.file import same_bytes
        from graphkit.rewrite.touched import Snapshot

        before = Snapshot(self.model)
        reports: list[PassReport] = []
        steps = len(self.passes) + 3
        for index, step in enumerate(self.passes):
            self.progress(str(step), index, steps)
            try:
                reports.append(step.run(self.model))
                if self.model.bridge is not None:
                    self.edits.append(index)
            except PassFailed as error:
                self._refused(error, reports, Verification("not-run", reason=str(error)))
                raise
        parts = self._export(reports)
        unchanged = same_bytes(parts, self.file.data)
        if unchanged:
            verification = Verification("unchanged")
        else:
            self.progress("checking", steps - 3, steps)
            reports = self._check(reports)
            self.progress("verifying", steps - 2, steps)
            verification = self._prove(parts, before, reports)
        if self.output is not None:
            self.progress("saving", steps - 1, steps)
            self._save(self.proven or parts, unchanged)
        return self._report(reports, verification, written=self.output is not None)

    def _save(self, parts: Parts, unchanged: bool) -> None:
        from graphkit.model.file import save

        assert self.output is not None
        spared = self.model.data_files()
        save(parts, self.output, self.file, self.model.locations(), spared=spared, unchanged=unchanged)

    def _report(self, reports: Sequence[PassReport], proof: Verification, *, written: bool) -> RewriteReport:
        output = None if self.output is None else str(self.output)
        return RewriteReport(self.model.where, output, tuple(reports), proof, written, _versions())

    def _refused(
        self, error: GraphkitError, reports: Sequence[PassReport], proof: Verification
    ) -> GraphkitError:
        """``error``, with the report of what happened until then."""
        error.report = self._report(reports, proof, written=False)
        return error

    # -- is the result a valid model?

    def _export(self, reports: list[PassReport]) -> Parts:
        try:
            return self.model.export()
        except (
            Exception
        ) as error:  # of GraphSurgeon, protobuf or our own encoder: a pass left what has no encoding
            if not self.passes:  # nobody to blame: the model itself has no encoding
                raise BadInput(f"{self.model.where}: cannot be written: {_said(error)}") from error
            culprit = self._bisection.culprit(lambda model: _crashes(model.export))
            failed = PassFailed(f"pass '{culprit}' left a graph that cannot be written: {_said(error)}")
            raise self._refused(
                failed, reports, Verification("not-run", str(failed), culprit=culprit)
            ) from error

    def _check(self, reports: list[PassReport]) -> list[PassReport]:
        """onnx.checker on the result; when the original fails it too, a note says so, and blames no pass."""
        from graphkit.rewrite.validity import Operator, invalid, unknown

        wrong = invalid(self.model)
        if wrong is None or not self.passes:
            return reports
        original = self._bisection.fresh()
        already, odd = invalid(original), frozenset[Operator]()
        if already is not None:  # the result is checked apart from what ONNX does not know of the original
            odd = unknown(original)
            wrong = invalid(self.model, odd) if invalid(original, odd) is None else None
        if already is not None and wrong is None:
            note = f"onnx.checker refuses the original too: {already}"
            return [*reports[:-1], replace(reports[-1], notes=(*reports[-1].notes, note))]
        culprit = self._bisection.culprit(lambda model: invalid(model, odd) is not None)
        failed = PassFailed(f"pass '{culprit}' left a model that onnx.checker refuses: {wrong}")
        raise self._refused(failed, reports, Verification("not-run", str(failed), culprit=culprit))

    # -- does it compute the same?

    def _prove(self, parts: Parts, before: Snapshot, reports: list[PassReport]) -> Verification:
        from graphkit.run.limits import limited

        if self.need == "none":
            return Verification("not-asked")
        with limited(self.seconds, self.memory):
            found = self._stages() if self.edits else self._compare(parts, before, self.model)
        if found.status == "not-run" and self.need == "proof":
            refused = RewriteRefused(
                f"not verified, and a proof is required: {found.reason}; nothing was written"
            )
            raise self._refused(refused, reports, found)
        if found.status != "differs":
            return found
        if found.culprit is None:
            found = self._blamed(found)
        raise self._refused(RewriteRefused(_refusal(found)), reports, found)

    def _compare(self, parts: Parts, before: Snapshot, model: Model) -> Verification:
        from graphkit.compare.equivalence import verify

        return verify(
            self.file,
            parts,
            self.file.folder,
            touched=before.touched(model),
            names=before.renamed(model),
            seed=self.seed,
            memory=self.memory,
            feeds=self.feeds,
        )

    def _stages(self) -> Verification:
        """Prove a pipeline that changes the interface piece by piece, each against the model before it."""
        from graphkit.rewrite.stages import Stages

        stages = Stages(self.file, self.passes, self.edits, self.seed, self.memory, self.progress)
        found = stages.prove()
        self.proven = stages.parts
        return found

    def _blamed(self, found: Verification) -> Verification:
        """Find the pass after which the numbers differ first, and what differs there."""

        def tell(count: int) -> None:
            self.progress(f"bisecting: the first {count} passes", 0, 0)

        from graphkit.run.limits import limited

        if not self.passes:
            return found
        with limited(self.seconds, self.memory):
            culprit, found = self._bisection.differing(found, self._compare, tell)
        return replace(found, culprit=culprit)

    @property
    def _bisection(self) -> Bisection:
        return Bisection(self.file, self.passes)


def _refusal(found: Verification) -> str:
    who = "graphkit itself" if found.culprit is None else f"pass '{found.culprit}'"
    return f"{who} changed what the model computes: {differences(found)}; nothing was written"


def _said(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _crashes(call: Callable[[], object]) -> bool:
    try:
        call()
    except Exception:
        return True
    return False


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str] = {}
    for package in ("graphkit", "onnx", "onnx-graphsurgeon", "onnxruntime", "polygraphy", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
