"""Source: where a model and its external data come from, and how their bytes reach the device.

Bytes, a file with its neighbours, or a URL with its neighbours. Weights go from the file, or from
the response, into one device buffer, piece by piece; they are never all in Python's memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias
from urllib.parse import urljoin, urlsplit

from tilework.core.errors import InvalidArgument, InvalidProtobuf, NoSuchFile
from tilework.engine.devices import Buffer, Device
from tilework.onnx.external import ExternalData, Piece, check_location
from tilework.onnx.foreign import what_it_is
from tilework.onnx.proto import ModelProto, parse

Bytes: TypeAlias = bytes | bytearray | memoryview
Given: TypeAlias = "Bytes | str | os.PathLike[str] | Buffer"
External: TypeAlias = "Buffer | Mapping[str, Given] | None"

_CHUNK = 16 << 20  # bytes read from a file at a time
_SEEN = "seen from {}; give the path of a .onnx file, a whole URL or the bytes"
if sys.platform == "emscripten":
    _SEEN = (
        "seen from {}: a page's Python has files of its own only; give a whole URL "
        "(https://...) or the bytes"
    )


class _Neighbours(Protocol):
    """Reads what lies beside a model."""

    def read(self, name: str) -> bytes | None:
        """A whole small file, or None when there is none."""

    def span(self, name: str, offset: int, nbytes: int) -> bytes:
        """A part of a file."""

    def size(self, name: str) -> int | None:
        """Bytes of a file where that is known without reading it; None when there is none."""

    def where(self) -> str:
        """For errors."""


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes | None:
        path = self._folder / name
        return path.read_bytes() if path.is_file() else None

    def span(self, name: str, offset: int, nbytes: int) -> bytes:
        with (self._folder / name).open("rb") as file:
            file.seek(offset)
            return file.read(nbytes)

    def size(self, name: str) -> int | None:
        path = self._folder / name
        return path.stat().st_size if path.is_file() else None

    def where(self) -> str:
        return str(self._folder)


class _Site:
    def __init__(self, url: str, device: Device) -> None:
        self._url = url
        self._device = device
        self._last: tuple[str, bytes] = ("", b"")

    def read(self, name: str) -> bytes | None:
        try:
            return self._device.driver.download(urljoin(self._url, name))
        except NoSuchFile:
            return None

    def span(self, name: str, offset: int, nbytes: int) -> bytes:
        if self._last[0] != name:
            self._last = (name, self.read(name) or b"")
        return self._last[1][offset : offset + nbytes]

    def size(self, name: str) -> int | None:
        self.span(name, 0, 0)
        return len(self._last[1]) or None

    def where(self) -> str:
        return urljoin(self._url, ".")


class _Mapped:
    """External data that the caller handed over by location."""

    def __init__(self, given: Mapping[str, Given]) -> None:
        self._given = given

    def read(self, name: str) -> bytes | None:
        return None  # a manifest would be beside a file; here everything is named

    def size(self, name: str) -> int | None:
        value = self._given.get(name)
        if value is None:
            return None
        if isinstance(value, Buffer):
            return value.nbytes
        if isinstance(value, (str, os.PathLike)):
            path = Path(value)
            return path.stat().st_size if path.is_file() else None
        return memoryview(value).nbytes

    def span(self, name: str, offset: int, nbytes: int) -> bytes:
        value = self._given[name]
        if isinstance(value, Buffer):
            return value.read(offset, min(nbytes, value.nbytes - offset))
        if isinstance(value, (str, os.PathLike)):
            with Path(value).open("rb") as file:
                file.seek(offset)
                return file.read(nbytes)
        return bytes(memoryview(value).cast("B")[offset : offset + nbytes])

    def where(self) -> str:
        return f"external_data, which has {', '.join(map(repr, self._given)) or 'nothing'}"


class Source:
    """A model's bytes in `data`, parsed in `proto`, the places of its weights in `external`."""

    def __init__(
        self, model: object, given: External, device: Device, known: Collection[str] = ()
    ) -> None:
        """`known`: initializers that come from elsewhere, so that their external data is not read.

        NoSuchFile, InvalidProtobuf or InvalidArgument say what is missing or wrong.
        """
        self._device = device
        self._buffer: Buffer | None = None
        self._neighbours: _Neighbours | None = None
        self.data, name = self._model(model)
        if isinstance(given, Mapping):
            self._neighbours = _Mapped(given)
        elif given is not None and not isinstance(given, Buffer):
            raise InvalidArgument(
                f"external_data is a {type(given).__name__}; expected a device buffer or a dict "
                "from location to bytes, path or device buffer"
            )
        self.proto = _parsed(self.data, name)
        locations = _locations(self.proto, known)
        self.external: ExternalData | None = None
        if not locations:
            return
        if isinstance(given, Mapping) and len(locations) == 1:
            only = given.get(locations[0])
            given = only if isinstance(only, Buffer) else given
        if isinstance(given, Buffer):
            self.external = self._in_place(given, locations)
        elif self._neighbours is not None:
            self.external = self._beside(self._neighbours, locations)

    def _model(self, model: object) -> tuple[Bytes, str]:
        """The model's bytes, and what to call it in errors."""
        if isinstance(model, (bytes, bytearray, memoryview)):
            return model, "the model"
        serialize = getattr(model, "SerializeToString", None)
        if serialize is not None:
            return bytes(serialize()), "the model"
        if not isinstance(model, (str, os.PathLike)):
            raise InvalidArgument(
                f"the model is a {type(model).__name__}; expected a path, a URL, the bytes of a "
                "model file or an onnx.ModelProto"
            )
        if isinstance(model, str) and urlsplit(model).scheme in ("http", "https"):
            self._neighbours = _Site(model, self._device)
            return self._device.driver.download(model), f"model {model}"
        path = Path(model)
        name = f"model {str(path)!r}"
        if path.is_dir():
            raise NoSuchFile(f"{name} is a folder; give the path of the .onnx file in it")
        if not path.is_file():
            raise NoSuchFile(f"{name} is not there, {_SEEN.format(Path.cwd())}")
        self._neighbours = _Folder(path.parent)
        return path.read_bytes(), name

    def _in_place(self, buffer: Buffer, locations: list[str]) -> ExternalData:
        if len(locations) > 1:
            raise InvalidArgument(
                f"one device buffer was given for the locations {', '.join(locations)}; give a "
                "dict from location to bytes, path or device buffer"
            )
        self._buffer = buffer
        return ExternalData.from_sizes(
            {locations[0]: buffer.nbytes},
            lambda _, offset, nbytes: buffer.read(offset, nbytes),
        )

    def _beside(self, neighbours: _Neighbours, locations: list[str]) -> ExternalData | None:
        """By the manifests beside the model, or the files themselves."""
        sizes: dict[str, int] = {}
        manifests: list[bytes] = []
        for location in locations:
            manifest = None
            whole = neighbours.size(location) if not isinstance(neighbours, _Site) else None
            if whole is None:
                manifest = neighbours.read(f"{location}.json")
            if manifest is not None:
                manifests.append(manifest)
                continue
            whole = neighbours.size(location) if whole is None else whole
            if whole is not None:
                sizes[location] = whole
        if manifests and sizes:
            raise NoSuchFile(
                f"external data: {', '.join(sizes)} lies whole at {neighbours.where()}, the rest "
                "in pieces; give all of it whole or all of it in pieces"
            )
        if manifests:
            external = ExternalData.from_manifests(*manifests)
            return ExternalData(external.files, self._pieced(neighbours, external))
        if not sizes:
            raise NoSuchFile(
                f"external data {', '.join(map(repr, locations))} is not at {neighbours.where()}; "
                "put the file, or its pieces and their manifest, beside the model"
            )
        return ExternalData.from_sizes(sizes, neighbours.span)

    @staticmethod
    def _pieced(neighbours: _Neighbours, external: ExternalData) -> _Pieced:
        return _Pieced(neighbours, external)

    def upload(self) -> tuple[Buffer | None, bool]:
        """(the device buffer with the external data, whether the session has to free it)."""
        if self._buffer is not None or self.external is None or self._neighbours is None:
            return self._buffer, False
        buffer = self._device.allocate(self.external.nbytes, "external data")
        try:
            for start, piece in self.external.pieces:
                self._write(buffer, start, piece, self._neighbours)
        except BaseException:
            buffer.free()
            raise
        return buffer, True

    def _write(self, buffer: Buffer, start: int, piece: Piece, beside: _Neighbours) -> None:
        if piece.name != piece.location or piece.sha256:
            data = beside.read(piece.name)
            if data is None:
                raise piece.missing(beside.where())
            piece.verify(data)
            buffer.write(data, start)
            return
        for offset in range(0, piece.nbytes, _CHUNK):
            chunk = beside.span(piece.name, offset, min(_CHUNK, piece.nbytes - offset))
            if len(chunk) != min(_CHUNK, piece.nbytes - offset):
                raise InvalidProtobuf(
                    f"external data '{piece.location}' ended at byte {offset + len(chunk)} of "
                    f"{piece.nbytes}; fetch it again"
                )
            buffer.write(chunk, start + offset)


