"""The desktop driver: wasmtime's threads over one SharedMemory, under ordinary CPython.

For fast tests of the very kernels that the browser runs. wasmtime's calls release the GIL, so
Python threads run kernels in parallel, and its memory is visible to the host: views cost nothing.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import importlib.metadata
import os
import threading
import time
import urllib.request
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tilework.core.errors import DeviceLost, InvalidExecutable, NoSuchFile, OutOfMemory, Unsupported
from tilework.hal._abi import (
    QUEUE_ENDED,
    QUEUE_HALTED,
    QUEUE_POSTED,
    QUEUE_SHUTDOWN,
    THREAD_GENERATION,
    THREAD_READY,
)
from tilework.hal.drivers.visible import VisibleMemory

if TYPE_CHECKING:
    from tilework.hal.driver import Data, FarMemory

try:
    import wasmtime
    from wasmtime import _ffi
except ImportError as error:  # the wheel itself needs no wasmtime
    raise Unsupported(
        "outside the browser tilework runs its kernels with wasmtime; `pip install wasmtime`"
    ) from error

_PAGE = 65536
_MAX_PAGES = 65536
_TABLE = 256  # slots to begin with
_FUTEX_MICROSECONDS = 100_000  # a safety net: whatever happens wakes the futex
_IDLE_SPINS = 200  # a desktop run shares its cores with pytest; do not burn them
_LAST_SECONDS = 5.0  # a closing device waits for its threads, but not for one that never comes back
_LOOK_SECONDS = 0.0005  # between two looks of an event loop at what has ended


class _Memory(wasmtime.SharedMemory):
    """wasmtime 50 can import a shared memory but its binding forgets to say how."""

    def _as_extern(self) -> Any:
        union = _ffi.wasmtime_extern_union(sharedmemory=self.ptr())
        return _ffi.wasmtime_extern_t(_ffi.WASMTIME_EXTERN_SHAREDMEMORY, union)


class _Far:
    """See `tilework.hal.driver.FarMemory`. Stores keep it as long as the module that imports it."""

    def __init__(self, engine: Any, nbytes: int) -> None:
        pages = -(-nbytes // _PAGE)
        try:
            limits = wasmtime.Limits(pages, pages)
            memory = _Memory(engine, wasmtime.MemoryType(limits, shared=True))
        except wasmtime.WasmtimeError as error:
            raise OutOfMemory(f"far memory of {nbytes:,} bytes: {error}") from None
        self.memory: Any = memory
        self._base = ctypes.addressof(memory.data_ptr().contents)

    def write(self, offset: int, data: Data) -> None:
        source = memoryview(data).cast("B")  # type: ignore[arg-type]
        target = (ctypes.c_ubyte * source.nbytes).from_address(self._base + offset)
        memoryview(target).cast("B")[:] = source

    def drop(self) -> None:
        self.memory = None


@dataclass(frozen=True, slots=True)
class _Load:
    module: Any
    memory_base: int
    table_base: int
    functions: tuple[tuple[int, str], ...]
    processor: bool
    generation: int
    far: Any

    def apply(self, executor: _Executor) -> None:
        executor.load(self)


@dataclass(frozen=True, slots=True)
class _Unload:
    first: int
    slots: int
    generation: int

    def apply(self, executor: _Executor) -> None:
        executor.clear(self.first, self.slots)


@dataclass(frozen=True, slots=True)
class _UpToDate:
    """For a worker that comes late: what it was sent is all that is left of so many messages."""

    generation: int

    def apply(self, executor: _Executor) -> None:
        """Nothing is left to do."""


_Message = _Load | _Unload | _UpToDate


class _Executor:
    """One thread's store, table, stack pointer and instances."""

    def __init__(self, engine: Any, memory: Any, stack_top: int) -> None:
        self._memory = memory
        self._stack_top = stack_top
        self._store = wasmtime.Store(engine)
        limits = wasmtime.Limits(_TABLE, None)
        self._table = wasmtime.Table(
            self._store, wasmtime.TableType(wasmtime.ValType.funcref(), limits), None
        )
        self._stack_pointer = self._global(stack_top, mutable=True)
        self._processor: Any = None

    def _global(self, value: int, *, mutable: bool) -> Any:
        kind = wasmtime.GlobalType(wasmtime.ValType.i32(), mutable)
        return wasmtime.Global(self._store, kind, wasmtime.Val.i32(value))

    def load(self, load: _Load) -> None:
        top = max([load.table_base, *(index + 1 for index, _ in load.functions)])
        size = self._table.size(self._store)
        if top > size:
            self._table.grow(self._store, max(top, 2 * size) - size, None)
        provided = {
            "memory": self._memory,
            "__indirect_function_table": self._table,
            "__stack_pointer": self._stack_pointer,
            "__memory_base": self._global(load.memory_base, mutable=False),
            "__table_base": self._global(load.table_base, mutable=False),
            "far": load.far,
        }
        imports = [provided[item.name] for item in load.module.imports]
        exports: Any = wasmtime.Instance(self._store, load.module, imports).exports(self._store)
        relocate = exports.get("__wasm_apply_data_relocs")
        if relocate is not None:
            relocate(self._store)
        for index, name in load.functions:
            self._table.set(self._store, index, exports[name])
        if load.processor:
            self._processor = exports

    def clear(self, first: int, slots: int) -> None:
        """Empties table slots. The store keeps the instance: wasmtime frees it with the store."""
        for index in range(first, min(first + slots, self._table.size(self._store))):
            self._table.set(self._store, index, None)

    def call(self, name: str, *parameters: int) -> int:
        """Calls an export of the processor."""
        return (self._processor[name](self._store, *parameters) or 0) & 0xFFFFFFFF

    def run(
        self,
        name: str,
        thread: int,
        parameters: Sequence[int],
        resume: str,
        again: Sequence[int],
    ) -> int:
        """Calls the processor; a kernel that traps is recorded and `resume` goes on."""
        while True:
            try:
                return self.call(name, thread, *parameters)
            except wasmtime.Trap:
                # The trap left the kernel's frames on the stack.
                self._stack_pointer.set_value(self._store, wasmtime.Val.i32(self._stack_top))
                if not self.call("tw_trapped", thread):
                    raise
            name, parameters = resume, again


