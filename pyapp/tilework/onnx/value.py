"""OrtValue and OrtDevice: what a session is fed and gives, under onnxruntime's names.

A value is an array of the caller's, which a run copies in, or lies on a device, where runs read and
write it in place. Knows nothing of sessions.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tilework.core.dtypes import BY_NAME, DType, from_numpy, from_onnx, ort_type
from tilework.core.errors import Fail, InvalidArgument
from tilework.engine.devices import Device, get_device
from tilework.engine.resident import Fed, Resident, host_array
from tilework.ir.narrow import adopt

Array: TypeAlias = NDArray[Any]

DEVICES = ("cpu", "tilework")


def check_device(device_type: str) -> str:
    """The name, in lower case. Fail, a RuntimeError, for a device that there is not."""
    name = str(device_type).lower()
    if name not in DEVICES:
        raise Fail(
            f"there is no device {device_type!r} here; use 'cpu', or 'tilework' to have a value "
            "uploaded now"
        )
    return name


def element_dtype(element_type: object) -> DType:
    """The DType of what onnxruntime's functions take: a NumPy type or a TensorProto number."""
    if isinstance(element_type, int) and not isinstance(element_type, bool):
        return from_onnx(element_type, "element_type")
    if isinstance(element_type, str) and element_type in BY_NAME:
        return BY_NAME[element_type]
    try:
        return from_numpy(np.dtype(element_type))  # type: ignore[call-overload]
    except TypeError:
        raise InvalidArgument(
            f"element_type {element_type!r} is neither a NumPy type nor a TensorProto number"
        ) from None


@dataclass(frozen=True, slots=True)
class OrtDevice:
    """A kind of device and its number. All that tilework has is memory of the CPU."""

    name: str
    number: int = 0

    @staticmethod
    def make(ort_device_name: str, device_id: int, vendor_id: int = -1) -> OrtDevice:
        """Fail, a RuntimeError, for a device that there is not."""
        return OrtDevice(check_device(ort_device_name), device_id)

    def device_type(self) -> int:
        return 0

    def device_id(self) -> int:
        return self.number

    def device_vendor_id(self) -> int:
        return 0

    def device_mem_type(self) -> int:
        return 0


# Values whose data_ptr() was asked for: bind_input and bind_output are given such numbers.
_POINTERS: weakref.WeakValueDictionary[int, OrtValue] = weakref.WeakValueDictionary()
# Above every address of host memory, so that the two cannot be mistaken for each other.
_ON_DEVICE = 1 << 52


