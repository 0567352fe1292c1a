"""The table: which lowering an operation has. One file a family of kernels.

An operation that is not here runs on the host by its reference.
"""

from __future__ import annotations

from tilework.plan.lowering import Lowering
from tilework.plan.lowerings import (
    channel,
    elementwise,
    half,
    index,
    move,
    quant,
    quant_blocks,
    quant_conv,
    rearrange,
    reduce,
    scan,
    transformer,
)
from tilework.plan.lowerings.attention import attention, scaled
from tilework.plan.lowerings.conv import conv, conv_transpose
from tilework.plan.lowerings.matmul import matmul
from tilework.plan.lowerings.recurrent import recurrent
from tilework.plan.lowerings.resample import pad, resize

LOWERINGS: dict[str, Lowering] = {
    **dict.fromkeys(elementwise.UNARY, elementwise.unary),
    **dict.fromkeys(elementwise.BINARY, elementwise.binary),
    **dict.fromkeys(elementwise.COMPARISON, elementwise.compare),
    "pow": elementwise.power,
    "mod": elementwise.binary,
    "and": elementwise.logical,
    "or": elementwise.logical,
    "xor": elementwise.logical,
    "not": elementwise.logical_not,
    "where": elementwise.where,
    "cast": elementwise.cast,
    "identity": move.identity,
    **dict.fromkeys(("reshape", "flatten", "squeeze", "unsqueeze"), move.reshape),
    "transpose": move.transpose,
    "expand": move.expand,
    "slice": move.slices,
    "split": move.split,
    "concat": move.concat,
    "tile": move.tile,
    "gather": move.gather,
    "gather_elements": index.pick_elements,
    "gather_nd": index.pick_rows,
    "scatter_elements": index.put_elements,
    "scatter_nd": index.put_rows,
    "one_hot": index.one_hot,
    "center_crop_pad": rearrange.crop,
    "depth_to_space": rearrange.blocks,
    "space_to_depth": rearrange.blocks,
    "trilu": rearrange.triangle,
    "bit_cast": rearrange.bits,
    "isnan": elementwise.is_special,
    "isinf": elementwise.is_special,
    "cumsum": scan.cumulate,
    "cumprod": scan.cumulate,
    "argmax": scan.arg,
    "argmin": scan.arg,
    "top_k": scan.top,
    **dict.fromkeys(reduce.OPS, reduce.reduction),
    "softmax": reduce.soft,
    "log_softmax": reduce.soft,
    "layer_normalization": reduce.layer_norm,
    "residual_layer_normalization": reduce.residual_norm,
    "matmul": matmul,
    "fused_matmul": matmul,
    "attention": attention,
    "scaled_attention": scaled,
    "rotary_embedding": transformer.rotary_embedding,
    "rms_normalization": reduce.rms_norm,
    "residual_rms_normalization": reduce.residual_rms,
    "kv_append": transformer.append,
    "first_rows": transformer.first,
    "repeat_heads": transformer.repeat,
    "share_heads": transformer.repeat,
    "causal_bias": transformer.causal,
    "row_positions": transformer.positions,
    "padding_bias": transformer.padding,
    "rotate_pairs": transformer.rotary,
    "recurrent": recurrent,
    "conv": conv,
    "fused_conv": conv,
    "conv_transpose": conv_transpose,
    **dict.fromkeys((*channel.POOLINGS, "lp_pool", "global_lp_pool"), channel.pool),
    "channel_affine": channel.affine,
    "lrn": channel.lrn,
    "resize": resize,
    "pad": pad,
    "instance_normalization": channel.grouped_norm,
    "group_normalization": channel.grouped_norm,
    "quantize_linear": quant.linear,
    "dequantize_linear": quant.linear,
    "dynamic_quantize_linear": quant.dynamic,
    "matmul_integer": quant.matmul_integer,
    "quantized_matmul": quant.quantized_matmul,
    "qlinear_matmul": quant.qlinear_matmul,
    "matmul_blocks": quant_blocks.matmul_blocks,
    "conv_integer": quant_conv.conv_integer,
    "qlinear_conv": quant_conv.qlinear_conv,
    "quantized_conv": quant_conv.quantized_conv,
}

# Those that only move elements, and those that do not compute in float32.
AS_THEY_ARE = {
    *("identity", "reshape", "flatten", "squeeze", "unsqueeze", "transpose", "expand", "slice"),
    *("split", "concat", "tile", "gather", "kv_append", "first_rows", "repeat_heads"),
    *("gather_elements", "gather_nd", "pad", "center_crop_pad", "depth_to_space"),
    *("space_to_depth", "bit_cast"),
    *("share_heads", "causal_bias", "row_positions", "padding_bias", "and", "or", "xor", "not"),
    *("quantize_linear", "dequantize_linear", "dynamic_quantize_linear", "matmul_integer"),
    *("quantized_matmul", "qlinear_matmul", "conv_integer", "qlinear_conv"),
    "quantized_conv",
}
LOWERINGS.update(
    (name, half.cast(lowering) if name == "cast" else half.through_float32(lowering))
    for name, lowering in LOWERINGS.items()
    if name not in AS_THEY_ARE
)
LOWERINGS["softmax"] = half.stepwise(reduce.soft, LOWERINGS)
LOWERINGS.update(
    (name, half.exactly(LOWERINGS[name])) for name in ("attention", "scaled_attention")
)

__all__ = ["LOWERINGS"]
