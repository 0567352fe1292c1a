"""tilework's side of the benchmark, run by Pyodide in web/bench/tilework-worker.js.

Owns the session under test and the figures that only tilework has. Times are milliseconds unless a
name says otherwise. Only the public API is used for what a person would call; `dispatch` and
`submit` measure the layer below and use it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

WARM = 1.0  # seconds, and ten runs at least: until the engine has compiled what is hot
DISPATCHES = 1000

clock = time.perf_counter


class Side:
    """One session at a time on a device with `threads` threads."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._session: Any = None
        self._weights: Any = None
        self._feeds: dict[str, Any] = {}
        self._tokens = 1
        self._fed: list[tuple[str, str]] = []
        self._grows = ""

    async def open(self) -> str:
        """Opens the device, waits for its threads; what the device says of itself."""
        import tilework

        device = tilework.device(self._threads)
        if not await tilework.ready() or device.threads != self._threads:
            raise RuntimeError(f"{self._threads} threads were asked for; {device}")
        return str(device)

    # -- the session under test --------------------------------------------------------------

    def load(self, task: Any) -> None:
        """Makes the session and the feeds of a JS `Case`; the one before is closed."""
        import tilework

        self.release()
        model = task.model.to_bytes()
        options = tilework.SessionOptions()
        options.intra_op_num_threads = self._threads
        if task.external.length:
            self._weights = tilework.device(self._threads).allocate(
                task.external.length, "external data"
            )
            self._weights.write(task.external)
        self._session = tilework.InferenceSession(model, options, external_data=self._weights)
        self._feeds = {feed.name: _array(feed) for feed in task.feeds}
        self._tokens, self._fed = task.tokens, [tuple(pair) for pair in task.fed.to_py()]
        self._grows = task.grows

    def release(self) -> None:
        """Closes the session and gives its memory back."""
        if self._session is not None:
            self._session.close()
        if self._weights is not None:
            self._weights.free()
        self._session = self._weights = None

    def run(self) -> Any:
        """The first output of one run."""
        if not self._fed:
            return self._session.run(None, self._feeds)[0]
        return self._generate()

    def _generate(self) -> Any:
        """The first output of the last of some calls, each fed with what the one before gave.

        Where a feed grows, which is a mask, each call's first output is read, as who samples does.
        """
        from tilework.onnxruntime import OrtValue

        session = self._session
        names = [one.name for one in session.get_outputs()]
        values = {name: OrtValue.ortvalue_from_numpy(x) for name, x in self._feeds.items()}
        for _ in range(self._tokens):
            results = dict(zip(names, session.run_with_ort_values(names, values), strict=True))
            values.update((given, results[output]) for output, given in self._fed)
            if self._grows:
                first = results[names[0]].numpy()
                mask = np.ones(np.add(values[self._grows].shape(), (0, 1)), np.int64)
                values[self._grows] = OrtValue.ortvalue_from_numpy(mask)
        return first if self._grows else results[names[0]].numpy()

    def prepare(self, task: Any) -> dict[str, Any]:
        """Loads, warms up until stable; {"ms", "runs", "output"}."""
        self.load(task)
        output = np.ascontiguousarray(self.run(), np.float32).ravel()
        ms, runs = _warm(self.run)
        return {"ms": ms, "runs": runs, "output": output}

    def block(self, groups: int, size: int) -> list[float]:
        """The time of a run, for each of `groups` groups of `size`, after one uncounted run."""
        run = self._generate if self._fed else partial(self._session.run, None, self._feeds)
        times = []
        run()
        for _ in range(groups):
            began = clock()
            for _ in range(size):
                run()
            times.append((clock() - began) * 1000 / size)
        return times

    # -- figures -----------------------------------------------------------------------------

    def figure(self, name: str, task: Any) -> dict[str, float]:
        """One of `FIGURES` by name: its "value" and what else is worth printing."""
        return FIGURES[name](self, task)

    def dispatch(self, task: Any) -> dict[str, float]:
        """Microseconds for each of 1000 dispatches of an empty kernel, a barrier after each."""
        import tilework

        device = tilework.device(self._threads).device
        empty = _nops(device, 0, 1)
        bare = statistics.median(_times(lambda: device.submit(empty), 10, 100))
        found: dict[str, float] = {}
        for tiles in (1, 2):
            program = _nops(device, DISPATCHES, tiles)
            full = statistics.median(_times(partial(device.submit, program), 100))
            found[f"tiles_{tiles}"] = (full - bare) * 1000 / DISPATCHES
            program.free()
        empty.free()
        # Two tiles are what two threads can share, so that is the figure.
        return {"value": found["tiles_2"], **found}

    def submit(self, task: Any) -> dict[str, float]:
        """Microseconds for one submission of one empty kernel and the wait for its end.

        `nothing` is that of a program without any command, `alone` one after 2 ms of rest.
        """
        import tilework

        device = tilework.device(self._threads).device
        one, empty = _nops(device, 1, 1), _nops(device, 0, 1)
        times = _times(lambda: device.submit(one), 50, 100)
        nothing = _times(lambda: device.submit(empty), 50, 100)
        alone = []
        for _ in range(50):
            rested = clock() + 0.002
            while clock() < rested:
                pass
            alone.append(_timed(lambda: device.submit(one)))
        one.free()
        empty.free()
        return {
            "value": statistics.median(times) * 1000,
            "nothing": statistics.median(nothing) * 1000,
            "alone": statistics.median(alone) * 1000,
        }

    def numpy(self, task: Any) -> dict[str, float]:
        """How many times NumPy's 512^3 product takes as long as tilework's; `task` is the model."""
        self.prepare(task)
        a, b = (self._feeds[name] for name in "ab")
        ours: list[float] = []
        theirs: list[float] = []
        np.matmul(a, b)
        for _ in range(5):
            ours += self.block(10, 1)
            began = clock()
            np.matmul(a, b)
            theirs.append((clock() - began) * 1000)
        ours_ms, theirs_ms = statistics.median(ours), statistics.median(theirs)
        return {"value": theirs_ms / ours_ms, "tilework_ms": ours_ms, "numpy_ms": theirs_ms}

    def muladd(self, task: Any) -> dict[str, float]:
        """How many times NumPy's `a * 2 + 1` takes as long as one dispatch from and to arrays.

        4 Mi float32 each, both NumPy's own, computed in place: for a page with a shared heap.
        """
        import tilework
        from tilework.hal.kernels.elementwise import F32_UNARY, Unary, UnaryParams

        device = tilework.device(self._threads).device
        a = np.random.default_rng(1).standard_normal(4 << 20, np.float32)
        y = np.empty_like(a)
        tile = 32768
        before = device.statistics
        with device.import_memory(a, "a") as source, device.import_memory(y, "y") as target:
            if (source.address, target.address) != (a.ctypes.data, y.ctypes.data):
                raise RuntimeError("the kernels do not see NumPy's own memory")
            commands = device.command_buffer("multiply-add")
            params = UnaryParams(a.size, tile, Unary.AFFINE, 2.0, 1.0)
            commands.dispatch(F32_UNARY, (a.size // tile, 1, 1), params, [source, target])
            program = commands.finish()
            copied = device.statistics.copied_in
            run = partial(device.submit, program)
            _warm(run)
            ours: list[float] = []
            theirs: list[float] = []
            for _ in range(20):
                run()
                ours += [_timed(run) for _ in range(10)]
                theirs += [_timed(lambda: a * 2 + 1) for _ in range(3)]
            after = device.statistics
            program.free()
        if after.copied_in != copied or after.copied_out != before.copied_out:
            raise RuntimeError("bytes were copied where none should be")
        # The relaxed kernels fuse the two operations, so the last bit may differ.
        np.testing.assert_allclose(y, a * 2 + 1, rtol=1e-6, atol=1e-6)
        ours_ms, theirs_ms = statistics.median(ours), statistics.median(theirs)
        return {"value": theirs_ms / ours_ms, "tilework_ms": ours_ms, "numpy_ms": theirs_ms}

    def start(self, task: Any) -> dict[str, float]:
        """From `import tilework` to the first result, the wheel installed, the bytes at hand.

        For a page in which nothing of tilework has been imported yet.
        """
        began = clock()
        import tilework

        imported = clock()
        tilework.device(self._threads)
        opened = clock()
        self.load(task)
        loaded = clock()
        self.run()
        ended = clock()
        return {
            "value": (ended - began) * 1000,
            "import": (imported - began) * 1000,
            "device": (opened - imported) * 1000,
            "session": (loaded - opened) * 1000,
            "first_run": (ended - loaded) * 1000,
        }

    def plan(self, task: Any) -> dict[str, float]:
        """What the first run of a shape costs more than the later ones.

        `first` is that of a fresh session, so with the packing of all constants, in a warm Python;
        `value` the worse of it and of a second shape in the same session.
        """
        self.prepare(task)  # compiles and warms what planning does not own
        found: dict[str, list[float]] = {}
        for again in range(3):
            self.load(task)
            for name, extra in (("first", 0), ("new_shape", 7 + again)):
                feeds = {key: _longer(value, extra) for key, value in self._feeds.items()}
                began = clock()
                self._session.run(None, feeds)
                cold = (clock() - began) * 1000
                warm = [_timed(partial(self._session.run, None, feeds)) for _ in range(5)]
                found.setdefault(name, []).append(cold - statistics.median(warm))
        middle = {name: statistics.median(times) for name, times in found.items()}
        return {"value": max(middle.values()), **middle}


FIGURES: dict[str, Callable[[Side, Any], dict[str, float]]] = {
    "dispatch": Side.dispatch,
    "submit_from_python": Side.submit,
    "numpy_matmul_512": Side.numpy,
    "heap_muladd_4m": Side.muladd,
    "load_ms": Side.start,
    "plan_ms": Side.plan,
}


KINDS: dict[str, Any] = {
    "Float32Array": np.float32,
    "BigInt64Array": np.int64,
    "Uint8Array": np.uint8,
    "Int8Array": np.int8,
}


def _array(feed: Any) -> Any:
    """A JS Feed as an array of its own."""
    kind = KINDS[feed.data.constructor.name]
    return np.frombuffer(feed.data.to_bytes(), kind).reshape(tuple(feed.dims.to_py())).copy()


def _longer(array: Any, extra: int) -> Any:
    """`array` with `extra` more columns, repeated from its beginning."""
    return np.concatenate([array, array[:, :extra]], axis=1) if extra else array


def _timed(call: Callable[[], object]) -> float:
    began = clock()
    call()
    return (clock() - began) * 1000


def _times(call: Callable[[], object], count: int, size: int = 1) -> list[float]:
    """Milliseconds of a call, warmed up, from `count` groups of `size`: the clock is coarse."""
    _warm(call)
    return [_timed(lambda: [call() for _ in range(size)]) / size for _ in range(count)]


def _nops(device: Any, count: int, tiles: int) -> Any:
    """A program of `count` dispatches of an empty kernel, a barrier after each."""
    from tilework.hal.kernels.probe import NOP

    commands = device.command_buffer(f"{count} dispatches")
    for _ in range(count):
        commands.dispatch(NOP, (tiles, 1, 1), None, ())
        commands.barrier()
    return commands.finish()


def _warm(call: Callable[[], object]) -> tuple[float, int]:
    """Calls for a second and ten times at least; what one took on the average, and how many.

    On the average: the last calls of a small model say no more than the clock's five microseconds
    and whoever has just had the core.
    """
    began = last = clock()
    runs = 0
    while runs < 10 or last - began < WARM:
        call()
        last = clock()
        runs += 1
    return (last - began) * 1000 / runs, runs
