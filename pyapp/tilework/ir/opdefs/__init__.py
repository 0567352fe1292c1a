"""What each operation means: arity, shape rule, dtype rule, NumPy reference. One file a chapter.

Importing this package fills OPS.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

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

for _chapter in iter_modules(__path__):
    import_module(f"{__name__}.{_chapter.name}")

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
