"""A GPU made of host memory, and an engine in Python behind TensorRT's calls: for machines without a GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphkit.run.gpu import DeviceInfo

trt: Any = __import__("tensorrt_rtx")


class HostDevice:
    """Device's methods, over numpy arrays."""

    info = DeviceInfo("simulated", "8.9", "13.0")

    def __init__(self) -> None:
        self.memory: dict[int, NDArray[np.uint8]] = {}
        self.synchronized = 0

    def bind(self) -> None:
        pass

    def stream(self) -> int:
        return 1

    def synchronize(self) -> None:
        self.synchronized += 1

    def allocate(self, nbytes: int) -> int:
        block = np.zeros(max(nbytes, 256), np.uint8)
        self.memory[block.ctypes.data] = block
        return int(block.ctypes.data)

    def free(self, address: int) -> None:
        del self.memory[address]

    def clear(self, address: int, nbytes: int) -> None:
        ctypes.memset(address, 0, nbytes)

    def write(self, address: int, array: NDArray[Any]) -> None:
        assert array.flags.c_contiguous and address in self.memory
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def read(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        return np.frombuffer(ctypes.string_at(address, nbytes), np.uint8).copy()


@contextmanager
def host_device() -> Iterator[HostDevice]:
    yield HostDevice()


class Config:
    """IRuntimeConfig."""

    dynamic_shapes_kernel_specialization_strategy: Any = None


class Inspector:
    def get_engine_information(self, kind: Any) -> str:
        return (
            '{"Layers": [{"Name": "k", "LayerType": "runtime", "Inputs": [], "Outputs": [], "Metadata": ""}]}'
        )


Kernels = Callable[[Mapping[str, NDArray[Any]]], Iterator[tuple[str, NDArray[Any], Any]]]


class Engine:
    """ICudaEngine: ``io`` is name → (is input, trt dtype, dims); ``profiles`` input → (min, opt, max)."""

    def __init__(
        self,
        io: Mapping[str, tuple[bool, Any, tuple[int, ...]]],
        kernels: Kernels,
        profiles: tuple[Mapping[str, tuple[tuple[int, ...], ...]], ...] = ({},),
    ) -> None:
        self.io, self.kernels, self.profiles = dict(io), kernels, profiles
        self.num_io_tensors, self.num_optimization_profiles = len(io), len(profiles)
        self.contexts: list[Context] = []

    def get_tensor_name(self, index: int) -> str:
        return list(self.io)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return trt.TensorIOMode.INPUT if self.io[name][0] else trt.TensorIOMode.OUTPUT

    def get_tensor_format(self, name: str) -> Any:
        return trt.TensorFormat.LINEAR

    def get_tensor_dtype(self, name: str) -> Any:
        return self.io[name][1]

    def get_tensor_shape(self, name: str) -> Any:
        return trt.Dims(self.io[name][2])

    def get_tensor_location(self, name: str) -> Any:
        return trt.TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, index: int) -> list[Any]:
        static = (self.io[name][2],) * 3
        return [trt.Dims(d) for d in self.profiles[index].get(name, static)]

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_aliased_input_tensor(self, name: str) -> None:
        return None

    def create_runtime_config(self) -> Config:
        return Config()

    def create_execution_context(self, config: Config) -> Context:
        self.contexts.append(Context(self, config))
        return self.contexts[-1]

    def create_engine_inspector(self) -> Inspector:
        return Inspector()


class Context:
    """IExecutionContext."""

    unfused_tensors_debug_state = False
    active_optimization_profile = 0

    def __init__(self, engine: Engine, config: Config) -> None:
        self.engine, self.config = engine, config
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.allocators: dict[str, Any] = {}
        self.listener: Any = None
        self.runs = 0

    def set_debug_listener(self, listener: Any) -> bool:
        assert isinstance(listener, trt.IDebugListener)
        self.listener = listener
        return True

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.active_optimization_profile = index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = (
            tuple(d) for d in self.engine.get_tensor_profile_shape(name, self.active_optimization_profile)
        )
        self.shapes[name] = shape
        return all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def get_tensor_address(self, name: str) -> int:
        return self.addresses[name]

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        assert isinstance(allocator, trt.IOutputAllocator)
        self.allocators[name] = allocator
        return True

    def infer_shapes(self) -> list[str]:
        return [n for n, (is_input, _, _) in self.engine.io.items() if is_input and n not in self.shapes]

    def get_tensor_shape(self, name: str) -> Any:
        _, _, dims = self.engine.io[name]
        if name in self.shapes:
            return trt.Dims(self.shapes[name])
        first = next(iter(self.shapes.values()))
        return trt.Dims(tuple(first[0] if d == -2 else d for d in dims))  # -2: the batch

    def execute_async_v3(self, stream: int) -> bool:
        self.runs += 1
        feed = {name: self._read(name) for name, (is_input, _, _) in self.engine.io.items() if is_input}
        for name, array, kind in self.engine.kernels(feed):
            array = np.ascontiguousarray(array)
            if name in self.engine.io:
                self._write(name, array)
            elif self.unfused_tensors_debug_state:
                dims, at = trt.Dims(array.shape), array.ctypes.data
                assert self.listener.process_debug_tensor(
                    at, trt.TensorLocation.HOST, kind, dims, name, stream
                )
                array.view(np.uint8)[...] = 0xEE  # the address is valid in the callback only
        return True

    def _read(self, name: str) -> NDArray[Any]:
        from graphkit.run.trt import np_dtype

        dtype, shape = np_dtype(self.engine.io[name][1]), self.shapes[name]
        raw = ctypes.string_at(self.addresses[name], int(np.prod(shape)) * dtype.itemsize)
        return np.frombuffer(raw, dtype).reshape(shape)

    def _write(self, name: str, array: NDArray[Any]) -> None:
        address = self.addresses.get(name)
        if name in self.allocators:
            address = self.allocators[name].reallocate_output_async(name, 0, array.nbytes, 256, 1)
            self.allocators[name].notify_shape(name, trt.Dims(array.shape))
        assert address
        ctypes.memmove(address, array.ctypes.data, array.nbytes)
