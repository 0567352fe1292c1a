"""The browser driver: the only file in which Python meets JavaScript.

Three modes. `arena`: a shared memory of its own and a worker for each further core, where the
page is isolated. `heap`: the same workers on Pyodide's own heap, where a site of our own has booted
it on a shared one (web/shared-heap.js). `inline`: Pyodide's own heap and the calling thread only,
anywhere. A site of our own registers the bridge as the JS module `tilework_bridge` before Python
starts; in a notebook the wheel's linked copy of the same scripts is evaluated.
"""

from __future__ import annotations

import ctypes
import json
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import js
import pyodide_js
from pyodide.code import run_js
from pyodide.ffi import JsException, JsProxy, to_js

from tilework.core.config import STALE
from tilework.core.errors import DeviceLost, InvalidExecutable, NoSuchFile, OutOfMemory, Unsupported
from tilework.hal._abi import TW_ALIGNMENT
from tilework.hal.driver import Data, FarMemory, nbytes_of
from tilework.hal.drivers.visible import VisibleMemory
from tilework.hal.library import script

_PAGE = 65536
_MAX_BYTES = 65536 * _PAGE
_VIEWS = 256  # kept; more than the inputs and outputs of a few plans
_IDLE_SPINS = 4_000  # about 40 us: a run that follows at once finds the workers awake
# Seconds that the slabs of a closed device stay Python's: a worker that is told to end may still
# write a word of its own.
_AFTERLIFE = 5.0
_leaving: deque[tuple[float, list[ctypes.Array[ctypes.c_ubyte]]]] = deque()
_NOT_ISOLATED = (
    "this page is not cross-origin isolated, so the browser lends it no shared memory and tilework "
    "computes on one thread; serve it with the headers Cross-Origin-Opener-Policy: same-origin and "
    "Cross-Origin-Embedder-Policy: require-corp to use every core"
)
_NOT_SHARED = (
    "Pyodide was started on a memory of its own, which no other thread can see; a site of your own "
    'starts it on a shared one with web/python.js: loadPython({ indexURL, memory: "heap" })'
)
_NO_EVAL = (
    "this page's Content-Security-Policy forbids to evaluate text, so the wheel's scripts cannot "
    "start; allow 'unsafe-eval', or serve web/ on a site of your own and give web/bridge.js to "
    'Python before it imports tilework: pyodide.registerJsModule("tilework_bridge", bridge)'
)
_NO_ANSWER = (
    "the browser gave no answer: the server is away, or forbids pages of other sites to read the "
    "file (CORS); put it on the page's own site, or fetch it by other means and give its bytes"
)


@cache
def _bridge() -> tuple[Any, str]:
    """The bridge's exports and the URL of the compute worker's script.

    That script is the wheel's linked one, as a blob, so that a worker asks no host for anything; a
    site of our own names its file instead where its policy allows no blobs (web/worker-script.js).
    """
    try:
        import tilework_bridge  # type: ignore[import-not-found]
    except ModuleNotFoundError:
        # No site of ours: the wheel's linked bridge does.
        return _evaluated(script("bridge.classic.js")), _blob(script("compute-worker.classic.js"))
    own = getattr(tilework_bridge, "workerScript", None)
    return tilework_bridge, str(own) if own else _blob(script("compute-worker.classic.js"))


def _evaluated(text: str) -> Any:
    try:
        return run_js(text)
    except JsException as error:
        if error.name != "EvalError":
            raise
        raise Unsupported(_NO_EVAL) from None


def _blob(text: str) -> str:
    options = to_js({"type": "text/javascript"}, dict_converter=js.Object.fromEntries)
    return str(js.URL.createObjectURL(js.Blob.new(to_js([text]), options)))


def open_browser(threads: int | None, mode: str) -> BrowserDriver:
    """The driver for this page: `heap` where Pyodide's is shared, else `arena` where the page is
    isolated, else `inline`."""
    bridge, worker_script = _bridge()
    page = bridge.surroundings()
    if mode not in ("auto", "heap", "arena", "inline"):
        raise Unsupported(f"there is no mode {mode!r}; it is auto, heap, arena or inline")
    if mode in ("heap", "arena") and not page.isolated:
        raise Unsupported(_NOT_ISOLATED)
    shared = bool(bridge.heapIsShared(pyodide_js))
    if mode == "heap" and not shared:
        raise Unsupported(_NOT_SHARED)
    if mode == "inline" or not page.isolated:
        if threads is not None and threads > 1 and mode == "inline":
            raise Unsupported(f"inline mode has one thread, {threads} were asked for")
        reason = "inline mode was asked for; it has one thread" if page.isolated else _NOT_ISOLATED
        return InlineDriver(bridge, reason, shared)
    cores = int(page.cores)
    asked = f"{threads} threads asked for" if threads else f"a thread for each of {cores} cores"
    if shared and mode != "arena":
        return HeapDriver(bridge, worker_script, threads or cores, bool(page.window), asked)
    return ArenaDriver(bridge, worker_script, threads or cores, bool(page.window), asked)


