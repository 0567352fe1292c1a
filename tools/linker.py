"""Links ES modules into one script, for a page that has no module loader for them.

A notebook has the wheel and nothing else: the browser driver evaluates the text made here. Each
module becomes a function's scope, in order of dependency, so that names of two modules never
meet. Knows exactly what web/ uses and refuses the rest:

    import { a, b as c } from "./x.js";      at the start of a line, relative and static
    export function|async function|class|const name

It never minifies, renames or reads a module twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tools.project import BuildError

_IMPORT = re.compile(r'^import\s*\{([^}]*)\}\s*from\s*(["\'])(\./[\w./-]+\.js)\2;?[ \t]*$', re.M)
_EXPORT = re.compile(r"^export (?=(?:async function|function|class|const)\s+(\w+))", re.M)
_WORD = re.compile(r"\b(?:import|export)\b")
_NAME = re.compile(r"(\w+)(?:\s+as\s+(\w+))?")
# What can hold the words without meaning them: comments and strings.
_OPAQUE = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`", re.S
)


@dataclass(frozen=True, slots=True)
class _Module:
    path: Path
    body: str  # without imports, exports' keywords removed
    imports: tuple[tuple[Path, str], ...]  # the module and the pattern that takes it apart
    exports: tuple[str, ...]


def link_library(entry: Path) -> str:
    """A script whose value, when evaluated, is an object of the entry module's exports."""
    *_, last = modules = _in_order(entry)
    return _text(modules, entry, f"return {_variable(last, modules)};")


def link_program(entry: Path) -> str:
    """A script that runs the entry module for its effects: a worker's."""
    return _text(_in_order(entry), entry, "")


def _text(modules: list[_Module], entry: Path, ending: str) -> str:
    head = f"// Linked from web/{entry.name} and what it imports, by tools/linker.py.\n"
    scopes = [_scope(module, modules) for module in modules]
    return f'{head}(() => {{\n"use strict";\n{"".join(scopes)}{ending}\n}})();\n'


def _scope(module: _Module, modules: list[_Module]) -> str:
    by_path = {m.path: m for m in modules}
    taken = "".join(
        f"const {{ {pattern} }} = {_variable(by_path[path], modules)};\n"
        for path, pattern in module.imports
    )
    given = f"return Object.freeze({{ {', '.join(module.exports)} }});\n"
    name = _variable(module, modules)
    return f"// {module.path.name}\nconst {name} = (() => {{\n{taken}{module.body}\n{given}}})();\n"


def _variable(module: _Module, modules: list[_Module]) -> str:
    return f"$module{modules.index(module)}"


def _in_order(entry: Path) -> list[_Module]:
    """The entry and all that it needs, each after what it imports."""
    done: dict[Path, _Module] = {}
    open_: list[Path] = []

    def visit(path: Path) -> None:
        if path in done:
            return
        if path in open_:
            chain = " -> ".join(p.name for p in [*open_, path])
            raise BuildError(f"linker: modules import each other in a circle: {chain}.")
        open_.append(path)
        module = _read(path)
        for dependency, _ in module.imports:
            visit(dependency)
        open_.pop()
        done[path] = module

    visit(entry.resolve())
    return list(done.values())


def _read(path: Path) -> _Module:
    try:
        source = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BuildError(f"linker: {path.name} is imported but does not exist.") from None
    imports = tuple(
        ((path.parent / match[3]).resolve(), _pattern(match[1], path))
        for match in _IMPORT.finditer(source)
    )
    exports = tuple(_EXPORT.findall(source))
    body = _EXPORT.sub("", _IMPORT.sub("", source))
    plain = _OPAQUE.sub(lambda m: "\n" * m[0].count("\n") or " ", body)
    left = _WORD.search(plain)
    if left:
        line = plain.splitlines()[plain[: left.start()].count("\n")].strip()
        raise BuildError(
            f"linker: {path.name} has an import or export that tools/linker.py does not know: "
            f'{line!r}. It knows `import {{ names }} from "./x.js"` and `export` before a '
            "function, a class or a const."
        )
    return _Module(path, body.strip("\n"), imports, exports)


def _pattern(names: str, path: Path) -> str:
    """The names between an import's braces as a destructuring pattern."""
    parts = []
    for name in (n.strip() for n in names.split(",")):
        if not name:
            continue
        match = _NAME.fullmatch(name)
        if not match:
            raise BuildError(f"linker: {path.name} imports {name!r}, which is no plain name.")
        parts.append(f"{match[1]}: {match[2]}" if match[2] else match[1])
    return ", ".join(parts)
