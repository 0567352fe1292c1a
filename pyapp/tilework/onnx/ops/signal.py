"""DFT, STFT, windows, MelWeightMatrix."""

from __future__ import annotations

from tilework.core.dtypes import from_onnx
from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import Build, operator


@operator("DFT", (1, 3))
def dft(ctx: Context, node: OnnxNode) -> str:
    """The axis is an attribute before opset 20, an input since."""
    given = node.attrs.get("axis", 1) if node.version < 20 else -2
    return ctx.emit_with(
        "dft",
        node.inputs[0],
        values={"length": node.input(1), "axis": node.input(2)},
        axis=given,
        inverse=node.attrs.get("inverse", 0),
        onesided=node.attrs.get("onesided", 0),
    )[0]


@operator("STFT", (2, 4))
def stft(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit_with(
        "stft",
        node.inputs[0],
        node.input(2),
        values={"step": node.inputs[1], "length": node.input(3)},
        onesided=node.attrs.get("onesided", 1),
    )[0]


def _window(kind: str) -> Build:
    def build(ctx: Context, node: OnnxNode) -> str:
        return ctx.emit_with(
            "window",
            values={"size": node.inputs[0]},
            kind=kind,
            periodic=node.attrs.get("periodic", 1),
            dtype=from_onnx(node.attrs.get("output_datatype", 1), node.origin).name,
        )[0]

    return build


operator("HannWindow", 1)(_window("hann"))
operator("HammingWindow", 1)(_window("hamming"))
operator("BlackmanWindow", 1)(_window("blackman"))


@operator("MelWeightMatrix", 5)
def mel_weight_matrix(ctx: Context, node: OnnxNode) -> str:
    names = ("bins", "length", "rate", "lower", "upper")
    return ctx.emit_with(
        "mel_weight_matrix",
        values=dict(zip(names, node.inputs, strict=True)),
        dtype=from_onnx(node.attrs.get("output_datatype", 1), node.origin).name,
    )[0]
