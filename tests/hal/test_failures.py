"""A kernel that fails or traps: the right error, the first one, and a device that works on."""

from __future__ import annotations

import struct

import pytest

from tilework.core.errors import (
    DeviceLost,
    InvalidArgument,
    InvalidExecutable,
    KernelFailure,
    Unsupported,
)
from tilework.hal import Device, open_device
from tilework.hal.kernel import Kernel
from tilework.hal.kernels.probe import (
    FAIL,
    TRACE,
    TRAP,
    WORK,
    FailParams,
    TraceParams,
    TrapParams,
    WorkParams,
)
from tilework.hal.library import kernel_module


def works(device: Device) -> None:
    """The next submission after a failure is right."""
    with device.allocate(400) as out, device.allocate(400) as seen:
        commands = device.command_buffer("after")
        commands.fill(out, b"\0")
        commands.barrier()
        commands.dispatch(TRACE, (100, 1, 1), TraceParams(4), [out, seen])
        program = commands.finish()
        device.submit(program)
        assert struct.unpack("<100I", out.read()) == (4,) * 100
        program.free()


@pytest.mark.parametrize("status", [1, 2, 3, 4, 77, 255])
def test_a_failing_tile_is_named(device: Device, status: int) -> None:
    commands = device.command_buffer("model")
    commands.dispatch(FAIL, (50, 1, 1), FailParams(13, status), [], label="Gemm 'fc1'")
    program = commands.finish()
    for _ in range(10):
        with pytest.raises(KernelFailure, match=r"kernel fail \(Gemm 'fc1'\) failed in tile") as e:
            device.submit(program)
        assert e.value.tile == (13, 0, 0)
        assert e.value.status == status
        assert e.value.command == 0
        assert e.value.kernel == "fail"
        works(device)
    program.free()


def test_a_trapping_tile_is_named(device: Device) -> None:
    commands = device.command_buffer("model")
    commands.dispatch(TRAP, (50, 1, 1), TrapParams(17), [])
    program = commands.finish()
    for _ in range(20):
        with pytest.raises(KernelFailure, match="it trapped") as caught:
            device.submit(program)
        assert caught.value.tile == (17, 0, 0)
        works(device)
    program.free()


def test_nothing_after_the_failure_runs(device: Device) -> None:
    with device.allocate(40) as out, device.allocate(40) as seen:
        out.write(bytes(40))
        commands = device.command_buffer("model")
        commands.dispatch(FAIL, (1, 1, 1), FailParams(0, 9), [])
        commands.barrier()
        commands.dispatch(TRACE, (10, 1, 1), TraceParams(1), [out, seen])
        program = commands.finish()
        with pytest.raises(KernelFailure):
            device.submit(program)
        assert out.read() == bytes(40)
        program.free()


def test_one_of_many_failures_is_reported_whole(device: Device) -> None:
    with device.allocate(4 * 64) as out:
        commands = device.command_buffer("model")
        commands.dispatch(WORK, (64, 1, 1), WorkParams(100), [out])
        for tile in range(20):
            commands.dispatch(FAIL, (20, 1, 1), FailParams(tile, 100 + tile), [])
        program = commands.finish()
        with pytest.raises(KernelFailure) as caught:
            device.submit(program)
        error = caught.value
        assert error.status == 100 + error.tile[0], "status and tile are of different failures"
        assert error.command == 1 + error.tile[0]
        program.free()
    works(device)


def test_a_binding_that_is_too_short_is_the_kernels_to_refuse(device: Device) -> None:
    with device.allocate(8) as out:
        commands = device.command_buffer()
        commands.dispatch(WORK, (64, 1, 1), WorkParams(1), [out])
        program = commands.finish()
        with pytest.raises(KernelFailure, match="a binding is shorter"):
            device.submit(program)
        program.free()


@pytest.mark.parametrize(
    ("binary", "words"),
    [
        (b"", "not a WebAssembly module"),
        (b"\x7fELF" + bytes(60), "not a WebAssembly module"),
        (b"\0asm\1\0\0\0", "no dylink.0 section"),
        (b"\0asm\1\0\0\0\x01\x05\x01", "runs past the end"),
        (b"\0asm\1\0\0\0\x02\x0b\x01\x03env\x03foo\x00\x00", "imports env.foo"),
        (b"\0asm\1\0\0\0\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "longer than 64 bits"),
    ],
)
def test_what_is_no_kernel_module_is_refused(device: Device, binary: bytes, words: str) -> None:
    before = device.statistics
    with pytest.raises(InvalidExecutable, match=words):
        device.load(binary, "mine")
    assert device.statistics == before
    works(device)


def test_a_corrupt_module_is_refused_and_leaks_nothing(device: Device) -> None:
    binary = bytearray(kernel_module("probe", "simd"))
    binary[-20:] = bytes(20)
    before = device.statistics
    with pytest.raises(InvalidExecutable):
        device.load(bytes(binary), "broken")
    assert device.statistics == before


def test_a_kernel_that_its_module_lacks_is_named(device: Device) -> None:
    lacking = Kernel("probe", "no_such", None, 0, ())
    with pytest.raises(InvalidArgument, match=r"module probe has no kernel no_such; it has .*nop"):
        device.kernel(lacking)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="at least 1"):
        open_device(threads=0)
    with pytest.raises(Unsupported, match="mode"):
        open_device(mode="cloud")
    with pytest.raises(InvalidArgument, match="build"):
        open_device(threads=1, build="fast")


def test_a_closed_device_says_so() -> None:
    device = open_device(threads=2 if open_threads() else 1)
    buffer = device.allocate(4)
    commands = device.command_buffer()
    commands.fill(buffer, b"\1")
    program = commands.finish()
    device.close()
    device.close()
    for use in (lambda: device.allocate(1), lambda: device.submit(program), device.command_buffer):
        with pytest.raises(DeviceLost, match="closed"):
            use()
    program.free()
    buffer.free()


def open_threads() -> bool:
    """Whether this place has more than one thread to give."""
    probe = open_device()
    several = probe.threads > 1
    probe.close()
    return several
