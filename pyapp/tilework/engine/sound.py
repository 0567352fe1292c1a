"""sound: what a damaged model's attributes make Python raise, as errors of ours.

Attributes are of whatever kind the file says, and operations, passes and lowerings use them as what
they should be. Whoever plans or computes does so inside `sound`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tilework.core.errors import InvalidGraph, OutOfMemory, TileworkError
from tilework.ir.opdefs.registry import MALFORMED


@contextmanager
def sound(where: str, kind: type[TileworkError] = InvalidGraph) -> Iterator[None]:
    """Errors of ours pass; NumPy's want of memory is OutOfMemory, other errors become `kind`."""
    try:
        yield
    except TileworkError:
        raise
    except MALFORMED as error:
        raise kind(
            f"{where}: attributes or values are not what the operations take ({error!r})"
        ) from error
    except MemoryError as error:
        raise OutOfMemory(f"{where}: {error}") from error
