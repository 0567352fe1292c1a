"""Caches that grow in place: a row is written where the past lies, and nobody sees another's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import tests.onnx.gpt as gpt
from tests.onnx.gpt import SIZE
from tests.onnx.merge import SWITCH
from tests.onnx.rows import peer
from tests.onnx.test_growing_cache import exported, multi_head
from tilework.core.errors import Fail, InvalidArgument, TileworkError
from tilework.engine.resident import Resident
from tilework.engine.session import GraphSession
from tilework.onnx.options import RunOptions
from tilework.onnx.session import InferenceSession
from tilework.onnx.value import OrtValue

pytestmark = pytest.mark.onnx


@pytest.fixture(autouse=True)
def _long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpt, "ROOM", 256)


def feeds_of(session: Any, known: int, word: int, caches: list[Any]) -> dict[str, Any]:
    """Arrays for the word behind so many others, and the caches as they are."""
    names = [one.name for one in session.get_inputs()]
    batch = 1 if not caches else caches[0].shape()[0] if isinstance(caches[0], OrtValue) else (
        caches[0].shape[0])  # fmt: skip
    second = np.full((batch, 1), known, np.int64)
    if "mask" in names:
        second = np.ones((batch, known + 1), np.int64)
    switch = [np.array([known > 0])] if SWITCH in names else []
    fed = [np.full((batch, 1), word, np.int64), second, *caches, *switch]
    return dict(zip(names, fed, strict=True))


def step(
    session: InferenceSession, known: int, word: int, caches: list[Any]
) -> tuple[Any, list[OrtValue]]:
    """The logits and the new caches, which stay on the device."""
    feeds = {
        name: one if isinstance(one, OrtValue) else OrtValue.ortvalue_from_numpy(one)
        for name, one in feeds_of(session, known, word, caches).items()
    }
    logits, *new = session.run_with_ort_values(None, feeds)
    return logits.numpy(), new


def nothing(session: InferenceSession, batch: int = 1) -> list[Any]:
    """Caches without rows."""
    heads = [one.shape[1] for one in session.get_inputs()[2:] if one.name != SWITCH]
    return [np.zeros((batch, count, 0, SIZE), "f4") for count in heads]


def close(mine: Any, other: Any) -> None:
    np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-4)


def same(values: list[OrtValue], arrays: list[Any]) -> None:
    for value, array in zip(values, arrays, strict=True):
        close(value.numpy(), array)


def address(value: OrtValue) -> int:
    held = value.held()
    assert isinstance(held, Resident)
    return held.buffer.address


class Both:
    """A model under tilework and under onnxruntime, run side by side."""

    def __init__(self, content: bytes) -> None:
        self.ours = InferenceSession(content)
        self.peer = peer(content)

    def step(
        self, known: int, word: int, mine: list[Any], other: list[Any]
    ) -> tuple[list[OrtValue], list[Any]]:
        logits, mine = step(self.ours, known, word, mine)
        wanted, *other = self.peer.run(None, feeds_of(self.peer, known, word, other))
        close(logits, wanted)
        return mine, other

    def walk(self, words: int) -> tuple[list[Any], list[Any]]:
        """The caches after so many words."""
        mine, other = nothing(self.ours), nothing(self.ours)
        for known in range(words):
            mine, other = self.step(known, known % 7, mine, other)
        return mine, other


@pytest.fixture(params=[gpt.plain, exported, multi_head, gpt.llama, gpt.merged])
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    made = Both(request.param())
    with made.ours:
        yield made


def test_a_token_writes_rows_and_copies_no_cache(both: Both) -> None:
    mine, other = both.walk(20)
    places = list(map(address, mine))
    before = both.ours.device.statistics.allocated
    for known in range(20, 30):
        mine, other = both.step(known, 3, mine, other)
    assert list(map(address, mine)) == places
    # The logits' bytes, ten times; a cache of 20 rows has five times as many for each layer.
    assert both.ours.device.statistics.allocated - before < 10 * 1024
    same(mine, other)


def test_all_pasts_keep_their_contents(both: Both) -> None:
    held = []
    mine, other = nothing(both.ours), nothing(both.ours)
    for known in range(12):
        mine, other = both.step(known, known % 5, mine, other)
        held.append((mine, other))
    for mine, other in held:
        same(mine, other)


def test_two_ways_on_from_one_past(both: Both) -> None:
    """Each goes on with its own words, in turn; neither they nor the past meet."""
    past, known_past = both.walk(9)
    ways = [(past, known_past), (past, known_past), (past, known_past)]
    for known in range(9, 15):
        ways = [
            both.step(known, 11 * number + known, *way) for number, way in enumerate(ways)
        ]
    for way in (*ways, (past, known_past)):
        same(*way)


def test_back_to_an_earlier_past(both: Both) -> None:
    """As when drafted words are refused: the rows behind are somebody's still."""
    past, known_past = both.walk(5)
    refused, known_refused = past, known_past
    for known in range(5, 8):
        refused, known_refused = both.step(known, 2, refused, known_refused)
    taken, known_taken = both.step(5, 9, past, known_past)
    same(refused, known_refused)
    same(taken, known_taken)


