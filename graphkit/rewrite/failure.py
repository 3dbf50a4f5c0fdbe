"""One line for a crash in somebody's code: what was raised, and where in their file."""

from __future__ import annotations

import inspect
import site
import sysconfig
import traceback
from pathlib import Path

_OURS = str(Path(__file__).parent.parent)


def describe_failure(error: BaseException, culprit: object) -> str:
    """``KeyError: 'axis' (mypass.py:12)``: the deepest line of the traceback that is in ``culprit``'s file.

    ``culprit`` is a class, a function or the name of a file. When the traceback is never there (the work is
    done by a helper elsewhere), the deepest line that is neither graphkit's nor a library's; or none.
    """
    frames = traceback.extract_tb(error.__traceback__)
    files = _files(culprit)
    theirs = [f for f in frames if f.filename in files] or [f for f in frames if not _library(f.filename)]
    return _said(error, theirs)


def describe_crash(error: BaseException) -> str:
    """What was raised, and the deepest line of all: for a mistake of our own."""
    return _said(error, traceback.extract_tb(error.__traceback__))


def _said(error: BaseException, frames: list[traceback.FrameSummary]) -> str:
    text = str(error).strip()
    said = f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
    return f"{said} ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else said


def _library(filename: str) -> bool:
    """Whether a file belongs to graphkit, to Python or to something installed."""
    paths = sysconfig.get_paths()
    roots = (_OURS, paths["stdlib"], paths["purelib"], paths["platlib"], *site.getsitepackages())
    return filename.startswith(("<", *roots))


def _files(culprit: object) -> set[str]:
    """The source files of a class (its parents' of the framework left out) or of a function."""
    if isinstance(culprit, str):
        return {culprit, str(Path(culprit).resolve())}
    function = getattr(culprit, "function", None)
    target = function if function is not None else culprit
    try:
        return {inspect.getfile(target), str(Path(inspect.getfile(target)).resolve())}  # type: ignore[arg-type]
    except (TypeError, OSError):
        return set()