class _Machine:
    """What the worker threads share. They hold this, not the driver, so that the driver can go."""

    def __init__(self) -> None:
        config = wasmtime.Config()
        config.wasm_threads = config.wasm_simd = config.wasm_relaxed_simd = True
        config.shared_memory = config.wasm_multi_memory = True
        self.engine = wasmtime.Engine(config)
        limits = wasmtime.Limits(1, _MAX_PAGES)
        self.memory = _Memory(self.engine, wasmtime.MemoryType(limits, shared=True))
        # wasmtime reserves the whole address range at once: growing never moves the memory.
        self.base = ctypes.addressof(self.memory.data_ptr().contents)
        self.loaded: dict[int, _Load] = {}  # by their first slot: what a late worker needs
        self.posted = 0  # the generation
        # Engines keep the code of an instance as long as its store, so a module that comes again
        # costs nothing when it is this one.
        self.modules: dict[bytes, Any] = {}
        self.inboxes: dict[int, deque[_Message]] = {}  # by thread
        self.stopped = False
        self.faults: list[BaseException] = []

    def word(self, address: int) -> ctypes.c_uint32:
        return ctypes.c_uint32.from_address(self.base + address)

    def work(self, thread: int, stack_top: int) -> None:
        """A worker thread's life."""
        try:
            executor = _Executor(self.engine, self.memory, stack_top)
            inbox = self.inboxes.get(thread)
            parameters = (_IDLE_SPINS, _FUTEX_MICROSECONDS)
            # None, or another, once this worker was given up.
            while inbox is not None and self.inboxes.get(thread) is inbox and not self.stopped:
                while inbox:
                    message = inbox.popleft()
                    message.apply(executor)
                    self.word(thread + THREAD_GENERATION).value = message.generation
                executor.run("tw_work", thread, parameters, "tw_work", parameters)
        except Exception as error:  # noqa: BLE001 - `check` raises it where somebody can see it
            self.faults.append(error)
            self.inboxes.pop(thread, None)

    def post(self, message: _Message) -> None:
        """Sends a message to every worker; the queue's `posted` then makes them look."""
        self.posted = message.generation
        for inbox in self.inboxes.values():
            inbox.append(message)

    def module(self, binary: bytes) -> Any:
        """The compiled module of these bytes."""
        key = hashlib.sha256(binary).digest()
        if key not in self.modules:
            self.modules[key] = wasmtime.Module(self.engine, binary)
        return self.modules[key]

    def check(self) -> None:
        """DeviceLost when a worker ended; the threads that are left could wait for it for ever."""
        if self.faults:
            raise DeviceLost("a worker thread ended; open a new device") from self.faults[0]

    def stop(self) -> None:
        self.stopped = True


