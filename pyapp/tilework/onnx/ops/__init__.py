"""The ONNX operators: OPERATORS[(domain, op_type)], one small function each, one file a chapter.

To add an operator: write `@operator("Name", inputs)` over a function in the chapter it belongs to;
if the graph has no operation for it yet, define that in `tilework/ir/opdefs`.
"""

from __future__ import annotations

from tilework.onnx.ops import (  # noqa: F401 - imported for their registrations
    attention,
    classical,
    contrib,
    control,
    conv,
    create,
    index,
    logic,
    loss,
    math,
    nn,
    quant,
    quantize,
    recurrent,
    reduction,
    sequence,
    shape,
    strings,
    training,
    trees,
)
from tilework.onnx.ops.table import DOMAINS, OPERATORS, Operator

__all__ = ["DOMAINS", "OPERATORS", "Operator"]
