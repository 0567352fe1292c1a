"""Writes the C and Python sides of each kernel family's interface from kernels/*/*.wit.

kernels/generated/<family>.h holds parameter structures, with their layout asserted, binding
indices and prototypes; pyapp/tilework/hal/kernels/<family>.py the packers and the `Kernel`s. Run
as `python -m tools.wit`, or call `generate(root)`. The reading is tools/wit_reader.py's.
"""

from __future__ import annotations

import keyword
import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.abi import write_if_changed
from tools.wit_reader import SCALARS, Enum, Family, Field, Item, Record, read_family, read_types

_C_KEYWORDS = (
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum",
    "extern", "float", "for", "goto", "if", "inline", "int", "long", "register", "restrict",
    "return", "short", "signed", "sizeof", "static", "struct", "switch", "typedef", "union",
    "unsigned", "void", "volatile", "while",
)  # fmt: skip
# methods of tuple: a NamedTuple's field may hide them, but mypy wants to be told
_TUPLE_METHODS = ("count", "index")


def snake(name: str) -> str:
    return name.replace("-", "_").lower()


def c_name(name: str) -> str:
    """`name` as a C identifier; a keyword gets an underscore."""
    return snake(name) + ("_" if snake(name) in _C_KEYWORDS else "")


def python_name(name: str) -> str:
    """`name` as a Python identifier; a keyword gets an underscore."""
    return snake(name) + ("_" if keyword.iskeyword(snake(name)) else "")


def pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


def comment(doc: str, prefix: str) -> list[str]:
    return [f"{prefix} {line}".rstrip() for line in doc.splitlines()]


# -- C -------------------------------------------------------------------------------------------


def _c_enum(family: Family, enum: Enum) -> list[str]:
    kind = f"{snake(family.name)}_{snake(enum.name)}"
    cases = ", ".join(
        f"{kind.upper()}_{snake(case).upper()} = {i}" for i, case in enumerate(enum.cases)
    )
    return [
        *comment(enum.doc, "//"),
        f"typedef uint{enum.size * 8}_t {kind};",
        f"enum {{ {cases} }};",
        "",
    ]


def _c_type(family: Family, item: Item) -> str:
    if item.enum is not None:
        return f"{snake(family.name)}_{snake(item.enum.name)}"
    return SCALARS[item.type][2]


def _c_field(family: Family, field: Field) -> str:
    name, first = c_name(field.name), _c_type(family, field.items[0])
    if not field.is_tuple:
        return f"{first} {name};"
    if field.uniform:
        return f"{first} {name}[{len(field.items)}];"
    parts = " ".join(f"{_c_type(family, item)} f{i};" for i, item in enumerate(field.items))
    return f"struct {{ {parts} }} {name};"


def _c_record(family: Family, record: Record) -> list[str]:
    name = snake(record.name)
    out = [*comment(record.doc, "//"), f"typedef struct {name} {{"]
    for field in record.fields:
        out += comment(field.doc, "  //")
        out.append(f"  {_c_field(family, field)}")
    out += [f"}} {name};"]
    out.append(f'_Static_assert(sizeof({name}) == {record.size}, "{name}");')
    for field in record.fields:
        place = f"{name}, {c_name(field.name)}"
        out.append(f'_Static_assert(offsetof({place}) == {field.offset}, "{place}");')
    return [*out, ""]


def c_text(family: Family) -> str:
    """The text of kernels/generated/<family>.h."""
    name = snake(family.name)
    guard = f"TW_GENERATED_{name.upper()}_H"
    out = [
        f"// Generated from kernels/{name}/{name}.wit by tools/wit.py, do not edit.",
        *comment(family.doc, "//"),
        f"#ifndef {guard}",
        f"#define {guard}",
        '#include "../abi.h"',
        "",
    ]
    for enum in family.enums:
        out += _c_enum(family, enum)
    for record in family.records:
        out += _c_record(family, record)
    for kernel in family.kernels:
        entry = snake(kernel.name)
        indices = [f"{entry.upper()}_{snake(b.name).upper()}" for b in kernel.bindings]
        indices.append(entry.upper() + "_BINDINGS")
        indices[0] += " = 0"
        out += [
            *comment(kernel.doc, "//"),
            f"enum {{ {', '.join(indices)} }};",
            f'__attribute__((export_name("{entry}")))',
            f"uint32_t {entry}(const tw_dispatch *, const tw_tile *);",
            "",
        ]
    return "\n".join([*out, "#endif"]) + "\n"


# -- Python --------------------------------------------------------------------------------------


def record_format(record: Record) -> str:
    """The `struct` format of a record: little-endian, every pad byte explicit."""
    out, at = "<", 0
    for field in record.fields:
        for item in field.items:
            out += "x" * (item.offset - at) + item.letter
            at = item.offset + item.size
    return out + "x" * (record.size - at)


def _python_type(item: Item) -> str:
    if item.enum is not None:
        return pascal(item.enum.name)
    if item.type == "bool":
        return "bool"
    return "float" if item.type in ("f32", "f64") else "int"


def _python_field(field: Field) -> str:
    kinds = [_python_type(item) for item in field.items]
    kind = f"tuple[{', '.join(kinds)}]" if field.is_tuple else kinds[0]
    ignore = "  # type: ignore[assignment]" if snake(field.name) in _TUPLE_METHODS else ""
    return f"{python_name(field.name)}: {kind}{ignore}"


