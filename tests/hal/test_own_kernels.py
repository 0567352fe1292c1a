"""A kernel writer's way: own modules in C and in Zig, side by side, dispatched on every thread."""

from __future__ import annotations

import struct
from array import array
from pathlib import Path
from typing import Any

import pytest

import tilework.hal
from tests.hal.own import example, module
from tilework.core.errors import InvalidArgument, KernelFailure
from tilework.hal import Device
from tilework.hal._abi import THREAD_TILES


def tiles(device: Device) -> list[int]:
    """How many tiles each thread has run."""
    return [struct.unpack("<I", t.read(THREAD_TILES, 4))[0] for t in device._threads]


def test_the_readme_s_example(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands, but on the device of this test, whose threads have started."""
    (tmp_path / "scale.wasm").write_bytes(module("scale"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tilework.hal, "open_device", lambda: device)
    code = compile(example("python"), "README.md", "exec")
    before = tiles(device)
    ran: dict[str, Any] = {}
    exec(code, ran)
    assert ran["y"] == array("f", [2.5 * i for i in range(1_000_000)])
    # The workers may still be loading when it is first submitted, and a machine with fewer cores
    # than threads need not let each of them have a tile.
    wanted, helped = min(2, device.threads), 0
    for _ in range(500):
        helped = sum(now > then for now, then in zip(tiles(device), before, strict=True))
        if helped >= wanted:
            break
        device.submit(ran["program"])
    assert helped >= wanted, f"{helped} of {device.threads} threads ran tiles"
    ran["program"].free()
    ran["scale"].executable.free()
    for buffer in (ran["source"], ran["target"]):
        buffer.free()


def test_c_and_zig_side_by_side(device: Device) -> None:
    count, tile = 10_000, 128
    x = array("f", range(count))
    size = 4 * count
    with (
        device.load(module("scale"), "scale") as c,
        device.load(module("triple"), "triple") as zig,
        device.allocate(size) as a,
        device.allocate(size) as b,
        device.allocate(size) as scaled,
        device.allocate(size) as both,
    ):
        a.write(x)
        commands = device.command_buffer("two languages")
        counts = (-(-count // tile), 1, 1)
        # Both run at the same time, then one on the other's result.
        commands.dispatch(c["scale"], counts, c["scale"].params(factor=0.5, tile=tile), [a, scaled])
        commands.dispatch(zig["triple"], counts, zig["triple"].params(1.0, tile), [a, b])
        commands.barrier()
        commands.dispatch(zig["triple"], counts, zig["triple"].params(-2.0, tile), [scaled, both])
        program = commands.finish()
        for _ in range(20):
            device.submit(program)
        program.free()
        assert array("f", scaled.read()) == array("f", [0.5 * v for v in x])
        factors = [3, 5] * (count // 2)
        pairs = list(zip(x, factors, strict=True))
        assert array("f", b.read()) == array("f", [v * f + 1 for v, f in pairs])
        assert array("f", both.read()) == array("f", [0.5 * v * f - 2 for v, f in pairs])


def test_a_kernel_s_own_refusal_is_named(device: Device) -> None:
    with device.load(module("triple"), "triple") as zig, device.allocate(400) as out:
        entry = zig["triple"]
        with pytest.raises(InvalidArgument, match="tile is -1; expected u32"):
            device.command_buffer().dispatch(entry, (1, 1, 1), entry.params(0, -1), [out, out])
        commands = device.command_buffer()
        short = out.subspan(0, 4)
        commands.dispatch(entry, (1, 1, 1), entry.params(0, 100), [short, out], label="own")
        program = commands.finish()
        with pytest.raises(KernelFailure, match=r"triple \(own\) .* a binding is shorter"):
            device.submit(program)
        program.free()
