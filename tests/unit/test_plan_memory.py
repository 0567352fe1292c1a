"""Views, arena offsets and levels: the arithmetic of plans, held against NumPy and brute force."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilework.core.dtypes import FLOAT32, INT64
from tilework.core.shapes import row_major_strides
from tilework.hal.kernels.elementwise import F32_BINARY
from tilework.ir.graph import Node
from tilework.plan.arena import ALIGNMENT, place
from tilework.plan.builder import Builder
from tilework.plan.schedule import assign_levels, set_lifetimes
from tilework.plan.step import Dispatch, HostStep, Span, Step
from tilework.plan.tensor import (
    Kind,
    Storage,
    Tensor,
    collapse,
    is_dense,
    packed_view,
    reshape_strides,
)

pytestmark = pytest.mark.unit


def tensor(*shape: int) -> Tensor:
    nbytes = int(np.prod(shape)) * 4
    return Tensor(Storage(Kind.TRANSIENT, nbytes, "t"), FLOAT32, shape, row_major_strides(shape))


def elements(view: Tensor) -> np.ndarray:
    """The numbers of the elements that a view shows, in its order."""
    base = np.arange(view.storage.nbytes // 4, dtype=np.int32)
    return np.lib.stride_tricks.as_strided(
        base[view.offset :], view.shape, [stride * 4 for stride in view.strides]
    ).copy()


SHAPES = [
    ((6, 4), (24,)), ((24,), (2, 3, 4)), ((2, 3, 4), (6, 4)), ((2, 1, 12), (2, 3, 4)),
    ((1,), ()), ((), (1, 1)), ((2, 6), (2, 2, 3, 1)), ((4, 6), (8, 3)), ((0, 3), (3, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "target"), SHAPES)
def test_reshape_of_every_permutation(shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    for perm in itertools.permutations(range(len(shape))):
        back = tuple(shape[axis] for axis in np.argsort(perm)) if perm else shape
        view = tensor(*back).transposed(perm)
        assert view.shape == shape
        result = view.reshaped(target)
        if result is None:
            assert not view.dense
            with pytest.raises((ValueError, AttributeError)):
                elements_in_place(view).shape = target
        else:
            np.testing.assert_array_equal(elements(result), elements(view).reshape(target))


def elements_in_place(view: Tensor) -> np.ndarray:
    base = np.arange(max(view.storage.nbytes // 4, 1), dtype=np.int32)
    return np.lib.stride_tricks.as_strided(base, view.shape, [s * 4 for s in view.strides])


def test_split_heads_of_a_joined_projection_is_a_view() -> None:
    joined = tensor(2, 5, 36)
    key = joined.sliced((0, 0, 12), (1, 1, 1), (2, 5, 12))
    assert key is not None
    heads = key.reshaped((2, 5, 3, 4))
    assert heads is not None
    turned = heads.transposed((0, 2, 3, 1))
    wanted = np.arange(360).reshape(2, 5, 36)[:, :, 12:24].reshape(2, 5, 3, 4)
    np.testing.assert_array_equal(elements(turned), wanted.transpose(0, 2, 3, 1))


def test_span_covers_exactly_what_is_seen() -> None:
    view = tensor(4, 6).sliced((1, 2), (2, 1), (2, 3))
    assert view is not None
    seen = elements(view)
    offset, nbytes = view.span()
    assert offset == seen.min() * 4
    assert offset + nbytes == (seen.max() + 1) * 4


@given(
    st.lists(st.integers(1, 4), max_size=5).flatmap(
        lambda shape: st.tuples(st.just(tuple(shape)), st.permutations(range(len(shape))))
    ),
    st.data(),
)
def test_collapse_keeps_every_walk(
    case: tuple[tuple[int, ...], list[int]], data: st.DataObject
) -> None:
    shape, perm = case
    dense = row_major_strides(shape)
    turned = tuple(row_major_strides(tuple(shape[a] for a in perm))[perm.index(i)]
                   for i in range(len(shape)))  # fmt: skip
    repeated = tuple(0 if data.draw(st.booleans()) else stride for stride in dense)
    extents, walks = collapse(shape, dense, turned, repeated)
    assert len(extents) <= len(shape)
    for strides, walk in zip((dense, turned, repeated), walks, strict=True):
        wide = [sum(i * s for i, s in zip(at, strides, strict=True)) for at in np.ndindex(*shape)]
        narrow = [sum(i * s for i, s in zip(at, walk, strict=True)) for at in np.ndindex(*extents)]
        assert wide == narrow


def test_packed_view_sees_through_order_and_repetition() -> None:
    view = tensor(3, 1, 4).transposed((2, 0, 1)).broadcast_to((4, 3, 5))
    run = packed_view(view)
    assert run is not None
    assert run.shape == (12,)
    gaps = tensor(3, 8).sliced((0, 0), (1, 1), (3, 4))
    assert gaps is not None
    assert packed_view(gaps) is None


def test_dense_ignores_axes_of_extent_one() -> None:
    assert is_dense((1, 4), (99, 1))
    assert not is_dense((2, 4), (99, 1))
    assert reshape_strides((2, 4), (8, 1), (8,)) is None


# -- the arena ------------------------------------------------------------


LIVES = st.tuples(st.integers(1, 4000), st.integers(0, 20), st.integers(0, 8))


@given(st.lists(LIVES, max_size=30))
def test_storages_that_live_together_do_not_overlap(rows: list[tuple[int, int, int]]) -> None:
    storages = [
        Storage(Kind.TRANSIENT, nbytes, str(number), first=first, last=first + length)
        for number, (nbytes, first, length) in enumerate(rows)
    ]
    total = place(storages)
    for storage in storages:
        assert storage.offset % ALIGNMENT == 0
        assert storage.offset + storage.nbytes <= total
    for a, b in itertools.combinations(storages, 2):
        if a.first <= b.last and b.first <= a.last:
            assert a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset
    assert total <= sum(-(-s.nbytes // ALIGNMENT) * ALIGNMENT for s in storages)


def test_a_chain_needs_two_buffers() -> None:
    chain = [Storage(Kind.TRANSIENT, 1024, str(i), first=i, last=i + 1) for i in range(10)]
    assert place(chain) == 2048


# -- levels ------------------------------------------------------------


@dataclass
class Steps:
    made: list[Step] = field(default_factory=list)

    def dispatch(self, a: Storage, b: Storage, y: Storage) -> Step:
        spans = tuple(Span(storage, 0, storage.nbytes) for storage in (a, b, y))
        self.made.append(Dispatch(F32_BINARY, (1, 1, 1), None, spans, "step"))
        return self.made[-1]

    def host(self, x: Tensor, y: Tensor) -> Step:
        self.made.append(HostStep(Node("tan", ("x",), ("y",)), (x,), (y,), "no kernel"))
        return self.made[-1]


def storage() -> Storage:
    return Storage(Kind.TRANSIENT, 64, "s")


def test_independent_steps_share_a_level() -> None:
    steps = Steps()
    x, y, z, w = storage(), storage(), storage(), storage()
    first, second = steps.dispatch(x, x, y), steps.dispatch(x, x, z)
    third = steps.dispatch(y, z, w)
    assert assign_levels(steps.made) == 2
    assert (first.level, second.level, third.level) == (1, 1, 2)


def test_in_place_waits_for_all_readers() -> None:
    steps = Steps()
    x, y, z = storage(), storage(), storage()
    reader = steps.dispatch(x, x, y)
    in_place = steps.dispatch(x, y, x)
    other = steps.dispatch(z, z, y)  # overwrites y, which in_place reads
    assign_levels(steps.made)
    assert reader.level < in_place.level < other.level


def test_a_host_step_stands_alone() -> None:
    steps = Steps()
    x, y = tensor(4), tensor(4)
    before = steps.dispatch(x.storage, x.storage, storage())
    host = steps.host(x, y)
    after = steps.dispatch(x.storage, x.storage, storage())  # needs nothing of the host step
    assign_levels(steps.made)
    assert before.level < host.level < after.level


def test_inputs_live_from_the_start_and_outputs_to_the_end() -> None:
    steps = Steps()
    x, y, z = storage(), storage(), storage()
    steps.dispatch(x, x, y)
    steps.dispatch(y, y, z)
    assign_levels(steps.made)
    found = set_lifetimes(steps.made, [x], [y, z])
    assert set(found) == {x, y, z}
    assert (x.first, x.last) == (0, 1)
    assert y.first == 1
    assert y.last == z.last == 3


def test_a_plan_s_own_constant_has_the_dtype_that_it_is_said_to_have() -> None:
    """NumPy's integers have 32 bits in a browser, where nobody says otherwise."""
    builder = Builder(1)
    tensor = builder.local(np.arange(3, dtype=np.int32), INT64)
    assert builder.locals[tensor.storage].dtype == np.int64
    assert tensor.storage.nbytes == 24
