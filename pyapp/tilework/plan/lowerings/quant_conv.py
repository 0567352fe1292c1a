"""Convolutions of bytes: what each output position reads is laid out, packed and multiplied.

The weights (rows) times what the positions read (columns) is the result as it lies in memory, one
image after the other, so nothing is turned. A kernel of one tap reads x itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tilework.core.config import SCRATCH
from tilework.core.dtypes import FLOAT32, INT8
from tilework.core.shapes import count
from tilework.hal.kernels.quant import U8_COLUMNS, ColumnsParams, Dot, Target
from tilework.ir.graph import Node
from tilework.ir.opdefs.conv import conv_window
from tilework.ir.opdefs.registry import Info
from tilework.ir.opdefs.window import Window
from tilework.plan import tiles
from tilework.plan.builder import Builder
from tilework.plan.lowering import Lowered, Lowering, Operands
from tilework.plan.lowerings.quant import ACTIVATIONS, MATRICES, Follow, gemm, pack
from tilework.plan.tensor import Tensor

BYTES = 65536  # of y that a tile of u8_columns writes


def conv_integer(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Sums of int32."""
    x, w, x_zero, w_zero = [*inputs, None, None][:4]
    assert x is not None and w is not None
    follow = Follow(Target.INT, results[0].dtype, a_zero=w_zero, b_zero=x_zero, by_row=1)
    return _convolved(b, node, x, w, follow, results[0])


def quantized_conv(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Scaled sums of float32, with what follows them."""
    x, w, x_scale, w_scale, x_zero, w_zero, bias, residual = [*inputs, *[None] * 4][:8]
    assert x is not None and w is not None
    follow = Follow(
        Target.FLOAT,
        FLOAT32,
        w_zero,
        x_zero,
        w_scale,
        x_scale,
        bias=bias,
        residual=None if residual is None else b.dense(residual),
        by_row=1,
        activation=ACTIVATIONS[str(node.attrs.get("activation", "none"))],
    )
    return _convolved(b, node, x, w, follow, results[0])


def qlinear_conv(b: Builder, node: Node, inputs: Operands, results: Sequence[Info]) -> Lowered:
    """Sums made bytes again."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = [*inputs, None][:9]
    assert x is not None and w is not None and x_scale is not None and y_scale is not None
    if x_scale.dtype is not FLOAT32:
        return f"no kernel for scales of {x_scale.dtype}"
    target = Target.SIGNED_BYTE if results[0].dtype is INT8 else Target.BYTE
    follow = Follow(
        target, results[0].dtype, w_zero, x_zero, w_scale, x_scale, y_scale, y_zero, bias, by_row=1
    )
    return _convolved(b, node, x, w, follow, results[0])


def _convolved(
    b: Builder, node: Node, x: Tensor, w: Tensor, follow: Follow, result: Info
) -> Lowered:
    made = conv_window(node.attrs, x.shape, w.shape)
    group = int(node.attrs.get("group", 1))
    images, outputs = x.shape[0], w.shape[0]
    positions, inner = count(made.outputs), count(w.shape[1:])
    if len(made.kernel) > 2:
        return f"no kernel for {len(made.kernel)} spatial axes"
    if images > MATRICES:
        return f"a batch of {images} images"
    if inner == 0 or tiles.quant_scratch(1, inner) > SCRATCH:
        return f"sums of {inner} products"
    y = b.new(follow.dtype, result.shape)
    if y.size == 0:
        return [y]
    read = _columns(b, made, b.dense(x), follow.b_zero)
    matrices = replace(
        read,
        shape=(images, group, inner, positions),
        strides=(group * inner * positions, inner * positions, positions, 1),
    )
    # A constant image is packed once; what changes at every run is not looked through first.
    packed, each = pack(b, matrices, Dot.LIVE)
    rows = b.dense(w)
    rows = replace(rows, shape=(outputs // group, inner), strides=(inner, 1))
    for image in range(images):
        size = outputs * positions
        panels = replace(
            packed,
            shape=(group * each,),
            strides=(1,),
            offset=packed.offset + image * group * each,
        )
        part = replace(y, shape=(size,), strides=(1,), offset=y.offset + image * size)
        whole = replace(rows, shape=(outputs, inner))  # all groups' rows
        extents = (outputs // group, inner, positions)
        more = follow.residual
        if more is not None:
            more = replace(more, shape=(size,), strides=(1,), offset=more.offset + image * size)
        own = replace(follow, residual=more)
        gemm(b, extents, whole, panels, x.dtype, own, part, group)
    return [y]


def _columns(b: Builder, made: Window, x: Tensor, zero: Tensor | None) -> Tensor:
    """(n, channels, taps, positions), dense; x itself where that is the same."""
    plain = all(extent == 1 for extent in (*made.kernel, *made.strides))
    if plain and not any((*made.begin, *made.end)):
        return x
    height, width = ((1, *made.inputs) if len(made.inputs) == 1 else made.inputs)[:2]
    flat = len(made.kernel) == 1

    def two(values: tuple[int, ...], fill: int) -> tuple[int, int]:
        return (fill, values[0]) if flat else (values[0], values[1])

    kernel, outputs = two(made.kernel, 1), two(made.outputs, 1)
    lines, positions = x.shape[1] * count(kernel), count(outputs)
    y = b.new(x.dtype, (x.shape[0], lines, positions))
    tile = max(1, min(BYTES // max(positions, 1), -(-lines // (2 * b.threads))))
    strides, dilations, pads = two(made.strides, 1), two(made.dilations, 1), two(made.begin, 0)
    params = ColumnsParams(
        channels=x.shape[1],
        height=height,
        width=width,
        out_height=outputs[0],
        out_width=outputs[1],
        kernel_height=kernel[0],
        kernel_width=kernel[1],
        stride_height=strides[0],
        stride_width=strides[1],
        dilation_height=dilations[0],
        dilation_width=dilations[1],
        pad_top=pads[0],
        pad_left=pads[1],
        tile_lines=tile,
    )
    value = None if zero is None else b.dense(zero)
    b.emit(U8_COLUMNS, (-(-lines // tile), 1, x.shape[0]), params, (x, value, y))
    return y


PLAIN: dict[str, Lowering] = {
    "conv_integer": conv_integer,
    "qlinear_conv": qlinear_conv,
    "quantized_conv": quantized_conv,
}