def _checks(record: Record) -> list[str]:
    """What `struct` does not check: the lengths of tuples and the cases of enums."""
    out = []
    for field in record.fields:
        name = f"self.{python_name(field.name)}"
        if field.is_tuple:
            out.append(f"len({name}) != {len(field.items)}")
        for i, item in enumerate(field.items):
            if item.enum is not None:
                value = f"{name}[{i}]" if field.is_tuple else name
                out.append(f"not 0 <= {value} < {len(item.enum.cases)}")
    return out


def wit_type(field: Field) -> str:
    """What `tilework.hal.kernel.refused` reads: `u32`, `enum5` or `(u32 u32)`."""
    kinds = [i.type if i.enum is None else f"enum{len(i.enum.cases)}" for i in field.items]
    return f"({' '.join(kinds)})" if field.is_tuple else kinds[0]


def _docstring(doc: str) -> list[str]:
    first, *rest = doc.splitlines()
    if not rest:
        return [f'    """{first}"""', ""]
    return [f'    """{first}', *[f"    {line}".rstrip() for line in rest], '    """', ""]


def _python_record(record: Record) -> list[str]:
    name = pascal(record.name)
    private = f"_{snake(record.name).upper()}"
    out = [f'{private} = struct.Struct("{record_format(record)}")']
    lines = [f'"{python_name(field.name)}: {wit_type(field)}"' for field in record.fields]
    if len(lines) == 1:
        out.append(f"{private}_FIELDS = ({lines[0]},)")
    else:
        out += [f"{private}_FIELDS = (", *[f"    {line}," for line in lines], ")"]
    out += ["", "", f"class {name}(NamedTuple):"]
    out += _docstring(record.doc or f"Parameters `{record.name}`.")
    for field in record.fields:
        out += comment(field.doc, "    #")
        out.append(f"    {_python_field(field)}")
    if any(field.is_tuple for field in record.fields):
        values = [
            f"{'*' if field.is_tuple else ''}self.{python_name(field.name)}"
            for field in record.fields
        ]
        call = [f"{private}.pack(", *[f"    {v}," for v in values], ")"]
    else:
        call = [f"{private}.pack(*self)"]
    out += [
        "",
        "    def pack(self) -> bytes:",
        f'        """The {record.size} bytes that the kernel reads; else an InvalidArgument."""',
        "        try:",
    ]
    checks = _checks(record)
    for check in checks:
        out += [f"            if {check}:", f'                raise struct.error("{record.name}")']
    out += [f"            return {call[0]}"]
    out += [f"            {line}" for line in call[1:]]
    out += [
        "        except (struct.error, OverflowError, TypeError):",
        f'            raise refused("{record.name}", self, {private}_FIELDS) from None',
    ]
    return [*out, "", ""]


def _python_docstring(family: Family) -> list[str]:
    name = snake(family.name)
    source = f"Generated from kernels/{name}/{name}.wit by tools/wit.py, do not edit."
    return [f'"""{source}', *(["", *family.doc.splitlines()] if family.doc else []), '"""']


def python_text(family: Family) -> str:
    """The text of pyapp/tilework/hal/kernels/<family>.py."""
    out = [*_python_docstring(family), "", "from __future__ import annotations", ""]
    if family.records:
        out.append("import struct")
    if family.enums:
        out.append("from enum import IntEnum")
    if family.records:
        out.append("from typing import NamedTuple")
    if family.enums or family.records:
        out.append("")
    names = ["Kernel"]
    if any(kernel.bindings for kernel in family.kernels):
        names.insert(0, "Binding")
    if family.records:
        names.append("refused")
    out.append(f"from tilework.hal.kernel import {', '.join(names)}")
    out.append("")
    if family.enums:
        out.append("")
    for enum in family.enums:
        out.append(f"class {pascal(enum.name)}(IntEnum):")
        out += _docstring(enum.doc or f"Cases of `{enum.name}`.")
        out += [f"    {snake(case).upper()} = {i}" for i, case in enumerate(enum.cases)]
        out += ["", ""]
    for record in family.records:
        out += _python_record(record)
    for kernel in family.kernels:
        entry = snake(kernel.name)
        out += comment(kernel.doc, "#")
        params, length = "None", 0
        if kernel.record is not None:
            params, length = pascal(kernel.record.name), kernel.record.size
        bindings = [
            f'Binding("{snake(b.name)}", "{b.access}", optional={b.optional}),'
            for b in kernel.bindings
        ]
        if len(bindings) > 1:
            bindings = ["    bindings=(", *[f"        {text}" for text in bindings], "    ),"]
        else:
            bindings = [f"    bindings=({''.join(bindings)}),"]
        out += [
            f"{entry.upper()} = Kernel(",
            f'    family="{snake(family.name)}",',
            f'    name="{entry}",',
            f"    params={params},",
            f"    params_length={length},",
            *bindings,
            ")",
            "",
        ]
    return "\n".join(out)


def generate(root: Path) -> list[Path]:
    """Brings the generated files of the checkout at `root` up to date; returns those written.

    Files of families that no longer exist are deleted.
    """
    resources = read_types(root / "kernels/types.wit")
    header_folder = root / "kernels/generated"
    package = root / "pyapp/tilework/hal/kernels"
    files = {
        package / "__init__.py": '"""Kernel families: generated by tools/wit.py, do not edit."""\n'
    }
    for path in sorted((root / "kernels").glob("*/*.wit")):
        family = read_family(path, resources)
        files[header_folder / f"{path.stem}.h"] = c_text(family)
        files[package / f"{path.stem}.py"] = python_text(family)
    for old in [*header_folder.glob("*.h"), *package.glob("*.py")]:
        if old not in files:
            old.unlink()
    return [path for path, text in files.items() if write_if_changed(path, text)]


if __name__ == "__main__":
    for written in generate(Path(__file__).resolve().parent.parent):
        print(f"wrote {written}")
