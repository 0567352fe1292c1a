"""Manifests of weight pieces: what they say, and how a wrong piece is told."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tilework.core.errors import InvalidArgument, InvalidProtobuf, NoSuchFile
from tilework.onnx.external import ExternalData

pytestmark = pytest.mark.unit

PIECES = (b"x" * 40, b"y" * 30)


def manifest(**changes: Any) -> str:
    made: dict[str, Any] = {
        "location": "w.data",
        "bytes": 70,
        "pieces": [
            {
                "name": f"w.data.{number:03d}",
                "bytes": len(piece),
                "sha256": hashlib.sha256(piece).hexdigest(),
            }
            for number, piece in enumerate(PIECES)
        ],
    }
    return json.dumps({**made, **changes})


def test_pieces_lie_end_to_end() -> None:
    second = manifest(location="z.data")
    external = ExternalData.from_manifests(manifest(), second)
    assert [(at, p.location, p.name, p.nbytes) for at, p in external.pieces] == [
        (0, "w.data", "w.data.000", 40),
        (40, "w.data", "w.data.001", 30),
        (128, "z.data", "w.data.000", 40),
        (168, "z.data", "w.data.001", 30),
    ]
    assert external.nbytes == 198


def test_right_pieces_pass_and_wrong_ones_are_named() -> None:
    external = ExternalData.from_manifests(manifest())
    for (_, piece), data in zip(external.pieces, PIECES, strict=True):
        piece.verify(data)
        piece.verify(memoryview(data))
    last = external.pieces[1][1]
    with pytest.raises(
        InvalidProtobuf, match=r"'w.data': piece 'w.data.001' has 29 bytes, 30 were"
    ):
        last.verify(PIECES[1][:-1])
    with pytest.raises(InvalidProtobuf, match=r"'w.data': piece 'w.data.001' is damaged, its SHA"):
        last.verify(b"z" * 30)


def test_a_missing_piece_is_named() -> None:
    piece = ExternalData.from_manifests(manifest()).pieces[1][1]
    error = piece.missing("https://example.org/models/w.data.001")
    assert isinstance(error, NoSuchFile)
    assert "'w.data': piece 'w.data.001' (bytes 40 to 70) is not there at https://" in str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON with location"),
        ("[]", "must be JSON with location"),
        ("{}", "KeyError: 'location'"),
        (manifest(pieces=[3]), "TypeError"),
        (manifest(pieces=3), "TypeError"),
        (manifest(bytes=71), "add up to 70 bytes, it says 71"),
        (manifest(bytes="70"), "add up to 70 bytes, it says 70"),
        (manifest(pieces=[{"name": "a", "bytes": -1}], bytes=-1), "piece 'a' has no size or hash"),
        (manifest(pieces=[{"name": "a", "bytes": 1, "sha256": 5}]), "has no size or hash"),
    ],
)
def test_wrong_manifests(text: str, message: str) -> None:
    with pytest.raises(InvalidProtobuf, match=message):
        ExternalData.from_manifests(text)


@pytest.mark.parametrize("name", ["", "../x", "/x", "a:b", "a\\b", 5, "x\n"])
def test_names_that_lead_elsewhere(name: Any) -> None:
    with pytest.raises(InvalidArgument, match="manifest of external data"):
        ExternalData.from_manifests(manifest(location=name))
    with pytest.raises(InvalidArgument, match="manifest of external data"):
        ExternalData.from_manifests(manifest(pieces=[{"name": name, "bytes": 70}]))
