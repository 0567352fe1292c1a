"""abi.h as our reader sees it against clang, and the two generated files against the reading."""

from __future__ import annotations

import importlib
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tools import abi, abi_reader

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
HEADER = ROOT / "kernels" / "abi.h"


def compile_c(folder: Path, text: str, *includes: Path) -> subprocess.CompletedProcess[str]:
    """Compiles `text` for wasm32 into folder/probe.o; the caller judges the result."""
    source = folder / "probe.c"
    source.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-freestanding", "-c"]
    command += [f"-I{include}" for include in includes]
    command += ["-o", str(folder / "probe.o"), str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def assertions(found: abi_reader.Abi) -> list[str]:
    lines = []
    for name, value in found.constants.items():
        lines.append(f'_Static_assert({name} == {value}u, "{name}");')
    for cases in found.enums.values():
        lines += [f'_Static_assert({case} == {value}, "{case}");' for case, value in cases.items()]
    for s in found.structs.values():
        c = f"tw_{s.name}"
        lines.append(f'_Static_assert(sizeof({c}) == {s.size}, "{c}");')
        lines.append(f'_Static_assert(_Alignof({c}) == {s.alignment}, "{c}");')
        for f in s.fields:
            lines.append(f'_Static_assert(offsetof({c}, {f.name}) == {f.offset}, "{f.name}");')
            lines.append(f'_Static_assert(sizeof((({c} *)0)->{f.name}) == {f.size}, "{f.name}");')
    return lines


def test_every_constant_offset_and_size_is_clangs(tmp_path: Path) -> None:
    lines = assertions(abi_reader.read(HEADER))
    assert len(lines) > 150
    done = compile_c(tmp_path, "\n".join(['#include "abi.h"', *lines]), HEADER.parent)
    assert done.returncode == 0, done.stderr


def test_the_proof_can_fail(tmp_path: Path) -> None:
    lines = [s.replace("claim) == 0", "claim) == 8") for s in assertions(abi_reader.read(HEADER))]
    done = compile_c(tmp_path, "\n".join(['#include "abi.h"', *lines]), HEADER.parent)
    assert done.returncode != 0
    assert "claim" in done.stderr


def test_awkward_layouts_are_clangs(tmp_path: Path) -> None:
    text = """\
#include <stddef.h>
#include <stdint.h>
#define TW_LINE _Alignas(64)
#define TW_N 3
enum tw_e { TW_A, TW_B = 7, TW_C };
typedef struct tw_small { uint8_t a; int16_t b[TW_N]; } tw_small; /* a
comment of two lines */
typedef struct tw_big {
  uint8_t a, b; tw_small inner; tw_small many[2]; double d; const tw_small *p; TW_LINE float f;
  uint8_t tail[5];
} tw_big;
typedef struct tw_outer { uint8_t a; tw_big big; uint64_t after; } tw_outer;
"""
    header = tmp_path / "small.h"
    header.write_text(text, encoding="utf-8")
    found = abi_reader.read(header)
    assert found.enums == {"e": {"TW_A": 0, "TW_B": 7, "TW_C": 8}}
    assert found.structs["outer"].lines
    assert abi.pack_format(found.structs["small"]) is None
    done = compile_c(tmp_path, "\n".join(['#include "small.h"', *assertions(found)]), tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("typedef struct tw_a {\n  size_t x;\n} tw_a;", "2:3", "a field's type"),
        ("typedef struct tw_a { uint32_t x } tw_a;", "1:34", "';'"),
        ("typedef struct tw_a { tw_b x; } tw_a;", "1:28", "'*'"),
        ("typedef struct tw_a { uint32_t x, x; } tw_a;", "1:35", "not yet used"),
        ("typedef struct tw_a { uint32_t x[TW_N]; } tw_a;", "1:34", "a number or a #define"),
        ("typedef struct tw_a { uint32_t x; } tw_b;", "1:37", "'tw_a'"),
        ("#define TW_A (1 + 2)", "1:1", "#define TW_X number"),
        ("int x;", "1:1", "enum, typedef struct"),
        ("enum tw_e { TW_A = 1", "1:1", "'}' or ','"),
    ],
)
def test_what_is_outside_the_subset_is_named(
    tmp_path: Path, text: str, place: str, expected: str
) -> None:
    header = tmp_path / "abi.h"
    header.write_text(text, encoding="utf-8")
    with pytest.raises(abi_reader.AbiError) as caught:
        abi_reader.read(header)
    assert f"abi.h:{place}: " in str(caught.value)
    assert expected in str(caught.value)


def test_python_and_javascript_hold_the_same_numbers(tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels/abi.h").write_text(HEADER.read_text(encoding="utf-8"), encoding="utf-8")
    assert len(abi.generate(tmp_path)) == 2
    assert abi.generate(tmp_path) == []  # nothing changed, nothing touched

    spec = importlib.util.spec_from_file_location(
        "abi_out", tmp_path / "pyapp/tilework/hal/_abi.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = abi_reader.read(HEADER)
    queue = {f.name: f.offset for f in found.structs["queue"].fields}
    assert queue["claim"] == module.QUEUE_CLAIM
    assert queue["ended"] == module.QUEUE_ENDED
    assert found.structs["queue"].size == module.QUEUE_SIZE
    assert module.Status.TRAPPED == 256

    javascript = (tmp_path / "web/abi.js").read_text(encoding="utf-8")
    exported = dict(re.findall(r"^export const (\w+) = (\w+);$", javascript, re.MULTILINE))
    plain = {k: v for k, v in vars(module).items() if k.isupper() and isinstance(v, int)}
    assert {k: int(v, 0) for k, v in exported.items()} == plain
    assert len(plain) > 80


def test_formats_put_each_value_at_its_offset() -> None:
    found = abi_reader.read(HEADER)
    packable = {"binding", "program", "region", "command", "ref"}
    assert packable <= {n for n, s in found.structs.items() if abi.pack_format(s)}
    for name in packable:
        layout = found.structs[name]
        packed = abi.pack_format(layout)
        assert packed is not None
        assert struct.calcsize(packed[0]) == layout.size
        data = struct.pack(packed[0], *range(1, len(packed[1]) + 1))
        offsets = [f.offset for f in layout.fields if f.name != "reserved"]
        for value, offset in enumerate(offsets, 1):
            assert struct.unpack_from("<I", data, offset) == (value,), (name, offset)
        assert abi.pack_format(found.structs["queue"]) is None
