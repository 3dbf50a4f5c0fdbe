"""Builds an engine from an ONNX file, and the map of its kernels: what ``graphkit build`` does."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from graphkit.engine.layers import Kernel, LayerMap, layers_path, parse_inspector, sections, to_bytes
from graphkit.errors import BadInput, BadOutput
from graphkit.model.apart import check_apart
from graphkit.model.atomic import check_target, write_together
from graphkit.model.disk import shown
from graphkit.run.compile import Built, compile_engine, present
from graphkit.run.options import BuildOptions
from graphkit.run.profiles import Shapes, parse_shapes
from graphkit.run.source import Source
from graphkit.run.trt import Trt, load

__all__ = ["BuildOptions", "BuildReport", "build", "layer_list", "layers_path"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BuildReport:
    """What was built: ``engine`` is where it was written, None when it was not; ``data`` its bytes.

    ``layers`` has one map a list of layers that TensorRT gave; ``seconds`` and ``versions`` are by name.
    """

    engine: Path | None
    layers_file: Path | None
    layers: tuple[LayerMap, ...]
    marked: bool
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    data: Any = field(repr=False, default=b"")

    @property
    def size(self) -> int:
        """Bytes of the engine."""
        return memoryview(self.data).nbytes


def build(
    model: str | Path,
    out: str | Path | None = None,
    *,
    trt: str = "auto",
    plain: bool = False,
    shapes: Iterable[str | Shapes] | Mapping[str, Any] = (),
    compute_capabilities: Iterable[str] = (),
    tf32: bool = True,
    workspace: int | None = None,
    optimization_level: int | None = None,
    timing_cache: str | Path | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Build the ONNX file ``model`` into the engine ``out`` (none is written for None), with its layer map
    ``out.layers.json`` beside it.

    ``shapes`` are specs (``images=1x3x320x320/1x3x640x640/4x3x640x640``) or a mapping of input names to one
    shape or to least, usual and greatest; see `BuildOptions` for the rest. The tensors between kernels are
    marked so that they can be read while the engine runs, unless ``plain`` is set or the version cannot.

    Raises BadInput, BadOption and BadOutput for what was given, NoRuntime when there is no TensorRT or no
    GPU to build for, BuildFailed (with its findings) when TensorRT refuses the model. Nothing is written
    then.
    """
    options = BuildOptions(
        trt,
        plain,
        parse_shapes(shapes),
        tuple(dict.fromkeys(compute_capabilities)),
        tf32,
        workspace,
        optimization_level,
        None if timing_cache is None else Path(timing_cache),
    )
    started = time.perf_counter()
    place = None if out is None else _place(Path(out), Path(model))
    if options.timing_cache is not None:
        _check_cache(options.timing_cache, Path(model), place)
    runtime = load(options.trt)
    tell = progress or (lambda stage, done, total: None)
    tell("reading", 0, 0)
    source = Source.load(model)
    built = compile_engine(runtime, source, options, tell, marks=not plain, detailed=not plain)
    tell("reading the layers", 0, 0)
    warnings = [*built.warnings]
    layers = tuple(_layer_maps(runtime, source, built, options, warnings))
    if place is not None:
        write_together({place: [built.data], layers_path(place): [to_bytes(list(layers))]})
    took = {"total": time.perf_counter() - started, **built.seconds}
    versions = {"graphkit": version("graphkit"), runtime.name: runtime.version}
    return BuildReport(
        place,
        None if place is None else layers_path(place),
        layers,
        built.marked,
        tuple(warnings),
        took,
        versions,
        built.data,
    )


def layer_list(
    model: str | Path, options: BuildOptions, *, plain: bool = True, progress: Progress | None = None
) -> list[Kernel]:
    """The kernels of the engine that a build with ``options`` gives, nothing written; ``plain`` builds
    without marks, whatever the options say. Raises what `build` raises, and what ``progress`` does."""
    tell = progress or (lambda stage, done, total: None)
    runtime = load(options.trt)
    source = Source.load(model)
    options = replace(
        options, plain=False
    )  # a plain build tells nothing of its layers: this one only has no marks
    built = compile_engine(runtime, source, options, tell, marks=not plain, detailed=True)
    return list(next(iter(_kernels(runtime, built)))[1])


def _place(out: Path, model: Path) -> Path:
    """``out``, which can be written; BadOutput when it cannot, or would replace the model."""
    target = check_target(out)
    beside = check_target(layers_path(out))
    for written in (out, layers_path(out)):
        check_apart(written, {"the model": model})
    if target == beside:
        raise BadOutput(f"{shown(out)}: is where the layer map would go; name the engine model.engine")
    return out


def _check_cache(cache: Path, model: Path, out: Path | None) -> None:
    """BadOutput when the timing cache cannot be kept, or would replace the model or the engine."""
    target = check_target(cache)
    check_apart(cache, {"the model": model})
    if out is not None and target in (check_target(out), check_target(layers_path(out))):
        raise BadOutput(f"--timing-cache {shown(cache)}: is where the engine goes; name another file")


def _layer_maps(
    trt: Trt, source: Source, built: Built, options: BuildOptions, warnings: list[str]
) -> Iterable[LayerMap]:
    meta = {
        "graphkit": version("graphkit"),
        "trt": {"module": trt.name, "version": trt.version},
        "onnx": source.record(),
        "engine": {
            "sha256": hashlib.sha256(built.data).hexdigest(),
            "bytes": memoryview(built.data).nbytes,
        },
        "options": options.to_json(),
        "compute_capabilities": list(built.targets),
        "marked": built.marked,
        "renamed": source.renamed,
    }
    for origin, kernels in _kernels(trt, built):
        if options.plain or not kernels:
            warnings.append(
                "which kernels the engine has is not known: "
                + ("--plain builds without telling them" if options.plain else f"{trt.title} listed none")
            )
        yield LayerMap(tuple(kernels), origin, {**meta, "warnings": list(warnings)})


def _kernels(trt: Trt, built: Built) -> list[tuple[str, list[Kernel]]]:
    """The kernels, and where they were read: the inspector where a GPU opens the engine, else the log."""
    inspected = [] if present() is None else _inspected(trt, built.data)
    if inspected:
        return [("inspector", inspected)]
    return [("log", kernels) for kernels in sections(built.lines)] or [("none", [])]


def _inspected(trt: Trt, data: Any) -> list[Kernel]:
    """What the inspector says; nothing when the engine does not open here: it may be for another GPU."""
    engine = trt.module.Runtime(trt.logger()).deserialize_cuda_engine(data)
    if engine is None:
        return []
    said = engine.create_engine_inspector().get_engine_information(trt.module.LayerInformationFormat.JSON)
    try:
        return parse_inspector(said)
    except BadInput:
        return []
