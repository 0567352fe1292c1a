"""The .wit files as our reader sees them against clang and wasmtime, and the generated packers."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st
from wasmtime import component

from tilework.core.errors import InvalidArgument
from tools import wit, wit_reader

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
TYPES = ROOT / "kernels" / "types.wit"
FAMILIES = sorted((ROOT / "kernels").glob("*/*.wit"))

SAMPLE = """\
package tilework:kernels@0.1.0;
/// Everything the subset has.
interface sample {
  use types.{input, output, inout};
  enum kind { none, %enum, some-thing }
  /// Mixed.
  record mixed {
    flag: bool, a: u64, b: u8, c: s16, shape: tuple<u32, u32, u32>, pair: tuple<u8, f64, kind>,
    /// documented
    kind: kind, register: f32, lambda: s64, count: u8, kinds: tuple<kind, kind>,
  }
  record tiny { x: u8 }
  f32-mixed: func(params: mixed, a: borrow<input>, b: option<borrow<inout>>,
                  c: borrow<output>) -> result<_, u32>;
  bare: func(x: borrow<output>) -> result<_, u32>;
  nothing: func() -> result<_, u32>;
}
"""


def family(folder: Path, text: str = SAMPLE, name: str = "sample") -> wit_reader.Family:
    """`text` read as the family `name` of a checkout in `folder`, types.wit included."""
    path = folder / "kernels" / name / f"{name}.wit"
    path.parent.mkdir(parents=True, exist_ok=True)
    (folder / "kernels/types.wit").write_text(TYPES.read_text(encoding="utf-8"), encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    return wit_reader.read_family(path, wit_reader.read_types(folder / "kernels/types.wit"))


def load(text: str) -> ModuleType:
    """Generated Python as a module."""
    module = ModuleType("generated_sample")
    sys.modules[module.__name__] = module  # NamedTuple looks its module up
    exec(compile(text, "generated_sample.py", "exec"), module.__dict__)
    return module


def compile_c(source: Path, text: str) -> bytes:
    """The wasm32 object that `text` compiles to; clang's messages on failure."""
    source.write_text(text, encoding="utf-8")
    out = source.with_suffix(".o")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-freestanding", "-c"]
    done = subprocess.run(
        [*command, "-o", str(out), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out.read_bytes()


def test_reads_everything_the_subset_has(tmp_path: Path) -> None:
    found = family(tmp_path)
    assert found.name == "sample" and found.doc == "Everything the subset has."
    assert found.enums[0].cases == ("none", "enum", "some-thing")
    mixed = found.records[0]
    assert [(f.name, f.offset, f.size) for f in mixed.fields] == [
        ("flag", 0, 1), ("a", 8, 8), ("b", 16, 1), ("c", 18, 2), ("shape", 20, 12),
        ("pair", 32, 24), ("kind", 56, 1), ("register", 60, 4), ("lambda", 64, 8),
        ("count", 72, 1), ("kinds", 73, 2),
    ]  # fmt: skip
    assert (mixed.size, mixed.alignment) == (80, 8)
    assert mixed.fields[6].doc == "documented"
    assert found.kernels[0].bindings == (
        wit_reader.Binding("a", "input", False),
        wit_reader.Binding("b", "inout", True),
        wit_reader.Binding("c", "output", False),
    )
    assert found.kernels[1].record is None and found.kernels[2].bindings == ()


@pytest.mark.parametrize("path", FAMILIES, ids=lambda p: p.stem)
def test_each_familys_layout_is_clangs(tmp_path: Path, path: Path) -> None:
    text = wit.c_text(wit_reader.read_family(path, wit_reader.read_types(TYPES)))
    (tmp_path / "generated").mkdir()
    (tmp_path / "abi.h").write_text((ROOT / "kernels/abi.h").read_text(encoding="utf-8"))
    (tmp_path / "generated/family.h").write_text(text, encoding="utf-8")
    compile_c(tmp_path / "probe.c", '#include "generated/family.h"\n')


C_SAMPLE = """
const mixed probe = {
  .flag = 1, .a = 0x1122334455667788, .b = 200, .c = -2, .shape = {7, 8, 4294967295u},
  .pair = {9, 0.1, SAMPLE_KIND_SOME_THING}, .kind = SAMPLE_KIND_ENUM, .register_ = 0.1f,
  .lambda = -5, .count = 6, .kinds = {SAMPLE_KIND_SOME_THING, SAMPLE_KIND_NONE},
};
const tiny *unused(void);
_Static_assert(F32_MIXED_A == 0 && F32_MIXED_C == 2 && F32_MIXED_BINDINGS == 3, "");
_Static_assert(BARE_BINDINGS == 1 && NOTHING_BINDINGS == 0, "");
"""


def test_packed_bytes_are_what_clang_lays_out(tmp_path: Path) -> None:
    found = family(tmp_path)
    (tmp_path / "abi.h").write_text((ROOT / "kernels/abi.h").read_text(encoding="utf-8"))
    header = wit.c_text(found).replace("../abi.h", "abi.h")
    compiled = compile_c(tmp_path / "probe.c", header + C_SAMPLE)
    module = load(wit.python_text(found))
    kind = module.Kind
    values = module.Mixed(
        flag=True, a=0x1122334455667788, b=200, c=-2, shape=(7, 8, 2**32 - 1),
        pair=(9, 0.1, kind.SOME_THING), kind=kind.ENUM, register=0.1, lambda_=-5, count=6,
        kinds=(kind.SOME_THING, kind.NONE),
    )  # fmt: skip
    assert len(values.pack()) == module.F32_MIXED.params_length == 80
    assert values.pack() in compiled
    assert values._replace(count=7).pack() not in compiled
    assert module.F32_MIXED.params is module.Mixed
    assert module.NOTHING.params is None and module.NOTHING.bindings == ()


RIGHT: dict[str, Any] = {
    "flag": False, "a": 1, "b": 2, "c": 3, "shape": (1, 2, 3), "pair": (1, 2.0, 0), "kind": 0,
    "register": 1.5, "lambda_": 0, "count": 0, "kinds": (0, 0),
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("a", -1, "mixed: a is -1; expected u64, an integer from 0 to 18446744073709551615"),
        ("b", 256, "mixed: b is 256; expected u8, an integer from 0 to 255"),
        ("c", 40000, "mixed: c is 40000; expected s16, an integer from -32768 to 32767"),
        ("b", 1.0, "mixed: b is 1.0; expected u8, an integer"),
        ("shape", (1, 2), "mixed: shape is (1, 2); expected a tuple of 3"),
        ("shape", 7, "mixed: shape is 7; expected a tuple of 3"),
        ("shape", (1, -2, 3), "mixed: shape[1] is -2; expected u32"),
        ("pair", (1, "x", 0), "mixed: pair[1] is 'x'; expected a number (f64)"),
        ("pair", (1, 2.0, 3), "mixed: pair[2] is 3; expected a case of the enum, an integer"),
        ("kind", 3, "mixed: kind is 3; expected a case of the enum, an integer from 0 to 2"),
        ("kind", None, "mixed: kind is None; expected a case"),
        ("register", 1e39, "mixed: register is 1e+39; expected f32, at most"),
        ("lambda_", 2**63, "mixed: lambda_ is 9223372036854775808; expected s64"),
        ("kinds", (0, 0, 0), "mixed: kinds is (0, 0, 0); expected a tuple of 2"),
    ],
)
def test_a_value_that_does_not_fit_is_named(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    module = load(wit.python_text(family(tmp_path)))
    assert len(module.Mixed(**RIGHT).pack()) == 80
    with pytest.raises(InvalidArgument) as caught:
        module.Mixed(**{**RIGHT, field: value}).pack()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "place", "expected"),
    [
        ("a: u64", "a: string", "8:20", "an enum above, tuple<...> or bool, u8"),
        ("tiny { x: u8 }", "tiny { }", "12:17", "at least one field"),
        ("tiny {", "kind {", "12:10", "that is not taken yet"),
        ("tiny {", "kernel {", "12:10", "that is not taken yet"),
        ("flag: bool", "pack: bool", "8:5", "other than `pack`"),
        ("b: u8", "flag: u8", "8:25", "a field's name that is not taken yet"),
        ("inout};", "shared};", "4:29", "one of inout, input, output"),
        (", inout};", "};", "13:69", "a resource named in `use types` (input, output)"),
        ("a: borrow<input>", "a: input", "13:37", "borrow<...>, option<borrow<...>>"),
        ("result<_, u32>;\n}", "u32;\n}", "16:22", "'result'"),
        ("interface sample {", "world sample {", "3:1", "'interface'"),
        ("}\n", "", "17:1", "use, enum, record"),
        ("some-thing", "some_thing", "5:32", "'}' or ','"),
        ("func(x: borrow<output>)", "func(x: list<u8>)", "15:17", "or a record above"),
        ("@0.1.0", "@one", "1:26", "a version such as 0.1.0"),
        ("tuple<u32, u32, u32>", "tuple<>", "8:53", "at least one type"),
    ],
)
def test_errors_say_where_and_what_was_expected(
    tmp_path: Path, old: str, new: str, place: str, expected: str
) -> None:
    assert old in SAMPLE
    head, tail = SAMPLE.rsplit(old, 1) if old == "}\n" else SAMPLE.split(old, 1)
    with pytest.raises(wit_reader.WitError) as caught:
        family(tmp_path, head + new + tail)
    assert expected in str(caught.value)
    assert f"sample.wit:{place}: " in str(caught.value)