def _reason(heap: str, asked: str, window: bool) -> str:
    where = "on the page's own thread, which may not block" if window else "in a worker"
    return f"the page is cross-origin isolated, {heap}; {asked}; Python runs {where}"


class _Far:
    """See `tilework.hal.driver.FarMemory`."""

    def __init__(self, bridge: Any, memory: Any) -> None:
        self._bridge = bridge
        self.memory = memory

    def write(self, offset: int, data: Data) -> None:
        nbytes = nbytes_of(data)
        if not nbytes:
            return
        span = self._bridge.farBytes(self.memory, offset, nbytes)
        if isinstance(data, JsProxy):
            span.set(data)
        else:
            span.assign(memoryview(data).cast("B"))  # type: ignore[arg-type]

    def drop(self) -> None:
        self.memory = None


class BrowserDriver:
    """What all modes share: modules and submission. See `tilework.hal.driver.Driver`."""

    mode = ""
    threads = 1
    shared = False
    imports = False
    may_block = False
    alone = True  # Pyodide has no threads

    def __init__(self, exports: Any, bridge: Any, reason: str) -> None:
        self.reason = reason
        self.engine = str(js.navigator.userAgent)
        self._exports = exports
        self._bridge = bridge
        self.submit: Callable[[int, int, int, int], int] = bridge.submit

    def accepts(self, binary: bytes) -> bool:
        return bool(self._exports.validate(to_js(binary)))

    def start(self, stack_top: int) -> None:
        self._bridge.start(stack_top)

    def load(
        self,
        binary: bytes,
        memory_base: int,
        table_base: int,
        functions: Sequence[tuple[int, str]],
        processor: bool,
        generation: int,
        far: FarMemory | None = None,
    ) -> None:
        names = json.dumps([list(pair) for pair in functions])
        place = memory_base, table_base, names
        second = far.memory if isinstance(far, _Far) else None
        said = str(self._bridge.load(to_js(binary), *place, processor, generation, second))
        if said:
            raise InvalidExecutable(
                f"the engine refuses to instantiate the module: {said}; build it with "
                "`build.py kernel`, or as kernels/README.md says"
            )

    def far(self, nbytes: int) -> FarMemory:
        memory = self._bridge.openFar(-(-nbytes // _PAGE))
        if memory is None:
            raise OutOfMemory(f"the browser gives no far memory of {nbytes:,} bytes")
        return _Far(self._bridge, memory)

    def unload(self, first: int, slots: int, generation: int) -> None:
        self._bridge.unload(first, slots, generation)

    def passed(self, generation: int) -> bool:
        return bool(self._bridge.passed(generation))

    def fault(self) -> str:
        return str(self._bridge.fault())

    def push(self, queue: int, program: int, state: int, slots: int) -> None:
        self._bridge.push(queue, program, state, slots)

    def wait(self, thread: int, target: int, tiles: int, microseconds: int) -> int:
        return int(self._bridge.wait(thread, target, tiles, microseconds))

    def cancel(self, submission: int, status: int) -> bool:
        return bool(self._bridge.cancel(submission, status))

    def go_on(self, queue: int) -> None:
        self._bridge.goOn(queue)

    async def ended(self, queue: int, target: int, seconds: float) -> int:
        return int(await self._bridge.ended(queue, target, seconds * 1000))

    async def rest(self) -> None:
        await self._bridge.rest()

    def add_worker(self, queue: int, thread: int, stack_top: int) -> None:
        self._bridge.addWorker(queue, thread, stack_top, _IDLE_SPINS)

    def abandon_workers(self) -> Callable[[], bool]:
        self._bridge.abandonWorkers()
        end = time.monotonic() + STALE
        return lambda: time.monotonic() > end

    def is_ready(self, thread: int) -> bool:
        return bool(self._bridge.isReady(thread))

    async def ready(self, threads: Sequence[int], seconds: float) -> bool:
        try:
            return bool(await self._bridge.ready(to_js(list(threads)), seconds * 1000))
        except JsException as error:
            raise DeviceLost(f"a compute worker failed: {error}") from None

    def download(self, url: str) -> bytes:
        answer = self._exports.download(url)
        if answer.bytes is None:
            if not answer.status:
                raise NoSuchFile(f"{url}: {_NO_ANSWER} ({answer.reason})")
            status = f"HTTP status {answer.status} {answer.reason}".rstrip()
            raise NoSuchFile(f"{url}: {status}; check the address")
        return bytes(answer.bytes.to_bytes())

    def close(self) -> None:
        self._bridge.close()


class _PyodideHeap(VisibleMemory, BrowserDriver):
    """Slabs are Python bytes: kernels and NumPy see the same memory, nothing is copied."""

    imports = True

    def __init__(self, exports: Any, bridge: Any, reason: str) -> None:
        super().__init__(exports, bridge, reason)
        # The allocator never gives a slab back; they live as long as the driver.
        self._slabs: list[ctypes.Array[ctypes.c_ubyte]] = []

    def reserve(self, nbytes: int) -> tuple[int, int]:
        while _leaving and _leaving[0][0] < time.monotonic():
            _leaving.popleft()
        # Python aligns to 16 bytes only; the allocator must not lose what it asked for by aligning.
        try:
            slab = (ctypes.c_ubyte * (nbytes + TW_ALIGNMENT))()
        except (MemoryError, OverflowError):
            raise OutOfMemory("Pyodide's heap cannot grow by as much") from None
        self._slabs.append(slab)
        return -(-ctypes.addressof(slab) // TW_ALIGNMENT) * TW_ALIGNMENT, nbytes

    def write(self, address: int, data: Data) -> None:
        if isinstance(data, JsProxy):
            data.assign_to(self.view(address, data.byteLength))
        else:
            super().write(address, data)


class InlineDriver(_PyodideHeap):
    """Pyodide's heap for the calling thread."""

    mode = "inline"

    def __init__(self, exports: Any, reason: str, shared: bool) -> None:
        super().__init__(exports, exports.openHeap(pyodide_js), reason)
        self.shared = shared


class HeapDriver(_PyodideHeap):
    """Pyodide's heap, booted as a shared memory, for all threads."""

    mode = "heap"
    shared = True

    def __init__(
        self, exports: Any, worker_script: str, threads: int, window: bool, asked: str
    ) -> None:
        reason = _reason("Pyodide's heap is shared memory", asked, window)
        super().__init__(exports, exports.openHeap(pyodide_js, worker_script), reason)
        self.threads = threads
        self.may_block = not window
        # Also when nobody closes it: workers must never outlive the slabs that they compute in.
        self._end = weakref.finalize(self, _end_heap, self._bridge, self._slabs)

    def close(self) -> None:
        self._end()


def _end_heap(bridge: Any, slabs: list[ctypes.Array[ctypes.c_ubyte]]) -> None:
    bridge.close()
    _leaving.append((time.monotonic() + _AFTERLIFE, slabs))


class ArenaDriver(BrowserDriver):
    """A shared memory beside Pyodide's: one copy in, one copy out, all threads between."""

    mode = "arena"
    shared = True

    def __init__(
        self, exports: Any, worker_script: str, threads: int, window: bool, asked: str
    ) -> None:
        reason = _reason("Pyodide's heap is its own", asked, window)
        super().__init__(exports, exports.openArena(worker_script), reason)
        self.threads = threads
        self.may_block = not window
        self._views: dict[tuple[int, int], Any] = {}

    def _view(self, address: int, nbytes: int) -> Any:
        """A Uint8Array over the span, kept: making one and its proxy costs ten small copies.

        It stays valid when the memory grows, since the memory is shared and never moves.
        """
        span = address, nbytes
        view = self._views.get(span)
        if view is None:
            if len(self._views) >= _VIEWS:
                self._views.clear()
            view = self._views[span] = self._bridge.bytes(address, nbytes)
        return view

    def reserve(self, nbytes: int) -> tuple[int, int]:
        pages = -(-nbytes // _PAGE)
        address = int(self._bridge.grow(pages))
        if address < 0:
            raise OutOfMemory(f"the browser does not let the memory grow (at most {_MAX_BYTES:,})")
        return address, pages * _PAGE

    def view(self, address: int, nbytes: int) -> None:
        """Python's heap is another memory: there is no view."""

    def address_of(self, data: Data) -> int:
        raise Unsupported(f"in arena mode device memory is not Python's; {_NOT_SHARED}")

    def write(self, address: int, data: Data) -> None:
        if isinstance(data, JsProxy):
            self._bridge.write(address, data)
            return
        source = memoryview(data)  # type: ignore[arg-type]
        if source.nbytes:
            self._view(address, source.nbytes).assign(source.cast("B"))

    def read_into(self, address: int, out: Data) -> None:
        target = memoryview(out)  # type: ignore[arg-type]
        if target.nbytes:
            self._view(address, target.nbytes).assign_to(target.cast("B"))

    def port(
        self, address: int, nbytes: int
    ) -> tuple[Callable[[Data], object], Callable[[Data], object]]:
        view = self._bridge.view(address, nbytes)
        return view.assign, view.assign_to

    def clear(self, address: int, nbytes: int) -> None:
        self._bridge.clear(address, nbytes)
