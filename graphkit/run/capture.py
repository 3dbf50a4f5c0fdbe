"""Runs an engine on the GPU and keeps what it computed: inputs, outputs, the tensors between its kernels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from graphkit.engine.layers import LayerMap, layers_path, parse_inspector
from graphkit.errors import BadEngine, BadInput
from graphkit.model.apart import check_apart
from graphkit.model.atomic import check_target
from graphkit.model.disk import shown
from graphkit.model.file import ModelFile
from graphkit.model.messages import first_line, parse
from graphkit.model.model import Model
from graphkit.run import trt as tensorrt
from graphkit.run.capture_file import Capture, CaptureWriter
from graphkit.run.capture_options import CaptureOptions
from graphkit.run.capture_plan import planned
from graphkit.run.engine_file import EngineFile, diagnosis, failed, refusal
from graphkit.run.engine_io import EngineIo, disagreement, dtype_name, engine_io
from graphkit.run.engine_run import EngineRun
from graphkit.run.gpu import Device, device
from graphkit.run.inputs import Arrays, load_inputs
from graphkit.run.listener import Recorder
from graphkit.run.outline import outline
from graphkit.run.shapes import Shape, required_inputs

if TYPE_CHECKING:
    from graphkit.run.trt import api as trt

Progress = Callable[[str, int, int], None]
Path_ = str | os.PathLike[str]

_ERRORS = ("INTERNAL_ERROR", "ERROR")


def capture(
    model: Path_,
    engine: Path_,
    out: Path_ | None = None,
    *,
    progress: Progress | None = None,
    told: Callable[[Mapping[str, Any]], None] | None = None,
    **options: Any,
) -> Capture:
    """Run ``engine``, which was built from ``model``, on the GPU, and save what it computed to ``out``.

    ``told`` gets the inputs of each run, in the engine's dtypes, before the engine is made ready.
    Without ``out`` the result stays in memory, up to ``memory`` bytes, and in a temporary file beyond.
    Options: ``trt`` ("auto", "tensorrt", "rtx"); ``inputs`` (see run/inputs.py), else ``sets`` sets drawn
    from ``seed``; ``shapes``: dims of inputs by name, or points of the engine's profile to sweep over ("min",
    "opt", "max"), opt where left out; ``iterations`` captured runs of each set; ``specialization`` of
    TensorRT-RTX's kernels for dynamic shapes ("none": the same kernels in each run; "lazy": its own default,
    which changes kernels in the background; "eager"), ``warmup`` runs before; ``compress`` the file;
    ``other_model``: go on when the engine was built from another file, if inputs and outputs agree.

    Raises NoRuntime (no TensorRT, no driver, no GPU), BadEngine (another version, another GPU, not this
    model's), BadInput and BadOutput; then nothing is written.
    """
    said = CaptureOptions(**options)
    if out is not None:
        check_target(Path(out))
        check_apart(Path(out), files_read(Path(model), Path(engine), said.inputs))
    job = Job(Path(model), Path(engine), said, progress or _nothing, told)
    return job.run(None if out is None else Path(out))


def files_read(model: Path, engine: Path, inputs: Path_ | None) -> dict[str, Path]:
    """What a capture reads, and what to call it."""
    found = {"the model": model, "the engine": engine, "the engine's layer map": layers_path(engine)}
    script, colon, _ = str(inputs or "").rpartition(":")
    return found if inputs is None else found | {"the inputs": Path(script if colon else inputs)}


def _nothing(stage: str, done: int, total: int) -> None:
    """No progress to tell."""


class Job:
    """One capture: what can be checked without a GPU is checked first."""

    def __init__(
        self,
        model: Path,
        engine: Path,
        options: CaptureOptions,
        progress: Progress,
        told: Callable[[Mapping[str, Any]], None] | None,
    ) -> None:
        self._options, self._progress = options, progress
        self._told = told or (lambda feed: None)
        progress("reading", 0, 0)
        source = ModelFile.load(model)
        self._model = outline(_parsed(source, model))
        self._file = EngineFile.load(engine)
        sha256 = hashlib.sha256(source.data if source.text is None else source.text).hexdigest()
        self._layers = _beside(self._file)
        self._matched = self._match(sha256)
        self._given = None if options.inputs is None else load_inputs(options.inputs, self._model)
        self._onnx = {"name": model.name, "sha256": sha256}
        self._check_names()
        self._trt = tensorrt.load(options.trt)
        self._file.check(self._trt)

    def _check_names(self) -> None:
        """BadInput when ``shapes`` name what is no input."""
        shapes = self._options.shapes
        names = [i.name for i in required_inputs(self._model)]
        for name in shapes if isinstance(shapes, Mapping) else ():
            if name not in names:
                takes = ", ".join(shown(n, 40) for n in names) or "none"
                raise BadInput(f"--shapes: '{shown(name, 60)}' is no input of the model, which takes {takes}")

    def _match(self, sha256: str) -> str:
        """How it is known that the engine is the model's; BadEngine when it is known that it is not."""
        known = _recorded(self._layers, "onnx")
        if known and known != sha256 and not self._options.other_model:
            raise BadEngine(
                f"{shown(self._file.path)}: was built from another ONNX file (SHA-256 {known[:12]}…, this is "
                f"{sha256[:12]}…); give that one, build again, or go on with --other-model"
            )
        return "sha256" if known == sha256 else "io"

    def run(self, out: Path | None) -> Capture:
        """Captures to ``out``."""
        with device() as gpu, tensorrt.collect() as log:
            try:
                return self._captured(gpu, log, out)
            except BadEngine as error:
                if str(error).startswith(shown(self._file.path)):
                    raise
                raise failed(self._file, str(error), log.of(*_ERRORS)) from error
            except RuntimeError as error:  # what TensorRT's own calls raise
                raise failed(self._file, first_line(error), log.of(*_ERRORS)) from error

    def _captured(self, gpu: Device, log: tensorrt.Lines, out: Path | None) -> Capture:
        self._progress("loading the engine", 0, 0)
        engine = self._open(log)
        io = engine_io(engine)
        wrong = disagreement(self._model, io)
        if wrong:
            raise BadEngine(
                f"{shown(self._file.path)}: is not the model's: {wrong}; build it from this model"
            )
        plan = list(planned(io, self._model, self._options, self._given))
        for _, feed in plan:
            self._told(feed)
        recorder = Recorder(_reader(gpu), dtype_name)
        special = self._options.specialization
        run = EngineRun(engine, io, gpu, recorder, specialization=special)
        meta = self._meta(gpu, run)
        layers = self._layer_map(engine)
        share = len(plan) * self._options.iterations > 1
        options = self._options
        with CaptureWriter(
            out, meta, layers, memory=options.memory, compress=options.compress, share=share
        ) as writer:
            self._record(writer, run, recorder, io, plan)
            # Of a marked engine with one kernel nothing is called back.
            said = self._layers is not None and bool(self._layers.meta.get("marked"))
            writer.meta["marked"] = recorder.fired > 0 or (said and run.listens)
            writer.meta["skipped"] = dict(recorder.skipped)
        return writer.capture

    def _open(self, log: tensorrt.Lines) -> trt.ICudaEngine:
        from graphkit.run.trt import api as trt

        self._runtime = trt.Runtime(tensorrt.logger())
        engine = self._runtime.deserialize_cuda_engine(self._file.data)
        if engine is not None:
            return engine
        told = [*log.of(*_ERRORS), *log.texts, *diagnosis(self._runtime, self._file)]
        raise refusal(self._file, told, self._trt.title, self._trt.is_rtx)

    def _record(
        self,
        writer: CaptureWriter,
        run: EngineRun,
        recorder: Recorder,
        io: Sequence[EngineIo],
        plan: Sequence[tuple[str, Arrays]],
    ) -> None:
        total, done = len(plan) * self._options.iterations, 0
        warm: set[tuple[tuple[str, Shape], ...]] = set()
        for label, feed in plan:
            recorder.begin(None)
            key = tuple((n, a.shape) for n, a in feed.items())
            for _ in range(0 if key in warm else self._options.warmups):
                run.run(feed)
            warm.add(key)
            for iteration in range(self._options.iterations):
                self._progress("running the engine", done, total)
                many = self._options.iterations > 1
                writer.begin_run(f"{label} iteration {iteration}" if many else label)
                for name, array in feed.items():
                    writer.add_input(name, array)
                recorder.begin(writer.add_tensor)
                for name, output in run.run(feed).items():
                    writer.add_output(name, *output)
                done += 1

    def _meta(self, gpu: Device, run: EngineRun) -> dict[str, Any]:
        info = gpu.info
        return {
            "trt": {"module": self._trt.name, "version": self._trt.version},
            "device": {
                "name": info.name,
                "compute_capability": info.compute_capability,
                "driver": info.driver,
            },
            "onnx": self._onnx,
            "engine": {
                "name": self._file.path.name,
                "sha256": self._file.sha256,
                "bytes": len(self._file.data),
            },
            "options": self._options.to_json(),
            "matched": self._matched,
            "specialization": run.specialization,
        }

    def _layer_map(self, engine: trt.ICudaEngine) -> LayerMap | None:
        """The inspector's map where it knows the ONNX nodes; else what the build wrote beside the engine."""
        from graphkit.run.trt import api as trt

        beside = self._layers
        inspector = engine.create_engine_inspector()
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        try:
            kernels = tuple(parse_inspector(text))
        except BadInput:
            return beside
        if beside is not None and not any(k.onnx_nodes for k in kernels):
            return beside
        return LayerMap(kernels, "inspector", {} if beside is None else beside.meta)


def _parsed(source: ModelFile, path: Path) -> ModelProto:
    Model.from_file(source)  # says more than protobuf of what is wrong
    model: ModelProto = parse(onnx.ModelProto, source.data)
    if not model.HasField("graph") or not model.graph.output:
        raise BadInput(
            f"{shown(path)}: is no ONNX model with a graph; check that the file is the one you mean"
        )
    return model


def _beside(file: EngineFile) -> LayerMap | None:
    """What ``graphkit build`` wrote beside the engine; None when that is gone, or is another engine's."""
    path = layers_path(file.path)
    try:
        layers = LayerMap.load(path) if path.is_file() else None
    except BadInput:
        return None
    return layers if _recorded(layers, "engine") in ("", file.sha256) else None


def _recorded(layers: LayerMap | None, what: str) -> str:
    """The SHA-256 of the "onnx" or "engine" file that a layer map was made from; empty when it says none."""
    record = layers.meta.get(what) if layers is not None else None
    return str(record.get("sha256", "")) if isinstance(record, Mapping) else ""


def _reader(gpu: Device) -> Callable[[int, int], NDArray[np.uint8]]:
    """Reads in a callback: waits for every stream first, since the tensor may come from any."""

    def read(address: int, nbytes: int) -> NDArray[np.uint8]:
        gpu.bind()
        gpu.synchronize()
        return gpu.read(address, nbytes)

    return read
