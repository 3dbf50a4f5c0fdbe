"""``graphkit.check``: models looked at by rules, and by TensorRT's parser and builder for each target."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphkit.check.baseline import Baseline
from graphkit.check.options import (
    listed,
    refuse_grades,
    refuse_limits,
    refuse_rules,
    sm,
    spelled_shapes,
    target_of,
)
from graphkit.check.verdicts import Checked, Worker, check_one
from graphkit.errors import BadOption
from graphkit.report.checks import SEVERITIES, Finding, ModelCheck, Report, Severity

if TYPE_CHECKING:
    import onnx

    from graphkit.model.model import Model

    Source = str | Path | onnx.ModelProto | Model

__all__ = ["Checker", "Progress", "check"]

Progress = Callable[[str, int, int], None]
_DEFAULT = "8.9"
_STARTING = 120.0  # seconds for the first answer, whatever one model may take


def check(
    models: Source | Sequence[Source],
    *,
    targets: Sequence[str] = (),
    trt: str = "auto",
    shapes: Iterable[str] | Mapping[str, Any] = (),
    fail_on: Severity = "error",
    rules: Mapping[str, Mapping[str, Any]] | None = None,
    ignore: Sequence[str] = (),
    severity: Mapping[str, Severity] | None = None,
    baseline: str | Path | None = None,
    jobs: int | None = None,
    timeout: float = 300.0,
    memory: int = 8 << 30,
    output: str | Path | None = None,
    repro: str | Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Say whether TensorRT builds a model, and what is wrong with it; no GPU is needed.

    ``models`` is one or several of: a path, a ModelProto, a Model. ``targets`` are GPUs as ``sm89`` or
    ``8.9``; without any, the one here, else sm89. ``trt`` is auto, tensorrt or rtx. ``shapes`` are those of
    dynamic inputs, ``images=1x3x320x320/1x3x640x640/4x3x640x640`` or a mapping. ``rules`` are options of
    rules by their name; ``ignore`` and ``severity`` leave findings out by rule, or make them graver or less.
    ``baseline`` is a file with findings that are accepted. ``jobs`` models are looked at at a time (one for
    each core), each within ``timeout`` seconds and ``memory`` bytes, in processes of their own: nothing that
    happens there reaches the caller. With ``output`` the passes that findings name are run, and the result is
    written there (into it, as a folder, when there are several models) if it is better and computes the same.
    With ``repro`` the smallest model that still has a finding of the parser or builder is written into that
    folder, one for each kind.

    Raises BadOption for options that cannot be met, BadInput for a baseline that cannot be read. A model that
    cannot be read is a finding.
    """
    from graphkit.check import fix
    from graphkit.check import repro as reduce

    checker = Checker(
        targets=listed(targets),
        trt=trt,
        shapes=spelled_shapes(shapes),
        fail_on=fail_on,
        rules=dict(rules or {}),
        ignore=listed(ignore),
        severity=dict(severity or {}),
        baseline=None if baseline is None else Baseline.load(baseline),
        jobs=(os.cpu_count() or 1) if jobs is None else jobs,
        timeout=timeout,
        memory=memory,
        progress=progress or (lambda *_: None),
    )
    one = isinstance(models, str) or not isinstance(models, Sequence)
    chosen: list[Any] = [models] if one else list(models)  # type: ignore[arg-type]
    with checker, _files(chosen) as files:
        places = None if output is None else fix.places(files, Path(output))
        folder = None if repro is None else reduce.made_folder(Path(repro))
        report = checker.run(files)
        if folder is not None:
            report = reduce.with_repros(checker, report, files, folder)
        if places is not None:
            report = fix.with_fixes(checker, report, files, places)
        return report


