"""Reads kernels/types.wit and kernels/*/*.wit: the subset of WIT that kernel families use.

Owns the grammar, name resolution and the component model's canonical layout of records; writes
no file. tools/wit.py turns the result into C and Python. A unit test proves the layouts against
clang. Errors say file:line:column, what stands there and what was expected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# name: (bytes, struct letter, C type); each is aligned to its size
SCALARS: dict[str, tuple[int, str, str]] = {
    "bool": (1, "?", "uint8_t"),
    "u8": (1, "B", "uint8_t"),
    "s8": (1, "b", "int8_t"),
    "u16": (2, "H", "uint16_t"),
    "s16": (2, "h", "int16_t"),
    "u32": (4, "I", "uint32_t"),
    "s32": (4, "i", "int32_t"),
    "u64": (8, "Q", "uint64_t"),
    "s64": (8, "q", "int64_t"),
    "f32": (4, "f", "float"),
    "f64": (8, "d", "double"),
}
ACCESSES = ("input", "output", "inout")  # the resources of types.wit, by which bindings are passed

_TOKEN = re.compile(
    r"(?P<doc>///[^\n]*)|(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<space>\s+)"
    r"|(?P<word>%?[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*)|(?P<number>\d[\w.+-]*)"
    r"|(?P<mark>->|[{}()<>,:;=@./*_])",
    re.DOTALL,
)
# classes that the generated Python imports
_RESERVED = ("binding", "kernel", "int-enum", "named-tuple")
_KEBAB = re.compile(r"(?:[a-z][a-z0-9]*|[A-Z][A-Z0-9]*)(?:-(?:[a-z0-9]+|[A-Z0-9]+))*\Z")


class WitError(Exception):
    """A .wit file is wrong or outside the subset."""


@dataclass(frozen=True, slots=True)
class Token:
    kind: str  # "word", "number", "mark" or "end"
    text: str
    line: int
    column: int
    doc: str


@dataclass(frozen=True, slots=True)
class Enum:
    """`size` is 1 for up to 256 cases, else 2: the canonical ABI's discriminant."""

    name: str
    cases: tuple[str, ...]
    size: int
    doc: str


@dataclass(frozen=True, slots=True)
class Item:
    """One scalar or enum within a record: an element of a field."""

    type: str  # a key of SCALARS or an enum's name
    offset: int  # from the record's first byte
    size: int
    letter: str
    enum: Enum | None


@dataclass(frozen=True, slots=True)
class Field:
    """`items` has one entry for a plain field and one per element for a tuple."""

    name: str
    offset: int
    size: int
    alignment: int
    items: tuple[Item, ...]
    is_tuple: bool
    doc: str

    @property
    def uniform(self) -> bool:
        """Whether all elements have one type, so that C can hold them in an array."""
        return len({item.type for item in self.items}) == 1


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    fields: tuple[Field, ...]
    size: int
    alignment: int
    doc: str


@dataclass(frozen=True, slots=True)
class Binding:
    name: str
    access: str  # one of ACCESSES
    optional: bool


@dataclass(frozen=True, slots=True)
class Kernel:
    name: str
    record: Record | None
    bindings: tuple[Binding, ...]
    doc: str


@dataclass(frozen=True, slots=True)
class Family:
    """One interface; names are WIT's, with dashes."""

    name: str
    doc: str
    enums: tuple[Enum, ...]
    records: tuple[Record, ...]
    kernels: tuple[Kernel, ...]


def _tokens(path: str, text: str) -> list[Token]:
    tokens: list[Token] = []
    at, line, start = 0, 1, 0
    doc: list[str] = []
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise WitError(f"{path}:{line}:{at - start + 1}: unexpected character {text[at]!r}")
        piece, kind = match.group(), str(match.lastgroup)
        if kind == "doc":
            doc.append(piece[3:].strip())
        elif kind in ("word", "number", "mark"):
            tokens.append(Token(kind, piece, line, at - start + 1, "\n".join(doc)))
            doc = []
        newlines = piece.count("\n")
        if newlines:
            line += newlines
            start = at + piece.rindex("\n") + 1
        at = match.end()
    tokens.append(Token("end", "", line, at - start + 1, ""))
    return tokens


