"""One line for a crash in somebody's pass: what was raised, and where in their file."""

from __future__ import annotations

import inspect
import traceback
from pathlib import Path


def describe_failure(error: BaseException, culprit: object) -> str:
    """``KeyError: 'axis' (mypass.py:12)``: the deepest line of the traceback that is in ``culprit``'s file.

    When none is (the pass is made by a helper elsewhere), the deepest line of all.
    """
    frames = traceback.extract_tb(error.__traceback__)
    files = _files(culprit)
    mine = [f for f in frames if f.filename in files] or list(frames)
    text = str(error).strip()
    said = f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
    return f"{said} ({Path(mine[-1].filename).name}:{mine[-1].lineno})" if mine else said


def _files(culprit: object) -> set[str]:
    """The source files of a class (its parents' of the framework left out) or of a function."""
    function = getattr(culprit, "function", None)
    target = function if function is not None else culprit
    try:
        return {inspect.getfile(target), str(Path(inspect.getfile(target)).resolve())}  # type: ignore[arg-type]
    except TypeError:
        return set()
