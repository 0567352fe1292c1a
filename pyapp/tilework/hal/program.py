"""Program: a finished command buffer in device memory, immutable and replayable.

It keeps alive everything that its commands touch, and knows each command's name for errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tilework.core.errors import InvalidArgument, OutOfRange
from tilework.hal._abi import BINDING_FORMAT

if TYPE_CHECKING:
    from tilework.hal.buffer import Buffer


@dataclass(frozen=True, slots=True)
class CommandInfo:
    """What a failure record's command number stands for."""

    kernel: str
    label: str
    counts: tuple[int, int, int]


class Program:
    """Made by `CommandBuffer.finish`. `slot_extents[i]` is the bytes that slot i must have."""

    def __init__(
        self,
        label: str,
        image: Buffer,
        state: Buffer,
        slot_table: Buffer,
        slot_extents: tuple[int, ...],
        commands: tuple[CommandInfo, ...],
        regions: int,
        retained: tuple[object, ...],
    ) -> None:
        self.label = label
        self.image = image
        self.state = state
        self.slot_table = slot_table
        self.slot_extents = slot_extents
        self.commands = commands
        self.regions = regions
        self._retained = retained
        self._bound: tuple[tuple[int, int], ...] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of device memory that the program itself takes."""
        return self.image.nbytes + self.state.nbytes + self.slot_table.nbytes

    def __repr__(self) -> str:
        counts = f"{len(self.commands)} commands, {self.regions} regions"
        return f"<Program {self.label or 'unnamed'}: {counts}>"

    def bind(self, slots: Sequence[Buffer]) -> int:
        """Writes the slot table where it changed; its address, or 0 when nothing did."""
        if len(slots) != len(self.slot_extents):
            raise InvalidArgument(
                f"{self!r} has {len(self.slot_extents)} slots, {len(slots)} buffers were given"
            )
        for index, (buffer, extent) in enumerate(zip(slots, self.slot_extents, strict=True)):
            buffer.check_range(0, 0)
            if buffer.nbytes < extent:
                raise OutOfRange(
                    f"slot {index} of {self!r} needs {extent:,} bytes, {buffer!r} is shorter"
                )
        spans = tuple((buffer.address, buffer.nbytes) for buffer in slots)
        if spans == self._bound:
            return 0
        if spans:
            self.slot_table.write(b"".join(BINDING_FORMAT.pack(*span) for span in spans))
        self._bound = spans
        return self.slot_table.address

    def free(self) -> None:
        """Gives the program's memory back; it cannot be submitted any more."""
        for buffer in (self.image, self.state, self.slot_table):
            buffer.free()
        self._retained = ()
