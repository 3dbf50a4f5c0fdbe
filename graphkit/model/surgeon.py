"""onnx_graphsurgeon as graphkit uses it: the one importer of it, and the values that stay in the file.

GraphSurgeon's classes are what a pass sees; its importer and exporter are not used, because they lose data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper
import onnx_graphsurgeon as _gs
from onnx_graphsurgeon.ir.tensor import LazyValues as _LazyValues
from onnx_graphsurgeon.ir.tensor import SparseValues as _SparseValues
from onnx_graphsurgeon.util import misc as _misc

from graphkit.errors import BadInput
from graphkit.model import external, wire
from graphkit.model.messages import parse

Tensor: TypeAlias = Any  # gs.Variable | gs.Constant: graphsurgeon ships no type information
Node: TypeAlias = Any  # gs.Node
Surgeon: TypeAlias = Any  # gs.Graph | gs.Function
Array: TypeAlias = npt.NDArray[Any]

GsGraph: Any = _gs.Graph
GsFunction: Any = _gs.Function
GsNode: Any = _gs.Node
Variable: Any = _gs.Variable
Constant: Any = _gs.Constant
AttributeRef: Any = _gs.Node.AttributeRef

_gs.logger.G_LOGGER.severity = _gs.logger.G_LOGGER.CRITICAL  # its lines are none of ours

_DATA_FIELDS = frozenset({4, 5, 6, 7, 9, 10, 11})  # float, int32, string, int64, raw, double, uint64
_SMALL = 4096
_MOST_DENSE = 1 << 30
_MAX_TENSOR_FIELDS = 4096

# GraphSurgeon leaves these as ONNX enums, since numpy has no such type; its users rely on that.
_NOT_NUMPY = frozenset({16, 17, 18, 19, 20})


def imported(model: onnx.ModelProto) -> Surgeon:
    """A message as GraphSurgeon's own importer reads it: what ``gs.export_onnx`` made, read back."""
    return _gs.import_onnx(model)


def surgeon_dtype(onnx_dtype: int) -> Any:
    """The dtype GraphSurgeon would give a tensor of ONNX type ``onnx_dtype``: numpy's, or the enum."""
    if onnx_dtype in _NOT_NUMPY:
        return onnx_dtype
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(onnx_dtype))
    except (KeyError, ValueError):
        return onnx_dtype or None


def onnx_dtype(dtype: Any) -> int:
    """The ONNX enum of a numpy (or ml_dtypes) dtype, of an enum, or of a Python type."""
    if isinstance(dtype, int):
        return dtype
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def numpy_dtype(dtype: Any) -> np.dtype[Any] | None:
    """The numpy (or ml_dtypes) dtype of what GraphSurgeon calls a dtype; None when it has none."""
    if dtype is None:
        return None
    if isinstance(dtype, int):
        try:
            return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(dtype))
        except (KeyError, ValueError):
            return None
    kind: np.dtype[Any] = np.dtype(dtype)
    return kind


def attribute_type(onnx_type: int) -> Any:
    """What GraphSurgeon calls an ONNX attribute type (``AttributeProto.FLOAT`` is ``float``)."""
    return _misc.convert_from_onnx_attr_type(onnx_type)


def onnx_attribute_type(kind: Any) -> int:
    """The inverse of :func:`attribute_type`."""
    return int(_misc.convert_to_onnx_attr_type(kind) or 0)


