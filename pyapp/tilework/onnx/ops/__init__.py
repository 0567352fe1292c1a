"""The ONNX operators: OPERATORS[(domain, op_type)], one small function each, one file a chapter.

To add an operator: write `@operator("Name", inputs)` over a function in the chapter it belongs to;
if the graph has no operation for it yet, define that in `tilework/ir/opdefs`.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from tilework.onnx.ops.table import DOMAINS, OPERATORS, Operator

for _chapter in iter_modules(__path__):
    import_module(f"{__name__}.{_chapter.name}")

__all__ = ["DOMAINS", "OPERATORS", "Operator"]
