"""TensorProto to a Constant: raw bytes, typed fields or a place in the external data.

Raw bytes and packed floats are viewed, never copied; the other typed fields are small in practice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilework.core.dtypes import BOOL, FLOAT16, FLOAT32, FLOAT64, DType, from_onnx
from tilework.core.errors import InvalidProtobuf
from tilework.core.shapes import count
from tilework.ir.graph import Constant
from tilework.onnx.external import ExternalData, locate
from tilework.onnx.proto import TensorProto

_EXTERNAL = 1  # TensorProto.DataLocation


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of the file; `place` is (location, offset in it) when its bytes are external."""

    constant: Constant
    place: tuple[str, int] | None = None


def read_tensor(tensor: TensorProto, where: str, external: ExternalData | None = None) -> Stored:
    """The tensor as a constant. Raises InvalidProtobuf, NotImplemented, NoSuchFile."""
    dtype = from_onnx(tensor.data_type, where)
    shape = tuple(tensor.dims)
    if min(shape, default=0) < 0:
        raise InvalidProtobuf(f"{where}: shape {list(shape)} has a negative extent")
    elements = count(shape)
    nbytes = elements * dtype.size
    if tensor.data_location == _EXTERNAL:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file, offset = locate(entries, nbytes, external, where)
        constant = Constant(dtype, shape, external=(file.base + offset, nbytes))
        return Stored(constant, (file.location, offset))
    if tensor.has("raw_data"):
        if tensor.raw_data.nbytes != nbytes:
            raise InvalidProtobuf(
                f"{where}: raw_data has {tensor.raw_data.nbytes} bytes, {dtype}{list(shape)} needs "
                f"{nbytes}"
            )
        flat: NDArray[Any] = np.frombuffer(tensor.raw_data, dtype.numpy)
    else:
        flat = _typed(tensor, dtype, where)
        if flat.size != elements:
            raise InvalidProtobuf(
                f"{where}: holds {flat.size} numbers, {dtype}{list(shape)} needs {elements}"
            )
    if dtype is BOOL:
        flat = flat.view(np.uint8) != 0  # bytes other than 0 and 1 are not NumPy booleans
    return Stored(Constant(dtype, shape, array=flat.reshape(shape)))


def _typed(tensor: TensorProto, dtype: DType, where: str) -> NDArray[Any]:
    if dtype is FLOAT32:
        return chunks(tensor.float_data, "<f4")
    if dtype is FLOAT64:
        return chunks(tensor.double_data, "<f8")
    if dtype.name == "int64":
        return np.array(tensor.int64_data, dtype=np.int64)
    if dtype.name in ("uint32", "uint64"):
        wide = np.array(tensor.uint64_data, dtype=np.int64).view(np.uint64)
        return _narrow(wide, dtype, where)
    numbers = np.array(tensor.int32_data, dtype=np.int64)
    if dtype is FLOAT16:  # int32_data has the bit patterns
        return _narrow(numbers, DType("uint16", 2, "u", "uint16", 4), where).view(np.float16)
    return _narrow(numbers, dtype, where)


def chunks(parts: object, dtype: str) -> NDArray[Any]:
    """Packed numbers as one array: a view when the file has them in one piece."""
    pieces: Any = parts
    if len(pieces) == 1:
        return np.frombuffer(pieces[0], dtype)
    return np.frombuffer(b"".join(pieces), dtype)


def _narrow(numbers: NDArray[Any], dtype: DType, where: str) -> NDArray[Any]:
    result = numbers.astype(dtype.numpy)
    if dtype is not BOOL and not np.array_equal(result.astype(numbers.dtype), numbers):
        raise InvalidProtobuf(f"{where}: holds numbers that {dtype} cannot")
    return result
