"""Convolutions take along what follows them: batch normalisation, bias, residual, activation.

A batch normalisation outside training is a scale and a bias a channel: channel_affine. Products and
sums with constants of one number a channel join it, and a convolution takes both in: its filters
are scaled when they are packed. All of that is done at load, where new constants are the
session's and so prepared once for all plans. A residual needs shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tilework.core.dtypes import FLOAT32
from tilework.ir.graph import Node
from tilework.ir.opdefs.conv import ACTIVATIONS
from tilework.ir.opdefs.registry import Array
from tilework.passes.editor import Editor
from tilework.passes.epilogue import activated, activation, take_residuals

CONVOLUTIONS = ("conv", "fused_conv")
TAKING = (*CONVOLUTIONS, "channel_affine")


def open_batch_norm(editor: Editor) -> None:
    """batch_normalization outside training → channel_affine; constants are folded after it."""
    for node in editor:
        if node.op != "batch_normalization" or node.attrs.get("training", 0):
            continue
        if any(node.outputs[1:]) or editor.dtype(node.inputs[1]) is not FLOAT32:
            continue
        x, gain, base, mean, variance = node.inputs
        out = node.outputs[0]
        epsilon = np.float32(node.attrs.get("epsilon", 1e-5))
        least = editor.add_constant(f"{out}@epsilon", np.asarray(epsilon))
        names = [f"{out}@{part}" for part in ("spread", "root", "scale", "moved", "shift")]
        spread, root, scale, moved, shift = names
        for name in names:
            editor.declare(name, gain, editor.shape(gain))
        steps = (
            ("add", (variance, least), spread),
            ("sqrt", (spread,), root),
            ("div", (gain, root), scale),
            ("mul", (mean, scale), moved),
            ("sub", (base, moved), shift),
        )
        new = [Node(op, inputs, (made,), {}, node.origin) for op, inputs, made in steps]
        new.append(Node("channel_affine", (x, scale, shift), (out,), {}, node.origin))
        editor.replace(node, new, "batch normalisation opened")


# Operations whose result has as many axes as their first operand.
SAME_RANK = frozenset(
    {*ACTIVATIONS, *TAKING, "max_pool", "average_pool", "concat", "add", "mul", "lrn", "dropout"}
)


def _ranks(editor: Editor) -> dict[str, int]:
    """Numbers of axes, told by the values themselves or by what they are computed from."""
    found = {value.name: len(value.shape) for value in editor.values.values() if value.shape}
    found.update((name, len(constant.shape)) for name, constant in editor.constants.items())
    for node in editor:
        shape: Any = node.attrs.get("shape") if node.op == "constant_of_shape" else None
        # A convolution's filters have as many axes as it, a sum as many as its longer operand.
        sources = node.inputs[1:2] if node.op in CONVOLUTIONS else node.inputs[:1]
        sources = node.inputs[:2] if node.op in ("add", "mul") else sources
        ranks = [found[name] for name in sources if name in found]
        if shape is not None:
            found.setdefault(node.outputs[0], len(shape))
        elif node.op in SAME_RANK and ranks and len(ranks) == len(sources):
            found.setdefault(node.outputs[0], max(ranks))
    return found


def _channels(editor: Editor, node: Node, ranks: Mapping[str, int]) -> tuple[int, int] | None:
    """(channels, rank) of what a convolution or a channel_affine gives, as far as known."""
    vector = editor.constants.get(node.inputs[1])
    if node.op == "channel_affine":
        rank = ranks.get(node.outputs[0])
        return None if vector is None or rank is None else (vector.shape[0], rank)
    if vector is not None:
        return vector.shape[0], len(vector.shape)
    filters = editor.producer(node.inputs[1])
    shape: Any = None if filters is None else filters.attrs.get("shape")
    if filters is None or filters.op != "constant_of_shape" or not shape:
        return None
    return shape[0], len(shape)


def along(editor: Editor, name: str, channels: int, rank: int) -> Array | None:
    """A constant of one number a channel as a vector; None for anything else."""
    array = editor.array(name)
    if array is None or array.dtype != np.float32 or array.ndim > rank:
        return None
    shape = (*(1,) * (rank - array.ndim), *array.shape)
    if any(extent != 1 for axis, extent in enumerate(shape) if axis != 1):
        return None
    if shape[1] not in (1, channels):
        return None
    return np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (channels,)))


def _follower(
    editor: Editor, node: Node, side: int, ranks: Mapping[str, int]
) -> tuple[Node, Array, Array] | None:
    """(what takes it, scale, bias) where `node` is that of its operand's channels."""
    if node.op not in ("mul", "add", "channel_affine") or (node.op == "channel_affine" and side):
        return None
    taker = editor.producer(node.inputs[side])
    if taker is None or taker.op not in TAKING or not editor.used_once(node.inputs[side]):
        return None
    if activated(taker) or any(taker.inputs[3:4]):
        return None
    if node.op == "channel_affine":
        scale, bias = (editor.array(name) for name in node.inputs[1:3])
        return None if scale is None or bias is None else (taker, scale, bias)
    known = _channels(editor, taker, ranks)
    if known is None:
        return None
    vector = along(editor, node.inputs[1 - side], *known)
    if vector is None:
        return None
    if node.op == "mul":
        return taker, vector, np.zeros_like(vector)
    return taker, np.ones_like(vector), vector


