"""Copies kernel-boundary tensors while an engine runs: their addresses are valid in the callback only."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphkit.run import storage
from graphkit.run.storage import Shape

if TYPE_CHECKING:
    from graphkit.run.trt import api as trt

Read = Callable[[int, int], NDArray[np.uint8]]  # address, bytes
Add = Callable[[str, NDArray[Any], str, Shape], None]  # name, raw array, dtype, dims


class Recorder:
    """What happens in the callback, with no TensorRT in it; an exception waits for ``check``.

    ``begin`` says where tensors go from there on; before it, and in warm-up, they are left alone. ``fired``
    counts callbacks; ``skipped`` names tensors of a dtype that a capture cannot hold.
    """

    def __init__(self, read: Read, dtype_of: Callable[[Any], str]) -> None:
        """``read`` waits for the GPU and copies bytes; ``dtype_of`` names TensorRT's dtypes as numpy does."""
        self._read, self._dtype_of = read, dtype_of
        self._add: Add | None = None
        self._error: BaseException | None = None
        self.fired = 0
        self.skipped: dict[str, str] = {}

    def begin(self, add: Add | None) -> None:
        """Give tensors to ``add`` from here on; to nobody when it is None."""
        self._add = add

    def take(self, address: object, dtype: Any, dims: Sequence[int], name: str) -> None:
        """One callback. Never raises: an exception in TensorRT's frames would end the process."""
        self.fired += 1
        if self._add is None or self._error is not None:
            return
        try:
            self._copy(self._add, _number(address), dtype, tuple(int(d) for d in dims), name)
        except BaseException as error:  # a Ctrl-C too
            self._error = error

    def _copy(self, add: Add, address: int, dtype: Any, dims: Shape, name: str) -> None:
        kind = self._dtype_of(dtype)
        if kind not in storage.DTYPES:
            self.skipped[name] = kind
            return
        size = storage.nbytes(kind, dims)
        raw = self._read(address, size).view(storage.raw_dtype(kind))
        add(name, raw.reshape(storage.raw_shape(kind, dims)), kind, dims)

    def check(self) -> None:
        """Raise what went wrong in a callback, once the run is over."""
        error, self._error = self._error, None
        if error is not None:
            raise error


def _number(address: object) -> int:
    """The address as a number: some versions hand it over in a capsule."""
    if type(address).__name__ != "PyCapsule":
        return int(address)  # type: ignore[call-overload, no-any-return]
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return int(api.PyCapsule_GetPointer(address, api.PyCapsule_GetName(address)) or 0)


def debug_listener(recorder: Recorder) -> trt.IDebugListener:
    """An IDebugListener of the TensorRT that is loaded, which tells ``recorder``."""
    from graphkit.run.trt import api as trt

    class Listener(trt.IDebugListener):
        def __init__(self) -> None:
            trt.IDebugListener.__init__(self)

        def process_debug_tensor(  # type: ignore[override]  # it answers whether all went well
            self, addr: object, location: Any, type: Any, shape: Any, name: str, stream: int
        ) -> bool:
            # location said HOST of device memory: the driver knows better (see Device.read)
            recorder.take(addr, type, shape, name)
            return True

    return Listener()


class Allocations:
    """Memory for outputs whose size only the run tells, and the dims they got."""

    def __init__(self, allocate: Callable[[int], int], free: Callable[[int], None]) -> None:
        self._allocate, self._free = allocate, free
        self._error: BaseException | None = None
        self.addresses: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self.dims: dict[str, Shape] = {}

    def give(self, name: str, nbytes: int) -> int:
        """Memory for ``nbytes``: what the output has when that is enough; 0 when there is none left."""
        try:
            if self._sizes.get(name, -1) < nbytes:
                if name in self.addresses:
                    self._free(self.addresses.pop(name))
                self.addresses[name] = self._allocate(nbytes)
                self._sizes[name] = nbytes
            return self.addresses[name]
        except BaseException as error:  # must not pass through TensorRT's frames
            self._error = error
            return 0

    def check(self) -> None:
        """Raise what went wrong while allocating."""
        error, self._error = self._error, None
        if error is not None:
            raise error


def output_allocator(allocations: Allocations) -> trt.IOutputAllocator:
    """An IOutputAllocator of the TensorRT that is loaded, over ``allocations``."""
    from graphkit.run.trt import api as trt

    class Allocator(trt.IOutputAllocator):
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)

        def reallocate_output(self, tensor_name: str, memory: Any, size: int, alignment: int) -> int:
            return allocations.give(tensor_name, size)

        def reallocate_output_async(
            self, tensor_name: str, memory: Any, size: int, alignment: int, stream: int
        ) -> int:
            return allocations.give(tensor_name, size)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            allocations.dims[tensor_name] = tuple(int(d) for d in shape)

    return Allocator()
