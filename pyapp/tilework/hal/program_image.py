"""The layout of a program in device memory: a `tw_program` and what follows it (abi.h)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from tilework.core.growing import Growing
from tilework.hal._abi import (
    BINDING_SIZE,
    COMMAND_FORMAT,
    COMMAND_SIZE,
    PROGRAM_FORMAT,
    PROGRAM_SIZE,
    REF_FORMAT,
    REF_SIZE,
    REGION_FORMAT,
    REGION_SIZE,
    STEP_SIZE,
    TW_NO_SLOT,
    TW_PROGRAM_MAGIC,
)

_PARAMS_ALIGNMENT: Final = 16

Ref: TypeAlias = tuple[int, int, int]  # slot, or TW_NO_SLOT; offset, or address; bytes


class Command(NamedTuple):
    """One dispatch. The last ref of an `indirect` one is where its counts lie, not a binding."""

    function: int
    counts: tuple[int, int, int]
    first_tile: int  # within its region
    tiles: int
    refs: tuple[Ref, ...]
    params: bytes
    indirect: bool = False
    growing: tuple[tuple[int, Growing], ...] = ()  # words of the parameters, by offset

    @property
    def bindings(self) -> int:
        """How many of the refs the kernel sees."""
        return len(self.refs) - self.indirect


class ProgramImage:
    """Where everything of a program lies.

    `regions` are (first command, commands, tiles); `updates` are (command, bytes): data that lies
    in the image itself and is the first binding of that command.
    """

    def __init__(
        self,
        commands: Sequence[Command],
        regions: Sequence[tuple[int, int, int]],
        updates: Sequence[tuple[int, bytes]],
    ) -> None:
        self._commands = commands
        self._regions = regions
        self._refs = [ref for command in commands for ref in command.refs]
        self._first_refs: list[int] = []
        self._params: list[int] = []  # offset of each command's within the last part
        self._updates: list[tuple[int, int]] = []  # ref, offset of its bytes within the last part
        self._tail = bytearray()
        count = 0
        for command in commands:
            self._first_refs.append(count)
            count += len(command.refs)
            self._params.append(self._add(command.params))
        for number, data in updates:
            self._updates.append((self._first_refs[number], self._add(data)))
        self._at_commands = PROGRAM_SIZE + REGION_SIZE * len(regions)
        self._at_refs = self._at_commands + COMMAND_SIZE * len(commands)
        self._at_tail = self._at_refs + REF_SIZE * count
        self.nbytes = self._at_tail + len(self._tail)
        self.state_nbytes = STEP_SIZE * len(commands) + BINDING_SIZE * count

    def _add(self, data: bytes) -> int:
        at = len(self._tail)
        self._tail += data
        self._tail += bytes(-len(self._tail) % _PARAMS_ALIGNMENT)
        return at

    def growing(self) -> list[tuple[int, Growing]]:
        """The words of parameters that grow, by offset in the image."""
        return [
            (self._at_tail + params + offset, number)
            for command, params in zip(self._commands, self._params, strict=True)
            for offset, number in command.growing
        ]

    def at(self, address: int, slots: int, scratch: int, generation: int) -> bytes:
        """The image for this address; `slots` counts the entries of the slot table."""
        refs = list(self._refs)
        for index, offset in self._updates:
            refs[index] = (TW_NO_SLOT, address + self._at_tail + offset, refs[index][2])
        parts = [
            PROGRAM_FORMAT.pack(
                TW_PROGRAM_MAGIC, self.nbytes, len(self._regions), len(self._commands), len(refs),
                slots, PROGRAM_SIZE, self._at_commands, self._at_refs, self._at_tail,
                self.state_nbytes, scratch, generation,
            )
        ]  # fmt: skip
        for first, count, tiles in self._regions:
            indirect = sum(c.indirect for c in self._commands[first : first + count])
            parts.append(REGION_FORMAT.pack(first, count, tiles, indirect))
        for command, ref, params in zip(
            self._commands, self._first_refs, self._params, strict=True
        ):
            parts.append(
                COMMAND_FORMAT.pack(
                    command.function, *command.counts, command.first_tile, command.tiles,
                    ref, command.bindings, self._at_tail + params, len(command.params),
                    ref + len(command.refs) if command.indirect else 0,
                )
            )  # fmt: skip
        parts += [REF_FORMAT.pack(*ref) for ref in refs]
        parts.append(bytes(self._tail))
        return b"".join(parts)