def fuse_channels(editor: Editor) -> None:
    """Scales and biases by channel join the convolution or channel_affine before them."""
    ranks = _ranks(editor)
    for node in editor:
        found = _follower(editor, node, 0, ranks)
        if found is None and len(node.inputs) == 2:
            found = _follower(editor, node, 1, ranks)
        if found is None:
            continue
        taker, scale, bias = found
        out = node.outputs[0]
        if taker.op == "channel_affine":
            own = [editor.array(name) for name in taker.inputs[1:3]]
            if own[0] is None or own[1] is None:
                continue
            gain, base = own[0] * scale, own[1] * scale + bias
            names = (
                editor.add_constant(f"{out}@scale", gain),
                editor.add_constant(f"{out}@bias", base),
            )
            new = Node("channel_affine", (taker.inputs[0], *names), (out,), node.attrs, node.origin)
            editor.replace(node, [new], "channels scaled and shifted once")
            continue
        x, w, before, _, factor = [*taker.inputs, "", "", ""][:5]
        old = editor.array(before) if before else np.zeros_like(bias)
        multiple = editor.array(factor) if factor else np.ones_like(scale)
        if old is None or multiple is None:
            continue
        shift = editor.add_constant(f"{out}@bias", np.asarray(old * scale + bias))
        gain = np.asarray(multiple * scale)
        inputs = [x, w, shift]
        if not (gain == 1).all():
            inputs += ["", editor.add_constant(f"{out}@scale", gain)]
        attrs = {**taker.attrs, **node.attrs}
        new = Node("fused_conv", tuple(inputs), (out,), attrs, taker.origin)
        editor.replace(node, [new], "convolution + channels' scale and bias")


def _activation(node: Node) -> dict[str, Any] | None:
    """The attributes of a convolution whose activation this node is; None if it is none."""
    name = activation(node)
    if name not in ACTIVATIONS:
        return None
    attrs: dict[str, Any] = {"activation": name}
    if node.op == "clip":
        low, high = node.attrs.get("min"), node.attrs.get("max")
        attrs["alpha"] = -np.inf if low is None else low
        attrs["beta"] = np.inf if high is None else high
        return attrs if attrs["alpha"] <= attrs["beta"] else None
    if node.op != "silu":  # whose number is in its name
        attrs.update((n, node.attrs[n]) for n in ("alpha", "beta") if n in node.attrs)
    return attrs


