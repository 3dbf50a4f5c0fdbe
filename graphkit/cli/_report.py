"""Where ``--report`` is written: a file of its own, whole or not at all; a pipe or ``-`` as it comes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from graphkit.errors import BadOutput

if TYPE_CHECKING:
    from graphkit.report.records import RewriteReport
    from graphkit.rewrite.pipeline import Job

_STDOUT = frozenset({"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"})


def is_stdout(path: Path) -> bool:
    """Whether the report goes where the command prints."""
    return str(path) in _STDOUT


def check(path: Path) -> None:
    """Raise BadOutput, before any work, when a report could not be written to ``path``."""
    from graphkit.model.atomic import check_target

    if is_stream(path):
        return
    try:
        check_target(path)
    except BadOutput as error:
        raise BadOutput(f"--report {error}") from error


def check_apart(path: Path, job: Job, recipe: Path | None) -> None:
    """Raise BadOutput when the report would replace what the rewrite reads or writes."""
    if is_stream(path):
        return
    report = os.path.realpath(path)
    for role, other in _files(job, recipe):
        if os.path.realpath(other) == report:
            raise BadOutput(f"--report {path}: is {role} too; give the report a file of its own")


def _files(job: Job, recipe: Path | None) -> Iterator[tuple[str, Path]]:
    """What a rewrite reads or writes, and what to call it."""
    from graphkit.rewrite.recipe import recipe_file
    from graphkit.rewrite.script import script_of

    out = job.output
    yield from (("IN", p) for p in (job.file.path,) if p is not None)
    yield from (("OUT", p) for p in (out,) if p is not None)
    for location in sorted(job.model.data_files()):
        folders = (job.file.folder, None if out is None else out.absolute().parent)
        yield from ((f"data file '{location}'", f / location) for f in folders if f is not None)
    if recipe is not None:
        yield "the recipe", recipe_file(recipe)
    for step in job.passes:
        script = script_of(step.origin)
        if script is not None:
            yield f"the script of pass '{step}'", script


def write(report: RewriteReport, path: Path) -> None:
    """Write the report to ``path``; BadOutput when that fails, with what was there intact."""
    from graphkit.report import json

    write_made(lambda: json.dumps(report), path)


def write_made(make: Callable[[], str], path: Path) -> None:
    """Write the text that ``make`` gives to ``path``; BadOutput, as for `write`, if either fails."""
    from graphkit.model.atomic import write_atomic

    try:
        data = make().encode("utf-8", "replace")
        if not is_stream(path):
            write_atomic(path, [data])
            return
        with path.open("wb", buffering=0) as stream:
            stream.write(data)
    except BadOutput as error:
        raise BadOutput(f"--report {str(error).replace('; nothing was changed, ', '; ')}") from error
    except OSError as error:
        raise BadOutput(f"--report {path}: cannot be written: {error.strerror or error}") from error


def is_stream(path: Path) -> bool:
    """Whether the path is there and takes what is written as it comes: a pipe or a terminal."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)