@pytest.mark.parametrize("on_device", [False, True])
def test_beams_are_reordered(both: Both, on_device: bool) -> None:
    """Rows of the batch change places between words, by NumPy or by a model of their own."""
    node = helper.make_node("Gather", ["x", "order"], ["y"], axis=0)
    form = [3, "heads", "n", SIZE]
    content = gpt.Writer()
    content.nodes.append(node)
    reorder = content.model(
        {"x": (TensorProto.FLOAT, form), "order": (TensorProto.INT64, [3])},
        {"y": (TensorProto.FLOAT, form)},
    )
    random = np.random.default_rng(0)
    mine: list[Any] = nothing(both.ours, 3)
    other = nothing(both.ours, 3)
    with InferenceSession(reorder) as gather:
        for known in range(8):
            mine, other = both.step(known, int(random.integers(20)), mine, other)
            order = random.integers(0, 3, 3)
            given = OrtValue.ortvalue_from_numpy(order)
            if on_device:
                mine = [
                    gather.run_with_ort_values(None, {"x": one, "order": given})[0]
                    for one in mine
                ]
            else:
                mine = [one.numpy()[order] for one in mine]
            other = [one[order] for one in other]


def test_a_prompt_longer_than_a_shelf(both: Both) -> None:
    mine, other = both.walk(3)
    feeds = feeds_of(both.peer, 3, 4, other)
    for name in feeds:
        if name in ("ids", "positions"):
            feeds[name] = np.arange(3, 160, dtype=np.int64)[None] % (50 if name == "ids" else 256)
        elif name == "mask":
            feeds[name] = np.ones((1, 160), np.int64)
    wanted, *later = both.peer.run(None, feeds)
    names = [one.name for one in both.ours.get_inputs()][2:]
    caches = dict(zip([name for name in names if name != SWITCH], mine, strict=True))
    given = {n: caches.get(n) or OrtValue.ortvalue_from_numpy(a) for n, a in feeds.items()}
    logits, *grown = both.ours.run_with_ort_values(None, given)
    close(logits.numpy(), wanted)
    same(mine, other)
    for known in range(160, 165):
        grown, later = both.step(known, 1, grown, later)
    same(grown, later)


def test_a_past_goes_to_another_session_and_outlives_its_own() -> None:
    content = gpt.plain()
    first, second = Both(content), Both(content)
    past, known_past = first.walk(6)
    a, known_a = first.step(6, 1, past, known_past)
    b, known_b = second.step(6, 2, past, known_past)
    first.ours.close()
    for known in range(7, 10):
        a, known_a = second.step(known, 3, a, known_a)
        b, known_b = second.step(known, 4, b, known_b)
    second.ours.close()
    for way in ((past, known_past), (a, known_a), (b, known_b)):
        same(*way)


