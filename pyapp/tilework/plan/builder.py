"""Builder: what a lowering works with. Collects steps; makes tensors, dense copies and prepared
constants.

Whatever depends on constants alone is prepared once a session: its steps go to `prologue` and its
result has a key that says how it was made, so that all plans share it. The rest goes to `steps`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tilework.core.dtypes import FLOAT64, DType
from tilework.core.growing import grows, shelf_rows
from tilework.core.growing import most as at_most
from tilework.core.shapes import count, row_major_strides, with_extent
from tilework.hal.kernel import Kernel
from tilework.hal.kernels.move import STRIDED_COPY, StridedCopyParams
from tilework.ir.graph import Node
from tilework.ir.opdefs.registry import OPS, Array
from tilework.plan.caches import Laid, Shelved, lying
from tilework.plan.step import Dispatch, HostStep, Span, Step
from tilework.plan.tensor import Kind, Storage, Tensor, collapse
from tilework.plan.tiles import share
from tilework.plan.twins import Twins

AXES = 6  # extents of the kernels' index spaces
COPY_BYTES = 65536  # a tile of a strided copy, by move.wit
_SAME = (Kind.CONSTANT, Kind.PREPARED)
SMALLEST_TILE = 1024  # elements; below that a second thread costs more than it saves
SMALLEST_LINES = 4096  # the same of lines that are reduced or normalised


class Builder:
    """State of one plan while its nodes are lowered, in order."""

    def __init__(
        self,
        threads: int,
        ready: Collection[str] = (),
        weights: int = 0,
        growing: Collection[str] = (),
    ) -> None:
        """`ready`: keys of prepared constants that the session has. `weights`: bytes of all
        constants. `growing`: outputs that shall have rows to spare."""
        self.threads = threads
        self.weights = weights
        self._ready = ready
        self._growing = growing
        self._laid: dict[Storage, tuple[str, Laid]] = {}  # and the input's name
        self.shelved: dict[str, Shelved] = {}
        self.steps: list[Step] = []
        self.prologue: list[Step] = []
        self.locals: dict[Storage, Array] = {}
        self.twins = Twins(weights)
        self.live: dict[Storage, int] = {}  # readings still to come, graph outputs included
        self.consumers: Mapping[str, Sequence[Node]] = {}
        self.outputs: frozenset[str] = frozenset()
        self.arrays: dict[Storage, Array] = {}  # what the host knows of constants
        self._prepared: dict[str, Tensor] = {}
        self._node = Node("", (), ())
        self._prefix = ""  # of the keys of what the node prepares; "" when it runs at every run
        self._made = 0

    # -- the planner's side ------------------------------------------------------------

    def begin(self, node: Node, inputs: Sequence[Tensor | None]) -> None:
        """Opens `node`: what follows is for it, once a session if it depends on constants alone
        and is not random."""
        self._node = node
        self._prefix = ""
        self._made = 0
        present = [tensor for tensor in inputs if tensor is not None]
        shared = present and all(is_constant(tensor) for tensor in present)
        if shared and not OPS[node.op].random and not grows(*node.attrs.values()):
            operands = ",".join("" if tensor is None else view_key(tensor) for tensor in inputs)
            attrs = ",".join(f"{name}={value}" for name, value in sorted(node.attrs.items()))
            self._prefix = f"{node.op}[{attrs}]({operands})"

    # -- tensors ------------------------------------------------------------

    def new(self, dtype: DType, shape: tuple[int, ...]) -> Tensor:
        """A dense tensor for a result of the node at hand."""
        if not self._prefix:
            return self.transient(dtype, shape)
        self._made += 1
        return self._tensor(Kind.PREPARED, f"{self._prefix}.{self._made}", dtype, shape)

    def prepared(self, key: str, dtype: DType, shape: tuple[int, ...]) -> tuple[Tensor, bool]:
        """The constant of this key, and whether the caller has to emit what computes it."""
        found = self._prepared.get(key)
        if found is not None:
            return found, False
        tensor = self._prepared[key] = self._tensor(Kind.PREPARED, key, dtype, shape)
        return tensor, key not in self._ready

    def local(self, array: Array, dtype: DType) -> Tensor:
        """A constant that belongs to this plan alone, for it came from the run's shapes.

        Converted where it has to be: NumPy's own integers have 32 bits in a browser. Integers that
        grow stay objects.
        """
        growing = array.dtype == object and dtype.kind in "iu" and grows(*array.flat)
        if not growing:
            array = np.asarray(array, dtype.numpy)
        storage = Storage(Kind.LOCAL, max(array.size * dtype.size, 1), self.label)
        self.locals[storage] = array
        if not growing:
            self.arrays[storage] = array
        return Tensor(storage, dtype, array.shape, row_major_strides(array.shape))

    def transient(self, dtype: DType, shape: tuple[int, ...]) -> Tensor:
        """A dense tensor that lives within the run, whatever the node depends on."""
        return self._tensor(Kind.TRANSIENT, "", dtype, shape)

    def resident(self, name: str, dtype: DType, shape: tuple[int, ...], lies: Laid) -> Tensor:
        """An input that lies so."""
        tensor = self._spare(lying(dtype), shape, lies.axis, lies.rows)
        self._laid[tensor.storage] = name, lies
        return tensor

    def _spare(self, dtype: DType, shape: tuple[int, ...], axis: int, rows: int) -> Tensor:
        whole = with_extent(shape, axis, rows)
        tensor = self._tensor(Kind.RESIDENT, "", dtype, whole)
        return replace(tensor, shape=shape)

    def grown(
        self, output: str, past: Tensor, axis: int, shape: tuple[int, ...]
    ) -> tuple[Tensor, bool] | None:
        """(where `past` with the rows that `shape` says goes, whether its own are there already),
        for an output that shall have rows to spare; None for others.

        The rows are those of `past` itself where it has memory for more that is nobody's.
        """
        if output not in self._growing or output in self.shelved or 0 in shape:
            return None
        name, lies = self._laid.get(past.storage, ("", None))
        own = row_major_strides(with_extent(shape, axis, lies.rows)) if lies else ()
        if (
            lies is not None
            and lies.free
            and (lies.axis, past.offset, past.strides) == (axis, 0, own)
            and not any(one.source == name for one in self.shelved.values())
            and shape[axis] <= lies.rows
        ):
            self.shelved[output] = Shelved(axis, lies.rows, name)
            return replace(past, shape=shape), True
        rows = shelf_rows(at_most(shape[axis]))
        self.shelved[output] = Shelved(axis, rows, "")
        return self._spare(lying(past.dtype), shape, axis, rows), False

    def _tensor(self, kind: Kind, key: str, dtype: DType, shape: tuple[int, ...]) -> Tensor:
        storage = Storage(kind, max(count(shape) * dtype.size, 1), self.label, key)
        return Tensor(storage, dtype, shape, row_major_strides(shape))

    @property
    def label(self) -> str:
        """What the user calls the node at hand."""
        return self._node.origin or self._node.op

    def dense(self, tensor: Tensor) -> Tensor:
        """The tensor itself when it is dense, else a copy that is."""
        if tensor.dense:
            return tensor
        return self.copied(tensor)

    def copied(self, tensor: Tensor) -> Tensor:
        """A dense copy."""
        if is_constant(tensor):
            target, fresh = self.prepared(
                f"dense({view_key(tensor)})", tensor.dtype, tensor.shape
            )
        else:
            target, fresh = self.transient(tensor.dtype, tensor.shape), True
            self.live[target.storage] = 0  # nobody else knows of it
        if fresh:
            self.copy(tensor, target)
        return target

    def shaped(self, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The tensor in another shape: a view, or a copy when strides cannot express it."""
        view = tensor.reshaped(shape) or self.copied(tensor).reshaped(shape)
        assert view is not None  # a dense tensor takes any shape
        return view

    def scalar(self, tensor: Tensor) -> float | None:
        """The number that a constant of one element holds; else None."""
        array = self.arrays.get(tensor.storage)
        if array is None or array.size != 1 or array.dtype.kind not in "fiub":
            return None
        return float(array.reshape(-1)[0])

    def readers(self, name: str) -> Sequence[Node]:
        """The nodes that read a value; none at all when the graph returns it."""
        return () if name in self.outputs else self.consumers.get(name, ())

    def uses(self, name: str) -> bool:
        """Whether anything reads the value."""
        return name in self.outputs or bool(self.consumers.get(name))

    def result(self, dtype: DType, shape: tuple[int, ...], *operands: Tensor) -> Tensor:
        """Where an elementwise result goes: over an operand when nothing else needs that one."""
        for tensor in operands:
            if self._overwritable(tensor, dtype, shape) and not any(
                other.storage is tensor.storage
                and (other.offset != tensor.offset or other.strides != tensor.strides)
                for other in operands
            ):
                return Tensor(
                    tensor.storage, dtype, shape, row_major_strides(shape), tensor.offset
                )
        return self.new(dtype, shape)

    def _overwritable(self, tensor: Tensor, dtype: DType, shape: tuple[int, ...]) -> bool:
        return (
            not self._prefix
            and tensor.storage.kind is Kind.TRANSIENT
            and not tensor.storage.fixed
            and self.live.get(tensor.storage, 1) == 0
            and tensor.dtype.size == dtype.size
            and tensor.shape == shape
            and tensor.dense
        )

    # -- steps ------------------------------------------------------------

    def emit(
        self,
        kernel: Kernel,
        counts: tuple[int, int, int],
        params: NamedTuple | None,
        operands: Sequence[Tensor | None],
        scratch: int = 0,
        behind: bool = False,
        over: tuple[int, int] | None = None,
    ) -> None:
        """One dispatch; nothing when it has no tiles. Operands' strides must be ≥ 0. `behind`: it
        changes what was written before it. `over`: an output that may be an input's memory."""
        if 0 in counts:
            return
        bindings = tuple(
            None if tensor is None else Span(tensor.storage, *tensor.span())
            for tensor in operands
        )
        step = Dispatch(
            kernel, counts, params, bindings, self.label, scratch, over=over, behind=behind
        )
        self._add(step)

    def on_host(
        self, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor], reason: str
    ) -> None:
        """The node's reference on the host, between two programs."""
        self._add(HostStep(node, tuple(inputs), tuple(outputs), reason))

    def _add(self, step: Step) -> None:
        self.twins.forget(step)
        prepared = all(storage.kind is Kind.PREPARED for storage in step.writes())
        (self.prologue if prepared else self.steps).append(step)

    def tiles(self, elements: int, most: int, multiple: int = 64) -> tuple[int, int]:
        """(elements a tile, tiles): at most `most` each, an equal number for each thread."""
        whole = at_most(elements)
        tiles = -(-whole // most)
        if whole >= self.threads * SMALLEST_TILE:
            tiles = -(-tiles // self.threads) * self.threads
        each = -(-whole // max(tiles, 1))
        each = max(-(-each // multiple) * multiple, multiple)
        return each, -(-elements // each)

    def lines(
        self, lines: int, length: int, most: int, multiple: int = 1
    ) -> tuple[int, int]:
        """(lines a tile, tiles): about `most` elements each, spread over the threads."""
        each = max(most // max(length, 1), 1)
        if lines * length >= self.threads * SMALLEST_LINES:
            each = min(each, -(-lines // self.threads))
        if each > multiple:
            each = each // multiple * multiple
        return each, -(-lines // each)

    def copy(self, source: Tensor, target: Tensor, base: Tensor | None = None) -> None:
        """target = source, element by element, through any strides; shapes are equal.

        `base` covers all that is read; it is needed when a stride of the source is negative.
        """
        if 0 in target.shape:
            return
        if target.dtype.size > 8:
            source, target = _halves(source), _halves(target)
            base = None if base is None else _halves(base)
        shape, (walk, goal) = collapse(target.shape, source.strides, target.strides)
        if len(shape) > AXES:  # one copy for each index of the outermost extent
            for i in range(shape[0]):
                inner = replace(
                    source, shape=shape[1:], strides=walk[1:], offset=source.offset + i * walk[0]
                )
                part = replace(
                    target, shape=shape[1:], strides=goal[1:], offset=target.offset + i * goal[0]
                )
                self.copy(inner, part, base)
            return
        order = _copy_order(shape, walk, goal)
        sizes = [shape[axis] for axis in order] or [1]
        columns, rows = sizes[-1], count(sizes[:-1])
        size = target.dtype.size
        transposed = len(sizes) > 1 and walk[order[-1]] != 1 and walk[order[-2]] == 1
        wide, high = at_most(columns), at_most(rows)
        if transposed and wide > 16:
            # Tiles of 64 × 64 keep both sides' cache lines at hand; few columns are few lines.
            tile_columns, tile_rows = min(wide, 64), min(high, 64)
        else:
            tile_columns = min(wide, COPY_BYTES // size)
            tile_rows = max(COPY_BYTES // (tile_columns * size), 1)
            tile_rows = min(high, tile_rows if transposed else min(tile_rows, 1024))
            if high * wide >= self.threads * SMALLEST_TILE:
                tile_rows = share(high, min(tile_rows, -(-high // self.threads)), self.threads)
        params = StridedCopyParams(
            sizes=six(sizes, 1),
            source_strides=six([walk[axis] for axis in order], 0),
            target_strides=six([goal[axis] for axis in order], 0),
            source_offset=0 if base is None else source.offset - base.offset,
            target_offset=0,
            tile_rows=tile_rows,
            tile_columns=tile_columns,
            element_size=size,
        )
        counts = (-(-columns // tile_columns), -(-rows // tile_rows), 1)
        self.emit(STRIDED_COPY, counts, params, (base or source, target))


def _halves(tensor: Tensor) -> Tensor:
    """A tensor of 16-byte elements with their two halves as a last axis."""
    return replace(
        tensor,
        dtype=FLOAT64,
        shape=(*tensor.shape, 2),
        strides=(*(2 * stride for stride in tensor.strides), 1),
        offset=2 * tensor.offset,
    )


def _copy_order(
    shape: tuple[int, ...], walk: tuple[int, ...], goal: tuple[int, ...]
) -> tuple[int, ...]:
    """Axes in the order that the kernel likes: runs last, or a transpose's two axes last."""
    axes = list(range(len(shape)))
    if not axes:
        return ()
    axes.sort(key=lambda axis: -goal[axis])
    last = axes[-1]
    if walk[last] != 1:
        ones = [axis for axis in axes[:-1] if walk[axis] == 1]
        if ones and goal[last] == 1:
            axes.remove(ones[0])
            axes.insert(len(axes) - 1, ones[0])
    return tuple(axes)


def six(values: Sequence[int], fill: int) -> tuple[int, int, int, int, int, int]:
    """Values of at most six axes, the unused ones first."""
    padded = (*(fill,) * (AXES - len(values)), *values)
    assert len(padded) == AXES  # the lowering has checked
    return padded  # type: ignore[return-value]


def is_constant(tensor: Tensor) -> bool:
    """Whether all runs of the session see the same elements."""
    return tensor.storage.kind in _SAME and not grows(tensor.offset, tensor.shape, tensor.strides)


def view_key(tensor: Tensor) -> str:
    """Says which view of which constant this is."""
    key = tensor.storage.key
    if tensor.dense and tensor.offset == 0 and tensor.nbytes == tensor.storage.nbytes:
        return key
    return f"{key}@{tensor.offset}:{tensor.shape}:{tensor.strides}"
