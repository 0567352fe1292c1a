"""Element types: their names, sizes and NumPy's and ONNX's words for them.

What NumPy lacks (bfloat16, floats of 8, 6 and 4 bits, integers of 4 and 2 bits: "narrow" dtypes) is
on the host a structured NumPy dtype of one field that is named as the dtype and holds the bits, one
element a byte or two: whatever moves elements keeps it, and arithmetic on it by accident is an
error. `ir.narrow` converts. Importing this does not import NumPy; the layers below the fronts do
without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tilework.core import errors


@dataclass(frozen=True, slots=True)
class DType:
    """One element type. `numpy` is what `numpy.dtype` takes, `onnx` the TensorProto number."""

    name: str
    size: int  # bytes of an element on host and device
    kind: str  # "f" float, "i" signed, "u" unsigned, "b" bool, "c" complex, "s" string
    numpy: Any = field(hash=False, compare=False)
    onnx: int
    wide: str = ""  # of a narrow dtype: the NumPy dtype that has all its values
    bits: int = 0  # where a file packs elements more tightly than bytes: bits of one

    def __repr__(self) -> str:
        return self.name


def _narrow(name: str, kind: str, onnx: int, wide: str, bits: int = 0) -> DType:
    code = "<u2" if name == "bfloat16" else "i1" if kind == "i" else "u1"
    return DType(name, int(code[-1]), kind, [(name, code)], onnx, wide, bits)


FLOAT32 = DType("float32", 4, "f", "float32", 1)
UINT8 = DType("uint8", 1, "u", "uint8", 2)
INT8 = DType("int8", 1, "i", "int8", 3)
UINT16 = DType("uint16", 2, "u", "uint16", 4)
INT16 = DType("int16", 2, "i", "int16", 5)
INT32 = DType("int32", 4, "i", "int32", 6)
INT64 = DType("int64", 8, "i", "int64", 7)
STRING = DType("string", 8, "s", "object", 8)  # arrays of str; never on a device
BOOL = DType("bool", 1, "b", "bool", 9)
FLOAT16 = DType("float16", 2, "f", "float16", 10)
FLOAT64 = DType("float64", 8, "f", "float64", 11)
UINT32 = DType("uint32", 4, "u", "uint32", 12)
UINT64 = DType("uint64", 8, "u", "uint64", 13)
COMPLEX64 = DType("complex64", 8, "c", "complex64", 14)
COMPLEX128 = DType("complex128", 16, "c", "complex128", 15)
BFLOAT16 = _narrow("bfloat16", "f", 16, "float32")
FLOAT8E4M3FN = _narrow("float8e4m3fn", "f", 17, "float32")
FLOAT8E4M3FNUZ = _narrow("float8e4m3fnuz", "f", 18, "float32")
FLOAT8E5M2 = _narrow("float8e5m2", "f", 19, "float32")
FLOAT8E5M2FNUZ = _narrow("float8e5m2fnuz", "f", 20, "float32")
UINT4 = _narrow("uint4", "u", 21, "uint8", 4)
INT4 = _narrow("int4", "i", 22, "int8", 4)
FLOAT4E2M1 = _narrow("float4e2m1", "f", 23, "float32", 4)
FLOAT8E8M0 = _narrow("float8e8m0", "f", 24, "float32")
UINT2 = _narrow("uint2", "u", 25, "uint8", 2)
INT2 = _narrow("int2", "i", 26, "int8", 2)
FLOAT6E2M3 = _narrow("float6e2m3", "f", 27, "float32", 6)
FLOAT6E3M2 = _narrow("float6e3m2", "f", 28, "float32", 6)

ALL: tuple[DType, ...] = (
    FLOAT32, UINT8, INT8, UINT16, INT16, INT32, INT64, STRING, BOOL, FLOAT16, FLOAT64, UINT32,
    UINT64, COMPLEX64, COMPLEX128, BFLOAT16, FLOAT8E4M3FN, FLOAT8E4M3FNUZ, FLOAT8E5M2,
    FLOAT8E5M2FNUZ, UINT4, INT4, FLOAT4E2M1, FLOAT8E8M0, UINT2, INT2, FLOAT6E2M3, FLOAT6E3M2,
)  # fmt: skip
BY_NAME: dict[str, DType] = {d.name: d for d in ALL}
BY_ONNX: dict[int, DType] = {d.onnx: d for d in ALL}

# ml_dtypes' names where they are not ours
FOREIGN: dict[str, DType] = {
    "float8_e4m3fn": FLOAT8E4M3FN,
    "float8_e4m3fnuz": FLOAT8E4M3FNUZ,
    "float8_e5m2": FLOAT8E5M2,
    "float8_e5m2fnuz": FLOAT8E5M2FNUZ,
    "float8_e8m0fnu": FLOAT8E8M0,
    "float4_e2m1fn": FLOAT4E2M1,
    "float6_e2m3fn": FLOAT6E2M3,
    "float6_e3m2fn": FLOAT6E3M2,
    **{d.name: d for d in (BFLOAT16, UINT4, INT4, UINT2, INT2)},
}

# onnxruntime's spelling in get_inputs()[i].type
ORT_NAMES: dict[DType, str] = {FLOAT32: "float", FLOAT64: "double"}


def ort_type(dtype: DType) -> str:
    """The type string onnxruntime shows for a tensor of `dtype`, e.g. `tensor(float)`."""
    return f"tensor({ORT_NAMES.get(dtype, dtype.name)})"


@lru_cache(maxsize=64)  # numpy.dtype.name is computed anew at each look
def from_numpy(dtype: Any) -> DType:
    """The DType of a `numpy.dtype`; byte order other than the machine's is an InvalidArgument."""
    fields = getattr(dtype, "names", None)
    name = fields[0] if fields else getattr(dtype, "name", str(dtype))
    found = STRING if name == "object" else BY_NAME.get(name)
    # A narrow dtype has a field, all others have none; ml_dtypes' own are converted when fed.
    if found is None or not getattr(dtype, "isnative", True) or bool(fields) != bool(found.wide):
        raise errors.InvalidArgument(
            f"dtype {dtype} has no counterpart on the device; use one of {', '.join(BY_NAME)}"
        )
    return found


def from_onnx(number: int, where: str) -> DType:
    """The DType of a TensorProto.DataType; `where` names the tensor in the error."""
    found = BY_ONNX.get(number)
    if found is None:
        raise errors.NotImplemented(f"{where}: ONNX data type {number} is not supported")
    return found
