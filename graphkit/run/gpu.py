"""A GPU's memory and streams through the CUDA driver, which every machine that can run an engine has.

Polygraphy's wrapper needs libcudart, which neither the driver nor TensorRT-RTX brings. Functions and codes:
https://docs.nvidia.com/cuda/cuda-driver-api. What TensorRT allocates shares this context: the primary one.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphkit.errors import NoRuntime

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_LEAST = 256  # bytes of the smallest allocation: TensorRT wants an address for empty tensors too
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_NEXT = "run this where an NVIDIA GPU and its driver are (nvidia-smi lists them)"


@dataclass(frozen=True)
class DeviceInfo:
    """The GPU: ``compute_capability`` like "8.9", ``driver`` the CUDA version that its driver supports."""

    name: str
    compute_capability: str
    driver: str


class Device:
    """The first GPU that CUDA_VISIBLE_DEVICES leaves, its primary context current in the calling thread."""

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self._context = ctypes.c_void_p()
        handle = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(handle), 0)
        self._handle = handle.value
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._handle)
        self.bind()
        self._held: set[int] = set()

    @property
    def info(self) -> DeviceInfo:
        """What it is."""
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, 256, self._handle)
        number = ctypes.c_int()
        found = []
        for attribute in (_MAJOR, _MINOR):
            self._call("cuDeviceGetAttribute", ctypes.byref(number), attribute, self._handle)
            found.append(number.value)
        self._call("cuDriverGetVersion", ctypes.byref(number))
        driver = f"{number.value // 1000}.{number.value % 1000 // 10}"
        return DeviceInfo(name.value.decode(errors="replace"), f"{found[0]}.{found[1]}", driver)

    def bind(self) -> None:
        """Make the context current in this thread; TensorRT may call back from another one."""
        self._call("cuCtxSetCurrent", self._context)

    def stream(self) -> int:
        """A new stream's handle; ``close`` leaves it to the process's end."""
        handle = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(handle), 0)
        return handle.value or 0

    def synchronize(self) -> None:
        """Wait for all that was given to the GPU, on every stream."""
        self._call("cuCtxSynchronize")

    def allocate(self, nbytes: int) -> int:
        """The address of new memory, zeroed: what an engine leaves unwritten is the same in each run."""
        address, size = ctypes.c_void_p(), max(nbytes, _LEAST)
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        self._held.add(address.value or 0)
        self._call("cuMemsetD8_v2", address, ctypes.c_ubyte(0), ctypes.c_size_t(size))
        return address.value or 0

    def free(self, address: int) -> None:
        """Give memory back."""
        self._held.discard(address)
        self._call("cuMemFree_v2", ctypes.c_void_p(address))

    def clear(self, address: int, nbytes: int) -> None:
        """Zero memory."""
        if nbytes:
            self._call("cuMemsetD8_v2", ctypes.c_void_p(address), ctypes.c_ubyte(0), ctypes.c_size_t(nbytes))

    def write(self, address: int, array: NDArray[Any]) -> None:
        """Copy an array in C order to the GPU."""
        if array.nbytes:
            self._copy(address, array.ctypes.data, array.nbytes)

    def read(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        """Bytes at an address, of the GPU's memory or the host's: the driver tells them apart."""
        found = np.empty(nbytes, np.uint8)
        if nbytes:
            self._copy(found.ctypes.data, address, nbytes)
        return found

    def _copy(self, target: int, source: int, nbytes: int) -> None:
        # cuMemcpy infers the kind from the addresses, as cudaMemcpyDefault does, and is done when it returns.
        self._call("cuMemcpy", ctypes.c_void_p(target), ctypes.c_void_p(source), ctypes.c_size_t(nbytes))

    def close(self) -> None:
        """Give back all memory; never fails, since an error may be on its way."""
        for address in self._held:
            self._cuda.cuMemFree_v2(ctypes.c_void_p(address))
        self._held.clear()

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._cuda, name)(*arguments)
        if code:
            raise NoRuntime(f"the GPU failed in {name}: {_said(self._cuda, code)}; {_hint(code)}")


def _hint(code: int) -> str:
    if code == 2:
        return "use a GPU with more free memory, or a smaller --shapes"
    return "check the GPU with nvidia-smi, and run it again"


def _said(cuda: Any, code: int) -> str:
    """CUDA's name for an error, and its words."""
    words = []
    for name in ("cuGetErrorName", "cuGetErrorString"):
        text = ctypes.c_char_p()
        if getattr(cuda, name)(code, ctypes.byref(text)) == 0 and text.value:
            words.append(text.value.decode(errors="replace"))
    return f"{' '.join(words) or 'error'} ({code})"


@contextmanager
def device() -> Iterator[Device]:
    """The GPU, for the length of the block; NoRuntime, in one line, where there is no driver or no GPU."""
    try:
        cuda = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise NoRuntime(f"there is no NVIDIA driver here ({_LIBRARY}; cudaError 35); {_NEXT}") from error
    code = cuda.cuInit(0)
    count = ctypes.c_int()
    if code == 0:
        code = cuda.cuDeviceGetCount(ctypes.byref(count))
    if code or not count.value:
        why = _said(cuda, code) if code else "it lists none"
        raise NoRuntime(f"no GPU can be used here: {why}; {_NEXT}")
    found = Device(cuda)
    try:
        yield found
    finally:
        found.close()
