"""Executable and Entry: a kernel module loaded on every thread, and one function of it.

`Executables` is a device's collection: it reserves what a module's `dylink.0` asks for (a zeroed
data region, table slots), has the driver instantiate it, and gives both back when no worker can
touch them any more. Loads and unloads are counted together, in `generation`; every thread carries
them out in that order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, cast

from tilework.core.errors import DeviceLost, InvalidArgument, InvalidExecutable
from tilework.core.scoped import Scoped
from tilework.hal._abi import TW_ALIGNMENT
from tilework.hal.buffer import Buffer
from tilework.hal.module import Module, read_module, unshared
from tilework.hal.table import Table

if TYPE_CHECKING:

    from tilework.hal.driver import FarMemory
    from tilework.hal.heap import Heap
    from tilework.hal.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Entry:
    """A function that commands can name: its index in every thread's table.

    `kernel` is what the module's own bytes say of parameters and bindings, None when they are
    silent.
    """

    name: str
    index: int
    executable: Executable
    kernel: Kernel | None

    def with_kernel(self, kernel: Kernel) -> Entry:
        """The same function, described by `kernel`: for modules that do not describe themselves."""
        return replace(self, kernel=kernel)

    def params(self, *values: object, **named: object) -> NamedTuple:
        """The kernel's record of parameters, by field; InvalidArgument names wrong fields."""
        made = self.described.params
        if made is None:
            raise InvalidArgument(f"{self.name} takes no parameters; give None")
        try:
            return cast("NamedTuple", made(*values, **named))
        except TypeError:
            fields = ", ".join(getattr(made, "FIELDS", made.__annotations__))
            raise InvalidArgument(f"{self.name} takes the parameters {fields}") from None

    @property
    def described(self) -> Kernel:
        """`kernel`; InvalidArgument where there is none."""
        if self.kernel is None:
            raise InvalidArgument(
                f"module {self.executable.name} does not say what {self.name} takes; build it "
                "with `build.py kernel`, or say it: entry.with_kernel(Kernel(...))"
            )
        return self.kernel


class Executable(Scoped):
    """A loaded module; made by `Device.load`. `entries` are in the module's order."""

    def __init__(
        self, owner: Executables, name: str, digest: bytes, generation: int, placed: _Placed
    ) -> None:
        self.name = name
        self.digest = digest  # SHA-256 of the module's bytes
        self.generation = generation  # loads and unloads of the device up to and with this one
        self.entries: tuple[Entry, ...] = ()
        self.loads = 1  # how often `Device.load` has given it out
        self._owner: Executables | None = owner
        self._placed = placed
        self.programs = 0  # programs and unfinished command buffers that name its entries
        self._by_name: dict[str, Entry] = {}

    def __repr__(self) -> str:
        state = "" if self._owner else ", freed"
        return f"<Executable {self.name}: {len(self.entries)} entries{state}>"

    def describe(self, entries: Sequence[Entry]) -> None:
        """For `Executables`: what the module holds."""
        self.entries = tuple(entries)
        self._by_name = {entry.name: entry for entry in entries}

    @property
    def nbytes(self) -> int:
        """Bytes of device memory that the module's data takes."""
        return self._placed.region.nbytes

    @property
    def owner(self) -> Executables | None:
        """The device's executables, of which it is one; None once it was freed."""
        return self._owner

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, name: str) -> Entry:
        """The entry called `name`; InvalidArgument lists what there is."""
        self.check_alive()
        entry = self._by_name.get(name)
        if entry is None:
            raise InvalidArgument(
                f"module {self.name} has no kernel {name}; it has "
                f"{', '.join(sorted(self._by_name)) or 'none'}"
            )
        return entry

    def entry(self, number: int) -> Entry:
        """The entry at `number`, counted from 0; InvalidArgument past the last."""
        self.check_alive()
        if not 0 <= number < len(self.entries):
            raise InvalidArgument(
                f"module {self.name} has {len(self.entries)} kernels, none has number {number}"
            )
        return self.entries[number]

    def check_alive(self) -> None:
        """DeviceLost once it was freed."""
        if self._owner is None:
            raise DeviceLost(f"{self!r} was used after it was freed")

    def hold(self) -> None:
        """For command buffers and programs: it cannot be freed until `let_go`."""
        self.check_alive()
        self.programs += 1

    def let_go(self) -> None:
        """Undoes a `hold`."""
        self.programs -= 1

    def free(self) -> None:
        """Gives back one `Device.load`; with the last one code, data and table slots go.

        InvalidArgument while programs name its entries. When it is gone, further calls do nothing.
        """
        if self._owner is None:
            return
        if self.loads == 1:
            if self.programs:
                raise InvalidArgument(
                    f"{self!r} is in use by {self.programs} programs or command buffers; free "
                    "them first"
                )
            owner, self._owner = self._owner, None
            owner.unload(self, self._placed)
        self.loads -= 1

    def _leave(self) -> None:
        self.free()