class Reader:
    """A recursive-descent reader of one file. `resources` is what `use types` may name."""

    def __init__(self, path: str, text: str, resources: frozenset[str] = frozenset()) -> None:
        self.path = path
        self.tokens = _tokens(path, text)
        self.at = 0
        self.resources = resources
        self.package = ""
        self.interface = ""
        self.doc = ""
        self.used: set[str] = set()
        self.declared: set[str] = set()
        self.enums: dict[str, Enum] = {}
        self.records: dict[str, Record] = {}
        self.kernels: dict[str, Kernel] = {}

    def error(self, token: Token, expected: str) -> WitError:
        found = f"'{token.text}'" if token.text else "the end of the file"
        return WitError(
            f"{self.path}:{token.line}:{token.column}: expected {expected}, not {found}"
        )

    def peek(self) -> Token:
        return self.tokens[self.at]

    def next(self) -> Token:
        token = self.tokens[self.at]
        if token.kind != "end":
            self.at += 1
        return token

    def take(self, text: str) -> bool:
        if self.peek().text == text and self.peek().kind != "end":
            self.at += 1
            return True
        return False

    def expect(self, text: str, where: str = "") -> Token:
        token = self.next()
        if token.text != text:
            raise self.error(token, f"'{text}'{where}")
        return token

    def name(self, what: str, taken: object = ()) -> Token:
        """A kebab-case word that is not in `taken`, without the % that escapes keywords."""
        token = self.next()
        text = token.text.removeprefix("%")
        if token.kind != "word" or not _KEBAB.match(text):
            raise self.error(token, what)
        if text in taken:  # type: ignore[operator]
            raise self.error(token, f"{what} that is not taken yet")
        return Token(token.kind, text, token.line, token.column, token.doc)

    def file(self) -> None:
        if self.take("package"):
            self.package = self.name("the package's namespace").text
            self.expect(":")
            self.package += ":" + self.name("the package's name").text
            if self.take("@"):
                version = self.next()
                if not re.match(r"\d+\.\d+\.\d+\Z", version.text):
                    raise self.error(version, "a version such as 0.1.0")
                self.package += "@" + version.text
            self.expect(";", " after the package")
        opening = self.expect("interface")
        self.doc = opening.doc
        self.interface = self.name("the interface's name").text
        self.expect("{")
        while not self.take("}"):
            self.item()
        if self.peek().kind != "end":
            raise self.error(self.peek(), "the end of the file: one interface a file")

    def item(self) -> None:
        token = self.next()
        if token.text == "use":
            self.use()
        elif token.text == "enum":
            self.enum(token.doc)
        elif token.text == "record":
            self.record(token.doc)
        elif token.text == "resource":
            self.declared.add(self.name("a resource's name", self.declared).text)
            self.expect(";", " after the resource")
        elif token.kind == "word" and self.peek().text == ":":
            self.at -= 1
            self.function(token.doc)
        else:
            raise self.error(token, "use, enum, record, a kernel's `name: func(...)` or '}'")

    def use(self) -> None:
        self.expect("types", ": the one interface that others may use")
        self.expect(".")
        self.expect("{")
        while not self.take("}"):
            token = self.name("a resource of types.wit")
            if token.text not in self.resources:
                raise self.error(token, "one of " + ", ".join(sorted(self.resources)))
            self.used.add(token.text)
            if not self.take(","):
                self.expect("}", " or ','")
                break
        self.expect(";", " after use")

    def enum(self, doc: str) -> None:
        name = self.name("the enum's name", {*self.enums, *self.records, *_RESERVED}).text
        self.expect("{")
        cases: list[str] = []
        while not self.take("}"):
            cases.append(self.name("a case", cases).text)
            if not self.take(","):
                self.expect("}", " or ','")
                break
        if not cases:
            raise self.error(self.tokens[self.at - 1], "at least one case")
        self.enums[name] = Enum(name, tuple(cases), 1 if len(cases) <= 256 else 2, doc)

    def record(self, doc: str) -> None:
        name = self.name("the record's name", {*self.enums, *self.records, *_RESERVED}).text
        self.expect("{")
        fields: dict[str, Field] = {}
        offset, alignment = 0, 1
        while not self.take("}"):
            word = self.name("a field's name", fields)
            if word.text in ("pack", "size"):
                raise self.error(word, "a field's name other than `pack` and `size`")
            self.expect(":", " after the field's name")
            field = self.field(word, offset)
            fields[word.text] = field
            offset, alignment = field.offset + field.size, max(alignment, field.alignment)
            if not self.take(","):
                self.expect("}", " or ','")
                break
        if not fields:
            raise self.error(self.tokens[self.at - 1], "at least one field")
        size = -(-offset // alignment) * alignment
        self.records[name] = Record(name, tuple(fields.values()), size, alignment, doc)

    def field(self, word: Token, end: int) -> Field:
        is_tuple = self.take("tuple")
        types: list[Token] = []
        if is_tuple:
            self.expect("<")
            while not self.take(">"):
                types.append(self.next())
                if not self.take(","):
                    self.expect(">", " or ','")
                    break
            if not types:
                raise self.error(self.tokens[self.at - 1], "at least one type in the tuple")
        else:
            types.append(self.next())
        items: list[Item] = []
        offset, alignment = 0, 1
        for token in types:
            name = token.text.removeprefix("%")
            enum = self.enums.get(name)
            if enum is not None:
                size, letter = enum.size, "B" if enum.size == 1 else "H"
            elif token.text in SCALARS:
                size, letter, _ = SCALARS[token.text]
            else:
                raise self.error(token, "an enum above, tuple<...> or " + ", ".join(SCALARS))
            offset = -(-offset // size) * size
            items.append(Item(name, offset, size, letter, enum))
            offset, alignment = offset + size, max(alignment, size)
        length = -(-offset // alignment) * alignment
        at = -(-end // alignment) * alignment
        moved = tuple(Item(i.type, at + i.offset, i.size, i.letter, i.enum) for i in items)
        return Field(word.text, at, length, alignment, moved, is_tuple, word.doc)

    def function(self, doc: str) -> None:
        name = self.name("a kernel's name", {*self.kernels, *self.enums, *self.records})
        self.expect(":")
        self.expect("func")
        self.expect("(")
        record: Record | None = None
        bindings: list[Binding] = []
        names: set[str] = set()
        while not self.take(")"):
            word = self.name("a parameter's name or ')'", names)
            names.add(word.text)
            self.expect(":", " after the parameter's name")
            token = self.next()
            if len(names) == 1 and token.text.removeprefix("%") in self.records:
                record = self.records[token.text.removeprefix("%")]
            else:
                bindings.append(self.binding(word.text, token, first=len(names) == 1))
            if not self.take(","):
                self.expect(")", " or ','")
                break
        self.expect("->", " and result<_, u32> after the parameters")
        for text in ("result", "<", "_", ",", "u32", ">"):
            self.expect(text, " of result<_, u32>: a kernel returns a tw_status")
        self.expect(";", " after the kernel")
        self.kernels[name.text] = Kernel(name.text, record, tuple(bindings), doc)

    def binding(self, name: str, token: Token, first: bool) -> Binding:
        optional = token.text == "option"
        if optional:
            self.expect("<")
            token = self.next()
        if token.text != "borrow":
            also = " or a record above" if first else ""
            raise self.error(token, f"borrow<...>, option<borrow<...>>{also}")
        self.expect("<")
        resource = self.name("a resource")
        if resource.text not in self.used:
            known = ", ".join(sorted(self.used)) or "none, add `use types.{...}`"
            raise self.error(resource, f"a resource named in `use types` ({known})")
        self.expect(">")
        if optional:
            self.expect(">", " to close option<")
        return Binding(name, resource.text, optional)


def read_types(path: Path) -> frozenset[str]:
    """The resources of kernels/types.wit; exactly the accesses that a binding may have."""
    reader = Reader(str(path), path.read_text(encoding="utf-8"))
    reader.file()
    if reader.declared != set(ACCESSES) or reader.enums or reader.records or reader.kernels:
        raise WitError(f"{path}:1:1: expected exactly the resources {', '.join(ACCESSES)}")
    return frozenset(reader.declared)


def read_family(path: Path, resources: frozenset[str]) -> Family:
    """The interface in the file at `path`, which must be named as the file and its folder are."""
    reader = Reader(str(path), path.read_text(encoding="utf-8"), resources)
    reader.file()
    if not path.stem == path.parent.name == reader.interface.replace("-", "_"):
        raise WitError(f"{path}:1:1: expected interface '{path.stem}', not '{reader.interface}'")
    if reader.declared:
        raise WitError(f"{path}:1:1: expected resources in types.wit only")
    return Family(
        reader.interface,
        reader.doc,
        tuple(reader.enums.values()),
        tuple(reader.records.values()),
        tuple(reader.kernels.values()),
    )
