"""The table: which lowering an operation has. One file a family of kernels, with its own table.

An operation that is in none runs on the host by its reference.
"""

from __future__ import annotations

from tilework.plan.lowering import Lowering
from tilework.plan.lowerings import (
    attention,
    channel,
    composed,
    conv,
    einsum,
    elementwise,
    half,
    index,
    matmul,
    move,
    quant,
    quant_blocks,
    quant_conv,
    rearrange,
    recurrent,
    reduce,
    resample,
    sample,
    scan,
    signal,
    transformer,
)

# Those that move elements, and those that see to each dtype themselves.
LOWERINGS: dict[str, Lowering] = {
    **elementwise.PLAIN,
    **index.PLAIN,
    **move.PLAIN,
    **quant.PLAIN,
    **quant_conv.PLAIN,
    **rearrange.PLAIN,
    **resample.PLAIN,
    **transformer.PLAIN,
    "cast": half.cast(elementwise.cast),
}
# Those that compute in float32; float16 and bfloat16 are converted around them.
_FLOATS: dict[str, Lowering] = {
    **attention.FLOATS,
    **channel.FLOATS,
    **composed.FLOATS,
    **conv.FLOATS,
    **einsum.FLOATS,
    **elementwise.FLOATS,
    **index.FLOATS,
    **matmul.FLOATS,
    **quant_blocks.FLOATS,
    **rearrange.FLOATS,
    **recurrent.FLOATS,
    **reduce.FLOATS,
    **resample.FLOATS,
    **sample.FLOATS,
    **scan.FLOATS,
    **signal.FLOATS,
    **transformer.FLOATS,
}
LOWERINGS.update((name, half.through_float32(one)) for name, one in _FLOATS.items())
LOWERINGS["softmax"] = half.stepwise(reduce.soft, LOWERINGS)
LOWERINGS.update(
    (name, half.exactly(LOWERINGS[name])) for name in ("attention", "scaled_attention")
)

__all__ = ["LOWERINGS"]
