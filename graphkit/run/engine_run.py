"""Runs a deserialized engine on the GPU, with its kernel boundaries recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphkit.errors import BadEngine
from graphkit.model.disk import shown
from graphkit.run import storage
from graphkit.run.engine_io import EngineIo, dims_of, profile_for
from graphkit.run.gpu import Device
from graphkit.run.listener import Allocations, Recorder, debug_listener, output_allocator
from graphkit.run.storage import Shape

if TYPE_CHECKING:
    from graphkit.run.trt import api as trt

STRATEGIES = ("none", "lazy", "eager")


class Output(NamedTuple):
    """An output as raw bytes (see run/storage.py)."""

    raw: NDArray[Any]
    dtype: str
    dims: Shape


class EngineRun:
    """An execution context with its buffers; use it within the life of ``device``."""

    def __init__(
        self,
        engine: trt.ICudaEngine,
        io: Sequence[EngineIo],
        device: Device,
        recorder: Recorder,
        *,
        specialization: str = "none",
    ) -> None:
        """``specialization`` is one of STRATEGIES, where TensorRT has them; what it is, or "", is kept."""
        self._engine, self._io, self._device = engine, io, device
        self._recorder = recorder
        self.specialization = ""
        context = self._make_context(specialization)
        if context is None:
            raise BadEngine("the engine gives no execution context; it may need more memory than the GPU has")
        self._context = context
        self._stream = device.stream()
        self._buffers: dict[str, tuple[int, int]] = {}
        self._host: dict[str, NDArray[Any]] = {}
        self._outputs = Allocations(device.allocate, device.free)
        self._allocator = output_allocator(self._outputs)
        self._listener = self._listen()
        self.listens = self._listener is not None

    def _make_context(self, specialization: str) -> trt.IExecutionContext | None:
        """A context whose kernels are specialized as asked: in the background, values change between runs."""
        from graphkit.run.trt import api as trt

        strategies = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
        if strategies is None or not hasattr(self._engine, "create_runtime_config"):
            return self._engine.create_execution_context()
        self._config = self._engine.create_runtime_config()
        strategy = getattr(strategies, specialization.upper())
        # not in the stubs, which are of TensorRT
        self._config.dynamic_shapes_kernel_specialization_strategy = strategy  # type: ignore[attr-defined]
        self.specialization = specialization
        return self._engine.create_execution_context(self._config)

    def _listen(self) -> trt.IDebugListener | None:
        if not hasattr(self._context, "unfused_tensors_debug_state"):
            return None  # before TensorRT 10.12: inputs and outputs only
        listener = debug_listener(self._recorder)
        self._context.set_debug_listener(listener)
        self._context.unfused_tensors_debug_state = True
        return listener

    def run(self, feed: Mapping[str, NDArray[Any]]) -> dict[str, Output]:
        """Execute once on arrays of the engine's dtypes; raises what went wrong, callbacks included."""
        self._choose_profile(feed)
        for tensor in self._io:
            if tensor.is_input:
                self._set_input(tensor, feed[tensor.name])
        missing = self._context.infer_shapes()
        if missing:
            raise BadEngine(f"the engine wants to know more of its input '{shown(missing[0], 60)}'")
        dims = {t.name: self._set_output(t) for t in self._io if not t.is_input}
        self._device.synchronize()  # copies to the GPU may still be under way
        done = self._context.execute_async_v3(self._stream)
        self._recorder.check()
        self._outputs.check()
        if not done:
            raise BadEngine("the engine did not run")
        self._device.synchronize()
        self._recorder.check()  # callbacks may come as late as that
        return {t.name: self._output(t, dims[t.name]) for t in self._io if not t.is_input}

    def _choose_profile(self, feed: Mapping[str, NDArray[Any]]) -> None:
        index = profile_for(self._io, {name: array.shape for name, array in feed.items()})
        if index == self._context.active_optimization_profile:
            return
        if not self._context.set_optimization_profile_async(index, self._stream):
            raise BadEngine(f"the engine refuses its optimization profile {index}")
        self._device.synchronize()

    def _set_input(self, tensor: EngineIo, array: NDArray[Any]) -> None:
        raw = np.ascontiguousarray(storage.to_raw(array))
        if not self._context.set_input_shape(tensor.name, array.shape):
            raise BadEngine(f"the engine refuses input '{shown(tensor.name, 60)}' of {list(array.shape)}")
        if tensor.host:
            self._host[tensor.name] = raw if raw.size else np.zeros(1, raw.dtype)
            address = self._host[tensor.name].ctypes.data
        else:
            address = self._buffer(tensor.name, raw.nbytes)
            self._device.write(address, raw)
        self._set_address(tensor, address)

    def _set_output(self, tensor: EngineIo) -> Shape | None:
        """Gives the output memory; returns its dims, None when only the run tells them."""
        dims = dims_of(self._context.get_tensor_shape(tensor.name))
        source = self._aliased(tensor)
        if source is not None:
            self._set_address(tensor, self._buffers[source][0])
        elif any(d < 0 for d in dims) and not tensor.host:
            if not self._context.set_output_allocator(tensor.name, self._allocator):
                raise BadEngine(f"the engine takes no memory for output '{shown(tensor.name, 60)}'")
            return None
        else:
            known = storage.nbytes(tensor.dtype, dims) if all(d >= 0 for d in dims) else 0
            self._set_address(tensor, self._memory(tensor, known))
        return dims

    def _memory(self, tensor: EngineIo, nbytes: int) -> int:
        """Zeroed memory for an output, on the host where the engine writes it there."""
        if tensor.host:
            most = max(nbytes, self._context.get_max_output_size(tensor.name), 64)
            self._host[tensor.name] = np.zeros(most, np.uint8)
            return self._host[tensor.name].ctypes.data
        address = self._buffer(tensor.name, nbytes)
        self._device.clear(address, nbytes)
        return address

    def _aliased(self, tensor: EngineIo) -> str | None:
        """The input whose memory this output shares (a cache that is updated in place)."""
        ask = getattr(self._engine, "get_aliased_input_tensor", None)
        name = ask(tensor.name) if ask is not None else None
        return name if name in self._buffers else None

    def _set_address(self, tensor: EngineIo, address: int) -> None:
        if not self._context.set_tensor_address(tensor.name, address):
            raise BadEngine(f"the engine refuses the memory for '{shown(tensor.name, 60)}'")

    def _buffer(self, name: str, nbytes: int) -> int:
        """Device memory for a tensor: what it had in the run before, when that is large enough."""
        address, size = self._buffers.get(name, (0, -1))
        if size < nbytes:
            if address:
                self._device.free(address)
            address = self._device.allocate(nbytes)
            self._buffers[name] = (address, nbytes)
        return address

    def _output(self, tensor: EngineIo, dims: Shape | None) -> Output:
        name = tensor.name
        if dims is None:
            address, dims = self._outputs.addresses[name], self._outputs.dims[name]
        else:
            # Known only now where a host tensor's dims depend on data.
            dims = dims if all(d >= 0 for d in dims) else dims_of(self._context.get_tensor_shape(name))
            address = self._context.get_tensor_address(name)
        size = storage.nbytes(tensor.dtype, dims)
        raw = self._host[name][:size].copy() if tensor.host else self._device.read(address, size)
        shape = storage.raw_shape(tensor.dtype, dims)
        return Output(raw.view(storage.raw_dtype(tensor.dtype)).reshape(shape), tensor.dtype, dims)
