"""Reader: bytes, numbers and names out of a WebAssembly binary, each failure with its place.

Source: the WebAssembly core specification, binary format, values.
"""

from __future__ import annotations

from tilework.core.errors import InvalidExecutable


class Reader:
    """Reads `data` from the front; `name` is the module's, for errors."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.at = 0
        self.name = name

    def fail(self, what: str) -> InvalidExecutable:
        """The error for damaged bytes: says where they are."""
        return InvalidExecutable(f"{self.name}: {what} at byte {self.at:,} of {len(self.data):,}")

    def refuse(self, what: str) -> InvalidExecutable:
        """The error for a sound module that cannot be loaded: says what to do instead."""
        return InvalidExecutable(f"{self.name}: {what}")

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise self.fail("the module ends too early")
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        """An unsigned LEB128 number."""
        result = shift = 0
        while True:
            byte = self.byte()
            result |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return result
            shift += 7
            if shift > 63:
                raise self.fail("a number is longer than 64 bits")

    def bytes(self) -> bytes:
        """A byte string with its length in front."""
        length = self.number()
        start, self.at = self.at, self.at + length
        if self.at > len(self.data):
            raise self.fail("a name runs past the end")
        return self.data[start : self.at]

    def text(self) -> str:
        try:
            return self.bytes().decode()
        except UnicodeDecodeError:
            raise self.fail("a name is not UTF-8") from None