@dataclass
class Checker:
    """Checks models with one set of options; keeps its workers for as long as it is open."""

    targets: tuple[str, ...] = ()
    trt: str = "auto"
    shapes: tuple[str, ...] = ()
    fail_on: Severity = "error"
    rules: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    severity: dict[str, Severity] = field(default_factory=dict)
    baseline: Baseline | None = None
    jobs: int = 1
    timeout: float = 300.0
    memory: int = 8 << 30
    progress: Progress = lambda *_: None

    def __post_init__(self) -> None:
        refuse_limits(self.trt, self.jobs, self.timeout, self.memory)
        refuse_rules(self.rules, (*self.ignore, *self.severity))
        refuse_grades((self.fail_on, *self.severity.values()))
        self._workers: list[Worker] = []
        self._local = threading.local()
        self._runtime: dict[str, Any] | None = None
        self._wanted: tuple[str, ...] = ()

    def __enter__(self) -> Checker:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.close()

    def run(self, files: Sequence[tuple[str, Path]]) -> Report:
        """Check files, each with the name that the report gives it, in that order."""
        self._prepare()
        done, lock = 0, threading.Lock()
        self.progress("checking", 0, len(files))

        def one(file: tuple[str, Path]) -> ModelCheck:
            nonlocal done
            found = self.model(*file)
            with lock:
                done += 1
                self.progress("checking", done, len(files))
            return found

        with ThreadPoolExecutor(max(1, min(self.jobs, len(files)))) as pool:
            models = tuple(pool.map(one, files))
        return self.report(models)

    def report(self, models: Sequence[ModelCheck]) -> Report:
        """What was found, as one record."""
        self._prepare()
        assert self._runtime is not None
        names = tuple(sm(t) for t in self._wanted)
        title = str(self._runtime.get("title", ""))
        return Report(tuple(models), names, title, self.fail_on, _versions(self._runtime))

    def model(self, name: str, path: Path, *, rules: bool = True) -> ModelCheck:
        """Check one file."""
        self._prepare()
        assert self._runtime is not None
        start = time.perf_counter()
        stages = ["rules"] if rules else []
        if "error" not in self._runtime:
            stages += ["parse", *self._wanted]
        checked = check_one(self._worker(), self._request(path, stages)) if stages else Checked()
        found = list(checked.findings)
        if "error" in self._runtime:
            found.append(Finding("no-tensorrt", "warning", str(self._runtime["error"])))
        verdicts = {sm(t): checked.verdicts[t] for t in self._wanted if t in checked.verdicts}
        return ModelCheck(name, verdicts, self._judged(name, found), time.perf_counter() - start)

    def _request(self, path: Path, stages: Sequence[str]) -> dict[str, Any]:
        return {
            "path": str(path),
            "stages": list(stages),
            "trt": self.trt,
            "shapes": list(self.shapes),
            "targets": list(self._wanted),
            "rules": self.rules,
            "ignored": list(self.ignore),
            "seconds": self.timeout,
            "bytes": self.memory,
        }

    def _worker(self) -> Worker:
        """The worker of this thread."""
        if not hasattr(self._local, "worker"):
            self._local.worker = Worker(self.trt)
            self._workers.append(self._local.worker)
        worker: Worker = self._local.worker
        return worker

    def _prepare(self) -> None:
        """Ask once which TensorRT there is, and choose the targets; BadOption for one it cannot build for."""
        if self._runtime is not None:
            return
        request = {**self._request(Path("-"), ["runtime"]), "seconds": _STARTING}
        told = [a for a in self._worker().ask(request) if a.get("stage") == "runtime"]
        found = told[0] if told else {"error": "the process that runs TensorRT does not start"}
        wanted = tuple(dict.fromkeys(target_of(t) for t in self.targets))
        if "error" in found and (self.targets or self.trt != "auto"):
            asked = "--target needs TensorRT" if self.targets else f"--trt {self.trt}"
            raise BadOption(f"{asked}: {found['error']}")
        known = found.get("capabilities") or ([found["gpu"]] if found.get("gpu") else [])
        for target in wanted:
            if known and target not in known:
                can = ", ".join(sm(k) for k in known)
                raise BadOption(f"--target {sm(target)}: {found['title']} builds for {can}")
        default = found.get("gpu") or (_DEFAULT if _DEFAULT in known or not known else known[0])
        self._wanted = wanted or (() if "error" in found else (default,))
        self._runtime = found

    def _judged(self, name: str, found: Sequence[Finding]) -> tuple[Finding, ...]:
        """Findings by severity: those left out gone, those for several targets one, the accepted marked."""
        kept: dict[Finding, Finding] = {}
        refused = {f.op for f in found if f.rule == "parser"}
        for finding in found:
            if finding.rule in self.ignore:
                continue
            if (
                finding.rule == "unsupported-op"
                and finding.op in refused
                and not self.rules.get(finding.rule)
            ):
                continue  # the parser has said so
            grade = self.severity.get(finding.rule, finding.severity)
            key = replace(finding, severity=grade, targets=(), raw="")
            first = kept.get(key) or replace(finding, severity=grade)
            kept[key] = replace(first, targets=tuple(dict.fromkeys((*first.targets, *finding.targets))))
        merged = [replace(f, targets=tuple(sm(t) for t in f.targets)) for f in kept.values()]
        if self.baseline is not None:
            merged = [replace(f, accepted=self.baseline.accepts(name, f)) for f in merged]
        return tuple(sorted(merged, key=lambda f: SEVERITIES.index(f.severity)))


@contextmanager
def _files(models: Sequence[Source]) -> Iterator[list[tuple[str, Path]]]:
    """Each model as a file; those in memory lie in a folder that is gone afterwards."""
    from graphkit.model.file import ModelFile
    from graphkit.model.model import Model

    with tempfile.TemporaryDirectory() as folder:
        found = []
        for number, source in enumerate(models):
            if isinstance(source, str | Path):
                found.append((str(source), Path(source)))
                continue
            parts = source.export() if isinstance(source, Model) else [ModelFile.from_proto(source).data]
            path = Path(folder, f"{number}.onnx")
            path.write_bytes(b"".join(parts))
            found.append((f"model {number + 1} in memory", path))
        yield found


def _versions(runtime: Mapping[str, Any]) -> dict[str, str]:
    from importlib.metadata import version

    found = {name: version(name) for name in ("graphkit", "onnx")}
    return {**found, **({runtime["name"]: runtime["version"]} if "name" in runtime else {})}
