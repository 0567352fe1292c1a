"""How a page imports tilework: its modules' sources, and nothing else, from folders read once.

Python looks for compiled code before it reads a source. In a page there is none, since a wheel brings
sources and nobody may write beside them, and to be told so is dear: a missing file is an exception
in JavaScript, which unwinds all of Python's frames. A third of the time that a page imports was
spent on files, most of it on those that are not there. What a module does is Python's own loader's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from os import listdir
from types import CodeType, ModuleType


class _Source(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _Folder(FileFinder):
    """A package's folder, as it was when it was first looked into."""

    def __init__(self, path: str) -> None:
        super().__init__(path, (_Source, SOURCE_SUFFIXES))
        self.invalidate_caches()

    def invalidate_caches(self) -> None:
        super().invalidate_caches()
        self._names = frozenset(listdir(self.path))

    def find_spec(
        self, fullname: str, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        name = fullname.rpartition(".")[2]
        path = f"{self.path}/{name}"
        inside: list[str] | None = None
        if name in self._names:
            inside, path = [path], f"{path}/__init__"
        elif f"{name}.py" not in self._names:
            return None
        file = f"{path}.py"
        return spec_from_file_location(
            fullname, file, loader=_Source(fullname, file), submodule_search_locations=inside
        )


def read_sources(package: Sequence[str]) -> None:
    """From here on the modules of a package (its `__path__`) come from their sources.

    Does nothing where the package has compiled code, as after `pip install` or `pyodide py-compile`.
    """
    (root,) = package
    names = listdir(root)
    if "__pycache__" in names or "__init__.py" not in names:
        return

    def folder(path: str) -> FileFinder:
        if path != root and not path.startswith(f"{root}/"):
            raise ImportError(path)
        return _Folder(path)

    sys.path_hooks.insert(0, folder)
    for path in (root, f"{root}/core"):  # as far as it is imported by now
        sys.path_importer_cache[path] = folder(path)
