"""TensorProto to a Constant: raw bytes, typed fields or a place in the external data.

Raw bytes and packed floats are viewed, never copied; the other typed fields are small in practice.
Elements of less than a byte, which a file packs, become one a byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilework.core import errors
from tilework.core.config import MOST_AXES
from tilework.core.dtypes import (
    BOOL,
    COMPLEX64,
    COMPLEX128,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    STRING,
    UINT8,
    UINT16,
    DType,
    from_onnx,
)
from tilework.core.errors import InvalidProtobuf
from tilework.core.shapes import count
from tilework.ir.graph import Constant
from tilework.ir.narrow import of_bits, signed
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
    if len(shape) > MOST_AXES:
        raise InvalidProtobuf(f"{where}: has {len(shape)} axes; {MOST_AXES} are possible")
    if min(shape, default=0) < 0:
        raise InvalidProtobuf(f"{where}: shape {list(shape)} has a negative extent")
    elements = count(shape)
    nbytes = -(-elements * dtype.bits // 8) if dtype.bits else elements * dtype.size
    if tensor.data_location == _EXTERNAL:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file, offset = locate(entries, nbytes, external, where)
        if dtype.bits:
            packed = _from_outside(external, file.location, offset, nbytes, where)
            return Stored(Constant(dtype, shape, array=_unpack(packed, dtype, shape)))
        constant = Constant(dtype, shape, external=(file.base + offset, nbytes))
        return Stored(constant, (file.location, offset))
    if tensor.has("raw_data") and dtype is not STRING:
        if tensor.raw_data.nbytes != nbytes:
            raise InvalidProtobuf(
                f"{where}: raw_data has {tensor.raw_data.nbytes} bytes, {dtype}{list(shape)} needs "
                f"{nbytes}"
            )
        if dtype.bits:
            packed = np.frombuffer(tensor.raw_data, np.uint8)
            return Stored(Constant(dtype, shape, array=_unpack(packed, dtype, shape)))
        flat: NDArray[Any] = np.frombuffer(tensor.raw_data, dtype.numpy)
    else:
        flat = _typed(tensor, dtype, where, elements)
        if flat.size != elements:
            raise InvalidProtobuf(
                f"{where}: holds {flat.size} numbers, {dtype}{list(shape)} needs {elements}"
            )
    if dtype is BOOL:
        flat = flat.view(np.uint8) != 0  # bytes other than 0 and 1 are not NumPy booleans
    return Stored(Constant(dtype, shape, array=flat.reshape(shape)))


def _from_outside(
    external: ExternalData | None, location: str, offset: int, nbytes: int, where: str
) -> NDArray[Any]:
    if external is None or external.read is None:
        raise errors.NotImplemented(
            f"{where}: is packed and lies in external data that only the device has; store it in "
            "the model"
        )
    return np.frombuffer(external.read(location, offset, nbytes), np.uint8)


def _unpack(packed: NDArray[Any], dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
    """Elements of `dtype.bits` bits, lowest first, as one a byte."""
    elements, bits = count(shape), dtype.bits
    if 8 % bits == 0:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        codes: NDArray[Any] = (packed[:, None] >> shifts).reshape(-1)[:elements]
        codes = codes & np.uint8((1 << bits) - 1)
    else:
        stream = np.unpackbits(packed, bitorder="little")[: elements * bits].reshape(-1, bits)
        codes = np.packbits(stream, axis=1, bitorder="little").reshape(-1)
    return of_bits(signed(codes, bits) if dtype.kind == "i" else codes, dtype).reshape(shape)


def _typed(tensor: TensorProto, dtype: DType, where: str, elements: int) -> NDArray[Any]:
    if dtype is STRING:
        return _strings(tensor, where)
    if dtype in (COMPLEX64, COMPLEX128):
        single = dtype is COMPLEX64
        parts = chunks(tensor.float_data, "<f4") if single else chunks(tensor.double_data, "<f8")
        if parts.size % 2:
            raise InvalidProtobuf(f"{where}: {parts.size} numbers are no complex numbers")
        return parts.view(dtype.numpy)
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
        return _narrow(numbers, UINT16, where).view(np.float16)
    if 0 < dtype.bits < 5:  # as packed as raw_data
        packed = _narrow(numbers & 0xFF, UINT8, where)
        kept = packed.size == -(-elements * dtype.bits // 8)
        return _unpack(packed, dtype, (elements if kept else packed.size * (8 // dtype.bits),))
    if dtype.wide:
        return of_bits(_narrow(numbers, UINT8 if dtype.size == 1 else UINT16, where), dtype)
    return _narrow(numbers, dtype, where)


def _strings(tensor: TensorProto, where: str) -> NDArray[Any]:
    try:
        texts = [str(text, "utf-8") for text in tensor.string_data]
    except UnicodeDecodeError:
        raise InvalidProtobuf(f"{where}: is not UTF-8") from None
    result = np.empty(len(texts), object)
    result[:] = texts
    return result


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
