"""How a page imports tilework: its modules' sources and nothing else, from folders read once.

Python looks for compiled code before it reads a source. In a page there is none: a wheel brings
sources, and nobody writes beside them. To be told so is dear, for a missing file is an exception in
JavaScript, through all of Python's frames: a seventh of the time to a session's first result. What
a module is and does remains to Python's own loader.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType


class _Source(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _Folder(FileFinder):
    """A package's folder, as it was when it was first looked into."""

    def __init__(self, path: str) -> None:
        super().__init__(path, (_Source, SOURCE_SUFFIXES))
        self._names = _names(path)

    def invalidate_caches(self) -> None:
        super().invalidate_caches()
        self._names = _names(self.path)

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:
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


def _names(folder: str) -> frozenset[str]:
    return frozenset(one.name for one in Path(folder).iterdir())


def read_sources(package: Sequence[str]) -> bool:
    """From here on the modules of a package (its `__path__`) come from their sources.

    False, and nothing done, where the package brings compiled code, as after `pyodide py-compile`.
    """
    (root,) = package
    names = _names(root)
    if "__pycache__" in names or "__init__.py" not in names:
        return False

    def folder(path: str) -> _Folder:
        if path != root and not path.startswith(f"{root}/"):
            raise ImportError(path)
        return _Folder(path)

    sys.path_hooks.insert(0, folder)
    for path in [p for p in sys.path_importer_cache if p == root or p.startswith(f"{root}/")]:
        del sys.path_importer_cache[path]
    return True
