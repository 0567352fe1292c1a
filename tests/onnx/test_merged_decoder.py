"""Decoders in an If on an input: planned as if the branch that is taken stood alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import tests.onnx.gpt as gpt
import tests.onnx.whisper as whisper
from tests.onnx.merge import SWITCH, merge
from tests.onnx.rows import peer
from tests.onnx.whisper import SMALL
from tilework.core.errors import InvalidArgument, RuntimeException, TileworkError
from tilework.engine.chain import Chain
from tilework.engine.resident import Resident
from tilework.onnx.session import InferenceSession
from tilework.onnx.value import OrtValue

pytestmark = pytest.mark.onnx

place: Callable[..., Any] = OrtValue.ortvalue_from_numpy
HIDDEN = np.random.default_rng(3).standard_normal((1, SMALL.heard, SMALL.width), np.float32)


def passed() -> bytes:
    """The cached branch gives the encoder's keys and values as they were fed."""
    return whisper.merged(SMALL)


def empty() -> bytes:
    """It gives tensors without elements in their place, as Optimum writes it."""
    return merge(whisper.decoder(SMALL), whisper.decoder(SMALL, past=True))


def numbers(heard: Any = HIDDEN) -> dict[str, Any]:
    """All that a Whisper-like decoder is fed besides words before the first of them."""
    shape = (len(heard), SMALL.heads, 0, SMALL.size)
    names = [f"past_key_values.{n}.{side}" for n in range(SMALL.layers) for side in whisper.SIDES]
    return {"encoder_hidden_states": heard, **dict.fromkeys(names, np.zeros(shape, np.float32))}


def value_of(one: Any) -> Any:
    return one if isinstance(one, OrtValue) else place(one)


class Speaker:
    """A decoder under tilework and under onnxruntime, run side by side; several texts at once."""

    def __init__(self, content: bytes) -> None:
        self.ours = InferenceSession(content)
        self.peer = peer(content)
        self.outputs = [one.name for one in self.peer.get_outputs()]

    def step(self, words: list[int], mine: dict[str, Any], other: dict[str, Any]) -> None:
        """The next words of a text, whose caches are replaced."""
        known = any(one.shape[2] for name, one in other.items() if name.startswith("past"))
        feeds = {"input_ids": np.array([words] * len(HIDDEN), np.int64), SWITCH: np.array([known])}
        wanted = dict(zip(self.outputs, self.peer.run(None, {**other, **feeds}), strict=True))
        given = {name: value_of(one) for name, one in {**mine, **feeds}.items()}
        found = dict(zip(self.outputs, self.ours.run_with_ort_values(None, given), strict=True))
        for name, right in wanted.items():
            np.testing.assert_allclose(found[name].numpy(), right, rtol=1e-3, atol=1e-4)
        for name, right in wanted.items():
            if name.startswith("present") and right.size:
                mine[name.replace("present", "past_key_values")] = found[name]
                other[name.replace("present", "past_key_values")] = right


