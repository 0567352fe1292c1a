"""Device: one memory, its threads, what is loaded, and submission.

Opened once by the engine. The device decides where everything lies; its driver does as told.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tilework.core.config import IMPORT_ALIGNMENT
from tilework.core.errors import InvalidArgument, Unsupported
from tilework.core.growing import Growth
from tilework.hal._abi import THREAD_GENERATION, THREAD_TILES
from tilework.hal.allocator import Allocator, Statistics
from tilework.hal.buffer import Buffer, Imported
from tilework.hal.command_buffer import CommandBuffer
from tilework.hal.drivers import open_driver
from tilework.hal.executable import Entry, Executable, Executables
from tilework.hal.families import Families
from tilework.hal.heap import Heap
from tilework.hal.ring import Ring
from tilework.hal.threads import Threads
from tilework.hal.usage import Access, MemoryType, Usage, names

if TYPE_CHECKING:
    from tilework.hal.driver import Data, Driver
    from tilework.hal.far import Far
    from tilework.hal.kernel import Kernel
    from tilework.hal.program import Program
    from tilework.hal.queue import Queue
    from tilework.hal.scheduler import Scheduler
    from tilework.hal.semaphore import Semaphore


class Device:
    """See `open_device`."""

    def __init__(self, driver: Driver, build: str, limit: int | None = None) -> None:
        self.driver = driver
        self.heap = Heap(driver, limit)
        self.executables = Executables(self.heap, self._tell)
        self.heap.spare = self.executables.settle  # regions of modules that are gone
        self._pool = Threads(self.heap, self.executables.renewed)
        self._threads = self._pool.blocks
        self.ring = Ring(driver, self._pool)
        self._scheduling: tuple[Scheduler, Queue] | None = None
        self._making = threading.Lock()
        self._pool.start()
        self._families = Families(self.executables, driver, build)
        self._pool.start_workers()

    # -- what it is ----------------------------------------------------------------------------

    @property
    def mode(self) -> str:
        return self.driver.mode

    @property
    def threads(self) -> int:
        return self.driver.threads

    @property
    def memory(self) -> MemoryType:
        """What all of the device's memory is."""
        return self.heap.kind

    @property
    def allocator(self) -> Allocator:
        return self.heap.allocator

    @property
    def reason(self) -> str:
        return self.driver.reason

    @property
    def build(self) -> str:
        """Of tilework's own kernels: "relaxed" or "simd"."""
        return self._families.build

    @property
    def relaxed(self) -> bool:
        """Whether the kernels use relaxed SIMD (fused multiply-add)."""
        return self.build == "relaxed"

    @property
    def ready_threads(self) -> int:
        """Threads that take tiles now; a worker can only start once its creator is idle."""
        workers = self._threads[1:]
        return 1 + sum(self.driver.is_ready(thread.address) for thread in workers)

    @property
    def tiles_run(self) -> tuple[int, ...]:
        """Tiles that each thread has run since it started, the submitting one first; modulo 2³²."""
        counts = []
        for thread in self._threads:
            word = bytearray(4)
            self.driver.read_into(thread.address + THREAD_TILES, word)
            counts.append(int.from_bytes(word, "little"))
        return tuple(counts)

    @property
    def statistics(self) -> Statistics:
        """Bytes of device memory in use, reserved and at the peak; imported, copied, totals."""
        self.executables.settle()
        self._pool.settle()
        heap = self.heap
        return replace(
            heap.allocator.statistics,
            imported=heap.imported,
            copied_in=heap.copied_in,
            copied_out=heap.copied_out,
        )

    async def ready(self, seconds: float = 30.0) -> bool:
        """Waits until every thread takes tiles; False when `seconds` passed first."""
        threads = [thread.address for thread in self._threads[1:]]
        ready = await self.driver.ready(threads, seconds)
        self.executables.settle()
        return ready

    # -- memory --------------------------------------------------------------------------------

    def allocate(
        self,
        nbytes: int,
        label: str = "",
        *,
        usage: Usage = Usage.ALL,
        access: Access = Access.ALL,
        memory: MemoryType = MemoryType.DEVICE,
    ) -> Buffer:
        """A buffer of `nbytes` bytes, aligned to 64, contents undefined.

        `memory` is what it must be at least: Unsupported names the modes that have it. OutOfMemory
        says how much was asked, is free and lies in one piece.
        """
        if int(memory) & ~int(self.memory):  # arithmetic on flags is slow
            raise Unsupported(
                f"{label or 'a buffer'}: memory that is {names(memory)} was asked for; {self.mode} "
                f"mode has {names(self.memory)} (HOST_VISIBLE: inline, heap and the desktop; "
                "IN_PLACE: by import_memory only)"
            )
        return Buffer.allocate(self.heap, nbytes, label, usage=usage, access=access)

    @property
    def imports(self) -> bool:
        """Whether `import_memory` works here: the host's memory is the kernels' memory."""
        return self.driver.imports

    def import_memory(
        self,
        data: Data,
        label: str = "",
        *,
        release: Callable[[], None] | None = None,
        access: Access | None = None,
        usage: Usage = Usage.ALL,
    ) -> Buffer:
        """The memory of `data` (a C-contiguous array, a bytearray, …) as a buffer; nothing copied.

        `data` is kept until the buffer and all that hold it are gone; then `release` is called,
        once. `access` is READ by default where `data` is read-only. Unsupported where kernels do
        not see the host's memory; InvalidArgument for data that is not contiguous, not aligned to
        IMPORT_ALIGNMENT bytes, or read-only and to be written.
        """
        self.heap.check_open()
        if not self.imports:
            raise Unsupported(
                f"{label or 'outside memory'} cannot be imported: in {self.mode} mode kernels do "
                "not see the host's memory; inline and heap modes import, here use Buffer.write"
            )
        view = memoryview(data)  # type: ignore[arg-type]
        if not view.c_contiguous:
            raise InvalidArgument(
                f"{label or 'outside memory'} is not C-contiguous; import a contiguous copy"
            )
        if access is None:
            access = Access.READ if view.readonly else Access.ALL
        elif view.readonly and Access.WRITE in (access or Access.ALL):
            raise InvalidArgument(
                f"{label or 'outside memory'} is read-only; import it with access READ"
            )
        address = self.driver.address_of(view)
        if address % IMPORT_ALIGNMENT:
            raise InvalidArgument(
                f"{label or 'outside memory'} lies at {address:#x}, which is no multiple of "
                f"{IMPORT_ALIGNMENT}; import an aligned copy"
            )
        memory = self.memory | MemoryType.IN_PLACE
        buffer = Buffer(
            self.heap, address, view.nbytes, label, usage=usage, access=access, memory=memory
        )
        buffer.imported = Imported(view, release)
        self.heap.imported += view.nbytes
        return buffer

    def far(self, nbytes: int, label: str = "") -> Far:
        """Memory beside the device's own, from which programs copy what they need.

        Unsupported where the engine has one memory to a module, OutOfMemory where it gives no more,
        InvalidArgument for more than 4 GiB at once.
        """
        from tilework.hal.far import Far

        self.heap.check_open()
        return Far(self.heap, self.executables, nbytes, label)

    # -- kernels -------------------------------------------------------------------------------

    def load(self, binary: bytes | bytearray | memoryview, name: str = "") -> Executable:
        """Loads a kernel module on every thread; `free()` gives it back.

        The same bytes are the same executable, which is then to be freed as often as it was
        loaded. InvalidExecutable says what is wrong with the bytes and what to do.
        """
        self.heap.check_open()
        return self.executables.load(name or "module", bytes(binary))

    def kernel(self, kernel: Kernel | Entry) -> Entry:
        """The loaded entry point of `kernel`; loads its family's module when first asked."""
        return self._families.entry(kernel)

    @property
    def closed(self) -> bool:
        return self.heap.closed

    def _tell(self, generation: int) -> None:
        """This thread has carried out as many loads and unloads."""
        self._threads[0].write(struct.pack("<I", generation), THREAD_GENERATION)

    # -- work ----------------------------------------------------------------------------------

    @property
    def queue(self) -> Queue:
        """Where work is enqueued that need not be waited for."""
        return self._scheduled()[1]

    def semaphore(self, initial: int = 0, label: str = "") -> Semaphore:
        """A timeline semaphore at `initial`; `label` is its name in errors."""
        from tilework.hal.semaphore import Semaphore

        return Semaphore(self._scheduled()[0], initial, label)

    def _scheduled(self) -> tuple[Scheduler, Queue]:
        """Made when first asked for: whoever only submits imports nothing of all that."""
        with self._making:
            if self._scheduling is None:
                from tilework.hal.queue import Queue
                from tilework.hal.scheduler import Scheduler

                scheduler = Scheduler(self.driver, self.ring)
                if self.closed:
                    scheduler.close()
                self.heap.allocator.on_release = scheduler.fed
                self._scheduling = scheduler, Queue(self.heap, scheduler, self.command_buffer)
            return self._scheduling

    def command_buffer(self, label: str = "", growth: Growth | None = None) -> CommandBuffer:
        """A new command buffer to record into; with `growth` its numbers may be Growing."""
        self.heap.check_open()
        return CommandBuffer(self.heap, self._families, label, growth)

    def submit(self, program: Program, slots: Sequence[Buffer] = ()) -> None:
        """Runs `program` to its end on all ready threads, the calling one too.

        `slots` are the buffers behind its Slots. KernelFailure names kernel, label and tile; the
        device works on after it. What is in flight on the queue runs before.
        """
        if self.heap.closed:
            self.heap.check_open()
        if self._scheduling is not None and self._scheduling[0].busy:
            self.queue.execute(program, slots).wait()
            return
        program.begin(slots)
        table = 0
        try:
            table = program.bind(slots)
            outcome = self.ring.submit(*program.addresses, table)
        except BaseException:
            program.forget_bindings()
            raise
        finally:
            program.end(slots, table)
        if outcome is not None:
            from tilework.hal.failure import failure

            raise failure(program, outcome)

    def close(self) -> None:
        """Ends the threads; buffers and programs of this device can no longer be used."""
        if not self.heap.closed:
            self.heap.closed = True
            if self._scheduling is not None:
                self._scheduling[0].close()
            self.executables.close()
            self.driver.close()


def open_device(
    threads: int | None = None, mode: str = "auto", build: str = "auto", limit: int | None = None
) -> Device:
    """Opens a device.

    `threads` counts the calling one; None is one for each core. `mode` is "auto", "heap", "arena"
    or "inline"; what the page cannot give is Unsupported when asked for by name, and explained in
    `device.reason` when chosen. `build` is "auto", "relaxed" or "simd". `limit` is the most device
    memory that may be handed out, bytes; what goes beyond is OutOfMemory.
    """
    if threads is not None and threads < 1:
        raise InvalidArgument(f"threads is {threads}; it counts the calling one, so at least 1")
    driver = open_driver(threads, mode)
    try:
        return Device(driver, build, limit)
    except BaseException:
        driver.close()
        raise
