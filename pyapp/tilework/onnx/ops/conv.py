"""Convolution networks: Conv and its kin, pooling, normalisation of channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import MICROSOFT, Build, operator

_WINDOW = ("kernel_shape", "strides", "dilations", "pads")


def _checked(ctx: Context, node: OnnxNode, *more: str) -> dict[str, Any]:
    """The attributes of a window, and `more`, as far as the node has them."""
    auto = node.attrs.get("auto_pad", "NOTSET")
    if auto not in ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"):
        raise ctx.invalid(f"auto_pad {auto!r} is none of NOTSET, SAME_UPPER, SAME_LOWER, VALID")
    names = (*_WINDOW, "auto_pad", *more)
    return {name: node.attrs[name] for name in names if name in node.attrs}


def _windowed(op: str, *more: str) -> Build:
    def build(ctx: Context, node: OnnxNode) -> str:
        return ctx.emit(op, *node.inputs, **_checked(ctx, node, *more))

    return build


operator("Conv", (2, 3))(_windowed("conv", "group"))
operator("ConvTranspose", (2, 3))(
    _windowed("conv_transpose", "group", "output_padding", "output_shape")
)
operator("DeformConv", (3, 5))(_windowed("deform_conv", "group", "offset_group"))


def _pooled(op: str, *more: str) -> Build:
    def build(ctx: Context, node: OnnxNode) -> Sequence[str]:
        if "kernel_shape" not in node.attrs:
            raise ctx.invalid("kernel_shape is missing")
        attrs = _checked(ctx, node, "ceil_mode", *more)
        return ctx.emit_many(op, node.inputs, 2 if node.wants(1) else 1, attrs)

    return build


operator("MaxPool", 1)(_pooled("max_pool", "storage_order"))
operator("AveragePool", 1)(_pooled("average_pool", "count_include_pad"))
operator("LpPool", 1)(_pooled("lp_pool", "p"))


def _global(op: str, *names: str) -> Build:
    def build(ctx: Context, node: OnnxNode) -> str:
        return ctx.emit(op, *node.inputs, **{n: node.attrs.get(n) for n in names})

    return build


operator("GlobalAveragePool", 1)(_global("global_average_pool"))
operator("GlobalMaxPool", 1)(_global("global_max_pool"))
operator("GlobalLpPool", 1)(_global("global_lp_pool", "p"))


@operator("MaxUnpool", (2, 3))
def max_unpool(ctx: Context, node: OnnxNode) -> str:
    attrs = _checked(ctx, node)
    if "kernel_shape" not in attrs:
        raise ctx.invalid("kernel_shape is missing")
    x, indices = node.inputs[:2]
    values = {"output_shape": node.input(2)}
    return ctx.emit_with("max_unpool", x, indices, values=values, **attrs)[0]


@operator("BatchNormalization", 5)
def batch_normalization(ctx: Context, node: OnnxNode) -> Sequence[str]:
    """Since opset 14 an attribute says that it trains; before, having more outputs did."""
    training = bool(node.attrs.get("training_mode", 0))
    if node.version < 9 and node.attrs.get("spatial", 1) != 1:
        raise ctx.unsupported("spatial 0, a mean for each place")
    if node.version < 14 and any(node.wants(i) for i in range(1, 5)):
        raise ctx.unsupported("training before opset 14")
    outputs = 3 if training and (node.wants(1) or node.wants(2)) else 1
    attrs = {
        "epsilon": node.attrs.get("epsilon", 1e-5),
        "momentum": node.attrs.get("momentum", 0.9),
        "training": int(training),
    }
    return ctx.emit_many("batch_normalization", node.inputs, outputs, attrs)


@operator("InstanceNormalization", 3)
def instance_normalization(ctx: Context, node: OnnxNode) -> str:
    epsilon = node.attrs.get("epsilon", 1e-5)
    return ctx.emit("instance_normalization", *node.inputs, epsilon=epsilon)


@operator("GroupNormalization", 3)
def group_normalization(ctx: Context, node: OnnxNode) -> str:
    x, scale, bias = node.inputs
    groups = node.attrs.get("num_groups")
    if groups is None:
        raise ctx.invalid("num_groups is missing")
    if node.version < 21:
        # Until opset 20 one number a group; it is repeated for the group's channels.
        shape = None if (known := ctx.values.get(x)) is None else known.shape
        channels = shape[1] if shape is not None and len(shape) > 1 else None
        if not isinstance(channels, int):
            raise ctx.unsupported("a number a group, for channels that are not declared")
        each = ctx.constant(np.array([groups, channels // groups], np.int64))
        flat = ctx.constant(np.array([-1], np.int64))
        scale, bias = (
            ctx.emit("reshape", ctx.emit("expand", ctx.emit("unsqueeze", v, axes=(1,)), each), flat)
            for v in (scale, bias)
        )
    epsilon = node.attrs.get("epsilon", 1e-5)
    return ctx.emit("group_normalization", x, scale, bias, epsilon=epsilon, groups=groups)


@operator("GroupNorm", 3, MICROSOFT)
def group_norm(ctx: Context, node: OnnxNode) -> str:
    """Channels are the last of four axes unless channels_last is 0; activation 1 is SiLU."""
    x, scale, bias = node.inputs
    kind = node.attrs.get("activation", 0)
    if "groups" not in node.attrs or kind not in (0, 1):
        raise ctx.invalid(f"groups is missing, or activation {kind} is not 0 or 1")
    turned = bool(node.attrs.get("channels_last", 1))
    if turned:
        x = ctx.emit("transpose", x, perm=(0, 3, 1, 2))
    attrs = {"epsilon": node.attrs.get("epsilon", 1e-5), "groups": node.attrs["groups"]}
    y = ctx.emit("group_normalization", x, scale, bias, **attrs)
    if kind:
        y = ctx.emit("silu", y)
    return ctx.emit("transpose", y, perm=(0, 2, 3, 1)) if turned else y


@operator("LRN", 1)
def lrn(ctx: Context, node: OnnxNode) -> str:
    if "size" not in node.attrs:
        raise ctx.invalid("size is missing")
    defaults = {"size": 1, "alpha": 1e-4, "beta": 0.75, "bias": 1.0}
    attrs = {name: node.attrs.get(name, value) for name, value in defaults.items()}
    return ctx.emit("lrn", *node.inputs, **attrs)
