"""Operations that change an element's dtype.

cast(to: a DType's name, saturate 1|0, rounding "up"|"down"|"nearest") (x): `ir.narrow.convert`.
bit_cast(to) (x): the same bits; the last extent grows or shrinks when the sizes differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilework.core.dtypes import BY_NAME, DType
from tilework.core.errors import InvalidGraph
from tilework.ir.graph import Node
from tilework.ir.narrow import convert
from tilework.ir.opdefs.registry import Array, Attrs, Info, define, label


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
    return (convert(x, to, bool(attrs.get("saturate", 1)), str(attrs.get("rounding", "up"))),)


define("cast", 1, _infer_cast, _cast, raw=True)
