"""What a driver is: memory, threads and a way to call the processor.

A driver decides nothing about where things lie in device memory; the device does, with its single
allocator, and the driver does as told. Adding one means one file in `hal/drivers/` and one line in
`hal/drivers/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

# Anything with the buffer protocol, C-contiguous; the browser driver also takes a JS Uint8Array.
Data: TypeAlias = object


def nbytes_of(data: Data) -> int:
    """Bytes of host data; a JS typed array has no buffer protocol but says its length."""
    length = getattr(data, "byteLength", None)
    return int(length) if length is not None else memoryview(data).nbytes  # type: ignore[arg-type]


class FarMemory(Protocol):
    """A second memory, which the host writes and one module imports; see `tilework.hal.far`."""

    def write(self, offset: int, data: Data) -> None:
        """Copies `data` there."""

    def drop(self) -> None:
        """The host needs it no more."""


class Driver(Protocol):
    """One memory and the threads over it. Addresses and lengths are in bytes."""

    mode: str  # "inline", "arena", "heap", ...
    engine: str  # what runs the kernels, for people: "Chromium 156", "wasmtime 50.0.1"
    threads: int  # the submitting one included
    reason: str  # why this mode and this many threads, in words
    may_block: bool  # whether the submitting thread may wait on a futex
    imports: bool  # whether host memory is device memory, so that address_of works
    shared: bool  # whether the memory is a shared one, so that modules keep their shared bit

    @property
    def alone(self) -> bool:
        """Whether no other thread runs Python: then nobody else can signal while this one waits."""

    def reserve(self, nbytes: int) -> tuple[int, int]:
        """A new zero-filled slab of at least `nbytes`: (address, bytes). OutOfMemory if refused."""

    def write(self, address: int, data: Data) -> None:
        """Copies `data` to device memory."""

    def read_into(self, address: int, out: Data) -> None:
        """Fills the writable buffer `out` from device memory."""

    def port(
        self, address: int, nbytes: int
    ) -> tuple[Callable[[Data], object], Callable[[Data], object]]:
        """`write` and `read_into` of just this span, as fast as they get.

        They take C-contiguous buffers of exactly so many bytes, any format, at least one byte.
        """

    def clear(self, address: int, nbytes: int) -> None:
        """Fills a span with zeros."""

    def far(self, nbytes: int) -> FarMemory:
        """A memory beside the device's, of at most 4 GiB, zero-filled. OutOfMemory if refused."""

    def view(self, address: int, nbytes: int) -> memoryview | None:
        """Device memory as the host's own, or None where the host cannot see it."""

    def address_of(self, data: Data) -> int:
        """Where the bytes of a host object lie in device memory, C-contiguous ones, not copied.

        Valid while the object lives and keeps its size. Unsupported where the host's memory is
        not the device's, InvalidArgument when the bytes are not contiguous.
        """

    def accepts(self, binary: bytes) -> bool:
        """Whether the engine can compile this module (e.g. has relaxed SIMD)."""

    def start(self, stack_top: int) -> None:
        """Prepares the submitting thread."""

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
        """Instantiates a module on every thread; its exports go to the given table indices.

        `generation` counts loads and unloads up to this one, `far` is what env.far is.
        InvalidExecutable when the engine refuses; no worker has seen the module then.
        """

    def unload(self, first: int, slots: int, generation: int) -> None:
        """Empties table slots on every thread, so that the engine drops the module's instances."""

    def passed(self, generation: int) -> bool:
        """Whether every worker has carried out all loads and unloads up to `generation`.

        A worker that has failed carries out nothing any more and does not count.
        """

    def fault(self) -> str:
        """Why a worker has failed to carry out a load or an unload, or ""."""

    def add_worker(self, queue: int, thread: int, stack_top: int) -> None:
        """Starts one more thread on the queue."""

    def abandon_workers(self) -> Callable[[], bool]:
        """Gives up on all workers: their queue is shut down and they end as soon as they can.

        Returns a function that says whether they can touch memory no more.
        """

    # The ring: see `tilework.hal.ring`, which owns the addresses and the numbers. `ended` and
    # `target` count submissions modulo 2**32; a driver may return them with any multiple added.

    def submit(self, thread: int, program: int, state: int, slots: int) -> int:
        """Pushes a program and computes until it has ended: its tw_status, as tw_resume says.

        `slots` 0: the state holds these bindings already, by an earlier submission in the ring.
        """

    def push(self, queue: int, program: int, state: int, slots: int) -> None:
        """Appends a program; never waits. The caller sees to a free slot."""

    def wait(self, thread: int, target: int, tiles: int, microseconds: int) -> int:
        """Computes and sleeps until `ended` reaches `target`; returns `ended`. See tw_wait."""

    def cancel(self, submission: int, status: int) -> bool:
        """Ends a submission with `status` unless it is over; whether it did."""

    def go_on(self, queue: int) -> None:
        """Opens what follows, after a failure has been looked at."""

    async def ended(self, queue: int, target: int, seconds: float) -> int:
        """As `wait` on a free event loop: computes nothing, comes back after `seconds` at most."""

    async def rest(self) -> None:
        """Leaves the event loop to whatever is due, timers and messages too."""

    def is_ready(self, thread: int) -> bool:
        """Whether the worker that owns this tw_thread takes tiles."""

    async def ready(self, threads: Sequence[int], seconds: float) -> bool:
        """Waits until all these workers take tiles; False when the time passed first."""

    def download(self, url: str) -> bytes:
        """The bytes behind a URL; NoSuchFile with the status when there are none."""

    def close(self) -> None:
        """Ends the threads. The memory goes when nothing refers to the driver any more."""
