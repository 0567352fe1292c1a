"""Where onnxruntime's scripts import exceptions and classes from; only names."""

from __future__ import annotations

from tilework.onnxruntime.capi import onnxruntime_inference_collection, onnxruntime_pybind11_state

__all__ = ["onnxruntime_inference_collection", "onnxruntime_pybind11_state"]
