"""The session's classes, under the name that some scripts import them from."""

from __future__ import annotations

from tilework.onnx.binding import IOBinding
from tilework.onnx.session import InferenceSession
from tilework.onnx.value import OrtDevice, OrtValue

__all__ = ["IOBinding", "InferenceSession", "OrtDevice", "OrtValue"]
