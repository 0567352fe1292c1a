"""Runs plans: the devices that are open, a session's constants, arena and cached plans.

onnx/ and array/ stand on this; it knows graphs and tensors, never a file format.
"""
