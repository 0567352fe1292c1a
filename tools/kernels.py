"""Generates the shared layouts and compiles every kernel family to position-independent wasm.

kernels/abi.h and kernels/<family>/<family>.wit -> generated C, Python and JavaScript (tools/abi.py
and tools/wit.py write them) -> build/kernels/{simd,relaxed}/<family>.wasm. tools/compiler.py has
the flags; the kernels own their speed. A family is compiled again only when something it is made
from has changed, and families are compiled side by side.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tools.compiler import BUILDS, GENERATED, Recipe, compile_module, flags, interface_of
from tools.project import (
    BUILD,
    KERNELS,
    PACKAGE,
    ROOT,
    WEB,
    BuildError,
    digest,
    families,
    remove,
    replace_file,
    run,
)
from tools.steps import STAMPS, Line, step

COMPILED = BUILD / "kernels"
PROCESSOR = "processor"


@dataclass(frozen=True, slots=True)
class Target:
    """One module to make: a family in one of its builds."""

    family: str
    build: str

    @property
    def path(self) -> Path:
        return COMPILED / self.build / f"{self.family}.wasm"

    @property
    def stamp(self) -> Path:
        return STAMPS / "modules" / f"{self.build}-{self.family}"

    @property
    def interface(self) -> Path:
        return KERNELS / self.family / f"{self.family}.wit"

    def sources(self) -> list[Path]:
        return sorted((KERNELS / self.family).glob("*.c"))

    def key(self) -> str:
        """Hash of everything the module is made from."""
        headers = [*KERNELS.glob("*.h"), *(KERNELS / self.family).glob("*.h")]
        headers += GENERATED.glob("*.h")
        return digest([self.build, *flags(), *sorted(headers), self.interface, *self.sources()])


def targets() -> list[Target]:
    """All modules: every family twice, the processor, which has nothing to relax, once."""
    found = [Target(f, b) for f in families() if f != PROCESSOR for b in BUILDS]
    if list((KERNELS / PROCESSOR).glob("*.c")):
        found.append(Target(PROCESSOR, "simd"))
    return found


def generate() -> None:
    """Write the code that is generated from abi.h and the .wit files, as a step."""
    wits = sorted(KERNELS.glob("**/*.wit"))
    bindings = PACKAGE / "hal" / "kernels"
    made = [GENERATED / f"{f}.h" for f in families()]
    made += [bindings / f"{f.replace('-', '_')}.py" for f in families()]
    made += [PACKAGE / "hal" / "_abi.py", WEB / "abi.js"]
    tools = [ROOT / "tools" / "abi.py", ROOT / "tools" / "wit.py"]
    helpers = sorted((ROOT / "tools").glob("abi_*.py")) + sorted((ROOT / "tools").glob("wit_*.py"))
    for tool in tools:
        if not tool.is_file():
            raise BuildError(f"tools/{tool.name} is missing, so nothing can be generated yet.")

    def action(line: Line) -> str:
        for tool in tools:
            line.progress(tool.name)
            run([sys.executable, tool], what=f"tools/{tool.name}", remedy="Mend what it names.")
        return f"{len(wits)} .wit files, abi.h"

    step("generate", action, inputs=[*wits, KERNELS / "abi.h", *tools, *helpers], outputs=made)


def compile_all() -> None:
    """Compile what has changed, as one step; other families' results stay when one fails."""
    wanted = targets()
    _remove_others(wanted)
    stale = [t for t in wanted if not _fresh(t)]

    def action(line: Line) -> str:
        finished: list[str] = []

        def make(target: Target) -> BuildError | None:
            try:
                _make(target)
            except BuildError as error:
                return error
            finished.append(f"{target.build}/{target.family}")
            line.progress(f"{len(finished)}/{len(stale)} {finished[-1]}")
            return None

        with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
            failures = [error for error in pool.map(make, stale) if error]
        if failures:
            # The two builds of a family mostly fail alike.
            messages = dict.fromkeys(str(error) for error in failures)
            details = dict.fromkeys(error.details for error in failures if error.details)
            raise BuildError("\n          ".join(messages), "\n".join(details))
        return f"{len(stale)} of {len(wanted)} modules compiled"

    step("kernels", action, inputs=[t.key() for t in wanted], outputs=[t.path for t in wanted])


def _fresh(target: Target) -> bool:
    return (
        target.path.is_file()
        and target.stamp.is_file()
        and target.stamp.read_text(encoding="ascii") == target.key()
    )


def _remove_others(wanted: list[Target]) -> None:
    keep = {t.path for t in wanted}
    for path in COMPILED.glob("*/*.wasm"):
        if path not in keep:
            remove(path)


def _make(target: Target) -> None:
    key = target.key()
    sources = target.sources()
    if not sources:
        raise BuildError(f"kernels/{target.family}: there is a .wit but no .c file to compile.")
    objects = BUILD / "objects" / target.build / target.family
    remove(objects)
    objects.mkdir(parents=True)
    family = interface_of(target.interface)
    recipe = Recipe(family, tuple(sources), target.build, GENERATED, objects)
    replace_file(target.path, compile_module(recipe))
    replace_file(target.stamp, key.encode("ascii"))