class Stored(_LazyValues):  # type: ignore[misc]
    """A tensor's values as they lie in the model or data file; read when somebody asks.

    ``shape`` is a list of int, ``dtype`` a numpy dtype or ONNX enum, ``nbytes`` the size in memory.
    """

    def __init__(self, view: wire.Buffer, folder: Path | None) -> None:
        self.view = view
        self.folder = folder
        self.header = tensor_header(view)
        self.shape = list(self.header.dims)
        self.dtype = surgeon_dtype(self.header.data_type)
        self.loaded: Array | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the values in memory; sub-byte types count a byte an element, as numpy holds them."""
        kind = numpy_dtype(self.dtype)
        count = 1
        for dim in self.shape:
            count *= dim
        return count * (kind.itemsize if kind is not None else 1)

    @property
    def tensor(self) -> onnx.TensorProto:
        """The whole message, external data read in: what GraphSurgeon's own exporter asks for."""
        proto = parse_tensor(self.view)
        ref = external.data_ref(proto)
        if ref is not None:
            proto.raw_data = bytes(external.read_external(self._folder(), ref, proto.name))
            proto.ClearField("data_location")
            del proto.external_data[:]
        return proto

    def read(self) -> Array:
        """A fresh array of the values; does not count as touching them."""
        if self.header.data_type == onnx.TensorProto.STRING:
            return _strings(parse_tensor(self.view), self.shape)
        try:
            return np.array(onnx.numpy_helper.to_array(self.tensor))
        except (ValueError, TypeError, KeyError, NotImplementedError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BadInput(f"initializer '{self.header.name}' holds no readable values ({reason})") from error

    def load(self) -> Array:
        """GraphSurgeon's hook behind ``Constant.values``."""
        self.loaded = self.read()
        return self.loaded

    def is_still(self, values: Array) -> bool:
        """Whether ``values`` holds what the file holds, bit for bit."""
        if list(values.shape) != self.shape or values.dtype != numpy_dtype(self.dtype):
            return False
        return same_bits(values, self.read())

    def _folder(self) -> Path:
        if self.folder is None:
            raise BadInput(
                f"tensor '{self.header.name}' has external data, but the model came from memory; "
                "load it from its file"
            )
        return self.folder


class StoredSparse(_SparseValues):  # type: ignore[misc]
    """A sparse initializer's values, dense when read: shape ``dims``, dtype of the non-zero values."""

    def __init__(self, view: wire.Buffer, folder: Path | None) -> None:
        self.view = view
        self.folder = folder
        self.header: onnx.SparseTensorProto = parse(onnx.SparseTensorProto, view)
        self.shape = list(self.header.dims)
        self.dtype = surgeon_dtype(self.header.values.data_type)
        self.loaded: Array | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the dense values in memory."""
        kind = numpy_dtype(self.dtype)
        return int(np.prod(self.shape, dtype=object)) * (kind.itemsize if kind is not None else 1)

    @property
    def tensor(self) -> onnx.SparseTensorProto:
        """The message itself."""
        return self.header

    def read(self) -> Array:
        """A fresh dense array, from either layout of the indices ([NNZ] or [NNZ, rank]).

        Raises BadInput for values that do not fit, and for a dense form over 1 GiB: the dims are all that
        the file holds of it, so a few bytes can ask for any amount.
        """
        if min(self.shape, default=0) < 0 or self.nbytes > _MOST_DENSE:
            raise BadInput(
                f"sparse initializer '{self.header.values.name}' of shape {_dims(self.shape)} "
                "is too large to be read; store it dense if that is what it should be"
            )
        values = Stored(self.header.values.SerializeToString(), self.folder).read()
        indices = Stored(self.header.indices.SerializeToString(), self.folder).read()
        dense = np.zeros(self.shape, values.dtype)
        try:
            if indices.ndim == 1:
                dense.reshape(-1)[indices] = values
            else:
                dense[tuple(indices.T)] = values
        except (IndexError, ValueError) as error:
            raise BadInput(
                f"sparse initializer '{self.header.values.name}' has indices outside its shape"
            ) from error
        return dense

    load = Stored.load
    is_still = Stored.is_still


def _dims(shape: list[int]) -> str:
    text = "x".join(map(str, shape))
    return text if len(text) < 80 else f"{text[:80]}…"


def _strings(tensor: onnx.TensorProto, shape: list[int]) -> Array:
    """An object array of str; what is no UTF-8 stays bytes, as in attributes."""
    texts: list[str | bytes] = []
    for raw in tensor.string_data:
        try:
            texts.append(raw.decode())
        except UnicodeDecodeError:
            texts.append(raw)
    made = np.empty(len(texts), object)
    made[:] = texts
    try:
        return made.reshape(shape)
    except ValueError as error:
        raise BadInput(
            f"initializer '{tensor.name}' holds {len(texts)} strings, not those of its shape"
        ) from error


def foreign_message(values: Any) -> bytes | None:
    """The TensorProto behind values that GraphSurgeon's own importer made; None for all others."""
    if isinstance(values, _LazyValues) and not isinstance(values, Stored | _SparseValues):
        return bytes(values.tensor.SerializeToString())
    return None


def at_home(constant: Tensor) -> Any:
    """The values of a constant: an array, Stored or StoredSparse, whoever imported it."""
    message = foreign_message(constant._values)
    if message is not None:
        constant._values = Stored(message, None)
    elif isinstance(constant._values, _SparseValues) and not isinstance(constant._values, StoredSparse):
        constant._values = StoredSparse(constant._values.tensor.SerializeToString(), None)
    return constant._values


def exported(constant: Tensor) -> Array:
    """The array of a constant in the dtype it is to be written in, which its maker may have set apart."""
    values = constant._values
    wanted = numpy_dtype(constant._export_dtype)
    return np.asarray(values) if wanted is None else np.asarray(values).astype(wanted)


def stored_tensors(values: Any) -> list[onnx.TensorProto]:
    """The messages, without their data, behind values that are still in the file; none for an array."""
    if isinstance(values, StoredSparse):
        return [values.header.values, values.header.indices]
    return [values.header] if isinstance(values, Stored) else []


def tensor_header(view: wire.Buffer) -> onnx.TensorProto:
    """The TensorProto in ``view`` without its data: name, dims, data_type, external_data, metadata."""
    if len(view) <= _SMALL:
        return parse_tensor(view)
    try:
        fields = wire.scan(view, _MAX_TENSOR_FIELDS)
    except wire.WireError:  # one field an element, as very old writers did
        whole = parse_tensor(view)
        for field in (
            "float_data",
            "int32_data",
            "string_data",
            "int64_data",
            "raw_data",
            "double_data",
            "uint64_data",
        ):
            whole.ClearField(field)
        return whole
    return parse_tensor(wire.without(view, fields, _DATA_FIELDS))


def parse_tensor(view: wire.Buffer) -> onnx.TensorProto:
    """The TensorProto in ``view``; BadInput when it is none."""
    proto: onnx.TensorProto = parse(onnx.TensorProto, view)
    return proto


def same_bits(a: Array, b: Array) -> bool:
    """Whether two arrays agree in shape, dtype and every bit (NaN payloads and signed zeros too)."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype == object:
        return bool(a.tolist() == b.tolist())
    return bool(np.array_equal(_bytes_of(a), _bytes_of(b)))


def _bytes_of(a: Array) -> npt.NDArray[np.uint8]:
    return np.frombuffer(np.ascontiguousarray(a).tobytes(), np.uint8)


def tensor_proto(values: Array, name: str) -> onnx.TensorProto:
    """Encode ``values`` (any dtype of ONNX, ml_dtypes included) as a TensorProto in raw form."""
    return onnx.numpy_helper.from_array(np.asarray(values), name)


def unlink(items: list[Any], item: object) -> None:
    """Take the first entry that *is* ``item`` out of one of GraphSurgeon's lists, leaving its twin alone.

    GraphSurgeon removes by equality of names, which hits the wrong one of two like-named nodes.
    """
    for index, candidate in enumerate(items):
        if candidate is item:
            list.__delitem__(items, index)
            return
