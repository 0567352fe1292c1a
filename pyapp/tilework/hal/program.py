"""Program: a finished command buffer in device memory, replayable, immutable but for what grows.

It holds what its commands touch until it is freed and no submission of it is in flight, and knows
each command's name for errors. A submission is `begin` (everything is checked, the buffers behind
the slots are held), `bind` (the slot table is written) and, when it is over, `end`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tilework.core.errors import DeviceLost, InvalidArgument, OutOfRange
from tilework.core.growing import Growing, Growth
from tilework.hal._abi import BINDING_FORMAT, BINDING_SIZE
from tilework.hal.buffer import Buffer, refuse_use
from tilework.hal.executable import Executable, Executables
from tilework.hal.usage import Access, Usage, word_of


@dataclass(frozen=True, slots=True)
class CommandInfo:
    """What a failure record's command number stands for."""

    kernel: str
    label: str
    counts: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Slot:
    """A binding known at submit: `nbytes` at `offset` of the submission's buffer `index`."""

    index: int
    offset: int
    nbytes: int


Bindable: TypeAlias = "Buffer | Slot | None"


@dataclass(slots=True)
class Need:
    """What a program asks of the buffer behind a slot."""

    nbytes: int = 0
    ends: dict[int, None] = field(default_factory=dict)  # in a growth's table: nbytes is the most
    access: Access = field(default_factory=lambda: Access(0))
    usage: Usage = field(default_factory=lambda: Usage(0))