class OrtValue:
    """A tensor, or what else a model takes and gives (a sequence is a list).

    Made by the `ortvalue_from_…` functions, and by runs. `device_name()` is always "cpu": it is the
    CPU's memory, whoever sees it.
    """

    __slots__ = ("__weakref__", "_held")

    def __init__(self, held: object) -> None:
        """For sessions: an array, a Resident, or any other value."""
        self._held = held

    # -- making --------------------------------------------------------------------------------

    @staticmethod
    def ortvalue_from_numpy(
        numpy_obj: Array, /, device_type: str = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """The array itself on "cpu", so that later changes are seen by later runs; a copy on
        "tilework", which later runs need not copy again."""
        array = adopt(np.asarray(numpy_obj))
        dtype = from_numpy(array.dtype)
        if not array.flags.c_contiguous:
            array = np.array(array, order="C")
        if check_device(device_type) == "cpu":
            return OrtValue(array)
        made = Resident.make(get_device(), dtype, array.shape, "OrtValue")
        made.write(array)
        return OrtValue(made)

    @staticmethod
    def ortvalue_from_numpy_with_onnx_type(data: Array, /, onnx_element_type: int) -> OrtValue:
        """The bytes of `data` as elements of a TensorProto type of the same size."""
        dtype = from_onnx(onnx_element_type, "onnx_element_type")
        if np.dtype(dtype.numpy).itemsize != data.dtype.itemsize:
            raise InvalidArgument(f"{data.dtype} has another size than {dtype}")
        return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(data).view(dtype.numpy))

    @staticmethod
    def ortvalue_from_shape_and_type(
        shape: Sequence[int],
        element_type: object,
        device_type: str = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
        memory_info: object = None,
    ) -> OrtValue:
        """A new tensor on the device, contents undefined: something to write outputs to."""
        check_device(device_type)
        return OrtValue(Resident.make(get_device(), element_dtype(element_type), shape, "OrtValue"))

    # -- what it is ----------------------------------------------------------------------------

    def has_value(self) -> bool:
        """False for an optional that is empty."""
        return self._held is not None

    def is_tensor(self) -> bool:
        return isinstance(self._held, (np.ndarray, Resident))

    def is_sparse_tensor(self) -> bool:
        return False

    def is_tensor_sequence(self) -> bool:
        return isinstance(self._held, (list, tuple))

    def _tensor(self) -> Fed:
        if isinstance(self._held, (np.ndarray, Resident)):
            return self._held
        raise Fail(f"the OrtValue holds a {type(self._held).__name__}; only a tensor has this")

    def _own(self) -> Fed:
        """The tensor in memory that no other value has: what is written, or known by its
        address."""
        held = self._tensor()
        if isinstance(held, Resident):
            self._held = held = held.apart()
        return held

    @property
    def _dtype(self) -> DType:
        held = self._tensor()
        return held.dtype if isinstance(held, Resident) else from_numpy(held.dtype)

    def data_type(self) -> str:
        """E.g. `tensor(float)`, or `seq(tensor(float))` of a sequence that has elements."""
        held = self._held
        if isinstance(held, (list, tuple)) and held:
            return f"seq({OrtValue(held[0]).data_type()})"
        if isinstance(held, dict) and held:
            key, one = next(iter(held.items()))
            names = {str: "string", float: "float", int: "int64"}
            return f"map({names[type(key)]},tensor({names[type(one)]}))"
        return ort_type(self._dtype)

    def element_type(self) -> int:
        """The TensorProto number."""
        return self._dtype.onnx

    def shape(self) -> list[int]:
        return list(self._tensor().shape)

    def tensor_size_in_bytes(self) -> int:
        return self._tensor().nbytes

    def device_name(self) -> str:
        return "cpu"

    def data_ptr(self) -> int:
        """A number by which `bind_input` and `bind_output` find the value, while it lives.

        Of an array of the caller's it is the address, as NumPy has it.
        """
        held = self._own()
        if isinstance(held, Resident):
            number = _ON_DEVICE | held.buffer.address
        else:
            number = int(held.ctypes.data)
        _POINTERS[number] = self
        return number

    # -- elements ------------------------------------------------------------------------------

    def numpy(self) -> Array:
        """The caller's own array, or a copy of what is on the device."""
        held = self._tensor()
        return held.read() if isinstance(held, Resident) else held

    def update_inplace(self, data: Array) -> None:
        """Replaces the elements. Fail, a RuntimeError, for another number of bytes."""
        held = self._own()
        array = np.ascontiguousarray(data)
        if array.nbytes != held.nbytes:
            raise Fail(
                f"update_inplace: {array.nbytes} bytes were given for a tensor of {held.nbytes}"
            )
        if isinstance(held, Resident):
            held.write(array.view(held.dtype.numpy).reshape(held.shape))
        else:
            held[...] = array.view(held.dtype).reshape(held.shape)

    def __array__(self, dtype: object = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype=dtype, copy=copy)  # type: ignore[call-overload,no-any-return]

    # -- for sessions --------------------------------------------------------------------------

    def held(self) -> Any:
        """What it holds."""
        return self._held

    def take(self, result: Fed) -> None:
        """Replaces the elements by a run's output. InvalidArgument for another dtype or shape."""
        array = host_array(result)
        held = self._tensor()
        if tuple(held.shape) != array.shape or self._dtype is not from_numpy(array.dtype):
            raise InvalidArgument(
                f"the output is {array.dtype}{list(array.shape)}, what it is bound to "
                f"{self._dtype}{self.shape()}"
            )
        self.update_inplace(array)

    def fed(self, device: Device) -> Any:
        """What a session on `device` is fed: what lies on another one comes by way of the host."""
        held = self._held
        if isinstance(held, Resident) and not held.lies_on(device):
            return held.read()
        return held

    def target(self, device: Device) -> Any:
        """What a session on `device` writes to: memory that no other value has."""
        if isinstance(self._held, Resident):
            self._own()
        return self.fed(device)


def value_at(pointer: int, dtype: DType, shape: Sequence[int]) -> OrtValue:
    """The value of this `data_ptr()`, or host memory at this address, seen as an array.

    InvalidArgument when a value that is known by the number is of another kind.
    """
    shape = tuple(int(extent) for extent in shape)
    known = _POINTERS.get(pointer)
    if known is not None and (known._dtype, tuple(known.shape())) == (dtype, shape):
        return known
    if (known is not None and pointer & _ON_DEVICE) or pointer <= 0:
        raise InvalidArgument(
            f"buffer_ptr {pointer:#x} is no OrtValue of {dtype}{list(shape)} and no address"
        )
    form = np.dtype(dtype.numpy)
    nbytes = int(np.prod(shape, dtype=np.int64)) * form.itemsize
    memory = (ctypes.c_uint8 * nbytes).from_address(pointer)
    return OrtValue(np.frombuffer(memoryview(memory), form).reshape(shape))