@pytest.fixture(params=[passed, empty])
def speaker(request: pytest.FixtureRequest) -> Iterator[Speaker]:
    made = Speaker(request.param())
    with made.ours:
        yield made


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each run that could be one, whether it was a repetition of the last."""
    found: list[bool] = []
    run = Chain.run

    def counted(self: Chain, names: Any, values: Any) -> Any:
        results = run(self, names, values)
        found.append(results is not None)
        return results

    monkeypatch.setattr(Chain, "run", counted)
    return found


def test_the_next_token_is_repeated(speaker: Speaker, repeated: list[bool]) -> None:
    mine, other = numbers(), numbers()
    speaker.step([3, 1, 4], mine, other)
    for word in range(12):
        speaker.step([word], mine, other)
    assert repeated[-6:] == [True] * 6
    assert speaker.ours.where() == "kernel"
    places = [one.held().buffer.address for one in mine.values() if isinstance(one, OrtValue)]
    before = speaker.ours.device.statistics
    for word in range(12, 20):
        speaker.step([word], mine, other)
    after = speaker.ours.device.statistics
    now = [one.held().buffer.address for one in mine.values() if isinstance(one, OrtValue)]
    assert now == places  # self-attention's grow there, the encoder's are what they were
    # A word and its position, not what the other branch reads; logits are all that is new.
    assert after.copied_in - before.copied_in == 8 * 16
    assert after.allocated - before.allocated < 8 * 2 * (4 * SMALL.words + 64)


def test_texts_take_turns(speaker: Speaker) -> None:
    """Both branches by turns, prompts of several lengths, pasts of several texts."""
    texts: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for turn in range(9):
        if turn % 3 == 0:
            heard = HIDDEN * np.float32(1 + turn)
            texts.append((numbers(heard), numbers(heard)))
            speaker.step(list(range(2 + turn)), *texts[-1])
        for number, text in enumerate(texts):
            speaker.step([7 * number + turn], *text)
    first = speaker.ours.plan()
    assert "on host" not in str(first)


def test_the_other_branch_is_taken_late(speaker: Speaker) -> None:
    """A past from somewhere else first; then a prompt of its own."""
    random = np.random.default_rng(0)
    past = {
        name: random.standard_normal(
            (1, SMALL.heads, 5 if "decoder" in name else SMALL.heard, SMALL.size), np.float32)
        for name in numbers() if name.startswith("past")
    }  # fmt: skip
    mine, other = {**numbers(), **past}, {**numbers(), **past}
    for word in range(5):
        speaker.step([word], mine, other)
    late = numbers(), numbers()
    speaker.step([1, 2], *late)
    speaker.step([3], *late)
    speaker.step([3], mine, other)


def test_beams_are_reordered_on_the_device(speaker: Speaker) -> None:
    node = helper.make_node("Gather", ["x", "order"], ["y"], axis=0)
    forms = ["b", "h", "n", "s"]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, forms) for n in "xy")
    order = helper.make_tensor_value_info("order", TensorProto.INT64, ["b"])
    graph = helper.make_graph([node], "reorder", [x, order], [y])
    opsets = [helper.make_opsetid("", 17)]
    content = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    heard = np.concatenate([HIDDEN, 2 * HIDDEN, -HIDDEN])
    mine, other = numbers(heard), numbers(heard)
    random = np.random.default_rng(1)
    words = np.array([[3], [1], [4]], np.int64)
    with InferenceSession(content) as gather:
        for turn in range(7):
            feeds = {"input_ids": words + turn, SWITCH: np.array([turn > 0])}
            wanted = dict(zip(speaker.outputs, speaker.peer.run(None, {**other, **feeds}),
                              strict=True))  # fmt: skip
            given = {name: value_of(one) for name, one in {**mine, **feeds}.items()}
            found = dict(zip(speaker.outputs, speaker.ours.run_with_ort_values(None, given),
                             strict=True))  # fmt: skip
            np.testing.assert_allclose(
                found["logits"].numpy(), wanted["logits"], rtol=1e-3, atol=1e-3
            )
            beams = random.integers(0, 3, 3)
            for name, right in wanted.items():
                past = name.replace("present", "past_key_values")
                if past not in other or not right.size:
                    continue
                other[past] = right[beams]
                (mine[past],) = gather.run_with_ort_values(
                    None, {"x": found[name], "order": place(beams)}
                )


def test_errors_leave_both_branches_usable(speaker: Speaker) -> None:
    mine, other = numbers(), numbers()
    speaker.step([3, 1, 4], mine, other)
    for word in range(4):
        speaker.step([word], mine, other)
    feeds = {name: value_of(one) for name, one in mine.items()}
    word, yes = place(np.array([[1]], np.int64)), place(np.array([True]))
    with pytest.raises(InvalidArgument, match=SWITCH):
        speaker.ours.run_with_ort_values(None, {**feeds, "input_ids": word})
    with pytest.raises(InvalidArgument, match=SWITCH):
        switch = place(np.array([1], np.int32))
        speaker.ours.run_with_ort_values(None, {**feeds, "input_ids": word, SWITCH: switch})
    beyond = place(np.array([[10**6]], np.int64))
    with pytest.raises(TileworkError):  # the kernel finds no such word
        speaker.ours.run_with_ort_values(None, {**feeds, "input_ids": beyond, SWITCH: yes})
    short = {**feeds, "past_key_values.0.decoder.value": place(np.zeros(
        (1, SMALL.heads, 2, SMALL.size), np.float32))}  # fmt: skip
    with pytest.raises((InvalidArgument, RuntimeException)):
        speaker.ours.run_with_ort_values(None, {**short, "input_ids": word, SWITCH: yes})
    for later in range(5, 8):
        speaker.step([later], mine, other)
    late = numbers(), numbers()
    speaker.step([1, 2], *late)


def test_what_is_passed_on_is_nobody_elses_to_write() -> None:
    """One memory is two values, until somebody writes to either."""
    name = "past_key_values.0.encoder.key"
    made = Speaker(passed())
    with made.ours:
        mine, other = numbers(), numbers()
        made.step([3, 1, 4], mine, other)
        before = mine[name]
        made.step([1], mine, other)
        assert mine[name].held() is before.held()
        before.update_inplace(np.full(before.shape(), 7, np.float32))
        np.testing.assert_array_equal(before.numpy(), np.float32(7))
        np.testing.assert_allclose(mine[name].numpy(), other[name], rtol=1e-3, atol=1e-4)
        for word in range(3):
            made.step([word], mine, other)
        assert mine[name].data_ptr() != before.data_ptr()


def constant_bytes(session: InferenceSession) -> int:
    return sum(
        shared.store.nbytes for one in session._sessions.values() for shared in [one._held.shared]
    )


@pytest.mark.parametrize("share", [True, False])
def test_weights_are_packed_once(share: bool) -> None:
    """Also where each branch has weights of its own that are the same."""
    first, cached = whisper.decoder(SMALL), whisper.decoder(SMALL, past=True)
    words = {"input_ids": np.array([[3, 1]], np.int64), "encoder_hidden_states": HIDDEN}
    both = Speaker(merge(first, cached, share))
    with InferenceSession(first) as one, both.ours:
        one.run(None, words)
        mine, other = numbers(), numbers()
        both.step([3, 1], mine, other)
        for word in range(4):
            both.step([word], mine, other)
        # Positions, of which a prompt from the beginning takes a part that is known.
        more = 4 * SMALL.room * SMALL.width + 64
        assert 0 < constant_bytes(one) <= constant_bytes(both.ours) <= constant_bytes(one) + more


# -- other conditions -----------------------------------------------------------------------------


def info(name: str, kind: int, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], **stored: Any) -> bytes:
    weights = [numpy_helper.from_array(np.asarray(a), n) for n, a in stored.items()]
    graph = helper.make_graph(nodes, "conditions", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 17)]
    return bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    )


def unshaped(name: str) -> Any:
    found = info(name, TensorProto.FLOAT)
    found.type.tensor_type.ClearField("shape")
    return found


def branch(name: str, nodes: list[Any], *outputs: str) -> Any:
    return helper.make_graph(nodes, name, [], [unshaped(one) for one in outputs])


node = helper.make_node
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def test_by_the_length_of_the_past(repeated: list[bool]) -> None:
    """The condition is computed from a shape: rows go behind a past, or nothing is scaled."""
    then = branch(
        "some", [node("Concat", ["past", "x"], ["grown"], axis=1),
                 node("ReduceSum", ["grown", "one"], ["total"], keepdims=0)], "grown", "total",
    )  # fmt: skip
    other = branch(
        "none", [node("Mul", ["x", "two"], ["twice"]),
                 node("ReduceSum", ["x", "one"], ["zero"], keepdims=0)], "twice", "zero",
    )  # fmt: skip
    content = model(
        [
            node("Shape", ["past"], ["extents"]),
            node("Gather", ["extents", "one"], ["rows"]),
            node("Greater", ["rows", "none"], ["any"]),
            node("Squeeze", ["any"], ["some"]),
            node("If", ["some"], ["present", "sum"], then_branch=then, else_branch=other),
        ],
        [info("past", FLOAT, 2, "rows", 3), info("x", FLOAT, 2, "new", 3)],
        [info("present", FLOAT, 2, "all", 3), info("sum", FLOAT, 2, 3)],
        one=np.array([1]), none=np.array([0]), two=np.float32(2),
    )  # fmt: skip
    reference = peer(content)
    with InferenceSession(content) as session:
        for _ in range(2):
            mine: Any = place(np.zeros((2, 0, 3), np.float32))
            past = mine.numpy()
            for step in range(10):
                x = np.full((2, 1, 3), step, np.float32)
                wanted = reference.run(None, {"past": past, "x": x})
                mine, total = session.run_with_ort_values(None, {"past": mine, "x": place(x)})
                past = wanted[0]
                np.testing.assert_array_equal(mine.numpy(), past)
                np.testing.assert_array_equal(total.numpy(), wanted[1])
        assert session.where() == "kernel"
    assert sum(repeated) > 8


@pytest.mark.parametrize("on_device", [False, True])
def test_branches_of_other_ranks_within_others(on_device: bool) -> None:
    """Not of an input, around another If; outputs differ in rank, a shape is fed to a branch."""
    inner = node(
        "If", ["small"], ["inside"],
        then_branch=branch("shaped", [node("Reshape", ["x", "form"], ["y"])], "y"),
        else_branch=branch("summed", [node("ReduceSum", ["x"], ["y"], keepdims=0)], "y"),
    )  # fmt: skip
    content = model(
        [
            node("Not", ["large"], ["small"]),
            node("If", ["go"], ["z"],
                 then_branch=branch("within", [inner, node("Relu", ["inside"], ["y"])], "y"),
                 else_branch=branch("around", [node("Identity", ["x"], ["y"])], "y")),
        ],
        [info("x", FLOAT, "n", 4), info("go", BOOL, 1), info("large", BOOL, 1),
         info("form", INT64, "rank")],
        [unshaped("z")],
    )  # fmt: skip
    reference = peer(content)
    x = np.random.default_rng(2).standard_normal((6, 4)).astype(np.float32)
    with InferenceSession(content) as session:
        for turn in range(8):
            form = np.array([2, 12] if turn % 3 else [3, 2, 4], np.int64)
            feeds = {"x": x + turn, "go": np.array([turn % 4 != 3]),
                     "large": np.array([turn % 2 == 1]), "form": form}  # fmt: skip
            (wanted,) = reference.run(None, feeds)
            kind = "tilework" if on_device else "cpu"
            given = {n: place(a, kind) for n, a in feeds.items()}
            (found,) = session.run_with_ort_values(None, given)
            assert found.shape() == list(wanted.shape)
            np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(session.run(None, feeds)[0], found.numpy())
        assert session.where() == "kernel"


def test_a_condition_that_is_computed_is_asked_each_time(repeated: list[bool]) -> None:
    """By the sum of what is fed: nothing is taken for known that is not."""
    content = model(
        [
            node("ReduceSum", ["x"], ["sum"], keepdims=0),
            node("Greater", ["sum", "none"], ["positive"]),
            node("If", ["positive"], ["present"],
                 then_branch=branch("grow", [node("Concat", ["past", "x"], ["y"], axis=0)], "y"),
                 else_branch=branch("keep", [node("Identity", ["past"], ["y"])], "y")),
        ],
        [info("past", FLOAT, "rows", 2), info("x", FLOAT, 1, 2)],
        [info("present", FLOAT, "all", 2)],
        none=np.float32(0),
    )  # fmt: skip
    reference = peer(content)
    with InferenceSession(content) as session:
        mine: Any = place(np.zeros((1, 2), np.float32))
        past = mine.numpy()
        for step in range(12):
            x = np.full((1, 2), 1.0 if step % 3 else -1.0, np.float32)
            before = mine
            (mine,) = session.run_with_ort_values(None, {"past": mine, "x": place(x)})
            np.testing.assert_array_equal(before.numpy(), past)
            (past,) = reference.run(None, {"past": past, "x": x})
            np.testing.assert_array_equal(mine.numpy(), past)
            if isinstance(before.held(), Resident) and not step % 3:
                before.update_inplace(np.zeros(before.shape(), np.float32))
                np.testing.assert_array_equal(mine.numpy(), past)
    assert not any(repeated)


CASES: list[Callable[[], bytes]] = [gpt.merged, passed, empty]


@pytest.mark.parametrize("made", CASES)
def test_without_values_on_the_device(made: Callable[[], bytes]) -> None:
    """Arrays in, arrays out, as most scripts run such models."""
    content = made()
    reference = peer(content)
    with InferenceSession(content) as session:
        names = [one.name for one in session.get_outputs()]
        pasts: dict[str, Any] = {}
        for one in session.get_inputs():
            if one.name.startswith(("past", "key", "value")):
                _, heads, _, size = one.shape
                pasts[one.name] = np.zeros((1, int(heads or 0), 0, int(size or 0)), np.float32)
        for step in range(5):
            feeds = dict(pasts)
            for one in session.get_inputs():
                if one.type == "tensor(int64)":
                    rows = [step + 1] if step else [0, 1]
                    feeds[one.name] = np.array([rows], np.int64)
                elif one.name == "encoder_hidden_states":
                    feeds[one.name] = HIDDEN
            feeds[SWITCH] = np.array([step > 0])
            found, wanted = session.run(None, feeds), reference.run(None, feeds)
            for name, mine, right in zip(names, found, wanted, strict=True):
                np.testing.assert_allclose(mine, right, rtol=1e-3, atol=1e-4)
                past = name.replace("present", "past_key_values").removeprefix("new_")
                if past in pasts and right.size:
                    pasts[past] = right
