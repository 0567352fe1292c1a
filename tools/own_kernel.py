"""Builds a kernel module of anyone's own: a folder of a .wit and .c or .zig in, a .wasm out.

The folder is what a family in kernels/ is, anywhere on disk; the flags, the headers and the checks
are those of tools/compiler.py.
"""

from __future__ import annotations

from pathlib import Path

from tools.compiler import Recipe, compile_module, interface_of
from tools.project import BUILD, BuildError, digest, remove, replace_file
from tools.wit import c_text

SOURCES = (".c", ".zig")


def build_kernel(folder: Path, out: Path | None = None, build: str = "simd") -> Path:
    """Compiles the family in `folder`; the module's path, `<folder>.wasm` unless `out` is given."""
    folder = folder.resolve()
    interface = folder / f"{folder.name}.wit"
    if not interface.is_file():
        raise BuildError(f"{interface} is missing; it states the kernels' parameters and bindings.")
    sources = sorted(path for path in folder.glob("*") if path.suffix in SOURCES)
    if not sources:
        raise BuildError(f"{folder}: there is no .c and no .zig file to compile.")
    family = interface_of(interface)
    objects = BUILD / "objects" / "own" / digest([str(folder), build])[:16]
    remove(objects)
    objects.mkdir(parents=True)
    (objects / f"{folder.name}.h").write_text(c_text(family), encoding="utf-8")
    binary = compile_module(Recipe(family, tuple(sources), build, objects, objects))
    out = out or folder.with_suffix(".wasm")
    replace_file(out, binary)
    return out
