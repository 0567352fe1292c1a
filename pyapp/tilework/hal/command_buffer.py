"""CommandBuffer: records dispatches, fills, copies, updates and barriers, and checks them.

Everything that can be known when a command is recorded is checked then: counts, parameters, that
each binding lies inside its buffer. `finish` lays the commands out as a `tw_program` (abi.h) and
writes it to device memory; after that nothing about it changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from tilework.core.errors import InvalidArgument, OutOfRange
from tilework.hal._abi import (
    BINDING_SIZE,
    COMMAND_FORMAT,
    COMMAND_SIZE,
    DISPATCH_SIZE,
    PROGRAM_FORMAT,
    PROGRAM_SIZE,
    REF_FORMAT,
    REF_SIZE,
    REGION_FORMAT,
    REGION_SIZE,
    TW_MAX_TILES,
    TW_MOVE_TILE,
    TW_NO_SLOT,
    TW_PROGRAM_MAGIC,
)
from tilework.hal.buffer import Buffer
from tilework.hal.kernels.processor import COPY, FILL, FillParams
from tilework.hal.program import CommandInfo, Program

if TYPE_CHECKING:
    from tilework.hal.device import Device
    from tilework.hal.kernel import Kernel

_PARAMS_ALIGNMENT = 16


@dataclass(frozen=True, slots=True)
class Slot:
    """A binding known at submit: `nbytes` at `offset` of the submission's buffer `index`."""

    index: int
    offset: int
    nbytes: int


Bindable: TypeAlias = "Buffer | Slot | None"


class _Command(NamedTuple):
    function: int
    counts: tuple[int, int, int]
    first_tile: int
    tiles: int
    refs: tuple[tuple[int, int, int], ...]
    params: bytes


