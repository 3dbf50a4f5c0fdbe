"""Whether marking tensors for debug changed the engine: its fusion groups beside those of a plain build."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from graphkit.engine.kernel import Kernel
from graphkit.engine.layers import LayerMap
from graphkit.errors import BadEngine, GraphkitError
from graphkit.model.disk import shown
from graphkit.report.diffs import Drift
from graphkit.run.build import BuildOptions, build, layer_list, layers_path
from graphkit.run.profiles import parse_shapes
from graphkit.run.reference import CannotRun

if TYPE_CHECKING:
    from graphkit.compare.diff import _Options

__all__ = ["Watch", "drifted", "proven", "twin", "watch"]


class Watch:
    """A plain build that runs beside the diff: beside the block of a ``with``, and no longer."""

    def __init__(self, model: Path, layers: LayerMap, trt: str) -> None:
        self._found: list[Kernel] | str = "the plain build gave nothing"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._build, args=(model, layers, trt), daemon=True)
        self._thread.start()

    def _build(self, model: Path, layers: LayerMap, trt: str) -> None:
        try:
            self._found = layer_list(model, _options(layers, trt), plain=True, progress=self._go_on)
        except GraphkitError as error:
            self._found = str(error)
        except Exception as error:  # a thread must not die with a traceback: the diff goes on without it
            self._found = f"{type(error).__name__}: {error}"

    def _go_on(self, stage: str, done: int, total: int) -> None:
        if self._ended.is_set():
            raise CannotRun("the diff has ended")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # A process that ends while TensorRT builds in it may be aborted.
        self._ended.set()
        self._thread.join()

    def result(self, kernels: Sequence[Kernel]) -> Drift:
        """Wait for the build, and compare."""
        self._thread.join()
        if isinstance(self._found, str):
            return Drift(reason=f"no plain build to compare with: {self._found}")
        return drifted(kernels, self._found)


def watch(engine: Path, model: Path, options: _Options) -> Watch | None:
    """Start a plain build with the options that the engine was built with; None when these are not known."""
    beside = layers_path(engine)
    if not options.drift or not beside.is_file():
        return None
    return Watch(model, LayerMap.load(beside), options.trt)


def drifted(marked: Sequence[Kernel], plain: Sequence[Kernel]) -> Drift:
    """The fusion groups that only one of two builds has: kernels by type, ONNX nodes and output dims."""
    groups = [Counter(map(_group, kernels)) for kernels in (marked, plain)]
    only = (groups[0] - groups[1]) + (groups[1] - groups[0])
    names = {_group(k): k.name for k in (*plain, *marked)}
    return Drift(True, len(marked), tuple(sorted(names[g] for g in only)))


def _group(kernel: Kernel) -> tuple[Any, ...]:
    return kernel.type, kernel.onnx_nodes, tuple(t.dims for t in kernel.outputs)


def twin(model: Path, engine: Path, trt: str) -> Path:
    """Build the engine again, with marks, by its layer map's options; in a temporary folder."""
    beside = layers_path(engine)
    layers = LayerMap.load(beside) if beside.is_file() else LayerMap((), "", {})
    folder = tempfile.mkdtemp(prefix="graphkit-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = Path(folder) / engine.name
    build(model, made, **_asked(layers, trt))
    return made


def proven(engine: Path, marked: Sequence[Kernel], plain: Sequence[Kernel]) -> str:
    """That a rebuild with marks has the kernels of the engine without; BadEngine when it has not."""
    if any(k.outputs for k in plain):
        same = not drifted(marked, plain).different
    else:  # built without detail: TensorRT tells the names alone
        same = [k.name for k in marked] == [k.name for k in plain]
    if not plain or not same:
        raise BadEngine(
            f"{shown(engine)}: a rebuild with marks has other kernels ({len(marked)}, and {len(plain)}), so "
            "it would say nothing about this engine; build with graphkit build, which marks kernel boundaries"
        )
    return f"rebuilt with marks: all {len(plain)} kernels are those of {engine.name}"


def _asked(layers: LayerMap, trt: str) -> dict[str, Any]:
    """The options of the build that a layer map tells of, as build takes them."""
    said = layers.meta.get("options")
    kept = {k: v for k, v in said.items() if k in _OPTIONS} if isinstance(said, Mapping) else {}
    return {**kept, "trt": trt}


def _options(layers: LayerMap, trt: str) -> BuildOptions:
    said = _asked(layers, trt)
    return BuildOptions(
        **said
        | {
            "shapes": parse_shapes(said.get("shapes", ())),
            "compute_capabilities": tuple(said.get("compute_capabilities", ())),
        }
    )


_OPTIONS = ("shapes", "compute_capabilities", "tf32", "workspace", "optimization_level")
