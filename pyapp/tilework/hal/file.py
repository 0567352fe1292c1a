"""What the queue reads from and writes to: binary files, and Python's own bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from tilework.core.errors import Fail, InvalidArgument, OutOfRange

if TYPE_CHECKING:
    from tilework.hal.buffer import Buffer

# An object with seek and readinto / write, or anything with the buffer protocol.
FileLike: TypeAlias = Any

_PIECE = 1 << 20  # bytes that are copied at once where the host does not see device memory


def check_file(file: FileLike, offset: int, nbytes: int, *, writing: bool) -> None:
    """InvalidArgument for what is no binary file; OutOfRange when bytes are too short for it."""
    method = "write" if writing else "readinto"
    if hasattr(file, method) and hasattr(file, "seek"):
        if offset < 0:
            raise OutOfRange(f"a file has no byte {offset}")
        return
    try:
        view = memoryview(file)
    except TypeError:
        raise InvalidArgument(
            f"{type(file).__name__} has neither seek and {method} nor the buffer protocol; "
            "open files in binary mode"
        ) from None
    if not view.c_contiguous or (writing and view.readonly):
        raise InvalidArgument(
            f"this {type(file).__name__} is {'read-only' if view.c_contiguous else 'strided'}"
        )
    if offset < 0 or offset + nbytes > view.nbytes:
        raise OutOfRange(f"{nbytes:,} bytes at {offset:,} leave a file of {view.nbytes:,}")


def read_file(file: FileLike, offset: int, target: Buffer) -> None:
    """Fills `target` from `file`. Fail when the file ends before; its own errors as they are."""
    driver, address = target.heap.driver, target.placed()
    target.heap.copied_in += target.nbytes
    if not hasattr(file, "readinto"):
        driver.write(address, memoryview(file).cast("B")[offset : offset + target.nbytes])
        return
    file.seek(offset)
    done = 0
    piece = memoryview(bytearray(min(_PIECE, target.nbytes)))
    while done < target.nbytes:
        count = file.readinto(piece[: target.nbytes - done])
        if not count:
            raise Fail(
                f"the file ended after {offset + done:,} bytes, {offset + target.nbytes:,} are "
                "needed"
            )
        driver.write(address + done, piece[:count])
        done += count


def write_file(source: Buffer, file: FileLike, offset: int) -> None:
    """Writes `source` to `file`. The file's own errors as they are."""
    driver, address = source.heap.driver, source.placed()
    source.heap.copied_out += source.nbytes
    if not hasattr(file, "write"):
        target = memoryview(file).cast("B")[offset : offset + source.nbytes]
        driver.read_into(address, target)
        return
    file.seek(offset)
    piece = memoryview(bytearray(min(_PIECE, source.nbytes)))
    for done in range(0, source.nbytes, _PIECE):
        part = piece[: source.nbytes - done]
        driver.read_into(address + done, part)
        left = part
        while left:
            left = left[file.write(left) :]
