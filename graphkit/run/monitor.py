"""Progress of a build, as TensorRT tells it, and a way to stop one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphkit.run.trt import Trt, logger

__all__ = ["Interrupts", "monitor_of"]


class Interrupts:
    """An exception that arrived in a callback: going on into TensorRT, it would end the process."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def raise_any(self) -> None:
        """Raise what arrived, now that TensorRT has returned."""
        if self.error is not None:
            raise self.error


def monitor_of(trt: Trt, tell: Callable[[str, int, int], None], interrupts: Interrupts) -> Any:
    """An IProgressMonitor that tells the phase that is being worked on and its steps; None where the
    version has none. Ctrl-C, and whatever ``tell`` raises, ends the build."""
    if not trt.has("progress"):
        return None
    from graphkit.run.trt import api

    class Monitor(api.IProgressMonitor):
        def __init__(self) -> None:
            api.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return self._tell(phase_name, step + 1)

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

        def _tell(self, phase: str, done: int) -> bool:
            try:
                total = self._steps.get(phase, 0)
                tell(f"building: {phase}", min(done, max(total - 1, 0)), total)
            except BaseException as error:
                interrupts.error = interrupts.error or error
            return interrupts.error is None and logger().interrupted is None

    return Monitor()
