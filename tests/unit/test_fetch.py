"""Downloads and the browser: what cannot be had or is not what it should be is a sentence."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from tools import browser, fetch
from tools.project import BuildError, sha256_file

pytestmark = pytest.mark.unit


def tarball(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fetch.NpmPackage:
    """A package whose tarball is already there, in a cache of its own."""
    monkeypatch.setattr(fetch, "CACHE", tmp_path)
    monkeypatch.setattr(fetch, "TARBALLS", tmp_path / "downloads")
    wanted = fetch.NpmPackage("@some/thing", "1.0.0", "", ("dist/*.js",))
    tarball(wanted.tarball, {"package/dist/a.js": b"a", "package/b.js": b"b", "package/../c": b"c"})
    return replace(wanted, sha256=sha256_file(wanted.tarball))


def test_only_what_is_asked_for_is_unpacked(package: fetch.NpmPackage) -> None:
    fetch.fetch(package)
    files = [p.relative_to(package.folder) for p in package.folder.rglob("*") if p.is_file()]
    assert files == [Path("dist/a.js")]


def test_another_content_is_refused_and_removed(
    package: fetch.NpmPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: object, **__: object) -> str:
        tarball(package.tarball, {"package/dist/a.js": b"something else"})
        return ""

    package.tarball.unlink()
    monkeypatch.setattr(fetch, "npm", lambda: ["npm"])
    monkeypatch.setattr(fetch, "run", download)
    with pytest.raises(BuildError, match=r"some-thing-1\.0\.0\.tgz has SHA-256 .*, expected"):
        fetch.fetch(package)
    assert not package.tarball.exists()
    assert not package.folder.exists()


def test_a_package_without_the_files_is_an_error(package: fetch.NpmPackage) -> None:
    with pytest.raises(BuildError, match="holds none of"):
        fetch.fetch(replace(package, files=("nothing/*",)))


def test_no_browser_and_none_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "installed_browser", lambda: None)
    monkeypatch.setattr(browser, "_installers", lambda: [("one way", [["false"]])])
    with pytest.raises(BuildError, match=r"install Chromium .* Tried: one way failed \(exit 1\)"):
        browser.find_browser()


def test_a_browser_that_was_installed_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([None, Path("/somewhere/chromium")])
    monkeypatch.setattr(browser, "installed_browser", lambda: next(answers))
    monkeypatch.setattr(browser, "_installers", lambda: [("one way", [["true"]])])
    assert browser.find_browser() == Path("/somewhere/chromium")
