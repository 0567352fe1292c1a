"""The linker: order, scopes, and that it refuses what it does not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.linker import link_library, link_program
from tools.project import WEB, BuildError

pytestmark = pytest.mark.unit


def write(folder: Path, **modules: str) -> Path:
    """Modules by name; returns the first."""
    for name, text in modules.items():
        (folder / f"{name}.js").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(modules))}.js"


def test_modules_come_after_what_they_import(tmp_path: Path) -> None:
    entry = write(
        tmp_path,
        top='import { b } from "./b.js";\nimport { a as first } from "./a.js";\n'
        "export const sum = first + b;\n",
        b='import {\n  a,\n} from "./a.js";\nexport const b = a + 1;\n',
        a="export const a = 1;\n",
    )
    text = link_library(entry)
    assert text.index("// a.js") < text.index("// b.js") < text.index("// top.js")
    assert text.count("// a.js") == 1
    assert "const { a: first } = $module0;" in text
    assert "return Object.freeze({ sum });" in text
    assert text.rstrip().endswith("return $module2;\n})();")


def test_a_program_returns_nothing(tmp_path: Path) -> None:
    text = link_program(write(tmp_path, top="export function f() {}\nf();\n"))
    assert "return $module0;" not in text
    assert "export" not in text


def test_words_in_comments_and_strings_mean_nothing(tmp_path: Path) -> None:
    entry = write(
        tmp_path,
        top='// import this\n/** @type {import("./b.js").B} */\nexport const x = "export it";\n',
    )
    assert "const x" in link_library(entry)


@pytest.mark.parametrize(
    "line",
    [
        "export default 1;",
        "export let a = 1;",
        "const a = 1; export { a };",
        'export * from "./b.js";',
        'import * as b from "./b.js";',
        'import b from "./b.js";',
        'import "./b.js";',
        'import { b } from "b";',
        'const b = await import("./b.js");',
        "const here = import.meta.url;",
        '  import { b } from "./b.js";',
    ],
)
def test_what_it_does_not_know_is_an_error(tmp_path: Path, line: str) -> None:
    entry = write(tmp_path, top=f"const before = 1;\n{line}\n", b="export const b = 1;\n")
    with pytest.raises(BuildError, match=r"top\.js has an import or export"):
        link_library(entry)


def test_circles_are_named(tmp_path: Path) -> None:
    entry = write(
        tmp_path,
        a='import { b } from "./b.js";\nexport const a = 1;\n',
        b='import { a } from "./a.js";\nexport const b = 1;\n',
    )
    with pytest.raises(BuildError, match=r"circle: a\.js -> b\.js -> a\.js"):
        link_library(entry)


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    entry = write(tmp_path, a='import { b } from "./b.js";\n')
    with pytest.raises(BuildError, match=r"b\.js is imported but does not exist"):
        link_library(entry)


@pytest.mark.parametrize("name", ["bridge.js", "compute-worker.js"])
def test_the_project_s_own_modules_link(name: str) -> None:
    assert "// executor.js" in link_library(WEB / name)
