"""What each operation means: arity, shape rule, dtype rule, NumPy reference. One file a chapter.

Importing this package fills OPS.
"""

from __future__ import annotations

from tilework.ir.opdefs import (  # noqa: F401 - imported for their definitions
    attention,
    channel,
    classical,
    control,
    conv,
    convert,
    create,
    dynamic,
    elementwise,
    fused,
    index,
    layout,
    linear,
    loss,
    nn,
    pool,
    quant,
    quantize,
    recurrent,
    reduce,
    scatter,
    sequence,
    strings,
    trees,
)
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