def test_strange_characters_and_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(wit_reader.WitError, match=r":1:1: unexpected character '\$'"):
        family(tmp_path, "$" + SAMPLE)
    with pytest.raises(wit_reader.WitError, match="expected interface 'other', not 'sample'"):
        family(tmp_path, SAMPLE, "other")
    with pytest.raises(wit_reader.WitError, match="expected resources in types"):
        family(tmp_path, SAMPLE.replace("record tiny { x: u8 }", "resource tiny;"))


def test_generate_writes_what_changed_and_deletes_what_is_gone(tmp_path: Path) -> None:
    family(tmp_path)
    assert {p.name for p in wit.generate(tmp_path)} == {"sample.h", "sample.py", "__init__.py"}
    assert wit.generate(tmp_path) == []
    (tmp_path / "kernels/sample/sample.wit").unlink()
    assert wit.generate(tmp_path) == []
    assert not (tmp_path / "kernels/generated/sample.h").exists()
    assert not (tmp_path / "pyapp/tilework/hal/kernels/sample.py").exists()


def test_a_large_enum_takes_two_bytes(tmp_path: Path) -> None:
    cases = ", ".join(f"c{i}" for i in range(257))
    text = SAMPLE.replace("none, %enum, some-thing", cases)
    found = family(tmp_path, text)
    assert found.enums[0].size == 2
    assert "typedef uint16_t sample_kind;" in wit.c_text(found)
    small = family(tmp_path, text.replace(", c256", ""))
    assert small.enums[0].size == 1


