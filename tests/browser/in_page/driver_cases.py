"""What only a browser has: every mode by name, typed arrays as data, downloads, workers that end.

Not collected on the desktop; tests/browser/test_in_page.py hands it to the runner by its path.
"""

from __future__ import annotations

import gc
import struct
from typing import Any

import js
import pyodide_js
import pytest
from pyodide.ffi import to_js

from tests.hal.opened import OPENED
from tilework.core.errors import InvalidArgument, NoSuchFile, OutOfMemory, OutOfRange, Unsupported
from tilework.hal import Device, open_device
from tilework.hal._abi import BINDING_FORMAT
from tilework.hal.kernels.elementwise import F32_UNARY, Unary, UnaryParams
from tilework.hal.kernels.probe import TRACE, TraceParams

ISOLATED = bool(js.crossOriginIsolated)
SHARED = pyodide_js._module.HEAPU8.buffer.constructor.name == "SharedArrayBuffer"
MODE = "heap" if SHARED else "arena" if ISOLATED else "inline"


@pytest.fixture(params=tuple(OPENED), ids=lambda n: f"{n}-threads")
def device(request: pytest.FixtureRequest) -> Device:
    """Each of the devices that the runner has opened."""
    return OPENED[request.param]


def test_the_mode_is_the_page_s_and_explained() -> None:
    for threads, device in OPENED.items():
        assert device.mode == MODE
        assert device.threads == device.ready_threads == threads
        words = "is cross-origin isolated" if ISOLATED else "is not cross-origin isolated"
        assert words in device.reason
        assert ("heap is shared" in device.reason) == SHARED


@pytest.mark.parametrize("mode", ["inline", "arena", "heap"])
def test_a_mode_can_be_asked_for_by_name(mode: str) -> None:
    if mode != "inline" and not ISOLATED:
        with pytest.raises(Unsupported, match="not cross-origin isolated"):
            open_device(mode=mode)
        return
    if mode == "heap" and not SHARED:
        with pytest.raises(Unsupported, match="a memory of its own"):
            open_device(mode=mode)
        return
    own = open_device(1, mode=mode)
    assert (own.mode, own.threads) == (mode, 1)
    with own.allocate(4000) as out, own.allocate(4000) as seen:
        commands = own.command_buffer()
        commands.fill(out, b"\0")
        commands.barrier()
        commands.dispatch(TRACE, (1000, 1, 1), TraceParams(3), [out, seen])
        program = commands.finish()
        own.submit(program)
        assert struct.unpack("<1000I", out.read()) == (3,) * 1000
        program.free()
    own.close()


def test_what_no_page_gives_is_refused() -> None:
    with pytest.raises(Unsupported, match="inline mode has one thread, 2 were asked for"):
        open_device(2, mode="inline")
    with pytest.raises(Unsupported, match="no mode 'cloud'"):
        open_device(mode="cloud")
    if not ISOLATED:
        assert open_device(4).threads == 1


def test_the_driver_tells_where_bytes_lie(device: Device) -> None:
    """Without a copy: of arrays, of what may not be written, of plain bytes."""
    import numpy as np

    whole = np.arange(4096, dtype=np.float32)
    if device.mode == "arena":
        with pytest.raises(Unsupported, match="not Python's"):
            device.driver.address_of(whole)
        return
    def seen(address: int, nbytes: int) -> bytes:
        view = device.driver.view(address, nbytes)
        assert view is not None
        return view.tobytes()

    fixed = whole.copy()
    fixed.flags.writeable = False
    for array in (whole, whole[17:], fixed, whole.reshape(64, 64)):
        assert device.driver.address_of(array) == array.ctypes.data
        assert seen(array.ctypes.data, array.nbytes) == array.tobytes()
    for data in (b"some bytes", bytearray(b"more of them"), memoryview(b"a view")):
        assert seen(device.driver.address_of(data), len(data)) == bytes(data)
    for unfit in (whole[::2], whole.reshape(64, 64).T, 7):
        with pytest.raises(InvalidArgument, match="no C-contiguous buffer"):
            device.driver.address_of(unfit)


