"""Fetches the parts that come from package registries, verifies them and unpacks what is needed.

npm packages go to .cache/npm/<name>/ and pure wheels to .cache/wheels/. Owns names, versions and
hashes; which registry they come from is the machine's own npm and pip configuration. Every
download is compared with its SHA-256 before anything is read from it.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from tools.dependencies import npm, pip
from tools.project import CACHE, BuildError, remove, run, sha256_file
from tools.steps import Line, step

TARBALLS = CACHE / "downloads"
WHEELS = CACHE / "wheels"


@dataclass(frozen=True, slots=True)
class NpmPackage:
    """`files` are the patterns, below the package's root, of what is unpacked.

    `unpacked_as` tells two versions of a package apart.
    """

    name: str
    version: str
    sha256: str
    files: tuple[str, ...] = ("*",)
    unpacked_as: str = ""

    @property
    def folder(self) -> Path:
        return CACHE / "npm" / (self.unpacked_as or self.name)

    @property
    def tarball(self) -> Path:
        plain = self.name.removeprefix("@").replace("/", "-")
        return TARBALLS / f"{plain}-{self.version}.tgz"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A pure wheel for Pyodide's Python."""

    name: str
    version: str
    sha256: str

    @property
    def path(self) -> Path:
        return WHEELS / f"{self.name}-{self.version}-py3-none-any.whl"


PYODIDE = NpmPackage(
    "pyodide",
    "0.29.5",
    "6749b10ee515a1458ecea36d860c8ce2a48366e85b3f92d749ad1840e4aff181",
)
# The next one, for a test of what needs no NumPy: no registry has a NumPy for it.
NEXT_PYODIDE = NpmPackage(
    "pyodide",
    "314.0.7",
    "66b7949e5a0cba2250b586d7e368bf12fb482800748d182c4618254b685ffaa0",
    ("pyodide.mjs", "pyodide.asm.*", "python_stdlib.zip", "pyodide-lock.json"),
    unpacked_as="pyodide-314",
)
# The only package that carries a NumPy wheel for this Pyodide; nothing else of it is used.
NUMPY_CARRIER = NpmPackage(
    "@bentopdf/pymupdf-wasm",
    "0.11.16",
    "cd093f8824761031cae51a5f4f7b47e34030e7a000e09030b7871a11a52e73a0",
    ("assets/numpy-*.whl",),
)
ONNXRUNTIME = NpmPackage(
    "onnxruntime-web",
    "1.30.0",
    "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71",
    ("package.json", "dist/ort.wasm.min.mjs", "dist/ort-wasm-simd-threaded.*"),
)
TYPESCRIPT = NpmPackage(
    "typescript",
    "5.9.3",
    "10e108c9cf7d5f2879053dff18515fb405abf2ccef63eaaf017d9c571687a1d3",
)
NUMPY = NUMPY_CARRIER.folder / "assets/numpy-2.2.5-cp313-cp313-pyodide_2025_0_wasm32.whl"
_NUMPY_SHA256 = "125230b4c3ecd08803e5c43f1162e017c0718d9f253146225a705a952b9c16c2"
SITE_WHEELS = (
    Wheel("micropip", "0.11.1", "768de165adb8e66906039d8fec4127a57f522dfdf8e6fbff877a4616941ecfd3"),
    Wheel("packaging", "26.3", "d7193f7c8e4e93f444fde0262bf90af30e16fa0ad0ad44cb553c87339b23cd1c"),
)
# For the tests that run inside Pyodide, never part of the site: the last Hypothesis without
# compiled code. The other packages that they need are pure and taken from .venv.
TEST_WHEELS = (
    Wheel(
        "hypothesis", "6.155.7", "9f634bdb1f9e9b8ab6ba09431cf2deedb750c96978125a6fb3c5a0f6c6db4131"
    ),
)
PYODIDE_PYTHON = "3.13"
# npm's own patience with a registry that does not answer is over a minute.
_NPM_OPTIONS = (
    "--loglevel=error",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=4000",
)


def fetch_site_parts() -> None:
    """Everything that the site holds and this project does not make."""
    fetch(PYODIDE)
    fetch(NUMPY_CARRIER)
    if sha256_file(NUMPY) != _NUMPY_SHA256:
        raise BuildError(f"{NUMPY.name}: not the file that is expected; delete .cache/npm.")
    for wheel in SITE_WHEELS:
        _fetch_wheel(wheel)


def fetch_test_parts() -> None:
    """What the tests inside the page need besides the site and .venv."""
    fetch(NEXT_PYODIDE)
    for wheel in TEST_WHEELS:
        _fetch_wheel(wheel)


def fetch(package: NpmPackage) -> None:
    """One npm package as a step."""
    if not package.tarball.is_file():
        npm()  # may have to be installed, which is a step of its own

    def action(line: Line) -> str:
        line.progress("downloading")
        _download(package)
        line.progress("unpacking")
        _unpack(package)
        return f"{package.name} {package.version}"

    step(
        f"fetch {package.folder.name}",
        action,
        inputs=[package.name, package.version, package.sha256, *package.files],
        outputs=[package.folder],
        stamps=CACHE / "stamps",
    )


def _download(package: NpmPackage) -> None:
    target = package.tarball
    if target.is_file() and sha256_file(target) == package.sha256:
        return
    TARBALLS.mkdir(parents=True, exist_ok=True)
    wanted = f"{package.name}@{package.version}"
    run(
        [*npm(), "pack", *_NPM_OPTIONS, "--pack-destination", str(TARBALLS), wanted],
        what=f"npm pack {wanted}",
        remedy="Check that this machine can reach its npm registry, then run it again.",
    )
    _verify(target, package.sha256)


def _verify(path: Path, expected: str) -> None:
    if not path.is_file():
        raise BuildError(f"{path.name} was not downloaded to where it was expected ({path.parent})")
    found = sha256_file(path)
    if found != expected:
        remove(path)
        raise BuildError(
            f"{path.name} has SHA-256 {found}, expected {expected}: the registry gave something "
            "else than this project was made with. It was deleted; ask where the file comes from."
        )


def _unpack(package: NpmPackage) -> None:
    remove(package.folder)
    package.folder.mkdir(parents=True)
    unpacked = 0
    with tarfile.open(package.tarball) as archive:
        for member in archive:
            inside = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if not member.isfile() or ".." in inside.parts:
                continue
            if not any(fnmatch(str(inside), pattern) for pattern in package.files):
                continue
            source = archive.extractfile(member)
            if source is None:
                continue
            path = package.folder / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read())
            unpacked += 1
    if not unpacked:
        raise BuildError(f"{package.tarball.name} holds none of {', '.join(package.files)}.")


def _fetch_wheel(wheel: Wheel) -> None:
    def action(_: Line) -> str:
        if not (wheel.path.is_file() and sha256_file(wheel.path) == wheel.sha256):
            WHEELS.mkdir(parents=True, exist_ok=True)
            # A pip of an older Python would choose an older version, hence the version by name.
            pip(
                *["download", "--quiet", "--no-deps", "--only-binary=:all:"],
                *["--python-version", PYODIDE_PYTHON, "--dest", str(WHEELS)],
                f"{wheel.name}=={wheel.version}",
                what=f"download of {wheel.name} {wheel.version}",
            )
            _verify(wheel.path, wheel.sha256)
        return f"{wheel.name} {wheel.version}"

    step(
        f"fetch {wheel.name}",
        action,
        inputs=[wheel.name, wheel.version, wheel.sha256],
        outputs=[wheel.path],
        stamps=CACHE / "stamps",
    )
