"""Reads kernels/abi.h: the C subset that its head comment states, laid out by wasm32's rules.

Owns the grammar and the layout arithmetic; writes no file. tools/abi.py turns the result into
Python and JavaScript. A unit test proves every offset against clang.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# name: (bytes, struct letter); on wasm32 each is aligned to its size
SCALARS: dict[str, tuple[int, str]] = {
    "uint8_t": (1, "B"),
    "int8_t": (1, "b"),
    "uint16_t": (2, "H"),
    "int16_t": (2, "h"),
    "uint32_t": (4, "I"),
    "int32_t": (4, "i"),
    "uint64_t": (8, "Q"),
    "int64_t": (8, "q"),
    "float": (4, "f"),
    "double": (8, "d"),
}
POINTER = (4, "I")
LINE = 64

_TOKEN = re.compile(r"[A-Za-z_]\w*|0[xX][0-9a-fA-F]+|\d+|\S")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_NUMBER = re.compile(r"(0[xX][0-9a-fA-F]+|\d+)[uUlL]*\Z")


class AbiError(Exception):
    """abi.h holds something outside the subset; the message says where and what was expected."""


@dataclass(frozen=True, slots=True)
class Field:
    """`count` is 1 for a plain field; `letter` is "" for a nested structure."""

    name: str
    offset: int
    size: int  # bytes, all elements
    letter: str
    count: int


@dataclass(frozen=True, slots=True)
class Struct:
    """`tw_queue` is named "queue" here. `holes` is true where the compiler pads."""

    name: str
    fields: tuple[Field, ...]
    size: int
    alignment: int
    holes: bool
    lines: bool  # has a TW_LINE, in itself or in a nested structure


@dataclass(frozen=True, slots=True)
class Abi:
    """Everything abi.h states, in its order; names without `tw_`, constants with `TW_`."""

    constants: dict[str, int]
    enums: dict[str, dict[str, int]]
    structs: dict[str, Struct]


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    line: int
    column: int


class _Reader:
    """A cursor over the tokens of one header."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.constants: dict[str, int] = {}
        self.enums: dict[str, dict[str, int]] = {}
        self.structs: dict[str, Struct] = {}
        self.tokens: list[_Token] = []
        self.at = 0
        # blank out comments but keep every character's place
        text = _COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
        for number, line in enumerate(text.splitlines(), 1):
            if line.lstrip().startswith("#"):
                self._directive(line.strip(), number)
                continue
            for match in _TOKEN.finditer(line):
                self.tokens.append(_Token(match.group(), number, match.start() + 1))
        self.tokens.append(_Token("", text.count("\n") + 1, 1))

    def error(self, token: _Token, expected: str) -> AbiError:
        found = f"'{token.text}'" if token.text else "the end of the file"
        return AbiError(
            f"{self.path}:{token.line}:{token.column}: expected {expected}, not {found}"
        )

    def _directive(self, line: str, number: int) -> None:
        words = line.split()
        if words[0] in ("#ifndef", "#ifdef", "#endif", "#include", "#if"):
            return
        if words[0] == "#define" and words[1:2] != ["TW_LINE"] and len(words) != 2:
            value = _NUMBER.match(words[2]) if len(words) == 3 else None
            if value is None or "(" in words[1]:
                raise AbiError(f"{self.path}:{number}:1: expected `#define TW_X number`: {line}")
            self.constants[words[1]] = int(value.group(1), 0)
        elif words[0] != "#define":
            raise AbiError(
                f"{self.path}:{number}:1: expected a #define or #include, not {words[0]}"
            )

    def next(self) -> _Token:
        token = self.tokens[self.at]
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def take(self, text: str) -> bool:
        if self.tokens[self.at].text == text:
            self.at += 1
            return True
        return False

    def expect(self, text: str, why: str = "") -> _Token:
        token = self.next()
        if token.text != text:
            raise self.error(token, f"'{text}'{why}")
        return token

    def name(self, what: str) -> _Token:
        token = self.next()
        if not re.match(r"[A-Za-z_]\w*\Z", token.text):
            raise self.error(token, what)
        return token

    def number(self) -> int:
        token = self.next()
        if token.text in self.constants:
            return self.constants[token.text]
        match = _NUMBER.match(token.text)
        if match is None:
            raise self.error(token, "a number or a #define above")
        return int(match.group(1), 0)

    def file(self) -> None:
        while self.tokens[self.at].text:
            token = self.next()
            if token.text == "enum":
                self.enum()
            elif token.text == "typedef" and self.take("struct"):
                self.struct()
            elif token.text == "typedef":
                while self.next().text != ";":  # a function type: no layout of its own
                    if not self.tokens[self.at].text:
                        raise self.error(self.tokens[self.at], "';' after the typedef")
            else:
                raise self.error(token, "enum, typedef struct or a function typedef")

    def enum(self) -> None:
        name = self.name("the enum's name")
        self.expect("{")
        values: dict[str, int] = {}
        value = -1
        while not self.take("}"):
            case = self.name("a name of the enum or '}'")
            value = self.number() if self.take("=") else value + 1
            values[case.text] = value
            if not self.take(","):
                self.expect("}", " or ','")
                break
        self.expect(";")
        self.enums[name.text.removeprefix("tw_")] = values

    def struct(self) -> None:
        name = self.name("the structure's name")
        if not name.text.startswith("tw_"):
            raise self.error(name, "a name that begins with tw_")
        self.expect("{")
        fields: dict[str, Field] = {}
        offset, alignment, holes, lines = 0, 1, False, False
        while not self.take("}"):
            line = self.take("TW_LINE")
            size, align, letter, nested_lines = self.type()
            lines = lines or line or nested_lines
            while True:
                pointer = False
                while self.take("*"):
                    pointer = True
                if pointer:
                    size, align, letter = POINTER[0], POINTER[0], POINTER[1]
                elif size == 0:
                    raise self.error(self.tokens[self.at], "'*': void and unknown types by pointer")
                field = self.name("a field's name")
                if field.text in fields or field.text == "size":
                    raise self.error(field, "a name not yet used, and not `size`")
                count = 1
                if self.take("["):
                    count = self.number()
                    self.expect("]")
                at = -(-offset // max(align, LINE if line else 1)) * max(align, LINE if line else 1)
                holes = holes or at != offset
                fields[field.text] = Field(field.text, at, size * count, letter, count)
                offset = at + size * count
                alignment = max(alignment, align, LINE if line else 1)
                if not self.take(","):
                    self.expect(";", " after the field")
                    break
                if pointer:
                    raise self.error(self.tokens[self.at], "one pointer a declaration")
        end = self.next()
        if end.text != name.text:
            raise self.error(end, f"'{name.text}' after the structure")
        self.expect(";")
        size = -(-offset // alignment) * alignment
        short = name.text.removeprefix("tw_")
        self.structs[short] = Struct(
            short, tuple(fields.values()), size, alignment, holes or size != offset, lines
        )

    def type(self) -> tuple[int, int, str, bool]:
        """Bytes (0: only by pointer), alignment, struct letter, has lines."""
        token = self.next()
        if token.text in ("const", "volatile"):
            token = self.next()
        if token.text in SCALARS:
            size, letter = SCALARS[token.text]
            return size, size, letter, False
        struct = self.structs.get(token.text.removeprefix("tw_"))
        if struct is not None:
            by_pointer = self.tokens[self.at].text == "*"
            return struct.size, struct.alignment, "", struct.lines and not by_pointer
        if token.text == "void" or token.text.startswith("tw_"):
            return 0, 1, "", False
        raise self.error(token, "a field's type: " + ", ".join(SCALARS) + ", a tw_ structure, '}'")


def read(path: Path) -> Abi:
    """The layouts of the header at `path`; an AbiError names the place it cannot read."""
    reader = _Reader(str(path), path.read_text(encoding="utf-8"))
    reader.file()
    return Abi(reader.constants, reader.enums, reader.structs)
