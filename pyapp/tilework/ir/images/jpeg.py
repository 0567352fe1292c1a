"""JPEG: sequential Huffman-coded images of 8 bits (baseline and extended); not progressive ones.

Bit for bit what libjpeg computes by default: its integer inverse transform, its smooth upsampling
of chroma, its integer colours. Sources: ITU-T T.81; the operator ImageDecoder for the upsampling;
Loeffler, Ligtenberg and Moschytz, ICASSP 1989, with constants of 13 bits, for the transform.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tilework.ir.images.bitmap import sized

Image = NDArray[np.uint8]
Ints = NDArray[np.int64]

_BLOCK = 8
_SEQUENTIAL = (0xC0, 0xC1)
_OTHER_FRAMES = {*range(0xC2, 0xD0)} - {0xC4, 0xC8, 0xCC}
_ZIGZAG = sorted(
    range(64),
    key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8),
)


@dataclass(slots=True)
class _Component:
    """One colour: its sampling, its tables, its coefficients."""

    across: int
    down: int
    quantiser: int
    dc: int = 0
    ac: int = 0
    last: int = 0
    blocks: Ints = field(default_factory=lambda: np.zeros((0, 0, 64), np.int64))


@dataclass(slots=True)
class _Bits:
    """A scan's bits, byte stuffing undone; ValueError behind its end."""

    data: bytes
    at: int = 0
    held: int = 0
    count: int = 0

    def take(self, size: int) -> int:
        while self.count < size:
            byte = self.data[self.at] if self.at < len(self.data) else -1
            if byte < 0 or (byte == 0xFF and self.data[self.at + 1 : self.at + 2] != b"\0"):
                raise ValueError("the scan ends early")
            self.at += 2 if byte == 0xFF else 1
            self.held = (self.held << 8 | byte) & (1 << 40) - 1
            self.count += 8
        self.count -= size
        return self.held >> self.count & (1 << size) - 1

    def restart(self) -> None:
        """Behind the next restart marker."""
        self.held = self.count = 0
        if self.data[self.at : self.at + 1] != b"\xff":
            raise ValueError("no restart marker")
        self.at += 2

    def value(self, size: int) -> int:
        """A coefficient of `size` bits."""
        number = self.take(size) if size else 0
        return number if size == 0 or number >> size - 1 else number - (1 << size) + 1


_Code = dict[tuple[int, int], int]  # (length, code) -> symbol


def _symbol(bits: _Bits, code: _Code) -> int:
    value = 0
    for length in range(1, 17):
        value = value << 1 | bits.take(1)
        found = code.get((length, value))
        if found is not None:
            return found
    raise ValueError("no such code")


def read_jpeg(data: bytes) -> Image | None:
    """(height, width, 1 or 3); None for what is not sequential."""
    quantisers: dict[int, Ints] = {}
    codes: dict[int, _Code] = {}
    parts: dict[int, _Component] = {}
    height = width = interval = 0
    adobe = 1
    at = 2
    while at + 4 <= len(data):
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        content = data[at + 4 : at + 2 + size]
        if data[at] != 0xFF or size < 2:
            raise ValueError("no marker")
        at += 2 + size
        if marker == 0xDB:
            _read_quantisers(content, quantisers)
        elif marker == 0xC4:
            _read_codes(content, codes)
        elif marker == 0xDD:
            interval = int.from_bytes(content[:2], "big")
        elif marker == 0xEE and content.startswith(b"Adobe"):
            adobe = content[11]
        elif marker in _OTHER_FRAMES:
            return None
        elif marker in _SEQUENTIAL:
            height, width = (int.from_bytes(content[i : i + 2], "big") for i in (1, 3))
            sized(height, width)
            if content[0] != 8 or content[5] not in (1, 3):
                return None
            for number in range(content[5]):
                name, sampling, table = content[6 + 3 * number : 9 + 3 * number]
                parts[name] = _Component(sampling >> 4, sampling & 15, table)
        elif marker == 0xDA:
            for number in range(content[0]):
                name, tables = content[1 + 2 * number : 3 + 2 * number]
                parts[name].dc, parts[name].ac = tables >> 4, 16 | tables & 15
            if content[0] != len(parts):
                return None  # a scan of each colour: not written by anybody's default
            found = list(parts.values())
            _read_scan(_Bits(data, at), found, codes, height, width, interval)
            return _coloured(found, quantisers, height, width, adobe)
    raise ValueError("no scan")


def _read_quantisers(content: bytes, found: dict[int, Ints]) -> None:
    at = 0
    while at < len(content):
        wide = 2 if content[at] >> 4 else 1
        kind = ">u2" if wide == 2 else "u1"
        found[content[at] & 15] = np.frombuffer(content, kind, 64, at + 1).astype(np.int64)
        at += 1 + 64 * wide


def _read_codes(content: bytes, found: dict[int, _Code]) -> None:
    at = 0
    while at < len(content):
        lengths, symbol = content[at + 1 : at + 17], at + 17
        code = 0
        table = found[content[at] & 31] = {}
        for length, many in enumerate(lengths, 1):
            for _ in range(many):
                table[length, code] = content[symbol]
                code, symbol = code + 1, symbol + 1
            code <<= 1
        at = symbol


