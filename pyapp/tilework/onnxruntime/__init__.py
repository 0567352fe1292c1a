"""onnxruntime's Python module, by tilework.

    from tilework import onnxruntime as ort

runs scripts that were written for onnxruntime. One that says `import onnxruntime` runs after

    import tilework.onnxruntime
    tilework.onnxruntime.install()

Only names: what they do is in `tilework.onnx`. `__version__` is that of the onnxruntime whose
functions these are, for scripts that ask whether theirs are there; tilework's own is
`tilework.__version__`.
"""

from __future__ import annotations

import sys
from importlib import import_module

import numpy as np

from tilework.core.errors import Fail
from tilework.onnx.binding import IOBinding
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
from tilework.onnx.session import InferenceSession
from tilework.onnx.value import OrtDevice, OrtValue
from tilework.onnxruntime import capi

__version__ = "1.31.1"

__all__ = [
    "ExecutionMode",
    "ExecutionOrder",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "ModelMetadata",
    "NodeArg",
    "OrtDevice",
    "OrtValue",
    "RunOptions",
    "SessionOptions",
    "capi",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_version_string",
    "has_collective_ops",
    "install",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_seed",
]

_MODULES = (
    "",
    ".capi",
    ".capi._pybind_state",
    ".capi.onnxruntime_inference_collection",
    ".capi.onnxruntime_pybind11_state",
)


def install() -> None:
    """Makes `import onnxruntime` give this module from now on.

    Fail when onnxruntime itself was imported before.
    """
    present = sys.modules.get("onnxruntime")
    if present is not None and present is not sys.modules[__name__]:
        raise Fail(
            f"onnxruntime was imported before, from {getattr(present, '__file__', '?')}; call "
            "tilework.onnxruntime.install() first"
        )
    for name in _MODULES:
        sys.modules[f"onnxruntime{name}"] = import_module(f"{__name__}{name}")


def get_version_string() -> str:
    """`__version__`."""
    return __version__


def get_build_info() -> str:
    """What this is."""
    return f"tilework, with the Python functions of onnxruntime {__version__}"


def get_device() -> str:
    """The kind of device that models run on: "CPU". `tilework.device()` says more."""
    return "CPU"


def get_all_providers() -> list[str]:
    """The same as `get_available_providers()`: there is nothing that could be added."""
    return get_available_providers()


def set_seed(seed: int) -> None:
    """Seeds NumPy's generator, which operators of random numbers without a seed draw from."""
    np.random.seed(seed & 0xFFFFFFFF)


def has_collective_ops() -> bool:
    """Whether a model may span several machines: no."""
    return False


def enable_telemetry_events() -> None:
    """Without effect: tilework reports to nobody."""


def disable_telemetry_events() -> None:
    """Without effect: tilework reports to nobody."""