class CommandBuffer:
    """Records commands for one program; `finish()` once, then it is spent."""

    def __init__(self, device: Device, label: str = "") -> None:
        self._device = device
        self._label = label
        self._commands: list[_Command] = []
        self._infos: list[CommandInfo] = []
        self._regions: list[tuple[int, int, int]] = []  # first command, count, tiles
        self._region_start = 0
        self._region_tiles = 0
        self._retained: dict[int, object] = {}
        self._slot_extents: list[int] = []
        self._updates: list[tuple[int, bytes]] = []  # command number, its source's bytes
        self._generation = 0
        self._scratch = 0
        self._finished = False

    def dispatch(
        self,
        kernel: Kernel,
        counts: tuple[int, int, int],
        params: NamedTuple | bytes | None,
        bindings: Sequence[Bindable],
        *,
        scratch: int = 0,
        label: str = "",
    ) -> None:
        """Runs `kernel` on counts[0] × counts[1] × counts[2] tiles.

        `params` is the kernel's record, or its packed bytes; `bindings` has one entry for each of
        the kernel's, None for an optional one that is absent; `scratch` is what a tile needs,
        bytes. InvalidArgument or OutOfRange names the kernel and the binding.
        """
        packed = self._params(kernel, params)
        if len(bindings) != len(kernel.bindings):
            raise InvalidArgument(
                f"{kernel.name}: takes {len(kernel.bindings)} bindings "
                f"({', '.join(b.name for b in kernel.bindings)}), {len(bindings)} were given"
            )
        refs = tuple(
            self._ref(kernel, i, bindable) for i, bindable in enumerate(bindings)
        )
        self._record(kernel, counts, packed, refs, scratch, label)

    def barrier(self) -> None:
        """Everything recorded before is finished before anything recorded after begins."""
        self._check_open()
        count = len(self._commands) - self._region_start
        if count:
            self._regions.append((self._region_start, count, self._region_tiles))
            self._region_start = len(self._commands)
            self._region_tiles = 0

    def fill(self, target: Buffer | Slot, pattern: bytes, *, label: str = "") -> None:
        """Fills `target` with `pattern`, 1, 2 or 4 bytes, repeated."""
        if len(pattern) not in (1, 2, 4):
            raise InvalidArgument(f"fill: a pattern has 1, 2 or 4 bytes, not {len(pattern)}")
        if target.nbytes % len(pattern):
            raise InvalidArgument(
                f"fill: {target.nbytes:,} bytes are no multiple of the pattern's {len(pattern)}"
            )
        word = int.from_bytes(pattern * (4 // len(pattern)), "little")
        self.dispatch(FILL, _pieces(target.nbytes), FillParams(word), [target], label=label)

    def copy(self, source: Buffer | Slot, target: Buffer | Slot, *, label: str = "") -> None:
        """Copies `source` to `target`: equal lengths, no overlap."""
        if source.nbytes != target.nbytes:
            raise InvalidArgument(
                f"copy: the source has {source.nbytes:,} bytes, the target {target.nbytes:,}"
            )
        if _overlap(source, target):
            raise InvalidArgument(f"copy: {source!r} and {target!r} overlap")
        self.dispatch(COPY, _pieces(target.nbytes), None, [source, target], label=label)

    def update(self, target: Buffer | Slot, data: bytes | bytearray, *, label: str = "") -> None:
        """Writes `data`, captured now, to `target` when the program runs."""
        data = bytes(data)
        if len(data) != target.nbytes:
            raise InvalidArgument(
                f"update: {len(data):,} bytes were given for a target of {target.nbytes:,}"
            )
        # The source is the program's own image; its address is known at finish.
        refs = ((TW_NO_SLOT, 0, len(data)), self._ref(COPY, 1, target))
        self._updates.append((len(self._commands), data))
        self._record(COPY, _pieces(target.nbytes), b"", refs, 0, label)

    def finish(self) -> Program:
        """Writes the program to device memory. The command buffer is spent after this."""
        self.barrier()
        self._finished = True
        device, commands = self._device, self._commands
        first_ref, first_param = 0, 0
        layout: list[tuple[int, int]] = []  # first ref, params offset within the params part
        refs: list[tuple[int, int, int]] = []
        tail = bytearray()
        for command in commands:
            layout.append((first_ref, first_param))
            first_ref += len(command.refs)
            refs.extend(command.refs)
            tail += command.params
            first_param = _pad(tail)
        update_offsets = []
        for number, data in self._updates:
            update_offsets.append((number, len(tail)))
            tail += data
            _pad(tail)

        at_regions = PROGRAM_SIZE
        at_commands = at_regions + REGION_SIZE * len(self._regions)
        at_refs = at_commands + COMMAND_SIZE * len(commands)
        at_params = at_refs + REF_SIZE * len(refs)
        length = at_params + len(tail)
        image = device.allocate(length, f"program {self._label}")
        for number, offset in update_offsets:
            index = layout[number][0]
            refs[index] = (TW_NO_SLOT, image.address + at_params + offset, refs[index][2])
        state_length = DISPATCH_SIZE * len(commands) + BINDING_SIZE * len(refs)
        parts = [
            PROGRAM_FORMAT.pack(
                TW_PROGRAM_MAGIC, length, len(self._regions), len(commands), len(refs),
                len(self._slot_extents), at_regions, at_commands, at_refs, at_params,
                state_length, self._scratch, self._generation,
            )
        ]  # fmt: skip
        parts += [REGION_FORMAT.pack(*region) for region in self._regions]
        for command, (ref, param) in zip(commands, layout, strict=True):
            parts.append(
                COMMAND_FORMAT.pack(
                    command.function, *command.counts, command.first_tile, command.tiles,
                    ref, len(command.refs), at_params + param, len(command.params),
                )
            )  # fmt: skip
        parts += [REF_FORMAT.pack(*ref) for ref in refs]
        parts.append(bytes(tail))
        image.write(b"".join(parts))
        return Program(
            self._label,
            image,
            device.allocate(max(1, state_length), f"state of {self._label}"),
            device.allocate(max(1, BINDING_SIZE * len(self._slot_extents)), "slot table"),
            tuple(self._slot_extents),
            tuple(self._infos),
            len(self._regions),
            tuple(self._retained.values()),
        )

    # -- recording -----------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._finished:
            raise InvalidArgument(f"command buffer {self._label!r} was finished; record a new one")

    def _params(self, kernel: Kernel, params: NamedTuple | bytes | None) -> bytes:
        if params is None:
            packed = b""
        elif isinstance(params, bytes):
            packed = params
        elif kernel.params is not None and isinstance(params, kernel.params):
            packed = params.pack()  # type: ignore[attr-defined]
        else:
            raise InvalidArgument(
                f"{kernel.name}: parameters are {type(params).__name__}, the kernel takes "
                f"{kernel.params.__name__ if kernel.params else 'none'}"
            )
        if len(packed) != kernel.params_length:
            raise InvalidArgument(
                f"{kernel.name}: parameters are {len(packed)} bytes, the kernel takes "
                f"{kernel.params_length}"
            )
        return packed

    def _ref(self, kernel: Kernel, index: int, bindable: Bindable) -> tuple[int, int, int]:
        if bindable is None:
            binding = kernel.bindings[index]
            if not binding.optional:
                raise InvalidArgument(f"{kernel.name}: binding {binding.name} is missing")
            return TW_NO_SLOT, 0, 0
        if isinstance(bindable, Slot):
            if bindable.index < 0 or bindable.offset < 0 or bindable.nbytes < 0:
                raise OutOfRange(f"{kernel.name}: {bindable!r} has a negative part")
            extents = self._slot_extents
            extents.extend([0] * (bindable.index + 1 - len(extents)))
            extents[bindable.index] = max(
                extents[bindable.index], bindable.offset + bindable.nbytes
            )
            return bindable.index, bindable.offset, bindable.nbytes
        bindable.check_range(0, bindable.nbytes)
        self._retained[id(bindable)] = bindable
        return TW_NO_SLOT, bindable.address, bindable.nbytes

    def _record(
        self,
        kernel: Kernel,
        counts: tuple[int, int, int],
        params: bytes,
        refs: tuple[tuple[int, int, int], ...],
        scratch: int,
        label: str,
    ) -> None:
        self._check_open()
        tiles = counts[0] * counts[1] * counts[2]
        if min(counts) < 0 or self._region_tiles + tiles > TW_MAX_TILES:
            raise InvalidArgument(
                f"{kernel.name}: {counts} tiles; a region takes at most {TW_MAX_TILES:,}, "
                "so use larger tiles or a barrier"
            )
        if scratch > self._device.scratch:
            raise InvalidArgument(
                f"{kernel.name}: needs {scratch:,} bytes of scratch a thread, the device has "
                f"{self._device.scratch:,}"
            )
        entry = self._device.kernel(kernel)
        self._generation = max(self._generation, entry.executable.generation)
        self._scratch = max(self._scratch, scratch)
        self._commands.append(
            _Command(entry.index, counts, self._region_tiles, tiles, refs, params)
        )
        self._infos.append(CommandInfo(kernel.name, label, counts))
        self._region_tiles += tiles


def _pieces(nbytes: int) -> tuple[int, int, int]:
    return -(-nbytes // TW_MOVE_TILE), 1, 1


def _pad(tail: bytearray) -> int:
    tail += bytes(-len(tail) % _PARAMS_ALIGNMENT)
    return len(tail)


def _overlap(a: Buffer | Slot, b: Buffer | Slot) -> bool:
    if isinstance(a, Buffer) and isinstance(b, Buffer):
        return a.address < b.address + b.nbytes and b.address < a.address + a.nbytes
    if isinstance(a, Slot) and isinstance(b, Slot) and a.index == b.index:
        return a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes
    return False