# -- against wasmtime's canonical ABI --------------------------------------------------------------

COMPONENT = """
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
    (func (export "f") (param i32) (result i32)
      (i32.store (i32.const 1024) (local.get 0))
      (i32.store (i32.const 1028) (i32.const {size}))
      (i32.const 1024)))
  (core instance $i (instantiate $m))
  {types}
  (func $f (param "params" $record) {fillers} (result (list u8))
    (canon lift (core func $i "f") (memory (core memory $i "memory"))
      (realloc (core func $i "realloc"))))
  (export "f" (func $f)))
"""


def lowered(record: wit_reader.Record, values: dict[str, object]) -> bytes:
    """The bytes that wasmtime writes into a guest's memory for `values`, keyed by WIT's names.

    Seventeen more parameters make it pass everything through memory, the record first.
    """
    types: list[str] = []
    enums: dict[str, str] = {}
    for field in record.fields:
        for item in field.items:
            if item.enum is not None and item.type not in enums:
                cases = " ".join(f'"{case}"' for case in item.enum.cases)
                types.append(f"(type $t{len(enums)} (enum {cases}))")
                types.append(f'(export $e{len(enums)} "{item.type}" (type $t{len(enums)}))')
                enums[item.type] = f"$e{len(enums)}"
    parts = []
    for field in record.fields:
        kinds = " ".join(enums.get(item.type, item.type) for item in field.items)
        parts.append(f'(field "{field.name}" {f"(tuple {kinds})" if field.is_tuple else kinds})')
    types.append(f"(type $r (record {' '.join(parts)}))")
    types.append(f'(export $record "record-{record.name}" (type $r))')
    fillers = " ".join(f'(param "filler{i}" u32)' for i in range(17))
    text = COMPONENT.format(size=record.size, types="\n  ".join(types), fillers=fillers)
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    instance = component.Linker(engine).instantiate(store, component.Component(engine, text))
    argument = component.Record()
    argument.__dict__.update(values)
    function = instance.get_func(store, "f")
    assert function is not None
    found = function(store, argument, *[0] * 17)
    return bytes(found)


