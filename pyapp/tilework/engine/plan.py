"""Plan: a draft turned into programs, ready to be replayed by submission.

Owns its programs and the constants that came from its shapes. The arena belongs to the session and
is slot 0 of every program, so it may grow between runs without anything being recorded again. Where
the device sees the host's memory, or where tensors stay on the device between runs, inputs and
outputs have slots of their own behind it: a large array of the caller's is bound there, or a
resident tensor; the rest to its place in the arena.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING
from weakref import ref

import numpy as np

from tilework.core.config import IN_PLACE
from tilework.core.errors import InvalidArgument, Unsupported
from tilework.core.growing import Growth, at, at_hand, grows
from tilework.engine.chain import Chain, Given, Link, fresh_outputs
from tilework.engine.constants import ConstantStore, contiguous, run_on_host
from tilework.engine.replay import Place, Replay, replayable
from tilework.engine.resident import Fed, Resident, copy_on_device
from tilework.engine.slots import ARENA, over, slots_of
from tilework.hal import Buffer, Device, Program, Slot
from tilework.ir.narrow import plain
from tilework.ir.opdefs.registry import Array
from tilework.plan.arena import ALIGNMENT
from tilework.plan.plan import Draft
from tilework.plan.record import record
from tilework.plan.settle import Ends, fix_sizes, settle
from tilework.plan.step import Dispatch, HostStep, Span, Step
from tilework.plan.tensor import Kind, Storage, Tensor

if TYPE_CHECKING:
    from tilework.engine.growing import Family
    from tilework.engine.recorder import Recorder
    from tilework.engine.stop import Stop


class Plan:
    """Made by the session for one set of shapes; `run` replays it."""

    def __init__(
        self,
        device: Device,
        draft: Draft,
        store: ConstantStore,
        slots: bool = False,
        growth: Growth | None = None,
    ) -> None:
        """With `slots` runs may be fed Residents and give them; the draft was made `in_place`.

        With `growth` the draft has numbers that grow, and `grow` sets them for other lengths.
        """
        self._drafted = draft
        self._draft: Draft | None = None  # for the length at hand
        self._grows = growth is not None
        self._value: Callable[[int], int] = at_hand
        self._device = device
        self._store = store
        self._local: Buffer | None = None
        self._local_offsets: dict[Storage, int] = {}
        self._growing: list[Storage] = []  # of the locals
        self._segments: list[Program | HostStep] = []
        self._singles: dict[Step, Program] = {}  # programs of one dispatch, where that was measured
        self._arena: Buffer | None = None
        self._inputs: list[tuple[str, Tensor]] = []  # those with elements
        self._homes: dict[int, Buffer] = {}  # of inputs and outputs in the arena, by their id
        self._replays: dict[tuple[str, ...], Replay | None] = {}  # by their outputs
        self._runs = 0  # since anything of that has moved
        self._constants: list[Storage] = []
        self._slots = slots_of(draft) if slots else {}
        self._over = over(draft) if slots else {}
        self._ends = Ends(draft.inputs), Ends(draft.outputs)
        self._spans: dict[Storage, Buffer] = {}  # of those in the arena
        self._bound: dict[Storage, Buffer] = {}  # while a run lasts
        try:
            self._shelved = draft.shelved
            needed = draft.constants()
            store.retain(needed, draft.prologue)
            self._constants = needed
            self._write_locals()
            for part in draft.segments():
                if isinstance(part[0], HostStep):
                    self._segments.append(part[0])
                    continue
                steps = [step for step in part if isinstance(step, Dispatch)]
                program = record(device, steps, self._resolve, draft.name, growth)
                self._segments.append(program)
            if growth is not None:
                fix_sizes(draft)
            self._settle(at_hand)
        except BaseException:
            self.free()
            raise

    def __str__(self) -> str:
        return str(self.draft)

    @property
    def draft(self) -> Draft:
        """What was decided, in the numbers of the length at hand."""
        if self._draft is None:
            self._draft = settle(self._drafted, self._value) if self._grows else self._drafted
        return self._draft

    def grow(self, values: Sequence[int], atoms: Sequence[int]) -> None:
        """Sets all that grows for another length: `values` of the growth's table, and its atoms."""
        for program in self._segments:
            assert isinstance(program, Program)  # with host steps there is no growth
            program.grow(values)
        for program in self._singles.values():
            program.free()
        self._singles.clear()
        self._settle(partial(at, atoms=atoms))

    def _settle(self, value: Callable[[int], int]) -> None:
        self._draft, self._value = None, value
        self._forget_places()
        self._settled = False
        for storage in self._growing:
            numbers = self._drafted.locals[storage]
            words = np.array(list(map(value, numbers.flat)), f"i{storage.nbytes // numbers.size}")
            assert self._local is not None  # there is room for them
            self._local.write(words, self._local_offsets[storage])

    def _look(self) -> None:
        """Sees where inputs and outputs lie for the length at hand."""
        self._settled = True
        self._fed, self._given = (ends.at(self._value) for ends in self._ends)
        self._inputs = [
            (name, tensor)
            for name, tensor in self._fed.items()
            if tensor.size or tensor.storage.kind is Kind.RESIDENT
        ]
        fed = {tensor.storage: tensor.shape for tensor in self._fed.values()} if self._over else {}
        self._shapes = {past: fed[past] for past in self._over.values()}

    @property
    def arena_bytes(self) -> int:
        """What the arena must have, bytes."""
        return self._drafted.arena_bytes

    def _write_locals(self) -> None:
        total = 0
        for storage in self._drafted.locals:
            self._local_offsets[storage] = total
            total += -(-storage.nbytes // ALIGNMENT) * ALIGNMENT
        if not total:
            return
        self._local = self._device.allocate(total, f"constants of a plan of {self._drafted.name}")
        for storage, array in self._drafted.locals.items():
            if array.dtype == object:
                self._growing.append(storage)
            elif array.size:
                self._local.write(contiguous(array), self._local_offsets[storage])

    def _resolve(self, span: Span) -> Buffer | Slot:
        storage = span.storage
        if storage in self._slots:
            return Slot(self._slots[storage], span.offset, span.nbytes)
        if storage.kind is Kind.TRANSIENT:
            return Slot(ARENA, storage.offset + span.offset, span.nbytes)
        return self._lies(storage).subspan(span.offset, span.nbytes)

    def _lies(self, storage: Storage) -> Buffer:
        return self._bound.get(storage) or self._home(storage)

    def _home(self, storage: Storage) -> Buffer:
        if storage.kind is Kind.TRANSIENT:
            assert self._arena is not None  # set by run
            return self._arena.subspan(storage.offset, storage.nbytes)
        if storage.kind is Kind.LOCAL:
            assert self._local is not None  # there is one, so there is room for it
            return self._local.subspan(self._local_offsets[storage], storage.nbytes)
        return self._store.buffer(storage)

    def _attach(self, arena: Buffer | None) -> None:
        """Finds inputs and outputs in a new arena."""
        self._arena = arena
        self._spans = {
            storage: self._home(storage)
            for storage in self._slots
            if storage.kind is not Kind.RESIDENT
        }
        self._forget_places()

    def _forget_places(self) -> None:
        self._homes.clear()
        self._replays.clear()
        self._runs = 0

    def _at_home(self, tensor: Tensor) -> Buffer:
        """Where an input or output lies that is bound nowhere else."""
        found = self._homes.get(id(tensor))
        if found is None:
            found = self._home(tensor.storage).subspan(*tensor.span())
            self._homes[id(tensor)] = found
        return found

    def _span(self, tensor: Tensor) -> Buffer:
        return self._lies(tensor.storage).subspan(*tensor.span())

    def run(
        self,
        feeds: Mapping[str, Fed],
        names: Sequence[str],
        arena: Buffer | None,
        kept: Mapping[str, Resident | None] | None = None,
        stop: Stop | None = None,
        recorder: Recorder | None = None,
    ) -> list[Fed]:
        """Writes `feeds` (contiguous, of the planned shapes), runs, reads the outputs `names`.

        Outputs in `kept` stay on the device: in the Resident given there, or a new one for None.
        `stop` can end it (Cancelled); with a `recorder` each step is measured by itself.
        KernelFailure or RuntimeException names what failed; the plan may be run again.
        """
        if arena is not self._arena:
            self._attach(arena)
        if not self._settled:
            self._look()
        self._runs += 1
        if kept or (self._slots and arena):
            return self._run_in_place(feeds, names, arena, kept or {}, stop, recorder)
        for name, tensor in self._inputs:
            fed = feeds[name]
            assert not isinstance(fed, Resident)  # a plan for those has slots
            self._at_home(tensor).write(contiguous(fed))
        self._submit((arena,) if arena else (), stop, recorder)
        results: list[Fed] = []
        for name in names:
            tensor = self._given[name]
            result = np.empty(tensor.shape, tensor.dtype.numpy)
            if result.size:
                self._at_home(tensor).read_into(plain(result))
            results.append(result)
        return results

    def replay(self, names: Sequence[str]) -> Replay | None:
        """What repeats the last run, which was for these outputs, or None.

        None for the first run of a kind, as making one takes as long as some runs do, and for what
        a Replay cannot do: nodes on the host, and arrays that are bound and not copied. It is for
        as long as nothing else happens to the plan or the session's arena.
        """
        if self._runs < 2:
            return None
        key = tuple(names)
        if key not in self._replays:
            self._replays[key] = self._made_replay(key)
        return self._replays[key]

    def _made_replay(self, names: tuple[str, ...]) -> Replay | None:
        if len(self._segments) != 1 or not isinstance(self._segments[0], Program):
            return None
        inputs, outputs = self._fed, [self._given[name] for name in names]
        for tensor in (*inputs.values(), *outputs):
            bound = self._slots and tensor.nbytes >= IN_PLACE
            if bound or not replayable(np.dtype(tensor.dtype.numpy), tensor.size):
                return None
        program, arena = self._segments[0], self._arena
        slots = (arena, *self._spans.values()) if arena else ()
        return Replay(
            list(names),
            self._device,
            program,
            slots[: len(program.slot_extents)],
            tuple([(name, self._place(tensor, True)) for name, tensor in inputs.items()]),
            tuple([self._place(tensor, False) for tensor in outputs]),
            sum(tensor.nbytes for tensor in inputs.values()),
            sum(tensor.nbytes for tensor in outputs),
        )

    def chain(
        self,
        family: Family,
        names: Sequence[str],
        feeds: Mapping[str, Fed],
        results: Sequence[Fed],
    ) -> Chain | None:
        """What goes on from the last run, which was fed and gave these and left all on the device;
        None where not every cache has grown in place, or anything else is not as Chain has it."""
        program, arena = self._segments[0], self._arena
        given = dict(zip(names, results, strict=True))
        pasts = {one.source: name for name, one in self._shelved.items()}
        if not pasts or "" in pasts or len(self._segments) != 1 or arena is None:
            return None
        assert isinstance(program, Program)  # with host steps there is no growth
        bound: dict[Storage, Buffer | None] = dict(self._spans)
        links, same, arrays = [], [], []
        steps = set[int]()
        places = {name: index for index, name in enumerate(names)}
        for name, tensor in self._fed.items():
            fed, storage = feeds[name], tensor.storage
            if name in pasts:
                grown = given[pasts[name]]
                assert isinstance(grown, Resident) and isinstance(fed, Resident)
                bound[storage] = None
                steps.add(sum(grown.shape) - sum(fed.shape))
                links.append(Link(name, places[pasts[name]], self._slots[storage], ref(grown)))
            elif isinstance(fed, Resident):
                if storage not in self._slots:
                    return None
                bound[storage] = None
                same.append((name, self._slots[storage], ref(fed)))
            elif (self._slots and fed.nbytes >= IN_PLACE) or not replayable(fed.dtype, fed.size):
                return None
            else:
                axes = tuple(a for a, n in enumerate(self._drafted.inputs[name].shape) if grows(n))
                home = self._home(storage).subspan(tensor.offset * tensor.dtype.size)
                copy = None if axes else self._at_home(tensor).port().write
                arrays.append(Given(name, fed.dtype, fed.shape, axes, home, copy))
        others = {n: x for n, x in self._drafted.outputs.items() if n not in self._shelved}
        fresh = fresh_outputs(others, names, self._slots, results)
        if fresh is None or len(steps) != 1 or len(places) != len(names):
            return None
        slots = [arena, *(bound[storage] for storage in self._slots)]
        return Chain(
            list(names), steps.pop(), self._device, family, program,
            slots, links, same, arrays, fresh,
        )  # fmt: skip

    def _place(self, tensor: Tensor, fed: bool) -> Place:
        port = self._at_home(tensor).port()
        copy = port.write if fed else port.read_into
        return Place(np.dtype(tensor.dtype.numpy), tensor.shape, copy)

    def _submit(
        self, slots: tuple[Buffer, ...], stop: Stop | None, recorder: Recorder | None
    ) -> None:
        if recorder is not None:
            for step in self.draft.steps:
                if stop is not None:
                    stop.check()
                recorder.time(self._device, step, self._alone(step, slots))
            return
        for segment in self._segments:
            if isinstance(segment, HostStep):
                if stop is not None:
                    stop.check()
                self._on_host(segment)
            elif stop is not None:
                stop.submit(self._device, segment, slots[: len(segment.slot_extents)])
            else:
                self._device.submit(segment, slots[: len(segment.slot_extents)])

    def _alone(self, step: Step, slots: tuple[Buffer, ...]) -> Callable[[], None]:
        """What runs one step by itself, in order to be measured."""
        if isinstance(step, HostStep):
            return partial(self._on_host, step)
        program = self._singles.get(step)
        if program is None:
            program = record(self._device, [step], self._resolve, self.draft.name)
            self._singles[step] = program
        return partial(self._device.submit, program, slots[: len(program.slot_extents)])

    def _run_in_place(
        self,
        feeds: Mapping[str, Fed],
        names: Sequence[str],
        arena: Buffer | None,
        kept: Mapping[str, Resident | None],
        stop: Stop | None,
        recorder: Recorder | None,
    ) -> list[Fed]:
        """`run`, with what is large in the caller's own arrays and what is resident where it is."""
        bound = self._bound = dict(self._spans)
        borrowed: list[Buffer] = []
        results: dict[str, Fed] = {}
        copied: list[str] = []
        try:
            residents = []
            shelved = self._shelve(feeds, results, bound)
            for name, tensor in self._inputs:
                fed, storage = feeds[name], tensor.storage
                if isinstance(fed, Resident):
                    bound[storage] = fed.buffer
                    residents.append(fed.buffer)
                elif not self._borrow(fed, storage, borrowed):
                    self._at_home(tensor).write(contiguous(fed))
            for name in names:
                if name in shelved:
                    continue
                tensor = self._given[name]
                storage = tensor.storage
                # An input that is returned as it is, or two outputs that are one.
                free = not storage.fixed and bound.get(storage) is self._spans.get(storage)
                if name in kept:
                    given = kept[name]
                    result = results[name] = self._target(name, given)
                    met = [one for one in residents if given and given.buffer.overlaps(one)]
                    apart = not met or self._takes_over(storage, met, result)
                    residents.append(result.buffer)
                    if tensor.size and free and apart and storage in self._slots:
                        bound[storage] = result.buffer
                    elif tensor.size:
                        copied.append(name)
                    continue
                array = results[name] = np.empty(tensor.shape, tensor.dtype.numpy)
                if array.size and not (free and self._borrow(array, storage, borrowed)):
                    copied.append(name)
            slots = (arena, *(bound[storage] for storage in self._slots)) if arena else ()
            self._submit(slots, stop, recorder)
            self._bring(copied, results)
            for one in shelved.values():
                assert one.shelf is not None
                one.shelf.taken = one.shape[one.shelf.axis]
            return [results[name] for name in names]
        finally:
            self._bound = {}
            for buffer in borrowed:
                buffer.free()

    def _shelve(
        self, feeds: Mapping[str, Fed], results: dict[str, Fed], bound: dict[Storage, Buffer]
    ) -> dict[str, Resident]:
        """The outputs that have rows to spare: those of the input that they grow from, or new."""
        found: dict[str, Resident] = {}
        for name, (axis, rows, source) in self._shelved.items():
            tensor = self._given[name]
            if source:
                past = feeds[source]
                assert isinstance(past, Resident)  # the plan was made for its shelf
                one = Resident(past.dtype, tensor.shape, past.buffer, past.shelf)
            else:
                one = Resident.on_shelf(
                    self._device, tensor.dtype, tensor.shape, axis, rows, name
                )
                bound[tensor.storage] = one.buffer
            found[name] = results[name] = one
        return found

    def _takes_over(self, storage: Storage, met: Sequence[Buffer], result: Resident) -> bool:
        """Whether the output may be computed in the one input whose memory it is to have."""
        past = self._over.get(storage)
        if past is None or met != [self._bound.get(past)] or met[0] is not result.buffer:
            return False
        return self._shapes[past] == result.shape

    def _target(self, name: str, given: Resident | None) -> Resident:
        tensor = self._given[name]
        if given is None:
            return Resident.make(self._device, tensor.dtype, tensor.shape, name)
        if given.dtype is not tensor.dtype or given.shape != tensor.shape:
            raise InvalidArgument(
                f"output '{name}' is {tensor}, and is to be written to a tensor of "
                f"{given.dtype}{list(given.shape)}"
            )
        return given

    def _bring(self, names: Sequence[str], results: Mapping[str, Fed]) -> None:
        """Copies outputs to where they belong that were not computed there."""
        pairs = []
        for name in names:
            span, result = self._span(self._given[name]), results[name]
            if isinstance(result, Resident):
                pairs.append((span, result.buffer.subspan(0, span.nbytes)))
            else:
                span.read_into(plain(result))
        copy_on_device(self._device, pairs)

    def _borrow(self, array: Array, storage: Storage, borrowed: list[Buffer]) -> bool:
        """Binds the storage to the array for this run; False when it is better, or has to be,
        copied."""
        if array.nbytes < IN_PLACE or storage not in self._slots or not array.flags.c_contiguous:
            return False
        try:
            buffer = self._device.import_memory(plain(array), storage.label)
        except (InvalidArgument, Unsupported):  # not aligned, or not in the memory that kernels see
            return False
        borrowed.append(buffer)
        self._bound[storage] = buffer
        return True

    def _on_host(self, step: HostStep) -> None:
        run_on_host(step, self._lies)

    def free(self) -> None:
        """Gives back what the plan holds on the device."""
        for segment in self._segments:
            if isinstance(segment, Program):
                segment.free()
        self._segments.clear()
        for program in self._singles.values():
            program.free()
        self._singles.clear()
        if self._local is not None:
            self._local.free()
        self._store.release(self._constants)
        self._constants = []
        self._arena = None
        self._spans = {}
        self._forget_places()