def fuse_conv_activation(editor: Editor) -> None:
    """activation(convolution) → its epilogue, after bias and residual."""
    for node in editor:
        attrs = _activation(node)
        if attrs is None:
            continue
        taker = editor.producer(node.inputs[0])
        if taker is None or taker.op not in TAKING or not editor.used_once(node.inputs[0]):
            continue
        if activated(taker):
            continue
        op = "channel_affine" if taker.op == "channel_affine" else "fused_conv"
        new = Node(op, taker.inputs, node.outputs, {**taker.attrs, **attrs}, taker.origin)
        editor.replace(node, [new], f"convolution + {node.op}")


def fuse_conv_residual(editor: Editor) -> None:
    """convolution + a tensor of exactly its shape → residual, before its activation."""

    def taker(editor: Editor, name: str) -> Node | None:
        node = editor.producer(name)
        if node is None or node.op not in CONVOLUTIONS or not editor.used_once(name):
            return None
        return None if activated(node) or any(node.inputs[3:4]) else node

    def joined(node: Node, other: str, outputs: Sequence[str]) -> Node:
        x, w, bias, _, scale = [*node.inputs, "", "", ""][:5]
        inputs = (x, w, bias, other, scale) if scale else (x, w, bias, other)
        return Node("fused_conv", inputs, tuple(outputs), node.attrs, node.origin)

    take_residuals(editor, taker, joined, lambda _: "convolution")


def pool_means(editor: Editor) -> None:
    """The mean of all spatial axes → global_average_pool, which reads channels where they lie."""
    for node in editor:
        x, out = node.inputs[0] if node.inputs else "", node.outputs[0]
        shape, result = editor.concrete(x), editor.concrete(out)
        axes: Any = node.attrs.get("axes")
        if node.op != "reduce_mean" or shape is None or result is None or axes is None:
            continue
        rank = len(shape)
        if rank not in (3, 4, 5) or editor.dtype(x) is not FLOAT32 or 0 in shape:
            continue
        if sorted(axis % rank for axis in axes) != list(range(2, rank)):
            continue
        if not _from_convolution(editor, x):
            continue
        pooled = out if len(result) == rank else f"{out}@pooled"
        new = [Node("global_average_pool", (x,), (pooled,), {}, node.origin)]
        if pooled != out:
            editor.declare(pooled, out, (*shape[:2], *(1,) * (rank - 2)))
            view = {"shape": shape[:2], "allow_zero": 1}
            new.append(Node("reshape", (pooled,), (out,), view, node.origin))
        editor.replace(node, new, "mean as pooling")


def _from_convolution(editor: Editor, name: str) -> bool:
    """Whether the value is a convolution's but for what goes element by element."""
    for _ in range(4):
        node = editor.producer(name)
        if node is None:
            return False
        if node.op in TAKING:
            return True
        if editor.shape(node.inputs[0]) != editor.shape(name):
            return False
        name = node.inputs[0]
    return False


def take_padding(editor: Editor) -> None:
    """Zeros that a Pad puts around the pixels of a convolution → its own pads."""
    for node in editor:
        if node.op not in CONVOLUTIONS:
            continue
        pad, attrs = editor.producer(node.inputs[0]), dict[str, Any](node.attrs)
        shape = editor.concrete(node.inputs[0])
        if pad is None or pad.op != "pad" or shape is None or not editor.used_once(node.inputs[0]):
            continue
        around: Any = pad.attrs.get("pads") or ()
        rank = len(shape)
        known = len(around) == 2 * rank and pad.attrs.get("mode", "constant") == "constant"
        auto = attrs.pop("auto_pad", None) or "NOTSET"
        if not known or pad.attrs.get("value") or auto not in ("NOTSET", "VALID"):
            continue
        begins, ends = around[:rank], around[rank:]
        if any((*begins[:2], *ends[:2])) or min(around) < 0:
            continue
        own = (auto == "NOTSET" and attrs.get("pads")) or (0,) * (2 * rank - 4)
        pads = tuple(a + b for a, b in zip((*begins[2:], *ends[2:]), own, strict=True))
        inputs = (pad.inputs[0], *node.inputs[1:])
        new = Node(node.op, inputs, node.outputs, {**attrs, "pads": pads}, node.origin)
        editor.replace(node, [new], "padding + convolution")
