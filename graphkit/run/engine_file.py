"""Opens an engine file, and says in one line why it does not open: whose fault it is, and what to do."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphkit.engine.layers import LayerMap, layers_path
from graphkit.errors import BadEngine, BadInput, GraphkitError, NoRuntime
from graphkit.model.disk import mapped, open_regular, reason, shown
from graphkit.model.file import ModelFile
from graphkit.model.model import Model
from graphkit.run.engine_header import LEAST, EngineHeader, other_kind
from graphkit.run.trt import Trt

_AGAIN = "build the engine again with this version"
_ANEW = "copy it again, or build it again"
_VERSIONS = re.compile(r"expecting (?:library )?version (\S+) got (?:library version )?([\d.]+)")
_NO_DRIVER = re.compile(
    r"cuda ?error:? ?(35|100)\b|cudaErrorInsufficientDriver|GPU driver is installed|no CUDA-capable", re.I
)
_BY_TEXT = (
    (r"does not support this compute capability|unsupported (sm|compute cap)", "runtime"),
    (
        r"unsupported cc|incompatible device|compute capability|hardware.{0,20}mismatch|cross.?platform",
        "device",
    ),
    (r"version tag does not match|library version|version mismatch|created with the same version", "version"),
    (r"incompatible serialization version|magic ?tag", "magic"),
    (r"blobSize|plan\.header\.size|truncat|unexpected end|corrupt|too small", "short"),
    (r"out of memory|OutOfMemory|MemoryAllocation", "memory"),
)


@dataclass(frozen=True)
class EngineFile:
    """The bytes of an engine, mapped, and where they came from."""

    path: Path
    data: memoryview = field(repr=False)
    sha256: str

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EngineFile:
        """Reads and hashes the file; BadEngine when that cannot be done, or it is plainly no engine."""
        path, name = Path(path), shown(path)
        try:
            fd = open_regular(path)
            try:
                data = mapped(fd)
            finally:
                os.close(fd)
        except FileNotFoundError as error:
            raise BadEngine(f"{name}: there is no such file; graphkit build makes an engine") from error
        except ValueError as error:
            raise BadEngine(f"{name}: is empty; build the engine again") from error
        except OSError as error:
            raise BadEngine(f"{name}: cannot be read: {reason(error)}; check the file") from error
        wrong = _plainly_wrong(data)
        if wrong:
            raise BadEngine(f"{name}: {wrong}")
        return cls(path, data, hashlib.sha256(data).hexdigest())

    def check(self, trt: Trt) -> None:
        """BadEngine when its header says that this TensorRT cannot open it: no GPU is needed to know."""
        header, name = EngineHeader.of(self.data), shown(self.path)
        if header is None:
            return
        if header.rtx != trt.is_rtx:
            which, title = ("rtx", "TensorRT-RTX") if header.rtx else ("tensorrt", "TensorRT")
            raise BadEngine(f"{name}: is an engine of {title}, and {trt.title} is here; try --trt {which}")
        # Engines of RTX fit one release: docs.nvidia.com/deeplearning/tensorrt-rtx, Engine Compatibility.
        if header.rtx and header.version and header.version[:2] != trt.numbers[:2]:
            raise BadEngine(_of_version(name, header.version, trt.title))


def _plainly_wrong(data: memoryview) -> str:
    """What is wrong with an engine that is cut short, or no engine; empty when only TensorRT can tell."""
    header = EngineHeader.of(data)
    if header is not None:
        if header.size is not None and len(data) < header.size:
            return f"is cut short: it has {len(data)} of {header.size} bytes; {_ANEW}"
        return f"is cut short: it has {len(data)} bytes; {_ANEW}" if len(data) < LEAST else ""
    kind = other_kind(data)
    if not kind and _is_model(data):
        kind = "is an ONNX model, and no engine; graphkit build makes an engine of it"
    return kind


def _is_model(data: memoryview) -> bool:
    try:
        return bool(Model.from_file(ModelFile.from_bytes(data)).main.outputs)
    except BadInput:
        return False


def _of_version(name: str, version: Sequence[object], runtime: str) -> str:
    return f"{name}: is of version {'.'.join(map(str, version))}, and {runtime} is here; {_AGAIN}"


def _recorded_size(file: EngineFile) -> int:
    """The bytes that the layer map beside the engine says it has; 0 when that says nothing, or the engine
    itself says how many they are."""
    header = EngineHeader.of(file.data)
    if header is not None and header.size is not None:
        return 0
    try:
        record = LayerMap.load(layers_path(file.path)).meta.get("engine")
    except BadInput:
        return 0
    size = record.get("bytes") if isinstance(record, Mapping) else None
    return size if isinstance(size, int) else 0


def refusal(file: EngineFile, text: Iterable[str], runtime: str, is_rtx: bool) -> GraphkitError:
    """What to raise when TensorRT, ``runtime`` with its version, gives no engine; ``text`` is its log."""
    lines = [line.strip() for line in text if line.strip()]
    said, name = "\n".join(lines), shown(file.path)
    if _NO_DRIVER.search(said):
        return NoRuntime(f"{name}: {runtime} finds no new enough NVIDIA driver (cudaError 35); update it")
    kind = next((k for pattern, k in _BY_TEXT if re.search(pattern, said, re.I)), "")
    versions, header = _VERSIONS.search(said), EngineHeader.of(file.data)
    whole = _recorded_size(file)
    if len(file.data) < whole:  # TensorRT may say anything of such a file
        return BadEngine(f"{name}: is cut short: it has {len(file.data)} of {whole} bytes; {_ANEW}")
    if header is None and kind in ("magic", "version", "short", ""):
        return BadEngine(f"{name}: is no TensorRT engine; give a file that graphkit build or trtexec wrote")
    match kind:
        case "runtime":
            return NoRuntime(f"{name}: {runtime} does not support this compute capability; use another GPU")
        case "device":
            return BadEngine(f"{name}: was built for another GPU; build it on this one, or for it")
        case "version" if versions:
            return BadEngine(_of_version(name, [versions[2]], runtime))
        case "version" if header is not None and header.version:
            return BadEngine(_of_version(name, header.version, runtime))
        case "version":
            return BadEngine(f"{name}: is of another version than {runtime}, which is here; {_AGAIN}")
        case "magic":
            other = "tensorrt" if is_rtx else "rtx"
            return BadEngine(f"{name}: is no engine of {runtime}; try --trt {other}, or {_AGAIN}")
        case "short":
            return BadEngine(f"{name}: is cut short or damaged; {_ANEW}")
        case "memory":
            return NoRuntime(f"{name}: the GPU has too little free memory for this engine; free some")
    first = lines[0] if lines else "it says nothing"
    return BadEngine(f"{name}: {runtime} cannot open it: {shown(first)}; {_AGAIN}")


def failed(file: EngineFile, what: str, text: Iterable[str]) -> BadEngine:
    """What to raise when an open engine does not run: ``what``, and the first line of the log."""
    lines = [line.strip() for line in text if line.strip()]
    why = f": {shown(lines[0])}" if lines else ""
    return BadEngine(f"{shown(file.path)}: {what}{why}")


# EngineInvalidityDiagnostics of TensorRT-RTX, bit by bit, in words that refusal() knows.
_DIAGNOSTICS = (
    (1, "version mismatch"),
    (2, "unsupported cc"),
    (4, "cudaErrorInsufficientDriver"),
    (8, "cudaErrorInsufficientDriver"),
    (16, "out of memory"),
    (32, "corrupt"),
)


def diagnosis(runtime: Any, file: EngineFile) -> list[str]:
    """What TensorRT-RTX says about an engine that did not open; nothing where a version cannot say."""
    ask = getattr(runtime, "get_engine_validity", None)
    if ask is None:
        return []
    try:
        bits = int(ask(file.data)[1])
    except (TypeError, ValueError, RuntimeError):
        return []
    return [words for bit, words in _DIAGNOSTICS if bits & bit]
