"""Where a model's weights lie when they are not in the model file, and in which pieces they come.

Owns: locations, offsets and lengths of ONNX external data, the manifest of pieces, the checks of
both. Never reads, streams or keeps weights: the session does, into one device buffer in which
every location begins at its `base`, and constants say where in that buffer they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tilework.core.errors import InvalidArgument, InvalidProtobuf, NoSuchFile

ALIGNMENT = 64  # bytes, of every location's base

# (location, offset, nbytes) -> the bytes; how the front looks at a small external tensor.
Read = Callable[[str, int, int], bytes | memoryview]


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of those that make up a location, in order. `sha256` is lower-case hex or ""."""

    location: str
    name: str
    offset: int  # bytes from the beginning of the location
    nbytes: int
    sha256: str = ""

    def verify(self, data: bytes | bytearray | memoryview) -> None:
        """InvalidProtobuf when `data` is not this piece, by size or by hash."""
        nbytes = memoryview(data).nbytes
        if nbytes != self.nbytes:
            raise InvalidProtobuf(
                f"external data '{self.location}': piece '{self.name}' has {nbytes} bytes, "
                f"{self.nbytes} were announced; fetch it again"
            )
        if self.sha256:
            found = hashlib.sha256(data).hexdigest()
            if found != self.sha256:
                raise InvalidProtobuf(
                    f"external data '{self.location}': piece '{self.name}' is damaged, its SHA-256 "
                    f"is {found}, {self.sha256} was announced; fetch it again"
                )

    def missing(self, where: str = "") -> NoSuchFile:
        """The error to raise when the piece is not `where` it was looked for."""
        looked = f" at {where}" if where else ""
        return NoSuchFile(
            f"external data '{self.location}': piece '{self.name}' (bytes {self.offset} to "
            f"{self.offset + self.nbytes}) is not there{looked}; put all pieces beside the model"
        )


@dataclass(frozen=True, slots=True)
class ExternalFile:
    """One location: its size and where it begins in the session's buffer of external data."""

    location: str
    nbytes: int
    base: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class ExternalData:
    """All locations of a model. `nbytes` is the size of the buffer that holds them."""

    files: tuple[ExternalFile, ...]
    read: Read | None = field(default=None, compare=False)

    @property
    def nbytes(self) -> int:
        return max((file.base + file.nbytes for file in self.files), default=0)

    @property
    def pieces(self) -> tuple[tuple[int, Piece], ...]:
        """Every piece with the offset in the session's buffer at which it belongs."""
        return tuple((file.base + p.offset, p) for file in self.files for p in file.pieces)

    def file(self, location: str) -> ExternalFile | None:
        return next((file for file in self.files if file.location == location), None)

    @classmethod
    def from_manifests(cls, *manifests: bytes | str, read: Read | None = None) -> ExternalData:
        """Read manifests: {"location", "bytes", "pieces": [{"name", "bytes", "sha256"}, ...]}.

        Raises InvalidProtobuf naming what is wrong with one.
        """
        files: list[ExternalFile] = []
        base = 0
        for text in manifests:
            file = _manifest(text, base)
            files.append(file)
            base = -(-(base + file.nbytes) // ALIGNMENT) * ALIGNMENT
        return cls(tuple(files), read)

    @classmethod
    def from_sizes(cls, sizes: dict[str, int], read: Read | None = None) -> ExternalData:
        """Uncut files: location -> bytes; each is one piece of its own name."""
        files: list[ExternalFile] = []
        base = 0
        for location, nbytes in sizes.items():
            check_location(location, "external data")
            files.append(
                ExternalFile(location, nbytes, base, (Piece(location, location, 0, nbytes),))
            )
            base = -(-(base + nbytes) // ALIGNMENT) * ALIGNMENT
        return cls(tuple(files), read)


def _manifest(text: bytes | str, base: int) -> ExternalFile:
    try:
        raw: Any = json.loads(text)
        location, nbytes = raw["location"], raw["bytes"]
        rows: Sequence[Any] = raw["pieces"]
        entries = [(row["name"], row["bytes"], row.get("sha256", "")) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidProtobuf(
            f"manifest of external data: {type(error).__name__}: {error}; it must be JSON with "
            "location, bytes and pieces of name, bytes and sha256"
        ) from None
    where = "manifest of external data"
    check_location(location, where)
    pieces: list[Piece] = []
    offset = 0
    for name, size, digest in entries:
        check_location(name, where)
        if not _is_size(size) or not isinstance(digest, str):
            raise InvalidProtobuf(f"{where} '{location}': piece '{name}' has no size or hash")
        pieces.append(Piece(location, name, offset, size, digest.lower()))
        offset += size
    if not _is_size(nbytes) or offset != nbytes:
        raise InvalidProtobuf(
            f"{where} '{location}': the pieces add up to {offset} bytes, it says {nbytes}"
        )
    return ExternalFile(location, nbytes, base, tuple(pieces))


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def check_location(location: object, where: str) -> str:
    """The location itself, if it names a file beside the model or below it.

    Anything that could lead elsewhere (absolute, "..", a drive, a URL, a backslash) is an
    InvalidArgument naming `where`.
    """
    if not isinstance(location, str) or not location:
        raise InvalidArgument(f"{where}: external data without a location")
    parts = location.split("/")
    if (
        location.startswith("/")
        or "\\" in location
        or ":" in location
        or any(ord(c) < 32 for c in location)
        or ".." in parts
    ):
        raise InvalidArgument(
            f"{where}: external data location {location!r} leaves the model's folder; "
            "only files beside the model or below it are read"
        )
    return location


def locate(
    entries: dict[str, str], expected: int, external: ExternalData | None, where: str
) -> tuple[ExternalFile, int]:
    """The file and the offset in it of a tensor of `expected` bytes.

    `entries` are TensorProto.external_data's. Raises NoSuchFile when the location is not among
    the session's, InvalidProtobuf when offset or length do not fit, InvalidArgument as
    `check_location`.
    """
    location = check_location(entries.get("location"), where)
    offset = _number(entries, "offset", 0, where)
    length = _number(entries, "length", expected, where)
    if length != expected:
        raise InvalidProtobuf(
            f"{where}: external data has length {length}, its shape and dtype need {expected}"
        )
    file = None if external is None else external.file(location)
    if file is None:
        known = [f.location for f in external.files] if external else []
        raise NoSuchFile(
            f"{where}: its weights are in '{location}', which was not given; external data at "
            f"hand: {', '.join(known) or 'none'}. Put the file beside the model"
        )
    if offset + length > file.nbytes:
        raise InvalidProtobuf(
            f"{where}: bytes {offset} to {offset + length} are outside '{location}' of "
            f"{file.nbytes} bytes; the file is truncated or another model's"
        )
    return file, offset


def _number(entries: dict[str, str], key: str, default: int, where: str) -> int:
    text = entries.get(key)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise InvalidProtobuf(f"{where}: external data {key} {text!r} is not a byte count")
    return int(text)