def test_what_is_written_is_nobody_elses(both: Both) -> None:
    """A past that the caller overwrites, or has a run write to, is not the present's memory."""
    past, known_past = both.walk(5)
    mine, other = both.step(5, 3, past, known_past)
    past[0].update_inplace(np.full(past[0].shape(), 7, np.float32))
    np.testing.assert_array_equal(past[0].numpy(), np.float32(7))
    assert past[1].data_ptr() != mine[1].data_ptr()
    same(mine, other)
    binding = both.ours.io_binding()
    for name, value in feeds_of(both.ours, 5, 8, known_past).items():
        binding.bind_cpu_input(name, value)
    binding.bind_output("logits")
    names = [one.name for one in both.ours.get_outputs()][1:]
    target, before = mine[0], mine[2].numpy()
    later, known_later = both.step(6, 1, mine, other)
    binding.bind_ortvalue_output(names[0], target)
    both.ours.run_with_iobinding(binding)
    wanted = both.peer.run(None, feeds_of(both.peer, 5, 8, known_past))
    close(target.numpy(), wanted[1])
    same(later, known_later)
    np.testing.assert_array_equal(mine[2].numpy(), before)


def test_results_for_the_host_leave_the_past_alone(both: Both) -> None:
    past, known_past = both.walk(4)
    mine, other = both.step(4, 3, past, known_past)
    for caches, known, wanted in ((past, 4, known_past), (mine, 5, other)):
        feeds = feeds_of(both.peer, known, 6, wanted)
        found = both.ours.run(None, {**feeds, **feeds_of(both.ours, known, 6, caches)})
        for one, array in zip(found, both.peer.run(None, feeds), strict=True):
            close(one, array)
    same(mine, other)
    some = [one.name for one in both.ours.get_outputs()][:2]  # the others are not asked for
    given = feeds_of(both.ours, 5, 6, mine)
    values = {n: v if isinstance(v, OrtValue) else OrtValue.ortvalue_from_numpy(v)
              for n, v in given.items()}  # fmt: skip
    logits, key = both.ours.run_with_ort_values(some, values)
    wanted = both.peer.run(None, feeds_of(both.peer, 5, 6, other))
    close(logits.numpy(), wanted[0])
    close(key.numpy(), wanted[1])
    same(mine, other)


def test_one_value_is_all_pasts() -> None:
    """Keys and values of all layers from one value, which is on a shelf."""
    both = Both(gpt.plain())
    past, known_past = both.walk(3)
    mine, other = [past[0]] * len(past), [known_past[0]] * len(past)
    for known in (3, 4):
        mine, other = both.step(known, 2, mine, other)
    same(mine, other)
    same([past[0]], [known_past[0]])
    both.ours.close()


def test_a_run_that_ends_early_takes_nothing(both: Both) -> None:
    past, known_past = both.walk(4)
    options = RunOptions()
    options.terminate = True
    feeds = {n: v if isinstance(v, OrtValue) else OrtValue.ortvalue_from_numpy(v)
             for n, v in feeds_of(both.ours, 4, 3, past).items()}  # fmt: skip
    with pytest.raises(Fail, match="ended early"):
        both.ours.run_with_ort_values(None, feeds, options)
    places = list(map(address, past))
    mine, other = both.step(4, 5, past, known_past)
    assert list(map(address, mine)) == places
    same(mine, other)


def test_memory_goes_with_the_last_value(both: Both) -> None:
    both.walk(140)
    before = both.ours.device.statistics.in_use
    mine, _ = both.walk(140)
    held = both.ours.device.statistics.in_use
    del mine
    assert held > before == both.ours.device.statistics.in_use