def _read_scan(
    bits: _Bits,
    parts: list[_Component],
    codes: dict[int, _Code],
    height: int,
    width: int,
    interval: int,
) -> None:
    """All blocks, unit by unit; a unit has each colour's blocks that cover the same pixels."""
    if len(parts) == 1:
        parts[0].across = parts[0].down = 1
    across, down = (max(p.across for p in parts), max(p.down for p in parts))
    if min(min(p.across, p.down) for p in parts) < 1:
        raise ValueError("a colour without samples")
    columns, rows = -(-width // (_BLOCK * across)), -(-height // (_BLOCK * down))
    if columns * rows > 8 * len(bits.data):
        raise ValueError("more blocks than bits")
    for part in parts:
        part.blocks = np.zeros((rows * part.down, columns * part.across, 64), np.int64)
    for unit in range(rows * columns):
        if interval and unit and unit % interval == 0:
            bits.restart()
            for part in parts:
                part.last = 0
        y, x = divmod(unit, columns)
        for part in parts:
            for block in range(part.across * part.down):
                v, u = divmod(block, part.across)
                place = part.blocks[y * part.down + v, x * part.across + u]
                _read_block(bits, part, codes, place)


def _read_block(bits: _Bits, part: _Component, codes: dict[int, _Code], block: Ints) -> None:
    part.last += bits.value(_symbol(bits, codes[part.dc]))
    block[0] = part.last
    at = 1
    while at < 64:
        symbol = _symbol(bits, codes[part.ac])
        run, size = symbol >> 4, symbol & 15
        if size == 0 and run != 15:
            return
        at += run
        if size:
            if at > 63:
                raise ValueError("more than 64 coefficients")
            block[_ZIGZAG[at]] = bits.value(size)
        at += 1


# -- coefficients to pixels ------------------------------------------------------------------------


def _coloured(
    parts: list[_Component], quantisers: dict[int, Ints], height: int, width: int, adobe: int
) -> Image:
    across, down = (max(p.across for p in parts), max(p.down for p in parts))
    planes = []
    for part in parts:
        turned = np.empty(64, np.int64)
        turned[_ZIGZAG] = quantisers[part.quantiser]
        blocks = (part.blocks * turned).reshape(*part.blocks.shape[:2], _BLOCK, _BLOCK)
        plane = _inverse(blocks).transpose(0, 2, 1, 3)
        plane = plane.reshape(plane.shape[0] * _BLOCK, plane.shape[2] * _BLOCK)
        # Only what the image has counts at the edges.
        plane = plane[: -(-height * part.down // down), : -(-width * part.across // across)]
        planes.append(_upsampled(plane, down // part.down, across // part.across))
    image = np.stack([plane[:height, :width] for plane in planes], axis=2)
    if len(parts) == 1 or adobe == 0:
        return image.astype(np.uint8)
    y, blue, red = image[..., 0], image[..., 1] - 128, image[..., 2] - 128
    half = 1 << 15
    colours = (
        y + (91881 * red + half >> 16),
        y + (-22554 * blue - 46802 * red + half >> 16),
        y + (116130 * blue + half >> 16),
    )
    return np.asarray(np.clip(np.stack(colours, axis=2), 0, 255), np.uint8)


def _inverse(blocks: Ints) -> Ints:
    """The inverse transform of (.., 8, 8), as pixels 0 to 255."""
    columns = _turn(blocks, axis=-2)
    columns = columns + (1 << 10) >> 11
    rows = _turn(columns, axis=-1)
    return np.asarray(np.clip((rows + (1 << 17) >> 18) + 128, 0, 255))


def _turn(x: Ints, axis: int) -> Ints:
    """One pass along an axis, 13 bits after the point."""
    x0, x1, x2, x3, x4, x5, x6, x7 = np.moveaxis(x, axis, 0)
    shared = (x2 + x6) * 4433
    low, high = shared - x6 * 15137, shared + x2 * 6270
    plus, minus = (x0 + x4) << 13, (x0 - x4) << 13
    even = (plus + high, minus + low, minus - low, plus - high)
    five = (x7 + x3 + x5 + x1) * 9633
    one, two = (x7 + x1) * -7373, (x5 + x3) * -20995
    three, four = (x7 + x3) * -16069 + five, (x5 + x1) * -3196 + five
    odd = (
        x1 * 12299 + one + four,
        x3 * 25172 + two + three,
        x5 * 16819 + two + four,
        x7 * 2446 + one + three,
    )
    first = [e + o for e, o in zip(even, odd, strict=True)]
    second = [e - o for e, o in zip(even, odd, strict=True)]
    return np.stack([*first, *second[::-1]], axis=axis)


def _upsampled(plane: Ints, down: int, across: int) -> Ints:
    """Twice as wide, and as high, by weights of 3 and 1; other ratios by repetition."""
    if across == 2 and down in (1, 2) and plane.shape[1] > 2:
        if down == 1:
            return _widened(plane, 2, (1, 2))
        above, below = np.vstack([plane[:1], plane[:-1]]), np.vstack([plane[1:], plane[-1:]])
        tall = np.stack([3 * plane + above, 3 * plane + below], axis=1)
        return _widened(tall.reshape(-1, plane.shape[1]), 4, (8, 7))
    return np.repeat(np.repeat(plane, down, axis=0), across, axis=1)


def _widened(x: Ints, shift: int, rounding: tuple[int, int]) -> Ints:
    """Each element becomes two, nearer to their neighbours: (3 x + neighbour) with the rounding."""
    before, behind = np.hstack([x[:, :1], x[:, :-1]]), np.hstack([x[:, 1:], x[:, -1:]])
    halves = [3 * x + before + rounding[0] >> shift, 3 * x + behind + rounding[1] >> shift]
    return np.stack(halves, axis=2).reshape(x.shape[0], -1)