class _Worker(threading.Thread):
    """A thread that runs kernels and no Python of anybody else's."""


class DesktopDriver(VisibleMemory):
    """`arena` on wasmtime. See `tilework.hal.driver.Driver`."""

    mode = "arena"
    may_block = True
    shared = True
    imports = False

    def __init__(self, threads: int | None, mode: str) -> None:
        if mode not in ("auto", "arena"):
            raise Unsupported(f"mode {mode!r} is a browser's; on the desktop there is only arena")
        cores = os.cpu_count() or 1
        self.threads = threads or cores
        self.engine = f"wasmtime {importlib.metadata.version('wasmtime')}"
        asked = f"{threads} threads asked for" if threads else f"a thread for each of {cores} cores"
        self.reason = f"desktop engine {self.engine}; {asked}"
        self._machine = _Machine()
        self.base = self._machine.base
        self._executor: _Executor | None = None
        self._workers: list[threading.Thread] = []
        self._queue = 0
        weakref.finalize(self, self._machine.stop)

    @property
    def alone(self) -> bool:
        me = threading.current_thread()
        return all(thread is me or isinstance(thread, _Worker) for thread in threading.enumerate())

    # -- memory --------------------------------------------------------------------------------

    def reserve(self, nbytes: int) -> tuple[int, int]:
        pages = -(-nbytes // _PAGE)
        memory = self._machine.memory
        try:
            return memory.grow(pages) * _PAGE, pages * _PAGE
        except wasmtime.WasmtimeError:
            raise OutOfMemory(
                f"the memory cannot grow past {_MAX_PAGES * _PAGE:,} bytes; it has "
                f"{memory.data_len():,}"
            ) from None

    def far(self, nbytes: int) -> FarMemory:
        return _Far(self._machine.engine, nbytes)

    def address_of(self, data: Data) -> int:
        address = super().address_of(data)
        if not 0 <= address < self._machine.memory.data_len():
            raise Unsupported(
                "wasmtime's memory is not Python's: only a view of a buffer lies in it already; "
                "elsewhere copy with Buffer.write"
            )
        return address

    # -- modules and threads -------------------------------------------------------------------

    def accepts(self, binary: bytes) -> bool:
        try:
            wasmtime.Module.validate(self._machine.engine, binary)
        except wasmtime.WasmtimeError:
            return False
        return True

    def start(self, stack_top: int) -> None:
        self._executor = _Executor(self._machine.engine, self._machine.memory, stack_top)

    @property
    def _submitting(self) -> _Executor:
        if self._executor is None:
            raise DeviceLost("the device is closed; open a new one")
        return self._executor

    def load(
        self,
        binary: bytes,
        memory_base: int,
        table_base: int,
        functions: Sequence[tuple[int, str]],
        processor: bool,
        generation: int,
        far: FarMemory | None = None,
    ) -> None:
        slots = tuple(functions)
        executor, machine = self._submitting, self._machine
        try:
            module = machine.module(binary)
            second = far.memory if isinstance(far, _Far) else None
            load = _Load(module, memory_base, table_base, slots, processor, generation, second)
            executor.load(load)
        except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
            top = max([table_base, *(index + 1 for index, _ in slots)])
            executor.clear(table_base, top - table_base)
            said = str(error).strip().splitlines()
            raise InvalidExecutable(
                f"the engine refuses to instantiate the module: {said[0]}; build it with "
                "`build.py kernel`, or as kernels/README.md says"
            ) from error
        machine.loaded[table_base] = load
        machine.post(load)
        self._announce(QUEUE_POSTED, generation)

    def unload(self, first: int, slots: int, generation: int) -> None:
        self._submitting.clear(first, slots)
        self._machine.loaded.pop(first)
        self._machine.post(_Unload(first, slots, generation))
        self._announce(QUEUE_POSTED, generation)

    def passed(self, generation: int) -> bool:
        word = self._machine.word
        threads = tuple(self._machine.inboxes)
        return all(word(thread + THREAD_GENERATION).value >= generation for thread in threads)

    def fault(self) -> str:
        faults = self._machine.faults
        return str(faults[0]).strip() if faults else ""

    def add_worker(self, queue: int, thread: int, stack_top: int) -> None:
        self._queue = queue
        machine = self._machine
        latest = _UpToDate(machine.posted)
        machine.inboxes[thread] = deque([*machine.loaded.values(), latest])
        name = f"tilework {len(self._workers) + 1}"
        worker = _Worker(target=machine.work, args=(thread, stack_top), name=name, daemon=True)
        self._announce(QUEUE_POSTED, machine.posted)
        worker.start()
        self._workers.append(worker)

    def abandon_workers(self) -> Callable[[], bool]:
        """As `Driver` says, but a Python thread cannot be ended.

        One that loops for ever goes on for ever, on a core of its own and in memory that is never
        used again; one that comes back from its kernel ends.
        """
        self._announce(QUEUE_SHUTDOWN, 1)
        machine, workers = self._machine, self._workers
        machine.inboxes.clear()
        machine.faults.clear()
        self._workers = []
        return lambda: not any(worker.is_alive() for worker in workers)

    def _announce(self, field: int, value: int) -> None:
        if self._queue:
            self._submitting.call("tw_announce", self._queue, self._queue + field, value)

    def submit(self, thread: int, program: int, state: int, slots: int) -> int:
        parameters = (program, state, slots)
        return self._submitting.run("tw_submit", thread, parameters, "tw_resume", ())

    def push(self, queue: int, program: int, state: int, slots: int) -> None:
        self._submitting.call("tw_push", queue, program, state, slots)

    def wait(self, thread: int, target: int, tiles: int, microseconds: int) -> int:
        parameters = (target, tiles, microseconds)
        return self._submitting.run("tw_wait", thread, parameters, "tw_wait", parameters)

    def cancel(self, submission: int, status: int) -> bool:
        return self._submitting.call("tw_cancel", submission, status) == 1

    def go_on(self, queue: int) -> None:
        self._submitting.call("tw_go_on", queue)

    async def ended(self, queue: int, target: int, seconds: float) -> int:
        # No futex wakes an event loop of Python's; a look costs half a microsecond.
        word = self._machine.word
        deadline = time.monotonic() + seconds
        while True:
            ended = word(queue + QUEUE_ENDED).value
            there = (ended - target) & 0xFFFFFFFF < 1 << 31
            if there or word(queue + QUEUE_HALTED).value or time.monotonic() >= deadline:
                return ended
            await asyncio.sleep(_LOOK_SECONDS)

    async def rest(self) -> None:
        await asyncio.sleep(0)

    def is_ready(self, thread: int) -> bool:
        word = self._machine.word
        loaded = word(thread + THREAD_GENERATION).value == self._machine.posted
        return loaded and word(thread + THREAD_READY).value == 1

    async def ready(self, threads: Sequence[int], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not all(map(self.is_ready, threads)):
            self._machine.check()
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.002)
        return True

    def download(self, url: str) -> bytes:
        try:
            with urllib.request.urlopen(url) as response:
                return bytes(response.read())
        except OSError as error:
            raise NoSuchFile(f"{url}: {error}; check the address") from error

    def close(self) -> None:
        self._machine.stop()
        if self._executor is not None:
            self._announce(QUEUE_SHUTDOWN, 1)
        for worker in self._workers:
            worker.join(_LAST_SECONDS)
        self._executor = None
