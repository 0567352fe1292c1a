"""Scoped: what ends with its `with` block."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self


class Scoped:
    """`with` gives the object itself, and the block's end is `_leave`, whatever raised."""

    __slots__ = ()

    @abstractmethod
    def _leave(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._leave()
