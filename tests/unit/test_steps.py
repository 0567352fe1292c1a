"""Steps run when something has changed and only then; what fails runs again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.project import BuildError, run, version
from tools.steps import Line, step
from tools.wheel import _pack

pytestmark = pytest.mark.unit


class Counter:
    """An action that counts its runs and writes a file."""

    def __init__(self, output: Path, fails: bool = False) -> None:
        self.runs = 0
        self.output = output
        self.fails = fails

    def __call__(self, _: Line) -> str:
        self.runs += 1
        if self.fails:
            raise BuildError("no")
        self.output.write_text("made", encoding="utf-8")
        return "made"


@pytest.fixture
def action(tmp_path: Path) -> Counter:
    return Counter(tmp_path / "output")


def go(tmp_path: Path, action: Counter, *inputs: Path | str) -> bool:
    return step("s", action, inputs=inputs, outputs=[action.output], stamps=tmp_path / "stamps")


def test_runs_once_for_the_same_inputs(
    tmp_path: Path, action: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    assert go(tmp_path, action, "1")
    assert not go(tmp_path, action, "1")
    assert action.runs == 1
    assert "up to date" in capsys.readouterr().out


def test_runs_again_when_a_file_changes(tmp_path: Path, action: Counter) -> None:
    source = tmp_path / "source"
    source.write_text("a", encoding="utf-8")
    go(tmp_path, action, source)
    source.write_text("b", encoding="utf-8")
    assert go(tmp_path, action, source)


def test_runs_again_when_an_output_is_gone(tmp_path: Path, action: Counter) -> None:
    go(tmp_path, action, "1")
    action.output.unlink()
    assert go(tmp_path, action, "1")


def test_a_failure_leaves_no_stamp(tmp_path: Path, action: Counter) -> None:
    go(tmp_path, action, "1")
    action.fails = True
    with pytest.raises(BuildError):
        go(tmp_path, action, "2")
    action.fails = False
    assert go(tmp_path, action, "1"), "the outputs may be half of the failed run's"


def test_an_action_that_does_not_deliver_is_at_fault(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"did not write .*missing"):
        step("s", lambda _: "", inputs=[], outputs=[tmp_path / "missing"], stamps=tmp_path)


def test_a_program_that_fails_is_a_sentence_and_its_output() -> None:
    with pytest.raises(BuildError, match=r"^listing failed \(exit \d+\)\. Try again\.$") as caught:
        run(["ls", "/nowhere"], what="listing", remedy="Try again.")
    assert "/nowhere" in caught.value.details


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(BuildError, match="there is no program no-such-program"):
        run(["no-such-program"], what="trying")


def test_a_wheel_has_the_same_bytes_for_the_same_content() -> None:
    info = f"tilework-{version()}.dist-info/METADATA"
    content = {"tilework/b.py": b"1", "tilework/a.py": b"2", info: b"Name: tilework\n"}
    assert _pack(content) == _pack(dict(reversed(content.items())))
