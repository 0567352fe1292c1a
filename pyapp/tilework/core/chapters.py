"""Chapters: a table written in the modules of a package, each imported when it is needed.

A model names a few dozen of some four hundred operations, and Python in a page compiles each module
that it imports from source. So the wheel has an index, `tilework/chapters.json`: package → chapter
→ its keys. tools/chapters.py takes it from the tables themselves when the wheel is packed, so that
nothing is listed twice. A checkout has no index, hence none that could be out of date: there the
first key that is not yet in the table imports all chapters. Either way the table says the same.
Never decides what a table holds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import (
    Callable,
    Hashable,
    ItemsView,
    Iterator,
    KeysView,
    Mapping,
    ValuesView,
)
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from tilework.core.errors import InvalidArgument

INDEX = Path(__file__).parent.parent / "chapters.json"

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@cache
def _index() -> Mapping[str, Mapping[str, str]]:
    """The wheel's index; empty in a checkout."""
    try:
        text = INDEX.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    told: dict[str, dict[str, str]] = json.loads(text)
    return told


class Chapters(dict[K, V]):
    """What the modules of `package` hold, by key.

    A chapter enters its own when it is imported, or `read` takes them from the module. `spell` is
    how the index writes a key.
    """

    def __init__(
        self,
        package: str,
        read: Callable[[ModuleType], Mapping[K, V]] | None = None,
        spell: Callable[[K], str] = str,
    ) -> None:
        super().__init__()
        self.package = package
        self._read = read
        self.spell = spell
        listed = _index().get(package)
        self._owners: dict[str, str] | None = None  # key → chapter
        self._waiting: set[str] | None = None  # chapters; None: whichever there are
        if listed is not None:
            self._owners = {key: one for one, keys in listed.items() for key in keys.split()}
            self._waiting = set(listed)

    def enter(self, key: K, value: V) -> None:
        """Adds an entry; InvalidArgument when there is one."""
        owner = self._owner(key)
        elsewhere = owner is not None and f"{self.package}.{owner}" not in sys.modules
        if elsewhere or dict.__contains__(self, key):
            raise InvalidArgument(f"{self.spell(key)!r} is defined twice in {self.package}")
        self[key] = value

    def load(self) -> None:
        """Imports all chapters."""
        if self._waiting is None:
            from pkgutil import iter_modules

            self._waiting = {one.name for one in iter_modules(sys.modules[self.package].__path__)}
        for chapter in sorted(self._waiting):
            self._import(chapter)

    def _owner(self, key: K) -> str | None:
        return None if self._owners is None else self._owners.get(self.spell(key))

    def _import(self, chapter: str) -> None:
        module = import_module(f"{self.package}.{chapter}")
        assert self._waiting is not None
        if chapter in self._waiting:
            self._waiting.remove(chapter)
            for key, value in self._read(module).items() if self._read else ():
                self.enter(key, value)

    # -- as a dict ----------------------------------------------------------------

    def __missing__(self, key: K) -> V:
        owner = self._owner(key)
        if owner is not None:
            self._import(owner)
        elif self._owners is None:
            self.load()
        if dict.__contains__(self, key):
            return self[key]
        raise KeyError(key)

    def get(self, key: K, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def __contains__(self, key: object) -> bool:
        if not dict.__contains__(self, key) and self._owners is None:
            self.load()
        return dict.__contains__(self, key) or self._owner(cast(K, key)) is not None

    def __iter__(self) -> Iterator[K]:
        self.load()
        return super().__iter__()

    def __len__(self) -> int:
        self.load()
        return super().__len__()

    def keys(self) -> KeysView[K]:  # type: ignore[override]
        self.load()
        return super().keys()

    def values(self) -> ValuesView[V]:  # type: ignore[override]
        self.load()
        return super().values()

    def items(self) -> ItemsView[K, V]:  # type: ignore[override]
        self.load()
        return super().items()
