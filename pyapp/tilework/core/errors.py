"""The errors that tilework raises.

Each says what was wrong, where, and what to do. The names of the first group are onnxruntime's,
so that scripts written for it catch what they expect. `NotImplemented` is Python's word for
something else: modules say `errors.NotImplemented` and do not import it by name. All derive from
`TileworkError`; those that Python has a word for derive from that too.
"""

from __future__ import annotations


class TileworkError(Exception):
    """Anything that tilework reports."""


# -- onnxruntime's names ---------------------------------------------------------------------


class Fail(TileworkError, RuntimeError):
    """The operation failed for a reason that has no class of its own."""


class InvalidArgument(TileworkError, ValueError):
    """A wrong input name, rank, shape, dtype or option."""


class NoSuchFile(TileworkError, FileNotFoundError):
    """A model, or a piece of its weights, is not where it was said to be."""


class InvalidProtobuf(TileworkError, ValueError):
    """The bytes are not a protobuf of the expected kind: truncated, corrupt or something else."""


class InvalidGraph(TileworkError, ValueError):
    """The model was read, but its graph contradicts itself or the operators' definitions."""


class NotImplemented(TileworkError, NotImplementedError):  # noqa: A001 - onnxruntime's name
    """The model uses an operator, a version or a dtype that tilework does not have."""


class RuntimeException(TileworkError, RuntimeError):
    """A run failed after it had begun."""


# -- the HAL's ---------------------------------------------------------------------------------


class OutOfMemory(TileworkError, MemoryError):
    """Device memory cannot hold what was asked for."""


class OutOfRange(TileworkError, IndexError):
    """A span leaves its buffer, or a binding leaves its span."""


class InvalidExecutable(TileworkError, ValueError):
    """The bytes are not a kernel module that this device can load."""


class KernelFailure(RuntimeException):
    """A kernel returned an error or trapped; later submissions are not affected."""

    def __init__(
        self, message: str, *, kernel: str, tile: tuple[int, int, int], status: int, command: int
    ) -> None:
        super().__init__(message)
        self.kernel = kernel
        self.tile = tile
        self.status = status
        self.command = command


class InvalidIndex(KernelFailure, InvalidArgument):
    """The data that a kernel was given holds an index outside its axis."""


class ThreadLost(RuntimeException):
    """A thread was ended in the middle of a submission; later submissions are not affected."""


class DeviceLost(TileworkError, RuntimeError):
    """The device is closed or its threads cannot be brought back."""


class NotReady(TileworkError, RuntimeError):
    """A transient is used by the host before it has memory."""


class Cancelled(TileworkError, RuntimeError):
    """An operation was cancelled, or it needed one that was."""


class TimedOut(TileworkError, TimeoutError):
    """A wait's time has passed; what it waited for may still happen."""


class Deadlock(RuntimeException):
    """A wait can never end: nothing is left that could signal what it waits for."""



class Unsupported(TileworkError, RuntimeError):
    """This browser or page lacks what the operation needs."""
