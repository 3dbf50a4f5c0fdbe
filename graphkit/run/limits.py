"""How long a model may run, and how much memory it may take: nothing in the file says so beforehand.

A loop counts to any number, and where shapes cannot be inferred no estimate holds. So what is run within
:func:`limited` is watched, and ended.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["TooMuch", "limited", "stoppable", "watched"]

T = TypeVar("T")
_PAUSE = 0.02  # seconds between two looks


class TooMuch(Exception):
    """A run took longer, or more memory, than it may; says which, and the limit."""


@dataclass(frozen=True)
class _Limits:
    end: float
    seconds: float
    most: int
    allowed: int

    def exceeded(self) -> str:
        """What was exceeded; empty while nothing was."""
        if time.monotonic() > self.end:
            return f"running it takes longer than {self.seconds:g} s"
        if resident() > self.most:
            return f"running it takes more than {self.allowed >> 20} MiB of memory"
        return ""


_CURRENT: ContextVar[_Limits | None] = ContextVar("graphkit_run_limits", default=None)


@contextmanager
def limited(seconds: float, memory: int) -> Iterator[None]:
    """Models run in here take this long together, and this many bytes more than are taken now, or less."""
    here = _Limits(time.monotonic() + seconds, seconds, resident() + memory, memory)
    token = _CURRENT.set(here)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def watched(work: Callable[[Any], T]) -> T:
    """Run ``work`` with ONNX Runtime's RunOptions, or None without limits, through which it is ended.

    Raises TooMuch when it was; ONNX Runtime looks between two nodes.
    """
    limits = _CURRENT.get()
    if limits is None:
        return work(None)
    import onnxruntime

    _require(limits)
    options, done, said = onnxruntime.RunOptions(), threading.Event(), []

    def watch() -> None:
        while not done.wait(_PAUSE):
            reason = limits.exceeded()
            if reason:
                said.append(reason)
                options.terminate = True
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        return work(options)
    except Exception as error:
        if said:
            raise TooMuch(said[0]) from error
        raise
    finally:
        done.set()
        watcher.join()


def stoppable(work: Callable[[], T]) -> T:
    """Run Python code, in a thread of its own when there are limits; TooMuch when they were exceeded.

    The thread is then ended at its next bytecode: an exception is raised there, where all is its own.
    """
    limits = _CURRENT.get()
    if limits is None:
        return work()
    _require(limits)
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # handed to the one who waits
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_PAUSE)
        reason = limits.exceeded() if thread.is_alive() else ""
        if reason:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TooMuch)
            )
            raise TooMuch(reason)
    if errors:
        raise errors[0]
    return results[0]


def _require(limits: _Limits) -> None:
    reason = limits.exceeded()
    if reason:
        raise TooMuch(reason)


def resident() -> int:
    """Bytes of this process that are in memory, without mapped files; 0 where the system does not say."""
    try:
        fields = Path("/proc/self/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * int(os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, IndexError):
        return 0
