"""One build: the model parsed into a network, configured, built; TensorRT's complaints in plain words.

Polygraphy's loaders make the network, the configuration and the engine. Two parts are our own: its parser
loaders keep of several complaints none (they are printed, then an exception says "could not parse"), and
parse no bytes whose weights lie in files.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphkit.errors import BuildFailed, NoRuntime
from graphkit.run.complaints import Complaint, of_builder, of_parser, summary
from graphkit.run.gpu import DeviceInfo, device
from graphkit.run.monitor import Interrupts, monitor_of
from graphkit.run.options import BuildOptions, targets_of
from graphkit.run.profiles import profile_of
from graphkit.run.source import Source
from graphkit.run.trt import Lines, Trt, collect, logger

if TYPE_CHECKING:
    from graphkit.run.trt import api

__all__ = ["Built", "Progress", "compile_engine", "configure", "parse", "present", "quiet"]

Progress = Callable[[str, int, int], None]

# What TensorRT warns of in every build, or what is no news to whoever built this model.
_NO_NEWS = (
    "strongly typed is enabled by default",
    "Int64 binding",
    "profileSharing0806",
)
# Flags that a network which is not strongly typed needs before it computes in a dtype that the model has.
_WEAK = {"HALF": "fp16", "BF16": "bf16", "INT8": "int8", "FP8": "fp8"}


@dataclass(frozen=True)
class Built:
    """An engine's bytes, and what came with them: ``lines`` are the log's texts, ``targets`` the compute
    capabilities it is for, ``marked`` whether the tensors between its kernels can be read."""

    data: Any = field(repr=False)
    lines: Sequence[str] = field(repr=False)
    warnings: tuple[str, ...]
    marked: bool
    targets: tuple[str, ...]
    seconds: dict[str, float]


def present() -> DeviceInfo | None:
    """The GPU here, or None."""
    try:
        with device() as gpu:
            return gpu.info
    except NoRuntime:
        return None


def compile_engine(
    trt: Trt, source: Source, options: BuildOptions, tell: Progress, *, marks: bool, detailed: bool
) -> Built:
    """Parse and build. Raises BadOption and NoRuntime for options that cannot be met here, BuildFailed when
    TensorRT refuses the model."""
    gpu = present()
    targets = targets_of(options, trt, gpu)
    marked = marks and trt.has_unfused
    seconds = {}
    with collect() as lines, quiet():
        start = time.perf_counter()
        tell("parsing", 0, 0)
        builder, network, parser = _parsed(trt, source, marked)
        seconds["parse"] = time.perf_counter() - start
        interrupts = Interrupts()
        config = configure(trt, network, options, targets, detailed, monitor_of(trt, tell, interrupts))
        start = time.perf_counter()
        tell("building", 0, 0)
        data = _built(source, trt, (builder, network, parser), config, options, lines, interrupts)
        seconds["build"] = time.perf_counter() - start
        warned = tuple(_warnings(trt, source, network, options, lines, marks))
    known = targets or ((gpu.compute_capability,) if gpu is not None else ())
    return Built(data, lines.texts, warned, marked, known, seconds)


def _parsed(trt: Trt, source: Source, marked: bool) -> Any:
    parts, findings = parse(trt, source, marked=marked)
    if findings:
        raise _failure(source, trt, findings)
    return parts


def parse(trt: Trt, source: Source, *, marked: bool) -> tuple[Any, list[Complaint]]:
    """(builder, network, parser), which have to live as long as each other, and what the parser refuses."""
    from polygraphy.backend.trt import CreateNetwork

    flags = trt.module.NetworkDefinitionCreationFlag
    # RTX and TensorRT 11 are so always; before 10 there is no such flag.
    typed = not trt.is_rtx and trt.numbers < (11,) and hasattr(flags, "STRONGLY_TYPED")
    builder, network = CreateNetwork(
        strongly_typed=typed, **({"mark_unfused_tensors_as_debug_tensors": True} if marked else {})
    )()
    trt.module.init_libnvinfer_plugins(logger(), "")
    parser: api.OnnxParser = trt.module.OnnxParser(network, logger())
    path = str(source.path)
    done = parser.parse_from_file(path) if source.data is None else parser.parse(source.data, path)
    main = source.model.main
    dtypes = {t.name: str(t.dtype) for t in (*main.inputs, *main.outputs) if t.dtype is not None}
    findings = of_parser(parser, trt, dtypes)
    if not done and not findings:
        findings = [Complaint("TensorRT cannot parse the model and does not say why")]
    return (builder, network, parser), findings


def configure(
    trt: Trt,
    network: api.INetworkDefinition,
    options: BuildOptions,
    targets: Sequence[str],
    detailed: bool,
    monitor: Any,
) -> Any:
    """A Polygraphy loader of the configuration."""
    from polygraphy.backend.tensorrt_rtx import CreateConfigRTX
    from polygraphy.backend.trt import CreateConfig, PostprocessConfig

    from graphkit.run.trt import api

    profile = profile_of(network, options.shapes)
    verbosity = api.ProfilingVerbosity
    common: dict[str, Any] = {
        "profiles": [] if profile is None else [profile],
        "profiling_verbosity": verbosity.DETAILED if detailed else verbosity.LAYER_NAMES_ONLY,
        "builder_optimization_level": options.optimization_level,
        "progress_monitor": monitor,
    }
    if options.workspace is not None:
        common["memory_pool_limits"] = {api.MemoryPoolType.WORKSPACE: options.workspace}
    if trt.is_rtx:
        pairs = [tuple(int(n) for n in t.split(".")) for t in targets]
        config = CreateConfigRTX(compute_capabilities=pairs or None, **common)
    else:
        cache = None if options.timing_cache is None else str(options.timing_cache)
        config = CreateConfig(tf32=options.tf32, load_timing_cache=cache, **_weak(trt, network), **common)

    def tf32(builder: api.Builder, network: api.INetworkDefinition, config: api.IBuilderConfig) -> None:
        # Polygraphy's RTX loader has no option for it, and leaves it on.
        if not options.tf32:
            config.clear_flag(api.BuilderFlag.TF32)

    return PostprocessConfig(config, tf32)


def _weak(trt: Trt, network: api.INetworkDefinition) -> dict[str, bool]:
    """The precisions to allow where the network's own dtypes do not say so: TensorRT 8 and 9."""
    if hasattr(trt.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED") or trt.numbers >= (10,):
        return {}
    found: set[str] = set()
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        found.update(layer.get_output(o).dtype.name for o in range(layer.num_outputs))
    return {_WEAK[name]: True for name in found if name in _WEAK}


def _built(
    source: Source,
    trt: Trt,
    network: Any,
    config: Any,
    options: BuildOptions,
    lines: Lines,
    interrupts: Interrupts,
) -> Any:
    from polygraphy.backend.trt import EngineBytesFromNetwork
    from polygraphy.exception import PolygraphyException

    cache = options.timing_cache if trt.has("timing_cache") else None
    before = len(lines)
    try:
        data = EngineBytesFromNetwork(
            network, config, save_timing_cache=None if cache is None else str(cache)
        )()
    except PolygraphyException as error:
        interrupts.raise_any()
        said = [text for severity, text in lines[before:] if "ERROR" in severity]
        findings = of_builder(said) or [Complaint(str(error).splitlines()[0], stage="build")]
        raise _failure(source, trt, findings) from error
    interrupts.raise_any()
    return data


def _failure(source: Source, trt: Trt, findings: Sequence[Complaint]) -> BuildFailed:
    stage = "parser" if findings[0].stage == "parse" else "builder"
    kinds = summary(findings)
    more = f" ({len(kinds) - 1} more kinds of complaint)" if len(kinds) > 1 else ""
    return BuildFailed(f"{source.name}: the {stage} of {trt.title} refuses it: {kinds[0]}{more}", findings)


def _warnings(
    trt: Trt,
    source: Source,
    network: api.INetworkDefinition,
    options: BuildOptions,
    lines: Lines,
    marks: bool,
) -> Iterator[str]:
    """What whoever builds should know: what this version lacks, what it changed, what it said."""
    if marks and not trt.has_unfused:
        yield f"{trt.lacks('unfused')}: graphkit diff can compare the engine at its outputs only"
    if options.timing_cache is not None and not trt.has("timing_cache"):
        yield f"{trt.lacks('timing_cache')}; --timing-cache had no effect"
    names = {network.get_input(i).name: network.get_input(i) for i in range(network.num_inputs)}
    names |= {network.get_output(i).name: network.get_output(i) for i in range(network.num_outputs)}
    main = source.model.main
    for tensor in (*main.inputs, *main.outputs):
        engine = names.get(tensor.name)
        if engine is not None and str(tensor.dtype) == "float64" and engine.dtype.name == "FLOAT":
            yield f"'{tensor.name}' is float64 in the model and float32 in the engine"
    for said in lines.of("WARNING"):
        if not any(text in said for text in _NO_NEWS):
            yield " ".join(said.split())[:300]


@contextmanager
def quiet() -> Iterator[None]:
    """No word from Polygraphy, nor of what TensorRT's bindings think of calls that Polygraphy makes."""
    from polygraphy.logger import G_LOGGER

    with warnings.catch_warnings(), G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1):
        warnings.simplefilter("ignore")
        yield
