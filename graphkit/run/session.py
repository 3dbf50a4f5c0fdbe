"""One loaded model on ONNX Runtime's CPU, its graph optimisations off, silent."""

from __future__ import annotations

import contextlib
import ctypes
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from graphkit.run import limits

Feed = Mapping[str, Any]
Values = dict[str, Any]

# dtypes that ONNX Runtime computes with and numpy has no name for: bytes pass through an OrtValue instead
_VIEWS: dict[str, tuple[int, Any]] = {
    "tensor(bfloat16)": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
    "tensor(float8e4m3fn)": (TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
    "tensor(float8e4m3fnuz)": (TensorProto.FLOAT8E4M3FNUZ, ml_dtypes.float8_e4m3fnuz),
    "tensor(float8e5m2)": (TensorProto.FLOAT8E5M2, ml_dtypes.float8_e5m2),
    "tensor(float8e5m2fnuz)": (TensorProto.FLOAT8E5M2FNUZ, ml_dtypes.float8_e5m2fnuz),
}
_PLAIN = {
    f"tensor({t})"
    for t in (
        *("float", "float16", "double", "bool", "string"),
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    )
}


class OrtModel:
    """A session over model bytes; external data resolves in ``folder``.

    Raises whatever ONNX Runtime raises when it cannot load the model.
    """

    def __init__(self, model: bytes, folder: Path | None = None) -> None:
        from polygraphy.backend.onnxrt import OnnxrtRunner

        self._session = _open(model, folder)
        types = [v.type for v in (*self._session.get_inputs(), *self._session.get_outputs())]
        self._plain = all(t in _PLAIN for t in types)
        self._viewed = any(t in _VIEWS for t in types)
        self._runner = OnnxrtRunner(self._session)

    def run(self, feed: Feed) -> Values:
        """All outputs by name: arrays, lists for sequences, None for an empty optional.

        Raises TooMuch where there are limits (see :mod:`graphkit.run.limits`) and it exceeds them.
        """
        return limits.watched(lambda options: self._run(feed, options))

    def _run(self, feed: Feed, options: Any) -> Values:
        if self._plain and options is None:
            with _quiet_polygraphy(), self._runner as runner:
                # ONNX Runtime checks the feed itself, with the better message
                return dict(runner.infer(dict(feed), check_inputs=False))
        # Polygraphy's runner knows neither limits, sequences and optionals, nor dtypes that numpy lacks.
        if self._viewed:
            return self._run_viewed(feed, options)
        names = [o.name for o in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(feed), options), strict=True))

    def _run_viewed(self, feed: Feed, options: Any) -> Values:
        from onnxruntime import OrtValue

        kinds = {i.name: i.type for i in self._session.get_inputs()}
        values = {}
        for name, array in feed.items():
            array = np.ascontiguousarray(array)
            code = _VIEWS[kinds[name]][0] if kinds.get(name) in _VIEWS else None
            values[name] = (
                OrtValue.ortvalue_from_numpy(array)
                if code is None
                else OrtValue.ortvalue_from_numpy_with_onnx_type(array, code)
            )
        names = [o.name for o in self._session.get_outputs()]
        results = self._session.run_with_ort_values(names, values, options)
        return {name: _array(value) for name, value in zip(names, results, strict=True)}


def _array(value: Any) -> NDArray[Any]:
    """The OrtValue's content as numpy, a copy when numpy only knows its dtype through ml_dtypes."""
    view = _VIEWS.get(value.data_type())
    if view is None:
        return np.asarray(value.numpy())
    dtype, shape = np.dtype(view[1]), tuple(value.shape())
    size = math.prod(shape) * dtype.itemsize
    raw = ctypes.string_at(value.data_ptr(), size) if size else b""
    return np.frombuffer(raw, dtype).reshape(shape)


def _open(model: bytes, folder: Path | None) -> Any:
    import onnxruntime
    from polygraphy.backend.onnxrt import SessionFromOnnx

    onnxruntime.set_default_logger_severity(4)
    off = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with _quiet_polygraphy(), contextlib.redirect_stdout(io.StringIO()):  # it prints its own retries
        if folder is None:
            return SessionFromOnnx(model, providers=["cpu"], graph_optimization_level=off)()
        # Polygraphy's loader takes no session options, and this one finds the weights where they lie:
        # no model file has to be written beside them.
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = off
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def _quiet_polygraphy() -> Iterator[None]:
    from polygraphy.logger import G_LOGGER

    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        yield


def with_outputs(parts: Sequence[bytes | memoryview], names: Sequence[str]) -> bytes:
    """Model bytes with more graph outputs, by protobuf's own rule that joined messages merge.

    Cheaper than Polygraphy's ModifyOutputs, which parses and writes the whole model; ONNX Runtime infers
    the types that the added outputs leave out.
    """
    from onnx import ModelProto

    extra = ModelProto()
    for name in names:
        extra.graph.output.add().name = name
    return b"".join((*parts, extra.SerializeToString() if names else b""))
