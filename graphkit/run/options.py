"""How an engine is built: the options of ``graphkit build``, and whether they can be met on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graphkit.errors import BadOption, NoRuntime
from graphkit.model.disk import shown
from graphkit.run.gpu import DeviceInfo
from graphkit.run.profiles import Shapes
from graphkit.run.trt import Trt

__all__ = ["BuildOptions", "targets_of"]


@dataclass(frozen=True)
class BuildOptions:
    """How to build an engine.

    ``trt`` is auto, tensorrt or rtx; ``plain`` leaves out the marks and the detail; ``shapes`` are needed
    for dynamic inputs; ``compute_capabilities``, like "8.9", for a GPU that is not here; ``workspace`` is
    in bytes; ``optimization_level`` 0 to 5; ``timing_cache`` a file that is read, and kept up to date. None
    is the version's own default.
    """

    trt: str = "auto"
    plain: bool = False
    shapes: tuple[Shapes, ...] = ()
    compute_capabilities: tuple[str, ...] = ()
    tf32: bool = True
    workspace: int | None = None
    optimization_level: int | None = None
    timing_cache: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The options as they are recorded; the timing cache's place is nobody's business."""
        tree = asdict(self)
        tree["shapes"] = [str(s) for s in self.shapes]
        tree["compute_capabilities"] = list(self.compute_capabilities)
        tree["timing_cache"] = self.timing_cache is not None
        return tree


def targets_of(options: BuildOptions, trt: Trt, gpu: DeviceInfo | None) -> tuple[str, ...]:
    """The compute capabilities to build for; none is that of the GPU here.

    Raises BadOption for one that this version cannot build for, NoRuntime when there is no GPU and none is
    named.
    """
    known = trt.compute_capabilities
    wanted = options.compute_capabilities
    if wanted and not known:
        raise BadOption(f"{trt.lacks('compute_capability')}; leave --compute-capability out")
    for one in wanted:
        if one not in known:
            raise BadOption(f"--compute-capability {shown(one)}: {trt.title} builds for {', '.join(known)}")
    if gpu is None and not wanted:
        if known:
            example = "8.9" if "8.9" in known else known[0]
            raise NoRuntime(
                f"there is no GPU here to build for; name one, --compute-capability {example} for instance "
                f"({trt.title} builds for {', '.join(known)})"
            )
        raise NoRuntime(
            f"{trt.title} builds on the GPU that the engine is for, and there is none; build where one is, "
            "or with --trt rtx"
        )
    return wanted