class _Pieced:
    """Reads small tensors out of pieces, as the front asks for them."""

    def __init__(self, neighbours: _Neighbours, external: ExternalData) -> None:
        self._neighbours = neighbours
        self._files = {file.location: file for file in external.files}

    def __call__(self, location: str, offset: int, nbytes: int) -> bytes:
        result = b""
        for piece in self._files[location].pieces:
            first = max(offset - piece.offset, 0)
            last = min(offset + nbytes - piece.offset, piece.nbytes)
            if first < last:
                if self._neighbours.size(piece.name) is None:
                    raise piece.missing(self._neighbours.where())
                result += self._neighbours.span(piece.name, first, last - first)
        return result


def _parsed(data: Bytes, name: str) -> ModelProto:
    """A model with a graph; InvalidProtobuf says what the bytes are instead."""
    try:
        model = parse(ModelProto, data)
        if model.graph is not None:
            return model
        reason = "has no graph; the file is not an ONNX model"
    except InvalidProtobuf as error:
        reason = str(error)
    other = what_it_is(data)
    raise InvalidProtobuf(f"{name} is {other}" if other else f"{name}: {reason}")


def _locations(model: ModelProto, known: Collection[str]) -> list[str]:
    """The locations that the model's initializers name, in order, but for those that are known."""
    assert model.graph is not None  # `_parsed` sees to it
    found: dict[str, None] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location == 1 and tensor.name not in known:
            for entry in tensor.external_data:
                if entry.key == "location":
                    found[check_location(entry.value, f"initializer '{tensor.name}'")] = None
    return list(found)
