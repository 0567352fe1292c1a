"""Memory beside the device's: what is written there comes near by a command, on all threads."""

from __future__ import annotations

from array import array

import pytest

from tests.hal.queued import add, words
from tilework.core.errors import DeviceLost, InvalidArgument, OutOfRange, Unsupported
from tilework.hal import Device, Far, Slot, open_device

TILE = 65536
GIGABYTE = 1 << 30


def far_of(device: Device, nbytes: int, label: str = "") -> Far:
    """Skips the test where the engine has no such thing, if it says so in words."""
    try:
        return device.far(nbytes, label)
    except Unsupported as error:
        assert "takes no module with two memories" in str(error)
        pytest.skip("this engine takes no module with two memories, and says so")


def pattern(nbytes: int, seed: int = 1) -> bytes:
    """Bytes in which every place looks different from its neighbours and other tiles' places."""
    counted = array("I", ((seed + i) * 2654435761 & 0xFFFFFFFF for i in range(-(-nbytes // 4))))
    return counted.tobytes()[:nbytes]


@pytest.mark.parametrize("offset", [0, 4, 65532, 100_001])
@pytest.mark.parametrize("nbytes", [4, 1000, TILE, TILE + 4, 5 * TILE - 12])
def test_what_is_far_comes_near(device: Device, offset: int, nbytes: int) -> None:
    data = pattern(nbytes)
    with far_of(device, 1 << 20) as far, device.allocate(nbytes + 8) as target:
        far.write(data, offset)
        target.write(bytes(nbytes + 8))
        commands = device.command_buffer("bring")
        far.copy_to(commands, target.subspan(4, nbytes), offset)
        program = commands.finish()
        for _ in range(2):
            device.submit(program)
            assert target.read() == bytes(4) + data + bytes(4)
            target.write(bytes(nbytes + 8))
        program.free()


def test_what_nobody_wrote_is_zero(device: Device) -> None:
    with far_of(device, 100_000) as far, device.allocate(100_000) as target:
        target.write(b"\7" * 100_000)
        commands = device.command_buffer()
        far.copy_to(commands, target)
        program = commands.finish()
        device.submit(program)
        assert target.read() == bytes(100_000)
        program.free()


def test_more_than_four_gigabytes_in_two(device: Device) -> None:
    """The ends of two of three gigabytes, and one place of the device's, in one program."""
    marks = [pattern(4096, seed) for seed in (11, 12)]
    try:
        both = [far_of(device, 3 * GIGABYTE, f"weights {i}") for i in range(2)]
    except MemoryError:
        pytest.skip("this machine does not give six gigabytes of address space")
    with device.allocate(4096) as first, device.allocate(4096) as second:
        commands = device.command_buffer()
        for far, mark, target in zip(both, marks, (first, second), strict=True):
            far.write(mark, far.nbytes - 4096)
            far.copy_to(commands, target, far.nbytes - 4096)
        program = commands.finish()
        device.submit(program)
        assert [first.read(), second.read()] == marks
        program.free()
    for far in both:
        far.free()


def test_weights_come_while_others_are_used(device: Device) -> None:
    """Two places near, taken in turn: what comes next is brought beside what computes."""
    layers, count = 6, 40_000
    with far_of(device, layers * 4 * count) as far:
        for layer in range(layers):
            far.write(array("I", [layer * layer + 1] * count), layer * 4 * count)
        near = [device.allocate(4 * count) for _ in range(2)]
        sums = device.allocate(layers * 4 * count)
        commands = device.command_buffer("layers")
        far.copy_to(commands, near[0], 0)
        for layer in range(layers):
            commands.barrier()
            commands.copy(near[layer % 2], sums.subspan(4 * count * layer, 4 * count))
            if layer + 1 < layers:
                far.copy_to(commands, near[(layer + 1) % 2], 4 * count * (layer + 1))
        program = commands.finish()
        device.submit(program)
        expected = [layer * layer + 1 for layer in range(layers) for _ in range(count)]
        assert array("I", sums.read()).tolist() == expected
        program.free()
        for buffer in (sums, *near):
            buffer.free()


def test_the_target_may_be_a_slot(device: Device) -> None:
    with far_of(device, 4096) as far, device.allocate(32) as target, device.allocate(32) as seen:
        far.write(array("I", range(8)), 64)
        commands = device.command_buffer()
        far.copy_to(commands, Slot(0, 0, 32), 64)
        bring, more = commands.finish(), add(device, 5)
        device.submit(bring, [target])
        device.submit(more, [target, seen])
        assert words(target) == [i + 5 for i in range(8)]
        bring.free()
        more.free()


def test_ranges_are_checked_before_anything_runs(device: Device) -> None:
    with far_of(device, 1000, "weights") as far, device.allocate(64) as target:
        for offset in (-1, 937, 1000):
            with pytest.raises(OutOfRange, match=r"weights: bytes .* of 1,000"):
                far.write(bytes(64), offset)
            with pytest.raises(OutOfRange, match=r"weights: bytes .* of 1,000"):
                far.copy_to(device.command_buffer(), target, offset)
    for nbytes in (0, -5, (1 << 32) + 1):
        with pytest.raises(InvalidArgument, match="one has 1 to 4,294,967,296"):
            device.far(nbytes)


def test_a_program_keeps_what_it_names(device: Device) -> None:
    far = far_of(device, 64, "weights")
    with device.allocate(64) as target:
        commands = device.command_buffer()
        far.copy_to(commands, target)
        program = commands.finish()
        with pytest.raises(InvalidArgument, match="in use by 1 programs"):
            far.free()
        far.write(b"x" * 64)
        device.submit(program)
        assert target.read() == b"x" * 64
        program.free()
    far.free()
    far.free()
    with pytest.raises(DeviceLost, match=r"weights.*after it was freed"):
        far.write(b"x")
    with pytest.raises(DeviceLost, match=r"weights.*after it was freed"):
        far.copy_to(device.command_buffer(), Slot(0, 0, 4))


def test_another_device_s_is_refused(device: Device) -> None:
    other = open_device(1)
    far = far_of(other, 64)
    with device.allocate(64) as target, pytest.raises(InvalidArgument, match="another device's"):
        far.copy_to(device.command_buffer(), target)
    far.free()
    other.close()
