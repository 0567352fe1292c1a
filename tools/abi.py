"""Writes pyapp/tilework/hal/_abi.py and web/abi.js from kernels/abi.h.

Run as `python -m tools.abi`, or call `generate(root)`. A file that would not change is not
touched, so that what depends on it by time is not rebuilt. The reading is tools/abi_reader.py's.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.abi_reader import Abi, Struct, read

SOURCE = "kernels/abi.h"
HEXADECIMAL = 0xFFFF  # constants above this are written in base 16


def pack_format(struct: Struct) -> tuple[str, list[str]] | None:
    """The `struct` format of a structure and the names it takes, in order.

    Fields named `reserved` become pad bytes. None for a structure with holes, cache lines or
    nested structures: those are written word by word at their offsets.
    """
    if struct.holes or struct.lines or any(not f.letter for f in struct.fields):
        return None
    letters, names = "<", []
    for field in struct.fields:
        if field.name == "reserved":
            letters += f"{field.size}x"
        else:
            letters += field.letter if field.count == 1 else f"{field.count}{field.letter}"
            names.extend([field.name] if field.count == 1 else [field.name] * field.count)
    return letters, names


def _number(value: int) -> str:
    return f"0x{value:X}" if value > HEXADECIMAL else str(value)


def _wrap(words: list[str], prefix: str, width: int = 100) -> list[str]:
    """`words` joined by commas and broken into comment lines that begin with `prefix`."""
    lines, line = [], prefix
    for i, word in enumerate(words):
        piece = word + ("," if i + 1 < len(words) else "")
        if len(line) + 1 + len(piece) > width and line != prefix:
            lines.append(line)
            line = prefix
        line += " " + piece
    return [*lines, line]


def python_text(abi: Abi) -> str:
    """The text of pyapp/tilework/hal/_abi.py."""
    out = [
        f'"""Layouts shared with C: generated from {SOURCE} by tools/abi.py, do not edit.',
        "",
        "Constants keep C's names. `QUEUE_CLAIM` is the byte offset of `tw_queue.claim`,",
        "`QUEUE_SIZE` the bytes of `tw_queue`, `REF_FORMAT` packs a `tw_ref` but for its reserved",
        "words, which become 0.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "from enum import IntEnum",
        "from struct import Struct",
        "from typing import Final",
        "",
    ]
    out += [f"{name}: Final = {_number(value)}" for name, value in abi.constants.items()]
    for name, cases in abi.enums.items():
        title = "".join(part.capitalize() for part in name.split("_"))
        out += ["", "", f"class {title}(IntEnum):", f'    """tw_{name}."""', ""]
        out += [f"    {case.removeprefix('TW_')} = {value}" for case, value in cases.items()]
    if abi.enums:
        out.append("")
    for struct in abi.structs.values():
        upper = struct.name.upper()
        out += ["", f"# tw_{struct.name}: {struct.size} bytes, aligned to {struct.alignment}"]
        out += [
            f"{upper}_{f.name.upper()}: Final = {f.offset}"
            for f in struct.fields
            if f.name != "reserved"
        ]
        out.append(f"{upper}_SIZE: Final = {struct.size}")
        found = pack_format(struct)
        if found is not None:
            out += _wrap(found[1], "# packs")
            out.append(f'{upper}_FORMAT: Final = Struct("{found[0]}")')
    return "\n".join(out) + "\n"


def javascript_text(abi: Abi) -> str:
    """The text of web/abi.js."""
    out = [
        "/**",
        f" * Layouts shared with C: generated from {SOURCE} by tools/abi.py, do not edit.",
        " * Constants keep C's names; QUEUE_CLAIM is the byte offset of tw_queue.claim, QUEUE_SIZE",
        " * the bytes of tw_queue. Divide by 4 for an index into an Int32Array.",
        " */",
        "",
    ]
    out += [f"export const {name} = {_number(value)};" for name, value in abi.constants.items()]
    for name, cases in abi.enums.items():
        title = "".join(part.capitalize() for part in name.split("_"))
        out += [
            "",
            f"/** tw_{name}. @enum {{number}} */",
            f"export const {title} = Object.freeze({{",
        ]
        out += [f"  {case.removeprefix('TW_')}: {value}," for case, value in cases.items()]
        out.append("});")
    for struct in abi.structs.values():
        upper = struct.name.upper()
        out += ["", f"// tw_{struct.name}: {struct.size} bytes, aligned to {struct.alignment}"]
        for field in struct.fields:
            if field.name == "reserved":
                continue
            kind = f"{field.size} bytes"
            out.append(f"/** tw_{struct.name}.{field.name}, {kind} at this byte offset. */")
            out.append(f"export const {upper}_{field.name.upper()} = {field.offset};")
        out.append(f"/** Bytes of a tw_{struct.name}. */")
        out.append(f"export const {upper}_SIZE = {struct.size};")
    return "\n".join(out) + "\n"


def write_if_changed(path: Path, text: str) -> bool:
    """Whether `path` had to be written to hold `text`."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return True


def generate(root: Path) -> list[Path]:
    """Brings both generated files of the checkout at `root` up to date; returns those written."""
    abi = read(root / SOURCE)
    files = {
        root / "pyapp/tilework/hal/_abi.py": python_text(abi),
        root / "web/abi.js": javascript_text(abi),
    }
    return [path for path, text in files.items() if write_if_changed(path, text)]


if __name__ == "__main__":
    for written in generate(Path(__file__).resolve().parent.parent):
        print(f"wrote {written}")
