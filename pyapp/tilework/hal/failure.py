"""From a submission's failure record to the error that a person reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilework.core.errors import InvalidIndex, KernelFailure, ThreadLost
from tilework.hal._abi import Status

if TYPE_CHECKING:
    from tilework.hal.program import CommandInfo, Program
    from tilework.hal.ring import Outcome

_WORDS: dict[int, str] = {
    Status.INVALID_PARAMS: "its parameters are outside what it accepts",
    Status.BINDING_TOO_SHORT: "a binding is shorter than its parameters imply",
    Status.SCRATCH_TOO_SMALL: "it needs more scratch",
    Status.INDEX_OUT_OF_RANGE: "the data holds an index outside its axis",
    Status.TRAPPED: "it trapped",
    Status.STUCK: (
        "it did not come back; it loops for ever, or its thread was ended. The threads were "
        "started anew"
    ),
}


def failure(program: Program, outcome: Outcome) -> KernelFailure | ThreadLost:
    """The error for a submission of `program` that did not succeed."""
    if outcome.status == Status.LOST:
        return ThreadLost(
            f"a thread was ended while it worked on {program.label or 'a program'}; what that has "
            "written is undefined, the threads were started anew"
        )
    info = program.commands[outcome.command]
    if outcome.status == Status.COUNTS_TOO_LARGE:
        return _counts_too_large(program, outcome, info)
    words = _WORDS.get(outcome.status, f"it returned {outcome.status}")
    label = f" ({info.label})" if info.label else ""
    kind = InvalidIndex if outcome.status == Status.INDEX_OUT_OF_RANGE else KernelFailure
    return kind(
        f"kernel {info.kernel}{label} failed in tile {outcome.tile} of {info.counts}: {words}; "
        f"command {outcome.command} of {program.label or 'a program'}, thread {outcome.worker}",
        kernel=info.kernel,
        tile=outcome.tile,
        status=outcome.status,
        command=outcome.command,
    )


def _counts_too_large(program: Program, outcome: Outcome, info: CommandInfo) -> KernelFailure:
    label = f" ({info.label})" if info.label else ""
    return KernelFailure(
        f"kernel {info.kernel}{label} was to run {outcome.tile} tiles, as a buffer said, but was "
        f"recorded with at most {info.counts}; command {outcome.command} of "
        f"{program.label or 'a program'}; none of them ran",
        kernel=info.kernel,
        tile=(0, 0, 0),
        status=outcome.status,
        command=outcome.command,
    )