class GrowingImage:
    """A program's image of which some words are functions of a length."""

    def __init__(
        self, growth: Growth, content: bytes, words: Sequence[tuple[int, Growing]]
    ) -> None:
        self.growth = growth
        self._words = memoryview(bytearray(content)).cast("I")
        self._places = [(offset // 4, growth.index(number)) for offset, number in words]

    def at(self, values: Sequence[int]) -> memoryview:
        """The image for these values of the growth's table."""
        words = self._words
        for place, index in self._places:
            words[place] = values[index]
        return words


class Program:
    """Made by `CommandBuffer.finish`. `slot_extents[i]` is the bytes that slot i must have.

    `implicit` are the transients that were recorded by themselves: slots behind the caller's own,
    bound to the memory that they have when the program is submitted.
    """

    def __init__(
        self,
        executables: Executables,
        label: str,
        image: Buffer,
        state: Buffer,
        slot_table: Buffer,
        needs: tuple[Need, ...],
        commands: tuple[CommandInfo, ...],
        regions: int,
        retained: tuple[Buffer | Executable, ...],
        *,
        implicit: tuple[Buffer, ...] = (),
        copies: tuple[tuple[Buffer | Slot, Buffer | Slot], ...] = (),
        one_shot: bool = False,
        growth: GrowingImage | None = None,
    ) -> None:
        self._executables = executables
        self.label = label
        self.image = image
        self.state = state
        self.addresses = image.address, state.address
        self.slot_table = slot_table
        self.slot_extents = tuple(need.nbytes for need in needs)
        self._growth = growth
        self.commands = commands
        self.regions = regions
        self.implicit = implicit
        self.one_shot = one_shot
        self.in_flight = 0
        self._needs = needs
        self._words = [word_of(need.access, need.usage) for need in needs]
        self._copies = copies
        self._retained = retained
        self._freed = self._used = False
        self._bound: tuple[tuple[int, int], ...] | None = None
        self._tables = [slot_table]  # that no submission in flight uses
        self._lent: dict[int, Buffer] = {}

    def grow(self, values: Sequence[int]) -> None:
        """Sets what grows to these values of its growth's table, which was asked after it was made.

        InvalidArgument when nothing grows, or while a submission is in flight.
        """
        if self._growth is None or self.in_flight:
            raise InvalidArgument(f"{self!r} does not grow, or is in flight")
        self.image.heap.driver.write(self.image.address, self._growth.at(values))
        for need in self._needs:
            need.nbytes = max([values[index] for index in need.ends], default=0)
        self.forget_bindings()  # the state has the commands' numbers as well

    @property
    def nbytes(self) -> int:
        """Bytes of device memory that the program itself takes."""
        return self.image.nbytes + self.state.nbytes + self.slot_table.nbytes

    def __repr__(self) -> str:
        counts = f"{len(self.commands)} commands, {self.regions} regions"
        return f"<Program {self.label or 'unnamed'}: {counts}>"

    # -- a submission --------------------------------------------------------------------------

    def begin(self, slots: Sequence[Buffer] = ()) -> None:
        """Checks a submission with these buffers and holds all that it needs until `end`.

        DeviceLost for what was freed; InvalidArgument for a wrong number of slots, a second use of
        a one-shot program, buffers without the usage or access that commands need, copies whose
        ranges overlap; OutOfRange for a buffer that is too short.
        """
        if self.one_shot and self._used:
            raise InvalidArgument(f"{self!r} is one-shot and was submitted before; record it again")
        if self._freed:
            raise DeviceLost(f"{self!r} was submitted after it was freed")
        if self._executables.unconfirmed:
            self._executables.confirm()
        if self.implicit or self._copies or len(slots) != len(self._needs):
            self._check(slots)
        heap = self.image.heap
        for index, buffer in enumerate(slots):
            if not buffer.lend(heap, self._needs[index].nbytes, self._words[index]):
                for lent in slots[:index]:
                    lent.let_go()
                self._check(slots)  # raises
        for buffer in self.implicit:
            buffer.hold()
        self._used = True
        self.in_flight += 1

    def _check(self, slots: Sequence[Buffer]) -> None:
        """Says what is wrong with these buffers, or with the transients."""
        if len(slots) != len(self._needs):
            raise InvalidArgument(
                f"{self!r} has {len(self._needs)} slots, {len(slots)} buffers were given"
            )
        for index, buffer in enumerate(slots):
            need = self._needs[index]
            buffer.check_alive()
            if buffer.nbytes < need.nbytes:
                raise OutOfRange(
                    f"slot {index} of {self!r} needs {need.nbytes:,} bytes, {buffer!r} is shorter"
                )
            if self._words[index] & ~buffer.allows:
                refuse_use(f"slot {index} of {self!r}", buffer, need.access, need.usage)
            if buffer.heap is not self.image.heap:
                raise InvalidArgument(f"slot {index} of {self!r}: {buffer!r} is another device's")
        for buffer in self.implicit:
            buffer.check_alive()
        if self._copies:
            self._check_copies(slots)

    def bind(self, slots: Sequence[Buffer] = ()) -> int:
        """Writes a slot table where bindings changed; its address, or 0 when nothing did.

        Between `begin` and `end`. Submissions must reach the ring in the order of their `bind`s:
        a 0 says that the program's state has the bindings of the one before. NotReady when a
        transient has no memory; OutOfMemory when all tables are in flight and there is no more.
        """
        buffers = (*slots, *self.implicit) if self.implicit else slots
        spans = tuple([(buffer.placed(), buffer.nbytes) for buffer in buffers])
        if spans == self._bound:
            return 0
        if not self._tables:
            size = max(1, BINDING_SIZE * len(spans))
            self._tables.append(Buffer.allocate(self.image.heap, size, "slot table"))
        table = self._tables.pop()
        if spans:
            # By the driver, since the statistics count what is copied of the caller's data.
            packed = b"".join([BINDING_FORMAT.pack(*span) for span in spans])
            table.heap.driver.write(table.address, packed)
        self._bound = spans
        self._lent[table.address] = table
        return table.address

    def end(self, slots: Sequence[Buffer] = (), table: int = 0) -> None:
        """A submission is over, or never reached the ring: lets go; `table` is what `bind` gave."""
        if table:
            self._tables.append(self._lent.pop(table))
        for buffer in (*slots, *self.implicit) if self.implicit else slots:
            buffer.let_go()
        self.in_flight -= 1
        if not self.in_flight and (self._freed or self.one_shot):
            self._freed = True
            self._give_back()

    def forget_bindings(self) -> None:
        """After a `bind` whose submission never reached the ring: the next one writes its table."""
        self._bound = None

    def _check_copies(self, slots: Sequence[Buffer]) -> None:
        for source, target in self._copies:
            a, b = _behind(source, slots), _behind(target, slots)
            if a.overlaps(b):
                raise InvalidArgument(
                    f"{self!r}: a copy's {a!r} and {b!r} overlap once the slots are bound"
                )

    # -- life ----------------------------------------------------------------------------------

    def free(self) -> None:
        """It cannot be submitted any more; its memory goes back when nothing is in flight."""
        self._freed = True
        if not self.in_flight:
            self._give_back()

    def _give_back(self) -> None:
        for buffer in (self.image, self.state, *self._tables):
            buffer.free()
        retained, self._retained = self._retained, ()
        for kept in retained:
            kept.let_go()

    def __del__(self) -> None:
        # A submission in flight refers to its program, so there is none.
        self._give_back()


def _behind(bindable: Buffer | Slot, slots: Sequence[Buffer]) -> Buffer:
    if isinstance(bindable, Slot):
        return slots[bindable.index].subspan(bindable.offset, bindable.nbytes)
    return bindable
