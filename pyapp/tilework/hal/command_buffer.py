"""CommandBuffer: records dispatches, fills, copies, updates and barriers, and checks them.

Everything that can be known when a command is recorded is checked then: counts, parameters, that
each binding lies inside its buffer. `finish` lays the commands out as a `tw_program` (abi.h) and
writes it to device memory; after that nothing about it changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from tilework.core.config import SCRATCH
from tilework.core.errors import InvalidArgument, OutOfRange
from tilework.core.growing import Growing, Growth, at_hand
from tilework.hal._abi import BINDING_SIZE, TW_MAX_TILES, TW_MOVE_TILE, TW_NO_SLOT
from tilework.hal.buffer import Buffer, check_pattern, refuse_use
from tilework.hal.executable import Entry, Executable
from tilework.hal.kernels.processor import COPY, FILL, FillParams
from tilework.hal.program import Bindable, CommandInfo, GrowingImage, Need, Program, Slot
from tilework.hal.program_image import Command, ProgramImage, Ref
from tilework.hal.usage import NEEDED, Access, Usage, word_of

if TYPE_CHECKING:
    from tilework.hal.families import Families
    from tilework.hal.heap import Heap
    from tilework.hal.kernel import Kernel

_COUNTS_BYTES: Final = 12  # of three tile counts in a buffer


class _Captured(bytes):
    """An update's source: part of the program's own image, its address known at finish."""


_Source: TypeAlias = "Buffer | Slot | _Captured | None"
_IMPLICIT: Final = -1  # and below: the slot of a transient, counted downwards until finish


class CommandBuffer:
    """Records commands for one program; `finish()` once, then it is spent.

    Counts, parameters and the extents of bindings may be Growing, of `growth`: `Program.grow` then
    sets them for another length.
    """

    def __init__(
        self, heap: Heap, families: Families, label: str = "", growth: Growth | None = None
    ) -> None:
        self._retained: dict[int, Buffer | Executable] = {}  # by id (a buffer's root's), held
        self._heap = heap
        self._families = families
        self._growth = growth
        self._label = label
        self._commands: list[Command] = []
        self._infos: list[CommandInfo] = []
        self._regions: list[tuple[int, int, int]] = []  # first command, count, tiles
        self._region_start = 0
        self._region_tiles = 0
        self._needs: list[Need] = []
        self._implicit: dict[Buffer, int] = {}  # and their numbers, in order
        self._copies: list[tuple[Buffer | Slot, Buffer | Slot]] = []
        self._updates: list[tuple[int, bytes]] = []  # command number, its source's bytes
        self._generation = 0
        self._scratch = 0
        self._finished = False

    def dispatch(
        self,
        kernel: Kernel | Entry,
        counts: tuple[int, int, int],
        params: NamedTuple | bytes | None,
        bindings: Sequence[Bindable],
        *,
        counts_from: Buffer | Slot | None = None,
        scratch: int = 0,
        label: str = "",
    ) -> None:
        """Runs `kernel` on counts[0] × counts[1] × counts[2] tiles.

        A Kernel is one of tilework's own, an Entry one of a module that `Device.load` gave.
        `counts_from` holds the counts as three uint32, read when everything before the last barrier
        is finished; `counts` are then the most that they may be, and larger ones fail the
        submission. `params` is the kernel's record, or its packed bytes; `bindings` has one entry
        for each of the kernel's, None for an optional one that is absent; `scratch` is what a tile
        needs, bytes. InvalidArgument or OutOfRange names the kernel and the binding.
        """
        entry = None
        if isinstance(kernel, Entry):
            entry, kernel = kernel, kernel.described
        packed, growing = self._params(kernel, params)
        if len(bindings) != len(kernel.bindings):
            raise InvalidArgument(
                f"{kernel.name}: takes {len(kernel.bindings)} bindings "
                f"({', '.join(b.name for b in kernel.bindings)}), {len(bindings)} were given"
            )
        self._record(kernel, counts, packed, bindings, scratch, label, entry, counts_from, growing)

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
        check_pattern(pattern, target.nbytes)
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
        if isinstance(source, Slot) or isinstance(target, Slot):
            self._copies.append((source, target))

    def update(self, target: Buffer | Slot, data: bytes | bytearray, *, label: str = "") -> None:
        """Writes `data`, captured now, to `target` when the program runs."""
        captured = _Captured(data)
        if len(captured) != target.nbytes:
            raise InvalidArgument(
                f"update: {len(captured):,} bytes were given for a target of {target.nbytes:,}"
            )
        self._record(COPY, _pieces(target.nbytes), b"", [captured, target], 0, label)

    def finish(self, *, reusable: bool = True) -> Program:
        """Writes the program to device memory. The command buffer is spent after this.

        One that is not `reusable` is submitted once and gives its memory back at its end.
        OutOfMemory leaves the command buffer as it was.
        """
        self.barrier()
        commands, label = self._commands, self._label
        slots = len(self._needs) + len(self._implicit)
        commands = [command._replace(refs=self._numbered(command.refs)) for command in commands]
        layout = ProgramImage(commands, self._regions, self._updates)
        made: list[Buffer] = []
        try:
            for nbytes, what in (
                (layout.nbytes, f"program {label}"),
                (max(1, layout.state_nbytes), f"state of {label}"),
                (max(1, BINDING_SIZE * slots), "slot table"),
            ):
                made.append(Buffer.allocate(self._heap, nbytes, what))
        except BaseException:
            for buffer in made:
                buffer.free()
            raise
        image, state, table = made
        growing: GrowingImage | None = None
        place = (image.address, slots, self._scratch, self._generation)
        if self._growth is None:
            content = layout.at(*place)
        else:
            content, words = self._growth.packed(lambda: layout.at(*place))
            words += layout.growing()
            growing = GrowingImage(self._growth, content, words)
        image.write(content)
        self._finished = True
        retained, self._retained = self._retained, {}
        return Program(
            self._families.executables,
            label,
            image,
            state,
            table,
            tuple(self._needs),
            tuple(self._infos),
            len(self._regions),
            tuple(retained.values()),
            implicit=tuple(self._implicit),
            copies=tuple(self._copies),
            one_shot=not reusable,
            growth=growing,
        )

    def _numbered(self, refs: tuple[Ref, ...]) -> tuple[Ref, ...]:
        """Implicit slots come after the caller's own, whose number is now known."""
        base = len(self._needs) + _IMPLICIT
        return tuple([(base - ref[0], *ref[1:]) if ref[0] < 0 else ref for ref in refs])

    def __del__(self) -> None:
        for buffer in self._retained.values():
            buffer.let_go()

    # -- recording -----------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._finished:
            raise InvalidArgument(f"command buffer {self._label!r} was finished; record a new one")

    def _params(
        self, kernel: Kernel, params: NamedTuple | bytes | None
    ) -> tuple[bytes, list[tuple[int, Growing]]]:
        """The kernel's bytes, and which of their words grow."""
        growing: list[tuple[int, Growing]] = []
        if params is None:
            packed = b""
        elif isinstance(params, bytes):
            packed = params
        elif kernel.params is not None and isinstance(params, kernel.params):
            pack = params.pack  # type: ignore[attr-defined]
            if self._growth is None:
                packed = pack()
            else:
                packed, growing = self._growth.packed(pack)
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
        return packed, growing

    def _check(self, where: str, bindable: _Source, access: Access, usage: Usage) -> None:
        if isinstance(bindable, Slot):
            if bindable.index < 0 or bindable.offset < 0 or bindable.nbytes < 0:
                raise OutOfRange(f"{where}: {bindable!r} has a negative part")
        elif isinstance(bindable, Buffer):
            bindable.check_alive()
            if word_of(access, usage) & ~bindable.allows:
                refuse_use(where, bindable, access, usage)
            if bindable.heap is not self._heap:
                raise InvalidArgument(f"{where}: {bindable!r} is another device's")

    def _check_counts(self, kernel: Kernel, counts_from: Buffer | Slot) -> None:
        where = f"{kernel.name}: counts_from"
        self._check(where, counts_from, Access.READ, Usage.COUNTS)
        if counts_from.nbytes < _COUNTS_BYTES:
            raise OutOfRange(f"{where}: three uint32 are 12 bytes, {counts_from!r} is shorter")
        start = counts_from.offset if isinstance(counts_from, Slot) else counts_from.address
        if start % 4:
            raise InvalidArgument(f"{where}: {counts_from!r} is not aligned to 4 bytes")

    def _ref(self, bindable: _Source, access: Access, usage: Usage) -> Ref:
        """What the program says of a binding that was checked; notes what it needs and keeps."""
        if bindable is None:
            return TW_NO_SLOT, 0, 0
        if isinstance(bindable, _Captured):
            self._updates.append((len(self._commands), bindable))
            return TW_NO_SLOT, 0, len(bindable)
        if isinstance(bindable, Slot):
            needs = self._needs
            needs.extend(Need() for _ in range(bindable.index + 1 - len(needs)))
            need = needs[bindable.index]
            end = bindable.offset + bindable.nbytes
            need.nbytes = max(need.nbytes, at_hand(end))
            if self._growth is not None:
                need.ends[self._growth.index(end)] = None
            need.access |= access
            need.usage |= usage
            return bindable.index, bindable.offset, bindable.nbytes
        root = bindable.root
        if root.transient:
            number = self._implicit.setdefault(root, len(self._implicit))
            return _IMPLICIT - number, bindable.offset, bindable.nbytes
        if id(root) not in self._retained:
            root.hold()
            self._retained[id(root)] = root
        return TW_NO_SLOT, bindable.address, bindable.nbytes

    def _record(
        self,
        kernel: Kernel,
        counts: tuple[int, int, int],
        params: bytes,
        bindings: Sequence[_Source],
        scratch: int,
        label: str,
        entry: Entry | None = None,
        counts_from: Buffer | Slot | None = None,
        growing: Sequence[tuple[int, Growing]] = (),
    ) -> None:
        self._check_open()
        tiles = counts[0] * counts[1] * counts[2]
        if min(counts) < 0 or self._region_tiles + tiles > TW_MAX_TILES:
            raise InvalidArgument(
                f"{kernel.name}: {counts} tiles; a region takes at most {TW_MAX_TILES:,}, "
                "so use larger tiles or a barrier"
            )
        if scratch > SCRATCH:
            raise InvalidArgument(
                f"{kernel.name}: needs {scratch:,} bytes of scratch a thread, the device has "
                f"{SCRATCH:,}"
            )
        usage = Usage.TRANSFER if kernel is COPY or kernel is FILL else Usage.DISPATCH
        for binding, bindable in zip(kernel.bindings, bindings, strict=True):
            where = f"{kernel.name}: binding {binding.name}"
            if bindable is None and not binding.optional:
                raise InvalidArgument(f"{where} is missing")
            self._check(where, bindable, NEEDED[binding.access], usage)
        if counts_from is not None:
            self._check_counts(kernel, counts_from)
        entry = self._families.entry(entry or kernel)
        # Nothing below is refused, so that a command is recorded whole or not at all.
        refs = [
            self._ref(bindable, NEEDED[binding.access], usage)
            for binding, bindable in zip(kernel.bindings, bindings, strict=True)
        ]
        if counts_from is not None:
            refs.append(self._ref(counts_from, Access.READ, Usage.COUNTS))
        executable = entry.executable
        if id(executable) not in self._retained:
            executable.hold()
            self._retained[id(executable)] = executable
        self._generation = max(self._generation, executable.generation)
        self._scratch = max(self._scratch, scratch)
        self._commands.append(
            Command(
                entry.index,
                counts,
                self._region_tiles,
                tiles,
                tuple(refs),
                params,
                indirect=counts_from is not None,
                growing=tuple(growing),
            )
        )
        now = counts if self._growth is None else tuple(map(at_hand, counts))
        self._infos.append(CommandInfo(kernel.name, label, now))
        self._region_tiles += tiles


def _pieces(nbytes: int) -> tuple[int, int, int]:
    return -(-nbytes // TW_MOVE_TILE), 1, 1


def _overlap(a: Buffer | Slot, b: Buffer | Slot) -> bool:
    """Whether the two overlap whatever is bound; the program looks again at what is."""
    if isinstance(a, Buffer) and isinstance(b, Buffer):
        return a.overlaps(b)
    if isinstance(a, Slot) and isinstance(b, Slot) and a.index == b.index:
        return a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes
    return False
