"""Which storages of a draft have slots of their own, and which outputs an input's memory."""

from __future__ import annotations

from collections import Counter

from tilework.plan.plan import Draft
from tilework.plan.step import Dispatch
from tilework.plan.tensor import Kind, Storage

ARENA = 0  # the slot


def over(draft: Draft) -> dict[Storage, Storage]:
    """Outputs that may have the memory of an input which nothing reads but what writes them."""
    inputs = {tensor.storage for tensor in draft.inputs.values()}
    outputs = {tensor.storage for tensor in draft.outputs.values()}
    read = Counter(storage for step in draft.steps for storage in step.reads())
    written = Counter(storage for step in draft.steps for storage in step.writes())
    found = {}
    for step in draft.steps:
        if not isinstance(step, Dispatch) or step.over is None:
            continue
        target, past = (step.bindings[place] for place in step.over)
        if target is None or past is None:
            continue
        alone = read[past.storage] == written[target.storage] == 1
        if alone and target.storage in outputs and past.storage in inputs - outputs:
            found[target.storage] = past.storage
    return found


def slots_of(draft: Draft) -> dict[Storage, int]:
    """The slots of what may lie in the caller's arrays: inputs, and outputs that are all of their
    storage; and of what always lies in memory that outlives the run."""
    found: dict[Storage, int] = {}
    for tensor in (*draft.inputs.values(), *draft.outputs.values()):
        storage = tensor.storage
        slot = storage.kind is Kind.RESIDENT
        if storage.kind is Kind.TRANSIENT and tensor.size and not storage.idle:
            slot = tensor.offset == 0 and tensor.nbytes == storage.nbytes
        if slot:
            found.setdefault(storage, ARENA + 1 + len(found))
    return found
