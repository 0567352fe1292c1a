"""What memory is, what a buffer is for and who may read and write it: flags, checked at record.

They are promises, not placement: every mode has one kind of memory, and a buffer that leaves a
flag out is refused where that flag would be needed, before any worker sees it.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final


class Access(IntFlag):
    """What commands, and the host through a mapping, may do with a buffer. 0 is taken as ALL."""

    READ = 1
    WRITE = 2
    ALL = 3


class Usage(IntFlag):
    """What a buffer is for: fill / copy / update, dispatches, indirect counts, mapping."""

    TRANSFER = 1
    DISPATCH = 2
    COUNTS = 4
    MAP = 8
    ALL = 15


class MemoryType(IntFlag):
    """DEVICE: the kernels see it; HOST_VISIBLE: a view costs nothing; IN_PLACE: it was imported."""

    DEVICE = 1
    HOST_VISIBLE = 2
    IN_PLACE = 4


# A kernel binding's word in its .wit file -> what the buffer behind it must allow.
NEEDED: Final = {"input": Access.READ, "output": Access.WRITE, "inout": Access.ALL}


def word_of(access: int, usage: int) -> int:
    """Both as one plain number: arithmetic on flags is slow, and each submission asks."""
    return int(access) | int(usage) << 2


def names(flags: IntFlag) -> str:
    """`flags` for a sentence: "READ and WRITE"."""
    return " and ".join(flag.name or "" for flag in type(flags) if _single(flag) and flag & flags)


def _single(flag: int) -> bool:
    return flag & (flag - 1) == 0