def test_a_word_goes_on_from_the_last_one(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked up that the last run has found; whatever is not as then is seen."""
    mine, other = both.walk(20)
    (session,) = both.ours._sessions.values()
    long: list[int] = []
    run = GraphSession.run_resident

    def counted(*given: Any) -> Any:
        long.append(1)
        return run(*given)

    monkeypatch.setattr(GraphSession, "run_resident", counted)
    for known in range(20, 30):
        mine, other = both.step(known, known % 7, mine, other)
    assert not long
    # Another past, of the same length; then one that is an array; then two words at once.
    past, known_past = mine, other
    mine, other = both.step(30, 1, past, known_past)
    again, known_again = both.step(30, 2, past, known_past)
    assert len(long) == 1
    same(mine, other)
    same(again, known_again)
    mixed: list[Any] = [one.numpy() if index == 1 else one for index, one in enumerate(again)]
    mixed, known_again = both.step(31, 3, mixed, known_again)
    assert len(long) == 2
    same(mixed, known_again)
    for known in range(32, 40):
        mixed, known_again = both.step(known, 4, mixed, known_again)
    assert len(long) < 10
    with pytest.raises(InvalidArgument):
        both.ours.run_with_ort_values(None, {"nobody": mixed[0]})
    refused = {n: v if isinstance(v, OrtValue) else OrtValue.ortvalue_from_numpy(v)
               for n, v in feeds_of(both.ours, 40, 4, mixed).items()}  # fmt: skip
    refused["ids"] = OrtValue.ortvalue_from_numpy(np.full((1, 1), 10**6, np.int64))
    with pytest.raises(TileworkError):  # the kernel finds no such word
        both.ours.run_with_ort_values(None, refused)
    mixed, known_again = both.step(40, 5, mixed, known_again)
    same(mixed, known_again)
    session.close()
    with pytest.raises(Fail):
        both.step(41, 5, mixed, known_again)


def test_a_binding_goes_on_as_well() -> None:
    both = Both(gpt.plain())
    names = [one.name for one in both.ours.get_outputs()]
    binding = both.ours.io_binding()
    for name in names:
        binding.bind_output(name)
    caches: list[Any] = [OrtValue.ortvalue_from_numpy(one) for one in nothing(both.ours)]
    other = nothing(both.ours)
    before = both.ours.device.statistics.allocated
    for known in range(30):
        feeds = feeds_of(both.ours, known, known % 9, caches)
        for name, value in feeds.items():
            if isinstance(value, OrtValue):
                binding.bind_ortvalue_input(name, value)
            else:
                binding.bind_cpu_input(name, value)
        both.ours.run_with_iobinding(binding)
        if known == 10:
            before = both.ours.device.statistics.allocated
        logits, *caches = binding.get_outputs()
        wanted, *other = both.peer.run(None, feeds_of(both.peer, known, known % 9, other))
        close(logits.numpy(), wanted)
    assert both.ours.device.statistics.allocated - before < 20 * 1024
    same(caches, other)
    both.ours.close()


def test_sequences_of_several_lengths_are_copied() -> None:
    """GroupQueryAttention with lengths that leave rows of the past out: nothing grows in place."""
    both = Both(gpt.llama())
    names = [one.name for one in both.ours.get_inputs()]
    mine: list[Any] = nothing(both.ours, 2)
    other = nothing(both.ours, 2)
    masks = np.array([[1, 1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 1, 1, 1, 1]], np.int64)
    words = np.arange(18, dtype=np.int64).reshape(2, 9)
    held = []
    for first, last in ((0, 5), (5, 6), (6, 7), (7, 8), (8, 9)):
        arrays = [words[:, first:last].copy(), masks[:, :last].copy()]
        feeds = dict(zip(names, [*arrays, *other], strict=True))
        given = [one if isinstance(one, OrtValue) else OrtValue.ortvalue_from_numpy(one)
                 for one in (*arrays, *mine)]  # fmt: skip
        logits, *mine = both.ours.run_with_ort_values(None, dict(zip(names, given, strict=True)))
        wanted, *other = both.ours.run(None, feeds)
        np.testing.assert_array_equal(logits.numpy(), wanted)
        held.append((mine, other))
    for pair in held:
        same(*pair)
    # A word that there is not is the caller's mistake all the same.
    given[0] = OrtValue.ortvalue_from_numpy(np.full((2, 1), 10**6, np.int64))
    with pytest.raises(InvalidArgument):
        both.ours.run_with_ort_values(None, dict(zip(names, given, strict=True)))
    both.ours.close()
