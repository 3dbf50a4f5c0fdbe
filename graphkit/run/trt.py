"""The one place that imports TensorRT: which one it is, what its version has, and what it says.

``tensorrt`` and ``tensorrt_rtx`` have one API. A process uses one of them: both keep global state, and so
does Polygraphy, which is told here. In a function that runs after `load`, ``from graphkit.run.trt import api
as trt`` gives the module, with its types.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphkit.errors import BadOption, NoRuntime

if TYPE_CHECKING:
    import tensorrt as api

__all__ = ["NAMES", "Lines", "Trt", "api", "collect", "load", "logger", "np_dtype"]

NAMES = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
_OLDEST = {"tensorrt": (8, 6), "tensorrt_rtx": (1, 4)}
_INSTALL = {
    "tensorrt": "install TensorRT from NVIDIA, or TensorRT-RTX: pip install 'graphkit[rtx]'",
    "tensorrt_rtx": "pip install 'graphkit[rtx]'",
}
# What a version may lack, and since when there is one that does not: for messages.
_FEATURES = {
    "debug": "read tensors while an engine runs (TensorRT 10 can)",
    "unfused": "mark the tensors between kernels (TensorRT 10.12 and TensorRT-RTX can)",
    "compute_capability": "build for another GPU than the one here (TensorRT-RTX can)",
    "timing_cache": "use a timing cache (its kernels are chosen without timing; TensorRT can)",
    "progress": "tell how far a build is (TensorRT 10 can)",
    "metadata": "say which ONNX nodes a kernel comes from (TensorRT 8.6 with its layer names, 10 in full)",
    "specialization": "choose how kernels are specialized for shapes (TensorRT-RTX can)",
}
_TOLD = re.compile(r"Layers:|Engine Layer Information:|LayerType: |Layer\(\w+\): ")


@dataclass(frozen=True)
class Trt:
    """The TensorRT of this process: ``module`` called ``name``, its version as text and as numbers."""

    name: str
    version: str
    module: Any = field(repr=False, compare=False)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version, comparable: (10, 12, 0, 36)."""
        return tuple(int(n) for n in re.findall(r"\d+", self.version)[:4])

    @property
    def title(self) -> str:
        """What to call it in a message: "TensorRT-RTX 1.4.0.76"."""
        return f"{'TensorRT-RTX' if self.is_rtx else 'TensorRT'} {self.version}"

    @property
    def target(self) -> str:
        """How passes call it: rtx-1.4, or trt-10.12."""
        return f"{'rtx' if self.is_rtx else 'trt'}-{'.'.join(map(str, self.numbers[:2]))}"

    @property
    def is_rtx(self) -> bool:
        return self.name == "tensorrt_rtx"

    def has(self, feature: str) -> bool:
        """Whether it has a feature: debug, unfused, compute_capability, timing_cache, progress, metadata or
        specialization."""
        network, config = self.module.INetworkDefinition, self.module.IBuilderConfig
        if feature == "timing_cache":  # RTX has the calls, and says itself that they do nothing since 1.2
            return not self.is_rtx
        owner, name = {
            "debug": (network, "mark_debug"),
            "unfused": (network, "mark_unfused_tensors_as_debug_tensors"),
            "compute_capability": (config, "set_compute_capability"),
            "progress": (self.module, "IProgressMonitor"),
            "metadata": (self.module.ILayer, "metadata"),
            "specialization": (self.module, "DynamicShapesKernelSpecializationStrategy"),
        }[feature]
        return hasattr(owner, name)

    @property
    def has_debug(self) -> bool:
        return self.has("debug")

    @property
    def has_unfused(self) -> bool:
        return self.has("unfused")

    @property
    def has_compute_capability(self) -> bool:
        return self.has("compute_capability")

    def lacks(self, feature: str) -> str:
        """One line that says that this version lacks a feature, and which has it."""
        return f"{self.title} cannot {_FEATURES[feature]}"

    def logger(self) -> Any:
        """`logger`, its ``lines`` empty: what TensorRT says from now on."""
        collector = logger()
        collector.lines = Lines()
        return collector

    def np_dtype(self, dtype: Any) -> np.dtype[Any]:
        """`np_dtype`."""
        return np_dtype(dtype)

    @property
    def compute_capabilities(self) -> list[str]:
        """Those it can build for without that GPU, like "8.9"; empty where it builds for the present one."""
        if not self.has_compute_capability:
            return []
        numbers = (m[1] for n in dir(self.module.ComputeCapability) if (m := re.fullmatch(r"SM(\d{2,3})", n)))
        return [f"{n // 10}.{n % 10}" for n in sorted(map(int, numbers))]


_loaded: Trt | None = None
_logger: Any = None
_sinks: list[Lines] = []


def load(which: str = "auto") -> Trt:
    """TensorRT's module: ``tensorrt``, ``rtx``, or ``auto`` for the first of the two that imports.

    Raises NoRuntime when it is not installed, does not import, is too old, or when this process uses the
    other one already; BadOption for another name.
    """
    global _loaded
    if which not in ("auto", *NAMES):
        raise BadOption(f"there is no TensorRT '{which}'; say auto, tensorrt or rtx")
    if _loaded is not None:
        if which != "auto" and NAMES[which] != _loaded.name:
            raise NoRuntime(
                f"this process uses {_loaded.title} already; use {NAMES[which]} in a process of its own"
            )
        return _loaded
    found = _first() if which == "auto" else _import(NAMES[which])
    _bind_polygraphy(found)
    _loaded = found
    return found