def sampled(record: wit_reader.Record) -> tuple[dict[str, object], list[object]]:
    """Distinct values for every element: as wasmtime wants them, and as pack() does."""
    theirs: dict[str, object] = {}
    ours: list[object] = []
    number = 0
    for field in record.fields:
        left: list[object] = []
        right: list[object] = []
        for item in field.items:
            number += 1
            if item.enum is not None:
                case = number % len(item.enum.cases)
                left.append(item.enum.cases[case])
                right.append(case)
            else:
                value = number + 0.5 if item.letter in "fd" else number
                left.append(True if item.type == "bool" else value)
                right.append(left[-1])
        theirs[field.name] = tuple(left) if field.is_tuple else left[0]
        ours.append(tuple(right) if field.is_tuple else right[0])
    return theirs, ours


@pytest.mark.parametrize("path", [*FAMILIES, None], ids=lambda p: p.stem if p else "sample")
def test_packed_bytes_are_what_wasmtime_lowers(tmp_path: Path, path: Path | None) -> None:
    found = (
        family(tmp_path) if path is None
        else wit_reader.read_family(path, wit_reader.read_types(TYPES))
    )  # fmt: skip
    module = load(wit.python_text(found))
    for record in found.records:
        theirs, ours = sampled(record)
        packed = getattr(module, wit.pascal(record.name))(*ours).pack()
        reference = lowered(record, theirs)
        assert len(packed) == len(reference)
        for field in record.fields:
            for item in field.items:  # pad bytes are not part of the ABI
                span = slice(item.offset, item.offset + item.size)
                assert packed[span] == reference[span], (record.name, field.name)


# -- properties ------------------------------------------------------------------------------------

KINDS = [*wit_reader.SCALARS, "kind"]


@settings(max_examples=60)
@given(st.lists(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), min_size=1, max_size=8))
def test_any_record_packs_to_its_size_with_each_value_in_place(fields: list[list[str]]) -> None:
    types = [k[0] if len(k) == 1 else f"tuple<{', '.join(k)}>" for k in fields]
    lines = [f"f{i}: {kind}" for i, kind in enumerate(types)]
    text = "interface any { enum kind { a, b, c } record any-record { " + ", ".join(lines) + "} }"
    reader = wit_reader.Reader("any.wit", text)
    reader.file()
    record = reader.records["any-record"]
    enums = (reader.enums["kind"],)
    module = load(wit.python_text(wit_reader.Family("any", "", enums, (record,), ())))
    _, ours = sampled(record)
    packed = module.AnyRecord(*ours).pack()
    assert len(packed) == record.size
    flat = [v for value in ours for v in (value if isinstance(value, tuple) else (value,))]
    items = [item for field in record.fields for item in field.items]
    for item, value in zip(items, flat, strict=True):
        assert item.offset % item.size == 0
        assert struct.unpack_from("<" + item.letter, packed, item.offset) == (value,)