class _Placed(NamedTuple):
    region: Buffer
    first: int  # table slot
    slots: int


class _Leaving(NamedTuple):
    generation: int
    placed: _Placed


class Executables:
    """What is loaded on a device, each module once. `table` has everybody's slots.

    `tell` lets the submitting thread know how many changes it has carried out.
    """

    def __init__(self, heap: Heap, tell: Callable[[int], None]) -> None:
        self._heap = heap
        self._tell = tell
        self._loaded: dict[bytes, Executable] = {}  # by digest
        self._leaving: list[_Leaving] = []
        self.table = Table()
        self.generation = 0
        self.unconfirmed = False  # whether a worker may yet fail to carry out a change

    def __len__(self) -> int:
        return len(self._loaded)

    @property
    def leaving(self) -> int:
        """Executables that were freed and whose memory and slots wait for a worker."""
        self.settle()
        return len(self._leaving)

    def load(
        self,
        name: str,
        binary: bytes,
        *,
        processor: bool = False,
        far: FarMemory | None = None,
    ) -> Executable:
        """`binary` on every thread; the same bytes are the same executable, counted.

        `far` is the second memory of a module that imports one. InvalidExecutable says what is
        wrong with the bytes; nothing is kept of them then.
        """
        digest = hashlib.sha256(binary).digest()
        executable = self._loaded.get(digest)
        if executable is not None:
            executable.loads += 1
            return executable
        module = read_module(binary, name, far is not None)
        driver = self._heap.driver
        if not driver.shared:
            binary = unshared(binary, module)
        self.settle()
        generation = self.generation + 1
        placed, address = self._place(name, module)
        first = placed.first + module.table_size
        functions = [(first + i, entry) for i, entry in enumerate(module.entries)]
        try:
            driver.clear(placed.region.address, placed.region.nbytes)
            driver.load(binary, address, placed.first, functions, processor, generation, far)
        except BaseException as error:
            self._take_back(placed)
            if isinstance(error, InvalidExecutable):
                if not driver.accepts(binary):  # only now: to ask takes longer than to load
                    raise InvalidExecutable(
                        f"{name}: this engine does not accept the module; it may be corrupt, or "
                        "use instructions that the engine lacks (try the simd build)"
                    ) from error.__cause__
                raise InvalidExecutable(f"{name}: {error}") from error.__cause__
            raise
        self._count(generation)
        executable = Executable(self, name, digest, generation, placed)
        executable.describe([Entry(f, i, executable, module.kernels.get(f)) for i, f in functions])
        self._loaded[digest] = executable
        return executable

    def unload(self, executable: Executable, placed: _Placed) -> None:
        """For `Executable.free`. The region and the slots wait for the slowest worker.

        A worker that is late has yet to carry out the load, which writes initial data.
        """
        del self._loaded[executable.digest]
        if self._heap.closed:
            return
        generation = self.generation + 1
        self._heap.driver.unload(placed.first, placed.slots, generation)
        self._count(generation)
        self._leaving.append(_Leaving(generation, placed))
        self.settle()

    def confirm(self) -> None:
        """Before a submission while `unconfirmed`: DeviceLost when a worker could not load."""
        # First this, for a worker that fails from now on counts as one that has passed.
        passed = self._heap.driver.passed(self.generation)
        said = self._heap.driver.fault()
        if said:
            raise DeviceLost(
                f"a worker could not carry out a load or unload, so its threads no longer agree "
                f"({said}); open a new device"
            )
        self.unconfirmed = not passed

    def renewed(self) -> None:
        """All workers are new ones, which have yet to load everything."""
        self.unconfirmed = True

    def settle(self) -> bool:
        """Gives back what every worker has let go; whether there was any."""
        before = len(self._leaving)
        while self._leaving and self._heap.driver.passed(self._leaving[0].generation):
            self._take_back(self._leaving.pop(0).placed)
        return len(self._leaving) < before

    def close(self) -> None:
        """The device is closed: nothing is waited for any more."""
        self._leaving.clear()

    def _count(self, generation: int) -> None:
        self.generation = generation
        self.unconfirmed = True
        self._tell(generation)

    def _place(self, name: str, module: Module) -> tuple[_Placed, int]:
        """A region and slots, and the address in the region where the data begins."""
        more = max(0, module.memory_alignment - TW_ALIGNMENT)
        region = Buffer.allocate(self._heap, max(1, module.memory_size) + more, f"{name}'s data")
        slots = module.table_size + len(module.entries)
        address = -(-region.address // module.memory_alignment) * module.memory_alignment
        return _Placed(region, self.table.take(slots), slots), address

    def _take_back(self, placed: _Placed) -> None:
        placed.region.free()
        self.table.give(placed.first)
