"""The names that onnxruntime's scripts use for what computes.

tilework has kernels, and the host for what has no kernel; both always work together. A script may
name them, or others, as it does for onnxruntime; nothing depends on it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from tilework.core.errors import InvalidArgument

PROVIDER = "TileworkExecutionProvider"
HOST = "CPUExecutionProvider"
AVAILABLE = (PROVIDER, HOST)


def get_available_providers() -> list[str]:
    """What a session may be asked to run on."""
    return list(AVAILABLE)


def chosen(
    providers: Sequence[object] | None, options: Sequence[object] | None
) -> dict[str, dict[str, str]]:
    """The providers that a session is to name, each with its options.

    `providers` has names, or pairs of a name and options; `options` are those of the names. Names
    that are not available are passed over with a warning. InvalidArgument for what is neither.
    """
    if providers is None:
        return {name: {} for name in AVAILABLE}
    given = list(providers)
    if options and len(options) != len(given):
        raise InvalidArgument(
            f"{len(given)} providers and {len(options)} provider_options; give one for each"
        )
    found: dict[str, dict[str, str]] = {}
    for index, entry in enumerate(given):
        own: object = options[index] if options else {}
        if isinstance(entry, tuple) and len(entry) == 2:
            entry, own = entry
        if not isinstance(entry, str) or not isinstance(own, Mapping):
            raise InvalidArgument(
                f"providers[{index}] is {given[index]!r}; use a name, or a name and a dict"
            )
        if entry in AVAILABLE:
            found.setdefault(entry, {str(key): str(value) for key, value in own.items()})
        else:
            warnings.warn(
                f"provider {entry!r} is not available; there are {', '.join(AVAILABLE)}",
                UserWarning,
                stacklevel=4,
            )
    return found or {name: {} for name in AVAILABLE}
