"""The same names as onnxruntime_pybind11_state, as in onnxruntime."""

from __future__ import annotations

from tilework.onnxruntime.capi.onnxruntime_pybind11_state import *  # noqa: F403
