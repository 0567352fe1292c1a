"""Element types: their names, sizes and NumPy's and ONNX's words for them.

Importing this does not import NumPy; the layers below the fronts do without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from tilework.core.errors import InvalidArgument, NotImplemented


@dataclass(frozen=True, slots=True)
class DType:
    """One element type. `numpy` is the name `numpy.dtype` takes, `onnx` the TensorProto number."""

    name: str
    size: int  # bytes
    kind: str  # "f" float, "i" signed, "u" unsigned, "b" bool, "s" string
    numpy: str
    onnx: int

    def __repr__(self) -> str:
        return self.name


FLOAT32 = DType("float32", 4, "f", "float32", 1)
UINT8 = DType("uint8", 1, "u", "uint8", 2)
INT8 = DType("int8", 1, "i", "int8", 3)
UINT16 = DType("uint16", 2, "u", "uint16", 4)
INT16 = DType("int16", 2, "i", "int16", 5)
INT32 = DType("int32", 4, "i", "int32", 6)
INT64 = DType("int64", 8, "i", "int64", 7)
BOOL = DType("bool", 1, "b", "bool", 9)
FLOAT16 = DType("float16", 2, "f", "float16", 10)
FLOAT64 = DType("float64", 8, "f", "float64", 11)
UINT32 = DType("uint32", 4, "u", "uint32", 12)
UINT64 = DType("uint64", 8, "u", "uint64", 13)

ALL: tuple[DType, ...] = (
    FLOAT32, UINT8, INT8, UINT16, INT16, INT32, INT64, BOOL, FLOAT16, FLOAT64, UINT32, UINT64,
)  # fmt: skip
BY_NAME: dict[str, DType] = {d.name: d for d in ALL}
BY_ONNX: dict[int, DType] = {d.onnx: d for d in ALL}

# onnxruntime's spelling in get_inputs()[i].type
ORT_NAMES: dict[DType, str] = {FLOAT32: "float", FLOAT64: "double"}


def ort_type(dtype: DType) -> str:
    """The type string onnxruntime shows for a tensor of `dtype`, e.g. `tensor(float)`."""
    return f"tensor({ORT_NAMES.get(dtype, dtype.name)})"


@lru_cache(maxsize=64)  # numpy.dtype.name is computed anew at each look
def from_numpy(dtype: object) -> DType:
    """The DType of a `numpy.dtype`; byte order other than the machine's is an InvalidArgument."""
    name = getattr(dtype, "name", str(dtype))
    found = BY_NAME.get(name)
    if found is None or not getattr(dtype, "isnative", True):
        raise InvalidArgument(
            f"dtype {dtype} has no counterpart on the device; use one of {', '.join(BY_NAME)}"
        )
    return found


def from_onnx(number: int, where: str) -> DType:
    """The DType of a TensorProto.DataType; `where` names the tensor in the error."""
    found = BY_ONNX.get(number)
    if found is None:
        raise NotImplemented(f"{where}: ONNX data type {number} is not supported")
    return found
