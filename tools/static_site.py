"""Assembles dist/: a folder that any static host can serve, with everything same-origin.

    dist/            static/ as it is (pages, styles)
    dist/web/        the modules of web/, generated abi.js among them
    dist/pyodide/    Pyodide's core, its wheels, and a lock file that names just these wheels
    dist/<page>/<page>.zip  the Python of a page: each package of pyapp/ that is not the library
    dist/models/     written by tools/minilm.py, left alone here
    dist/tilework-*.whl
    dist/site.json   the wheel's name, which has the version in it
    dist/example.onnx  the model of the landing page's example
    dist/speed/      its page is a template, which takes the README's figures

Copies only what differs and removes what no longer belongs. Never downloads and never compiles.

The lock file is written here and not by `pyodide lockfile add-wheels` (pyodide-lock): the version
for Python 3.11 does not read this Pyodide's lock file, the later one needs Python 3.12 and refuses
NumPy's wheel for its older platform tag, which this Pyodide itself accepts. `pyodide py-compile`
is not used either: its wheels fit one version of Python, ours is py3-none-any; and `pyodide build`
fetches a toolchain from outside the package registries.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from tools import fetch, speed_page
from tools.example import NAME as EXAMPLE
from tools.example import example
from tools.project import DIST, PACKAGE, ROOT, WEB, digest, files_below, replace_file, sha256_file
from tools.steps import Line, step
from tools.wheel import wheel_name

STATIC = ROOT / "static"
_CORE = ("pyodide.mjs", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip")
_MODELS = DIST / "models"  # another step's results
_BENCH = "bench"  # tools/bench.py shows it with its models and its peer; a site has no use for it
_TEMPLATE = STATIC / "speed" / "index.html"
_README = ROOT / "README.md"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def make_site() -> None:
    """The site, as a step."""
    copies = _copies()
    packages = sorted(p.parent for p in PACKAGE.parent.glob("*/__init__.py") if p.parent != PACKAGE)
    wheels = [fetch.NUMPY, *(w.path for w in fetch.SITE_WHEELS)]
    python = [f for p in packages for f in files_below(p)]

    def action(_: Line) -> str:
        written = dict.fromkeys(copies.values(), 0)
        changed = sum(_copy(source, target) for source, target in copies.items())
        made = {f"{p.name}/{p.name}.zip": _zip(p) for p in packages}
        made["pyodide/pyodide-lock.json"] = _lock(wheels)
        template, readme = (p.read_text(encoding="utf-8") for p in (_TEMPLATE, _README))
        made["speed/index.html"] = speed_page.page(template, readme)
        made[EXAMPLE] = example()
        made["site.json"] = _json({"wheel": wheel_name()})
        for name, content in made.items():
            changed += _write(DIST / name, content)
            written[DIST / name] = 0
        _remove_others({*written, DIST / wheel_name()})
        return f"{len(written)} files, {changed} changed"

    step(
        "site",
        action,
        inputs=[
            *[f"{source} {target}" for source, target in copies.items()],
            *[digest([f]) for f in [*copies, *python, *wheels, _TEMPLATE, _README]],
            wheel_name(),
            *[ROOT / "tools" / f"{tool}.py" for tool in ("static_site", "speed_page", "example")],
        ],
        outputs=[*copies.values(), DIST / "site.json", DIST / "pyodide" / "pyodide-lock.json"],
    )


def _copies() -> dict[Path, Path]:
    """What is copied as it is, and where to."""
    found = {p: DIST / p.relative_to(STATIC) for p in files_below(STATIC) if p != _TEMPLATE}
    found |= {p: DIST / "web" / p.relative_to(WEB) for p in files_below(WEB, ".js")}
    found = {p: target for p, target in found.items() if _BENCH not in target.parts}
    # A service worker commands its own folder and those below only.
    if (WEB / "service-worker.js").is_file():
        found[WEB / "service-worker.js"] = DIST / "service-worker.js"
    found |= {fetch.PYODIDE.folder / n: DIST / "pyodide" / n for n in _CORE}
    wheels = [fetch.NUMPY, *(w.path for w in fetch.SITE_WHEELS)]
    return found | {w: DIST / "pyodide" / w.name for w in wheels}


def _copy(source: Path, target: Path) -> int:
    if target.is_file() and target.stat().st_size == source.stat().st_size:
        if sha256_file(target) == sha256_file(source):
            return 0
    replace_file(target, source.read_bytes())
    return 1


def _write(target: Path, content: bytes) -> int:
    if target.is_file() and target.read_bytes() == content:
        return 0
    replace_file(target, content)
    return 1


def _zip(package: Path) -> bytes:
    """A package and its data, with the same bytes for the same content."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files_below(package):
            name = path.relative_to(package.parent).as_posix()
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), path.read_bytes())
    return packed.getvalue()


def _lock(wheels: Sequence[Path]) -> bytes:
    """Pyodide's lock file with only the packages that the site holds, so `loadPackage` finds them
    by name, checks their hashes, and never asks another host."""
    core = json.loads((fetch.PYODIDE.folder / "pyodide-lock.json").read_text(encoding="utf-8"))
    packages = {}
    present = {w.name.split("-")[0] for w in wheels}
    for wheel in wheels:
        name, number = wheel.name.split("-")[:2]
        known = core["packages"].get(name, {})
        packages[name] = {
            "name": name,
            "version": number,
            "file_name": wheel.name,
            "install_dir": "site",
            "sha256": sha256_file(wheel),
            "package_type": "package",
            "imports": known.get("imports", [name]),
            "depends": [d for d in known.get("depends", []) if d in present],
            "unvendored_tests": False,
        }
    return _json({"info": core["info"], "packages": packages})


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode("utf-8")


def _remove_others(keep: set[Path]) -> None:
    for path in files_below(DIST):
        if path not in keep and not path.is_relative_to(_MODELS):
            path.unlink()
    for folder in sorted((p for p in DIST.rglob("*") if p.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
