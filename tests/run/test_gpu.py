"""The CUDA driver's calls, against a driver in Python: what is said of a GPU, memory is given back."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphkit.errors import NoRuntime
from graphkit.run import gpu
from graphkit.run.gpu import device

NAMES = {2: b"CUDA_ERROR_OUT_OF_MEMORY", 35: b"CUDA_ERROR_INSUFFICIENT_DRIVER", 100: b"CUDA_ERROR_NO_DEVICE"}


def _at(pointer: Any) -> Any:
    return pointer._obj  # what ctypes.byref was given


class Driver:
    """libcuda over host memory; ``failing`` gives calls a code."""

    def __init__(self, count: int = 1, **failing: int) -> None:
        self.count, self.failing = count, failing
        self.memory: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            does = getattr(type(self), f"_{name}", lambda *_: 0)
            return self.failing.get(name) or int(does(self, *arguments))

        return call

    def _cuDeviceGetCount(self, count: Any) -> int:
        _at(count).value = self.count
        return 0

    def _cuDeviceGetName(self, name: Any, size: int, handle: int) -> int:
        name.value = b"Some GPU"
        return 0

    def _cuDeviceGetAttribute(self, number: Any, attribute: int, handle: int) -> int:
        _at(number).value = {75: 8, 76: 9}[attribute]
        return 0

    def _cuDriverGetVersion(self, number: Any) -> int:
        _at(number).value = 12080
        return 0

    def _cuStreamCreate(self, handle: Any, flags: int) -> int:
        _at(handle).value = 7
        return 0

    def _cuMemAlloc_v2(self, address: Any, size: Any) -> int:
        block = ctypes.create_string_buffer(b"\xee" * size.value, size.value)
        self.memory[ctypes.addressof(block)] = block
        _at(address).value = ctypes.addressof(block)
        return 0

    def _cuMemFree_v2(self, address: Any) -> int:
        del self.memory[address.value]
        return 0

    def _cuMemsetD8_v2(self, address: Any, value: Any, size: Any) -> int:
        ctypes.memset(address.value, value.value, size.value)
        return 0

    def _cuMemcpy(self, target: Any, source: Any, size: Any) -> int:
        ctypes.memmove(target.value, source.value, size.value)
        return 0

    def _cuGetErrorName(self, code: int, text: Any) -> int:
        _at(text).value = NAMES.get(code)
        return 0

    def _cuGetErrorString(self, code: int, text: Any) -> int:
        return 1  # not known


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[Driver], Driver]:
    def put(driver: Driver) -> Driver:
        monkeypatch.setattr(gpu.ctypes, "CDLL", lambda name: driver)
        return driver

    return put


def test_what_the_gpu_is(load: Callable[[Driver], Driver]) -> None:
    load(Driver())
    with device() as found:
        assert found.info == gpu.DeviceInfo("Some GPU", "8.9", "12.8")
        assert found.stream() == 7


def test_memory_is_zeroed_copied_and_given_back(load: Callable[[Driver], Driver]) -> None:
    driver = load(Driver())
    array = np.arange(1000, dtype=np.float32)
    with pytest.raises(KeyError), device() as found:
        at = found.allocate(array.nbytes)
        assert not found.read(at, array.nbytes).any()
        found.write(at, array)
        np.testing.assert_array_equal(found.read(at, array.nbytes).view(np.float32), array)
        found.clear(at, 4)
        assert found.read(at, 8).view(np.float32).tolist() == [0, 1]
        found.free(at)
        assert not driver.memory
        assert found.allocate(0) in driver.memory and found.allocate(10) in driver.memory
        found.write(at, array[:0])
        found.clear(at, 0)
        assert found.read(at, 0).size == 0
        found.synchronize()
        raise KeyError
    assert not driver.memory


@pytest.mark.parametrize(
    ("driver", "says"),
    [
        (Driver(cuInit=35), r"no GPU can be used here: CUDA_ERROR_INSUFFICIENT_DRIVER \(35\); run"),
        (Driver(cuInit=100), r"CUDA_ERROR_NO_DEVICE \(100\)"),
        (Driver(cuDeviceGetCount=999), r"no GPU can be used here: error \(999\)"),
        (Driver(count=0), "no GPU can be used here: it lists none; run this where"),
        (Driver(cuDevicePrimaryCtxRetain=2), "failed in cuDevicePrimaryCtxRetain: CUDA_ERROR_OUT_OF_MEMORY"),
    ],
)
def test_no_gpu(load: Callable[[Driver], Driver], driver: Driver, says: str) -> None:
    load(driver)
    with pytest.raises(NoRuntime, match=says) as caught, device():
        pass
    assert "\n" not in str(caught.value)


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(gpu.ctypes, "CDLL", missing)
    with pytest.raises(NoRuntime, match="there is no NVIDIA driver here .* cudaError 35"), device():
        pass


def test_a_full_gpu(load: Callable[[Driver], Driver]) -> None:
    load(Driver(cuMemAlloc_v2=2))
    with (
        device() as found,
        pytest.raises(NoRuntime, match="CUDA_ERROR_OUT_OF_MEMORY .* use a GPU with more free memory"),
    ):
        found.allocate(10)
    load(Driver(cuCtxSynchronize=700))
    with device() as found, pytest.raises(NoRuntime, match=r"error \(700\); check the GPU with nvidia-smi"):
        found.synchronize()
