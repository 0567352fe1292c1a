"""Queue: everything that happens in the order that semaphores give it, and in no other.

Checks what is asked, makes an Operation of it and hands it to the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tilework.core.errors import DeviceLost, InvalidArgument
from tilework.hal.file import FileLike, check_file, read_file, write_file
from tilework.hal.operation import Deferred, Kind, Operation
from tilework.hal.scheduler import Scheduler
from tilework.hal.semaphore import Points, points_of
from tilework.hal.transient import Transient
from tilework.hal.usage import Access, Usage

if TYPE_CHECKING:
    from tilework.hal.buffer import Buffer
    from tilework.hal.command_buffer import CommandBuffer
    from tilework.hal.executable import Entry
    from tilework.hal.heap import Heap
    from tilework.hal.kernel import Kernel
    from tilework.hal.program import Program


class Queue:
    """`device.queue`. Every method returns at once, with the operation.

    `wait` and `signal` are points: a (semaphore, value), a Fence, or a sequence of these. An
    operation begins when all its waits are reached, whatever was enqueued before it, and signals
    when it is over. When a wait fails, or the operation itself, all its signals fail with that
    same error. What is wrong with the arguments is raised here, before anything is enqueued.

    Programs that are ready are computed by the workers at once; host calls, reads and writes run
    when Python next drives the queue: in a wait, an await or `Device.submit`.
    """

    def __init__(
        self, heap: Heap, scheduler: Scheduler, commands: Callable[[str], CommandBuffer]
    ) -> None:
        """`commands` gives a new command buffer, with that label."""
        self._heap = heap
        self._scheduler = scheduler
        self._commands = commands

    # -- programs ------------------------------------------------------------------------------

    def execute(
        self,
        program: Program,
        slots: Sequence[Buffer] = (),
        *,
        wait: Points = None,
        signal: Points = None,
    ) -> Operation:
        """Runs a program with `slots` behind its Slots; keeps all of it alive until it is over."""
        label = f"execute {program.label or 'a program'}"
        return self._program(label, program, slots, wait, signal)

    def dispatch(
        self,
        kernel: Kernel | Entry,
        counts: tuple[int, int, int],
        params: NamedTuple | bytes | None,
        bindings: Sequence[Buffer | None],
        *,
        counts_from: Buffer | None = None,
        scratch: int = 0,
        label: str = "",
        wait: Points = None,
        signal: Points = None,
    ) -> Operation:
        """Runs one kernel; see `CommandBuffer.dispatch`. A program of many commands costs less."""

        def record(commands: CommandBuffer) -> None:
            commands.dispatch(
                kernel, counts, params, bindings,
                counts_from=counts_from, scratch=scratch, label=label,
            )  # fmt: skip

        return self._one(f"dispatch {label or kernel.name}", record, wait, signal)

    def fill(
        self, target: Buffer, pattern: bytes, *, wait: Points = None, signal: Points = None
    ) -> Operation:
        """Fills `target` with `pattern`, 1, 2 or 4 bytes, repeated."""
        return self._one("fill", lambda commands: commands.fill(target, pattern), wait, signal)

    def update(
        self,
        target: Buffer,
        data: bytes | bytearray | memoryview,
        *,
        wait: Points = None,
        signal: Points = None,
    ) -> Operation:
        """Writes `data`, as it is now, to `target`."""
        taken = bytes(data)
        return self._one("update", lambda commands: commands.update(target, taken), wait, signal)

    def copy(
        self, source: Buffer, target: Buffer, *, wait: Points = None, signal: Points = None
    ) -> Operation:
        """Copies `source` to `target`: equal lengths, no overlap."""
        return self._one("copy", lambda commands: commands.copy(source, target), wait, signal)

    # -- order ---------------------------------------------------------------------------------

    def barrier(self, *, wait: Points = None, signal: Points = None) -> Operation:
        """Signals when its waits are reached; computes nothing."""
        return self._enqueue(
            Operation(self._scheduler, Kind.ORDER, "barrier", points_of(wait), points_of(signal))
        )

    # -- memory --------------------------------------------------------------------------------

    def alloca(
        self,
        nbytes: int,
        label: str = "",
        *,
        usage: Usage = Usage.ALL,
        access: Access = Access.ALL,
        wait: Points = None,
        signal: Points = None,
    ) -> Transient:
        """A transient: a buffer that can be recorded and bound at once, and used after `signal`.

        It has its memory from now on if there is any, so that what depends on it can be pushed;
        else from when enough comes back, which a dealloca or a `free` may do. `buffer.operation`
        is the handle to wait for or to cancel. OutOfMemory when all of the device's memory would
        not do; a blocking wait that only memory could end turns into the operation's OutOfMemory.
        """
        if not self._heap.allocator.within_limit(nbytes):
            self._heap.take(nbytes, label)  # raises
        buffer = Transient(self._heap, nbytes, label, usage=usage, access=access)
        operation = Operation(
            self._scheduler,
            Kind.ORDER,
            f"alloca {label or f'of {nbytes:,} bytes'}",
            points_of(wait),
            points_of(signal),
            prepare=buffer.stage,
            action=buffer.commit,
            kept=(buffer.abandon,),
        )
        buffer.operation = operation
        self._enqueue(operation)
        return buffer

    def dealloca(self, buffer: Buffer, *, wait: Points = None, signal: Points = None) -> Operation:
        """Ends a transient's life once the waits are reached; its memory comes back then.

        From now on nothing more can be enqueued with it, unless this operation fails: then the
        buffer stays what it was. InvalidArgument for what no alloca gave; DeviceLost the second
        time.
        """
        if not isinstance(buffer, Transient):
            raise InvalidArgument(f"dealloca: {buffer!r} is not from alloca; use free()")
        self._check_staying((buffer,))
        operation = Operation(
            self._scheduler,
            Kind.ORDER,
            f"dealloca {buffer.label or 'of a transient'}",
            points_of(wait),
            points_of(signal),
            action=buffer.free,
        )
        buffer.check_alive()
        buffer.leaving = operation
        try:
            return self._enqueue(operation)
        except BaseException:
            buffer.leaving = None
            raise

    # -- the host ------------------------------------------------------------------------------

    def host_call(
        self,
        call: Callable[..., Deferred | Coroutine[Any, Any, None] | None],
        *arguments: object,
        blocking: bool = True,
        wait: Points = None,
        signal: Points = None,
    ) -> Operation:
        """Calls `call(*arguments)` in Python once the waits are reached and the queue is driven.

        Its return signals; what it raises fails the signals. It may return a Deferred (see
        `deferred`), and whoever ends that gives the signals. A coroutine function becomes a task
        of the event loop that awaits; a blocking wait cannot run it and says so. With `blocking`
        False the signals are given first, and what the call raises is the operation's failure only.
        """
        if not callable(call):
            raise InvalidArgument(f"host_call: {call!r} cannot be called")
        label = f"host call {getattr(call, '__name__', type(call).__name__)}"
        bound = partial(call, *arguments)
        return self._host(label, bound, wait, signal, early=not blocking)

    def deferred(self) -> Deferred:
        """The end of a host call that comes later; the call returns it."""
        return Deferred(self._scheduler)

    def read(
        self,
        file: FileLike,
        offset: int,
        target: Buffer,
        *,
        wait: Points = None,
        signal: Points = None,
    ) -> Operation:
        """Fills `target` from byte `offset` of `file`: a binary file with readinto, or bytes."""
        check_file(file, offset, target.nbytes, writing=False)
        self._check_staying((target,))
        target.hold()
        call = partial(read_file, file, offset, target)
        return self._host("read", call, wait, signal, kept=(target.let_go,))

    def write(
        self,
        source: Buffer,
        file: FileLike,
        offset: int,
        *,
        wait: Points = None,
        signal: Points = None,
    ) -> Operation:
        """Writes `source` at byte `offset` of `file`: a binary file, or a writable buffer."""
        check_file(file, offset, source.nbytes, writing=True)
        self._check_staying((source,))
        source.hold()
        call = partial(write_file, source, file, offset)
        return self._host("write", call, wait, signal, kept=(source.let_go,))

    # -- the whole queue -----------------------------------------------------------------------

    def idle(self, timeout: float | None = None) -> None:
        """Blocks until the queue is empty; raises no operation's failure. TimedOut, Deadlock."""
        self._scheduler.drive(lambda: not self._scheduler.busy, (), timeout)

    async def idled(self, timeout: float | None = None) -> None:
        """As `idle`, with the event loop left free."""
        await self._scheduler.driven(lambda: not self._scheduler.busy, (), timeout)

    # -- inside --------------------------------------------------------------------------------

    def _enqueue(self, operation: Operation) -> Operation:
        self._scheduler.enqueue(operation)
        return operation

    def _check_staying(self, buffers: Iterable[Buffer]) -> None:
        """DeviceLost for a transient that was given to dealloca, unless that has failed."""
        for buffer in buffers:
            root = buffer.root
            leaving = root.leaving if isinstance(root, Transient) else None
            if leaving is not None and leaving.failure is None:
                raise DeviceLost(f"{buffer!r} was used after it was given to dealloca")

    def _program(
        self, label: str, program: Program, slots: Sequence[Buffer], wait: Points, signal: Points
    ) -> Operation:
        self._check_staying((*slots, *program.implicit))
        return self._enqueue(
            Operation(
                self._scheduler,
                Kind.DEVICE,
                label,
                points_of(wait),
                points_of(signal),
                program=program,
                slots=slots,
            )
        )

    def _one(
        self,
        label: str,
        record: Callable[[CommandBuffer], None],
        wait: Points,
        signal: Points,
    ) -> Operation:
        """A program of one command, which goes with its operation."""
        commands = self._commands(label)
        record(commands)
        program = commands.finish()
        try:
            return self._program(label, program, (), wait, signal)
        finally:
            program.free()  # by name: its operation holds it

    def _host(
        self,
        label: str,
        call: Callable[[], Any],
        wait: Points,
        signal: Points,
        *,
        early: bool = False,
        kept: Sequence[Callable[[], None]] = (),
    ) -> Operation:
        try:
            return self._enqueue(
                Operation(
                    self._scheduler,
                    Kind.HOST,
                    label,
                    points_of(wait),
                    points_of(signal),
                    call=call,
                    early=early,
                    kept=kept,
                )
            )
        except BaseException:
            for let_go in kept:
                let_go()
            raise
