"""Threads: the memory that threads meet in, and what takes their place when they are lost.

A thread that loops for ever in a kernel, or that the browser has ended, never finishes its tile,
and nobody else can. `renew` gives up on all workers at once: the old queue is shut down, so that a
stale worker that comes back from its kernel finds a submission that has failed and nothing else to
do; new workers start on a new queue. Their old memory goes back to the allocator only when
the driver says that they can touch it no more. All other memory stays.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from tilework.core.config import SCRATCH, STACK
from tilework.hal._abi import (
    QUEUE_SIZE,
    SHARE_SIZE,
    SUBMISSION_SIZE,
    THREAD_COMMAND,
    THREAD_IN_TILE,
    THREAD_SIZE,
    TW_ALIGNMENT,
    TW_RING,
)
from tilework.hal.buffer import Buffer

if TYPE_CHECKING:
    from tilework.hal.heap import Heap

RING_BYTES = TW_RING * SUBMISSION_SIZE


class Threads:
    """`queue` is a tw_queue, its ring and shares; `blocks` are tw_thread | stack | scratch, by
    worker."""

    def __init__(self, heap: Heap, started: Callable[[], None]) -> None:
        """`started` is called when workers have begun anew, who have yet to load everything."""
        self._heap = heap
        self._started = started
        self.queue = self._cleared(self._queue_bytes(), "queue")
        self.blocks = [self._block(worker) for worker in range(heap.driver.threads)]
        self._leaving: list[tuple[Callable[[], bool], list[Buffer]]] = []

    @property
    def addresses(self) -> list[int]:
        """Of the tw_threads; the first is the submitting one's."""
        return [block.address for block in self.blocks]

    def start(self) -> None:
        """Prepares the submitting thread."""
        self._heap.driver.start(self._stack_top(self.blocks[0]))

    def start_workers(self) -> None:
        """Has the driver start all others on the queue."""
        for block in self.blocks[1:]:
            self._heap.driver.add_worker(
                self.queue.address, block.address, self._stack_top(block)
            )
        self._started()

    def stuck(self) -> tuple[int, int, tuple[int, int, int]] | None:
        """The first worker that is inside a kernel: (worker, command, tile)."""
        for worker, block in enumerate(self.blocks[1:], 1):
            words = struct.unpack("<5I", block.peek(THREAD_IN_TILE, 20))
            assert THREAD_COMMAND == THREAD_IN_TILE + 4
            if words[0]:
                return worker, words[1], (words[2], words[3], words[4])
        return None

    def renew(self) -> None:
        """Gives up on all workers: a new queue and new blocks; `start_workers` follows."""
        self.settle()
        queue = self._cleared(self._queue_bytes(), "queue")
        blocks = [self._block(worker, queue) for worker in range(1, len(self.blocks))]
        gone = self._heap.driver.abandon_workers()
        self._leaving.append((gone, [self.queue, *self.blocks[1:]]))
        self.queue = queue
        self.blocks[1:] = blocks
        self.blocks[0].write(struct.pack("<I", queue.address))

    def settle(self) -> bool:
        """Gives back what stale workers had, once they are gone; whether there was any."""
        done = [buffers for gone, buffers in self._leaving if gone()]
        self._leaving = [entry for entry in self._leaving if entry[1] not in done]
        for buffers in done:
            for buffer in buffers:
                buffer.free()
        return bool(done)

    def _queue_bytes(self) -> int:
        return QUEUE_SIZE + RING_BYTES + self._heap.driver.threads * SHARE_SIZE

    def _cleared(self, nbytes: int, label: str) -> Buffer:
        buffer = Buffer.allocate(self._heap, nbytes, label)
        self._heap.driver.clear(buffer.address, nbytes)
        return buffer

    def _block(self, worker: int, queue: Buffer | None = None) -> Buffer:
        buffer = self._cleared(THREAD_SIZE + STACK + SCRATCH, f"thread {worker}")
        may_block = 1 if worker or self._heap.driver.may_block else 0
        scratch = buffer.address + THREAD_SIZE + STACK
        address = (queue or self.queue).address
        buffer.write(struct.pack("<5I", address, worker, scratch, SCRATCH, may_block))
        return buffer

    def _stack_top(self, block: Buffer) -> int:
        top = block.address + THREAD_SIZE + STACK
        return top // TW_ALIGNMENT * TW_ALIGNMENT
