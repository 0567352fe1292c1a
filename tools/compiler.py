"""The compiler and linker of kernel modules: C and Zig in, one position-independent .wasm out.

Owns the flags, which every family and every kernel writer's own module share, the checks of what
came out, and appends the section by which a module describes itself. Knows nothing of targets.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.dependencies import pin
from tools.interface import section
from tools.project import CACHE, KERNELS, ROOT, BuildError
from tools.wasm import read_module
from tools.wit_reader import Family, WitError, read_family, read_types

GENERATED = KERNELS / "generated"
BUILDS = ("simd", "relaxed")

_FEATURES = "generic+simd128+bulk_memory+atomics+mutable_globals"
_MORE = {"simd": ("", []), "relaxed": ("+relaxed_simd", ["-DTW_RELAXED=1"])}
_TARGET = ["-target", "wasm32-freestanding"]
_C = [
    *_TARGET, "-fPIC", "-ffreestanding", "-fvisibility=hidden", "-O2", "-std=gnu17",
    "-fno-math-errno", "-Wall", "-Wextra", "-Werror",
]  # fmt: skip
_ZIG = [*_TARGET, "-fPIC", "-O", "ReleaseFast", "-fstrip", "-fsingle-threaded"]
# --strip-all drops the name section and keeps dylink.0, which is checked below. Constructors are
# exported where there are any, so that they are seen and refused.
_LINK = [
    "-shared", "--experimental-pic", "--no-entry", "--import-memory", "--shared-memory",
    "--max-memory=4294967296", "--strip-all", "--export-if-defined=__wasm_call_ctors",
]  # fmt: skip
_IMPORTS = {
    "memory", "__indirect_function_table", "__stack_pointer", "__memory_base", "__table_base",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one module is made from. `headers` is the folder of the family's generated header."""

    family: Family
    sources: tuple[Path, ...]
    build: str  # of BUILDS
    headers: Path
    objects: Path  # a folder for what lies between

    @property
    def name(self) -> str:
        return self.family.name.replace("-", "_")


def flags() -> list[str | Path]:
    """All that a module depends on but its sources and headers, for a hash."""
    said = [f"{build} {more} {defines}" for build, (more, defines) in _MORE.items()]
    tools = [Path(__file__), ROOT / "tools" / "interface.py"]
    return [pin("ziglang"), _FEATURES, *said, *_C, *_ZIG, *_LINK, *tools]


def interface_of(path: Path) -> Family:
    """The family that the .wit file at `path` states."""
    try:
        return read_family(path, read_types(KERNELS / "types.wit"))
    except WitError as error:
        raise BuildError(str(error)) from None


def compile_module(recipe: Recipe) -> bytes:
    """The finished module; a BuildError has what the compiler said."""
    objects = recipe.objects
    more, defines = _MORE[recipe.build]
    cpu = f"-mcpu={_FEATURES}{more}"
    include: list[str | Path] = ["-I", recipe.headers, "-I", KERNELS, "-I", GENERATED]
    made = []
    for source in recipe.sources:
        compiled = objects / f"{source.stem}.o"
        what = f"compiling {source}"
        if source.suffix == ".zig":
            translated = _translated(recipe, include)
            modules = ["--dep", "tilework", f"-Mroot={source}", f"-Mtilework={translated}"]
            zig("build-obj", *_ZIG, cpu, f"-femit-bin={compiled}", *modules, what=what)
        else:
            zig("cc", *_C, *include, cpu, *defines, "-c", "-o", compiled, source, what=what)
        made.append(compiled)
    linked = objects / f"{recipe.name}.wasm"
    zig("wasm-ld", *_LINK, "-o", linked, *made, what=f"linking {recipe.name}")
    _check(recipe, linked)
    return linked.read_bytes() + section(recipe.family)


def _translated(recipe: Recipe, include: Sequence[str | Path]) -> Path:
    """The family's generated header, abi.h with it, as the Zig module `tilework`."""
    out = recipe.objects / "tilework.zig"
    header = recipe.headers / f"{recipe.name}.h"
    # The first time on a machine, Zig builds its translator: about a minute.
    text = zig("translate-c", *_TARGET, *include, header, what=f"translating {header.name}")
    out.write_text(text, encoding="utf-8")
    return out


def zig(*arguments: str | Path, what: str) -> str:
    """Runs ziglang; what it printed. A BuildError names `what`."""
    caches = {
        "ZIG_GLOBAL_CACHE_DIR": str(CACHE / "zig"),
        "ZIG_LOCAL_CACHE_DIR": str(CACHE / "zig"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **caches},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        name = what.replace(f"{ROOT}{os.sep}", "")
        said = (done.stderr + done.stdout).strip()
        raise BuildError(f"{name} failed (exit {done.returncode}).", said)
    return done.stdout


def _check(recipe: Recipe, path: Path) -> None:
    """A module that any of our loaders would refuse, or that wants a libc, is a build failure."""
    module = read_module(path.read_bytes())
    name = recipe.name
    if "dylink.0" not in module.customs:
        raise BuildError(f"{name}: the linked module has no dylink.0 section.")
    wanted = [name for _, name, _ in module.imports if name not in _IMPORTS]
    if wanted:
        raise BuildError(
            f"{name}: the module imports {', '.join(wanted)}; a kernel may use only "
            "what is defined in its own family's sources and the headers (there is no libc)."
        )
    functions = {function for function, kind in module.exports if kind == "function"}
    lacking = [k.name for k in recipe.family.kernels if k.name.replace("-", "_") not in functions]
    if lacking:
        raise BuildError(
            f"{name}: {', '.join(lacking)} of its .wit is not exported; define it, with the "
            "generated header included."
        )
