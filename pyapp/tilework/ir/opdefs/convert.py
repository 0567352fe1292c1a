"""Operations that change an element's dtype.

cast(to: a DType's name, saturate 1|0, rounding "up"|"down"|"nearest") (x): `ir.narrow.convert`.
bit_cast(to) (x): the same bits in a dtype of the same size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilework.core.dtypes import BY_NAME, DType, from_numpy
from tilework.core.errors import InvalidGraph
from tilework.core.growing import grows
from tilework.ir.graph import Node
from tilework.ir.narrow import bits_of, convert, of_bits, signed
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, fail, label


def target(node: Node) -> DType:
    """The dtype that `to` names."""
    to = BY_NAME.get(str(node.attrs.get("to")))
    if to is None:
        raise InvalidGraph(f"{label(node)}: cast to unknown dtype {node.attrs.get('to')!r}")
    return to


def _infer_cast(node: Node, infos: Sequence[Info]) -> list[Info]:
    return [Info(target(node), infos[0].shape)]


def _cast(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    to = BY_NAME[attrs["to"]]
    if x.dtype == object and grows(*x.flat):
        return (x if to.kind in "iu" else x.astype(np.int64).astype(to.numpy),)
    return (convert(x, to, bool(attrs.get("saturate", 1)), str(attrs.get("rounding", "up"))),)


define("cast", 1, _infer_cast, _cast, raw=True)


def _infer_bits(node: Node, infos: Sequence[Info]) -> list[Info]:
    to, own = target(node), infos[0].dtype
    if "s" in (to.kind, own.kind) or (to.size, to.bits) != (own.size, own.bits):
        raise fail(node, infos, f"the bits of {own} cannot be read as {to}; the widths must agree")
    return [Info(to, infos[0].shape)]


def _bit_cast(attrs: Attrs, x: Array) -> tuple[Array, ...]:
    to = BY_NAME[attrs["to"]]
    dense = np.ascontiguousarray(x)
    if to.bits and to.kind != from_numpy(x.dtype).kind:  # their unused bits differ
        codes = bits_of(dense).view(np.uint8) & np.uint8((1 << to.bits) - 1)
        return (of_bits(signed(codes, to.bits) if to.kind == "i" else codes, to),)
    return (dense.view(to.numpy).reshape(x.shape),)


define("bit_cast", 1, _infer_bits, _bit_cast, raw=True)
