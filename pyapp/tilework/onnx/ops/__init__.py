"""The ONNX operators: OPERATORS[(domain, op_type)], one small function each, one file a chapter.

A chapter is imported when one of its operators is first looked up (`core.chapters`).

To add an operator: write `@operator("Name", inputs)` over a function in the chapter it belongs to;
if the graph has no operation for it yet, define that in `tilework/ir/opdefs`.
"""

from __future__ import annotations

from tilework.onnx.ops.table import DOMAINS, OPERATORS, Operator

__all__ = ["DOMAINS", "OPERATORS", "Operator"]
