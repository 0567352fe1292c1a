"""Packs dist/tilework-<version>-py3-none-any.whl; the build backend of `pip wheel .` as well.

The wheel holds the package's Python, the generated Python, the index of its chapters, the compiled
kernels and the linked JavaScript, so that one file brings everything that a notebook page needs. It
is written with zipfile, always with the same bytes for the same content: a general backend would
have to be told about each of the generated, compiled and linked files, and that is all there is to
a wheel.
Never compiles anything: what is missing is a sentence that says so. Standard library only.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from tools.chapters import INDEX
from tools.linker import link_library, link_program
from tools.project import (
    BUILD,
    DIST,
    PACKAGE,
    ROOT,
    WEB,
    BuildError,
    families,
    files_below,
    pyproject,
    remove,
    replace_file,
    version,
)
from tools.steps import Line, step

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can say
_SCRIPTS = {"bridge.classic.js": link_library, "compute-worker.classic.js": link_program}


def wheel_name() -> str:
    """The wheel's file name."""
    return f"tilework-{version()}-py3-none-any.whl"


def make_wheel() -> None:
    """The wheel in dist/, as a step."""

    def action(_: Line) -> str:
        for old in DIST.glob("tilework-*.whl"):
            remove(old)
        name = build_wheel(str(DIST))
        return f"{name}, {(DIST / name).stat().st_size / 1024:.0f} KB"

    sources = [*files_below(PACKAGE, ".py"), *sorted(WEB.glob("*.js")), *_kernel_files().values()]
    tools = [ROOT / "tools" / "wheel.py", ROOT / "tools" / "linker.py", ROOT / "pyproject.toml"]
    step(
        "wheel",
        action,
        inputs=[*sources, *tools, INDEX, ROOT / "README.md"],
        outputs=[DIST / wheel_name()],
    )


# -- the hooks of PEP 517 --------------------------------------------------------------------


def build_wheel(
    wheel_directory: str,
    config_settings: Mapping[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Write the wheel into a folder and return its name."""
    del config_settings, metadata_directory
    replace_file(Path(wheel_directory) / wheel_name(), _pack(_content()))
    return wheel_name()


# ---------------------------------------------------------------------------------------------


def _content() -> dict[str, bytes]:
    """Every file of the wheel but RECORD, by its path in there."""
    if not (PACKAGE / "__init__.py").is_file():
        raise BuildError("pyapp/tilework/__init__.py is missing, so there is no package to pack.")
    content = {
        f"tilework/{p.relative_to(PACKAGE).as_posix()}": p.read_bytes()
        for p in files_below(PACKAGE, ".py")
    }
    content["tilework/py.typed"] = b""
    if not INDEX.is_file():
        raise BuildError("The index of chapters is missing; run: python3 build.py build")
    content["tilework/chapters.json"] = INDEX.read_bytes()
    for name, path in _kernel_files().items():
        content[name] = path.read_bytes()
    for name, link in _SCRIPTS.items():
        entry = WEB / name.replace(".classic", "")
        content[f"tilework/web/{name}"] = link(entry).encode("utf-8")
    info = f"tilework-{version()}.dist-info"
    content[f"{info}/METADATA"] = _metadata().encode("utf-8")
    content[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: tilework build.py\n"
        b"Root-Is-Purelib: true\nTag: py3-none-any\n"
    )
    return content


def _kernel_files() -> dict[str, Path]:
    compiled = BUILD / "kernels"
    found = {
        f"tilework/kernels/{p.relative_to(compiled).as_posix()}": p
        for p in files_below(compiled, ".wasm")
    }
    missing = [f for f in families() if f"tilework/kernels/simd/{f}.wasm" not in found]
    if missing:
        raise BuildError(
            f"The kernels of {', '.join(missing)} are not compiled; run: python3 build.py build"
        )
    return found


def _metadata() -> str:
    project = pyproject()["project"]
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {project['name']}",
        f"Version: {project['version']}",
        f"Summary: {project['description']}",
        f"Requires-Python: {project['requires-python']}",
        *(f"Requires-Dist: {need}" for need in project["dependencies"]),
    ]
    for extra, needs in project["optional-dependencies"].items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f'Requires-Dist: {need}; extra == "{extra}"' for need in needs]
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    return "\n".join([*lines, "Description-Content-Type: text/markdown", "", text])


def _pack(content: Mapping[str, bytes]) -> bytes:
    record = [
        f"{name},sha256={_record_hash(data)},{len(data)}" for name, data in sorted(content.items())
    ]
    record_name = next(re.sub("METADATA$", "RECORD", n) for n in content if n.endswith("METADATA"))
    files = {**content, record_name: "\n".join([*record, f"{record_name},,", ""]).encode("utf-8")}
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files, key=lambda n: (".dist-info/" in n, n)):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return packed.getvalue()


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode("ascii")