def _first() -> Trt:
    try:
        return _import("tensorrt")
    except NoRuntime as error:
        # What is broken is passed over when the other works; else its error says more than "not installed".
        if _installed("tensorrt_rtx"):
            return _import("tensorrt_rtx")
        if _installed("tensorrt"):
            raise
        raise NoRuntime(f"TensorRT is not installed; {_INSTALL['tensorrt']}") from error


def _installed(name: str) -> bool:
    """Whether the module is there: type stubs alone make a folder of that name without an ``__init__``."""
    if sys.modules.get(name) is not None:
        return True
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None


def _import(name: str) -> Trt:
    if not _installed(name):
        raise NoRuntime(f"{name} is not installed; {_INSTALL[name]}")
    try:
        module = importlib.import_module(name)
        found = Trt(name, str(module.__version__), module)
    except Exception as error:  # a missing library is an OSError, a wrong one anything
        said = " ".join(str(error).split()) or type(error).__name__
        raise NoRuntime(f"{name} does not import: {said[:300]}; install it anew") from error
    if found.numbers < _OLDEST[name]:
        oldest = ".".join(map(str, _OLDEST[name]))
        raise NoRuntime(f"{found.title} is too old, {oldest} is the oldest that works; {_INSTALL[name]}")
    return found


def _bind_polygraphy(trt: Trt) -> None:
    """Make Polygraphy use this module and our logger, whether it has been imported before or not."""
    os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = str(int(trt.is_rtx))
    from polygraphy import config

    config.USE_TENSORRT_RTX = trt.is_rtx
    for name, module in list(sys.modules.items()):
        lazy = vars(module).get("trt") if name.startswith("polygraphy.") else None
        if type(lazy).__name__ == "LazyModule":
            # Bound when that module was imported, to what the environment said then.
            object.__setattr__(lazy, "module", trt.module)


def __getattr__(name: str) -> Any:
    """``api`` is the module of the TensorRT that this process uses."""
    if name == "api":
        return load().module
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


class Lines(list[tuple[str, str]]):
    """What TensorRT said: (severity, text), in order; severities are INTERNAL_ERROR, ERROR, WARNING, INFO,
    VERBOSE. Of VERBOSE only what lists the engine's layers is kept: the rest is tens of thousands of them.
    ``thread`` is whose build it is: two may run at a time."""

    thread: int = 0

    @property
    def texts(self) -> list[str]:
        """The texts alone."""
        return [text for _, text in self]

    def of(self, *severities: str) -> list[str]:
        """The texts of these severities, each once."""
        return list(dict.fromkeys(text for severity, text in self if severity in severities))


@contextmanager
def collect() -> Iterator[Lines]:
    """What TensorRT says to this thread while the block runs; Ctrl-C meanwhile is raised at the end."""
    collector = logger()
    lines = Lines()
    lines.thread = threading.get_ident()
    _sinks.append(lines)
    try:
        yield lines
    finally:
        # by identity: two lists with the same lines are equal
        _sinks[:] = [s for s in _sinks if s is not lines]
        interrupted, collector.interrupted = collector.interrupted, None
    if interrupted is not None:
        raise interrupted


def logger() -> Any:
    """The ILogger of this process, which Polygraphy's loaders use too; silent but for `collect`.

    There is one: TensorRT keeps the first that it is given for all runtimes that follow. Its ``lines`` are
    what was said since `Trt.logger` was last asked.
    """
    global _logger
    if _logger is None:
        load()
        from graphkit.run.trt import api as trt

        class Collector(trt.ILogger):
            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.lines = Lines()
                self.interrupted: BaseException | None = None

            def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
                try:
                    name = severity.name
                    if name != "VERBOSE" or _TOLD.search(msg):
                        mine = [s for s in _sinks if s.thread == threading.get_ident()]
                        # TensorRT's own threads are nobody's: what they say, all may need.
                        for sink in (self.lines, *(mine or _sinks)):
                            sink.append((name, msg))
                except KeyboardInterrupt as error:  # through TensorRT's frames it would end the process
                    self.interrupted = error

        _logger = Collector()
        from polygraphy.backend.trt import util

        util.TRT_LOGGER = _logger  # what get_trt_logger() hands to every loader
    return _logger


_EXTENSION = {
    "BF16": "bfloat16",
    "FP8": "float8_e4m3fn",
    "E8M0": "float8_e8m0fnu",
    "INT4": "int4",
    "FP4": "float4_e2m1fn",
}
_PLAIN = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}


def np_dtype(dtype: Any) -> np.dtype[Any]:
    """The numpy dtype of a ``trt.DataType``; those that numpy lacks come from ml_dtypes.

    int4 and fp4 are one byte an element there, and half a byte in TensorRT's buffers.
    """
    if dtype.name in _PLAIN:
        return np.dtype(_PLAIN[dtype.name])
    import ml_dtypes

    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, _EXTENSION[dtype.name]))
    return found
