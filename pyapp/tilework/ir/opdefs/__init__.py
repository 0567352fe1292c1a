"""What each operation means: arity, shape rule, dtype rule, NumPy reference. One file a chapter.

OPS imports a chapter when one of its operations is first looked up (`core.chapters`).
"""

from __future__ import annotations

from tilework.ir.opdefs.registry import (
    FOLD_LIMIT,
    OPS,
    DataDependent,
    Info,
    OpDef,
    apply,
    define,
    evaluate,
    fail,
    infer_node,
    info_of,
    label,
    opdef,
    resolve,
)

__all__ = [
    "FOLD_LIMIT",
    "OPS",
    "DataDependent",
    "Info",
    "OpDef",
    "apply",
    "define",
    "evaluate",
    "fail",
    "infer_node",
    "info_of",
    "label",
    "opdef",
    "resolve",
]
