"""onnxruntime's exceptions and plain classes, under the name that scripts import them from.

The exceptions are `tilework.core.errors`. Those defined here are never raised; they are there for
the `except` clauses that name them.
"""

from __future__ import annotations

from tilework.core.errors import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    NotImplemented,
    RuntimeException,
    TileworkError,
)
from tilework.onnx.logs import set_default_logger_severity, set_default_logger_verbosity
from tilework.onnx.model import ModelMetadata
from tilework.onnx.options import (
    ExecutionMode,
    ExecutionOrder,
    GraphOptimizationLevel,
    NodeArg,
    RunOptions,
    SessionOptions,
)
from tilework.onnx.providers import get_available_providers

__all__ = [
    "DeviceReset",
    "EPFail",
    "EngineError",
    "ExecutionMode",
    "ExecutionOrder",
    "Fail",
    "GraphOptimizationLevel",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "ModelLoadCanceled",
    "ModelLoaded",
    "ModelMetadata",
    "ModelRequiresCompilation",
    "NoModel",
    "NoSuchFile",
    "NodeArg",
    "NotFound",
    "NotImplemented",
    "RunOptions",
    "RuntimeException",
    "SessionOptions",
    "get_available_providers",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
]


class DeviceReset(TileworkError):
    """Never raised; what tilework has is `tilework.DeviceLost`."""


class EPFail(TileworkError):
    """Never raised: there are no providers that could fail by themselves."""


class EngineError(TileworkError):
    """Never raised."""


class ModelLoadCanceled(TileworkError):
    """Never raised: loading a model is not cancelled."""


class ModelLoaded(TileworkError):
    """Never raised: a session loads its model once."""


class ModelRequiresCompilation(TileworkError):
    """Never raised: a session plans by itself."""


class NoModel(TileworkError):
    """Never raised: a session without a model is never made."""


class NotFound(TileworkError):
    """Never raised; what tilework has is NoSuchFile."""
