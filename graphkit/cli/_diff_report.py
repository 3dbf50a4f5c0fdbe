"""Where the reports of a diff are written, in the format that each file's name asks for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphkit.cli import _report
from graphkit.errors import BadOutput

if TYPE_CHECKING:
    from graphkit.report.diffs import DiffReport

__all__ = ["check", "write"]

_FORMATS = {".json": "json", ".html": "html", ".htm": "html", ".xml": "junit"}


def check(reports: Sequence[Path], read: Mapping[str, Path]) -> None:
    """Raise, before any work, when a report has no format, no place, or the place of something read.

    ``read`` maps the roles of files that the diff reads, as a message calls them, to their paths.
    """
    from graphkit.model.apart import check_apart

    for number, path in enumerate(reports):
        if _report.is_stdout(path):
            continue
        if path.suffix.lower() not in _FORMATS:
            raise click.UsageError(f"--report {path}: the name must end in .json, .html or .xml")
        _report.check(path)
        if any(os.path.realpath(path) == os.path.realpath(other) for other in reports[:number]):
            raise BadOutput(f"--report {path}: is given twice; give each report a file of its own")
        try:
            check_apart(path, read)
        except BadOutput as error:
            raise BadOutput(f"--report {error}") from error


def write(found: DiffReport, reports: Sequence[Path]) -> None:
    """Write every report; BadOutput when one cannot be, after the others."""
    failed: BadOutput | None = None
    for path in reports:
        try:
            if _report.is_stdout(path):
                with suppress(BrokenPipeError):
                    click.echo(_rendered(found, "json"), nl=False)
            else:
                _report.write_made(partial(_rendered, found, _FORMATS[path.suffix.lower()]), path)
        except BadOutput as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _rendered(found: DiffReport, form: str) -> str:
    from graphkit.report import html, json, junit

    render: dict[str, Callable[[DiffReport], str]] = {
        "json": json.dumps,
        "html": html.render,
        "junit": junit.render,
    }
    return render[form](found)
