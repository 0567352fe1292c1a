"""Before a run: which of its feeds lie on shelves, and room there for those that it lets grow.

A cache whose shelf is full, or whose next row is somebody else's already (two runs went on from one
past), moves to a shelf of its own. Plans nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tilework.core.growing import SPARE, shelf_rows
from tilework.core.shapes import count
from tilework.engine.resident import Resident
from tilework.hal import Device
from tilework.hal.kernels.move import STRIDED_COPY, StridedCopyParams
from tilework.plan.builder import COPY_BYTES, six
from tilework.plan.caches import Cache, Laid, lying


def on_shelves(
    device: Device, feeds: Mapping[str, Any], caches: Sequence[Cache]
) -> Mapping[str, Any]:
    """The feeds, where each of `caches` that is on a shelf can grow there. OutOfMemory."""
    moved: dict[str, Resident] = {}
    used: set[int] = set()
    for cache in caches:
        fed = feeds[cache.source]
        if type(fed) is not Resident or fed.shelf is None or fed.shelf.axis != cache.axis:
            continue
        shelf = fed.shelf
        full = shelf.taken + SPARE > shelf.rows
        if full or fed.shape[cache.axis] != shelf.taken or id(shelf) in used:
            moved[cache.source] = fed
        used.add(id(shelf))
    return {**feeds, **_moved(device, moved)} if moved else feeds


def looked_at(values: Mapping[str, Any], caches: Sequence[Cache]) -> dict[str, Laid]:
    """How those values lie that are on shelves; `on_shelves` has seen to the caches."""
    grow = {cache.source: cache.axis for cache in caches}
    found = {}
    for name, value in values.items():
        if type(value) is Resident and value.shelf is not None:
            shelf = value.shelf
            found[name] = Laid(shelf.axis, shelf.rows, grow.get(name) == shelf.axis)
    return found


def _moved(device: Device, residents: Mapping[str, Resident]) -> dict[str, Resident]:
    """The same on new shelves, copied on the device."""
    commands = device.command_buffer("caches with more room")
    found = {}
    for name, old in residents.items():
        assert old.shelf is not None
        axis = old.shelf.axis
        rows = shelf_rows(old.shape[axis])
        new = Resident.on_shelf(device, old.dtype, old.shape, axis, rows, old.buffer.label)
        found[name] = new
        lines, size = count(old.shape[:axis]), lying(old.dtype).size
        each = count(old.shape[axis + 1 :])
        columns = old.shape[axis] * each
        if not lines * columns:
            continue
        wide = min(columns, COPY_BYTES // size)
        params = StridedCopyParams(
            sizes=six([lines, columns], 1),
            source_strides=six([old.shelf.rows * each, 1], 0),
            target_strides=six([rows * each, 1], 0),
            source_offset=0,
            target_offset=0,
            tile_rows=1,
            tile_columns=wide,
            element_size=size,
        )
        tiles = (-(-columns // wide), lines, 1)
        commands.dispatch(STRIDED_COPY, tiles, params, [old.buffer, new.buffer])
    program = commands.finish()
    try:
        device.submit(program)
    finally:
        program.free()
    return found


def dense(value: Any) -> Any:
    """The value, off its shelf if it is on one."""
    return value.apart() if isinstance(value, Resident) and value.shelf else value
