"""tilework: tensor computing for Python in the browser, on every core.

    session = tilework.InferenceSession("model.onnx")
    outputs = session.run(None, {"x": array})

Importing this opens no device and imports neither NumPy nor a kernel; the names below are looked up
when they are first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tilework.core.errors import (
    DeviceLost,
    Fail,
    InvalidArgument,
    InvalidExecutable,
    InvalidGraph,
    InvalidIndex,
    InvalidProtobuf,
    KernelFailure,
    NoSuchFile,
    NotImplemented,
    OutOfMemory,
    OutOfRange,
    RuntimeException,
    TileworkError,
    Unsupported,
)
from tilework.core.sources import read_sources

if TYPE_CHECKING:
    from tilework.engine.handle import DeviceHandle
    from tilework.onnx.options import (
        ExecutionMode,
        GraphOptimizationLevel,
        NodeArg,
        RunOptions,
        SessionOptions,
    )
    from tilework.onnx.session import InferenceSession

if sys.platform == "emscripten":
    read_sources(__path__)

__version__ = "0.1.0"

_LAZY = {
    "InferenceSession": "tilework.onnx.session",
    "SessionOptions": "tilework.onnx.options",
    "RunOptions": "tilework.onnx.options",
    "NodeArg": "tilework.onnx.options",
    "GraphOptimizationLevel": "tilework.onnx.options",
    "ExecutionMode": "tilework.onnx.options",
}
_MODULES = ("onnx", "onnxruntime")  # that people name without importing them

__all__ = [
    "DeviceLost",
    "ExecutionMode",
    "Fail",
    "GraphOptimizationLevel",
    "InferenceSession",
    "InvalidArgument",
    "InvalidExecutable",
    "InvalidGraph",
    "InvalidIndex",
    "InvalidProtobuf",
    "KernelFailure",
    "NoSuchFile",
    "NodeArg",
    "NotImplemented",
    "OutOfMemory",
    "OutOfRange",
    "RunOptions",
    "RuntimeException",
    "SessionOptions",
    "TileworkError",
    "Unsupported",
    "device",
    "ready",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"tilework.{name}")
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'tilework' has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])


def device(threads: int | None = None) -> DeviceHandle:
    """The device with so many threads (None: the one in use, else one for each core).

    Printing it says which memory mode and how many threads it has, and why. Opens it if need be.
    """
    from tilework.engine.devices import get_device
    from tilework.engine.handle import DeviceHandle

    return DeviceHandle(get_device(threads))


async def ready(seconds: float = 30.0) -> bool:
    """Waits until every thread of every open device takes work; False when `seconds` passed.

    A worker can start only once its creator has gone back to its event loop, which this does.
    Everything works before that, on fewer threads. With no device open, opens the default one.
    """
    from tilework.engine.devices import get_device, open_devices

    devices = open_devices() or [get_device()]
    return all([await one.ready(seconds) for one in devices])
