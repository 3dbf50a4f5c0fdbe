"""Progress on stderr: only on a terminal, and only when the work takes more than a second."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Any, Self

__all__ = ["Progress"]

_DELAY = 1.0


class Progress:
    """A callback for :func:`graphkit.rewrite`; a spinner with the present stage appears after a second."""

    def __init__(self, delay: float = _DELAY) -> None:
        self._shown = sys.stderr.isatty()
        self._timer = threading.Timer(delay, self._appear)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._status: Any = None
        self._text = "reading"
        self._over = False

    def __enter__(self) -> Self:
        if self._shown:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._over = True
            if self._status is not None:
                self._status.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Note what is being done; ``done`` of ``total`` steps are behind it (0 of 0: not known)."""
        with self._lock:
            self._text = f"{stage} ({done + 1}/{total})" if total else stage
            if self._status is not None:
                self._status.update(self._escaped())

    def _appear(self) -> None:
        from rich.console import Console

        with self._lock:
            if not self._over:
                self._status = Console(stderr=True).status(self._escaped())
                self._status.start()

    def _escaped(self) -> str:
        from rich.markup import escape

        return escape(self._text)