def test_numpy_arrays_are_computed_in_place(device: Device) -> None:
    """What the kernel is given is the array's own address, and no byte is copied."""
    import numpy as np

    if not device.imports:
        assert device.mode == "arena"
        return
    x = np.arange(1 << 20, dtype=np.float32)
    y = np.zeros_like(x)
    tile = 32768
    with device.import_memory(x, "x") as source, device.import_memory(y, "y") as target:
        commands = device.command_buffer("multiply-add")
        params = UnaryParams(x.size, tile, Unary.AFFINE, 2.0, 1.0)
        commands.dispatch(F32_UNARY, (x.size // tile, 1, 1), params, [source, target])
        program = commands.finish()
        before = device.statistics
        for start in (0, 7):
            x += start
            device.submit(program)
            assert (y == x * 2 + 1).all()
        after = device.statistics
        assert (after.copied_in, after.copied_out) == (before.copied_in, before.copied_out)
        seen = program.state.read()
        for array in (x, y):
            assert BINDING_FORMAT.pack(array.ctypes.data, array.nbytes) in seen
        program.free()


def test_the_heap_grows_while_threads_work_on_it(device: Device) -> None:
    """Python's own growth, between submissions: every thread sees the old bytes and the new."""
    import numpy as np

    if not device.imports:
        return
    x = np.ones(1 << 20, np.float32)
    kept: list[np.ndarray[Any, Any]] = []
    with device.import_memory(x, "x") as whole:
        heap = len(pyodide_js._module.HEAPU8)
        while len(pyodide_js._module.HEAPU8) == heap:
            kept.append(np.full(4 << 20, len(kept), np.float32))
            with device.import_memory(kept[-1], "new") as target:
                commands = device.command_buffer("across growth")
                params = UnaryParams(x.size, 4096, Unary.AFFINE, 3.0, 1.0)
                part = target.subspan(target.nbytes - x.nbytes)
                commands.dispatch(F32_UNARY, (x.size // 4096, 1, 1), params, [whole, part])
                program = commands.finish()
                device.submit(program)
                program.free()
        for number, array in enumerate(kept):
            assert (array[-x.size :] == 4).all()
            assert (array[: -x.size] == number).all()


def test_a_typed_array_is_data(device: Device) -> None:
    whole = js.Uint8Array.new(to_js(list(range(20))))
    with device.allocate(16) as buffer:
        buffer.write(bytes(16))
        buffer.write(whole.subarray(5, 9), 2)
        assert buffer.read() == bytes([0, 0, 5, 6, 7, 8]) + bytes(10)
        with pytest.raises(OutOfRange):
            buffer.write(whole)
        with pytest.raises(OutOfRange):
            buffer.write(whole.subarray(0, 4), 13)


def test_any_layout_of_bytes_is_data(device: Device) -> None:
    import numpy as np

    for array in (
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.arange(6, dtype=np.int64)[None],
        np.array([True, False]),
        np.array(2.5, np.float16),
        np.zeros((0, 3), np.float64),
    ):
        array.flags.writeable = False
        with device.allocate(array.nbytes) as buffer:
            buffer.write(array)
            back = np.empty_like(array)
            buffer.read_into(back)
            np.testing.assert_array_equal(back, array)


def test_memory_grows_and_what_is_there_stays(device: Device) -> None:
    """Past several slabs; in inline mode the heap moves to another ArrayBuffer."""
    marks = [device.allocate(64) for _ in range(8)]
    for i, mark in enumerate(marks):
        mark.write(bytes([i]) * 64)
    large = [device.allocate(40 << 20) for _ in range(3)]
    large[2].subspan(large[2].nbytes - 4).write(b"last")
    commands = device.command_buffer()
    commands.copy(large[2].subspan(large[2].nbytes - 4), large[0].subspan(0, 4))
    program = commands.finish()
    device.submit(program)
    assert large[0].read(0, 4) == b"last"
    assert [mark.read(63, 1)[0] for mark in marks] == list(range(8))
    program.free()


def test_more_than_the_heap_can_be_is_out_of_memory(device: Device) -> None:
    before = device.statistics
    for nbytes in (5 << 30, (1 << 32) - 65536):
        with pytest.raises(OutOfMemory):
            device.allocate(nbytes)
    assert device.statistics == before


def test_downloads_say_what_is_missing(device: Device) -> None:
    site = device.driver.download("/site.json")
    assert isinstance(site, bytes) and b"tilework" in site
    with pytest.raises(NoSuchFile, match=r"/nothing.bin: HTTP status 404"):
        device.driver.download("/nothing.bin")
    with pytest.raises(NoSuchFile, match=r"no answer: the server is away, or forbids .* \(CORS\)"):
        device.driver.download("https://nowhere.invalid/model.onnx")


def test_copies_leave_no_proxies_behind(device: Device) -> None:
    from pyodide_js import _module

    def proxies() -> int:
        gc.collect()
        return int(_module._hiwire_num_refs())

    with device.allocate(1000) as buffer:
        data = bytes(1000)
        counts = []
        for _ in range(3):
            for _ in range(50):
                buffer.write(data)
                buffer.read()
            counts.append(proxies())
        assert counts[2] <= counts[1], f"references to JavaScript grow: {counts}"
