"""Runs single kernels on the desktop's engine with nothing of tilework between.

Owns one shared memory and one instance of each module and build. Each span that a kernel is given
ends where a guard begins, and a test sees at once when a kernel has written outside; inputs are
surrounded by NaN, so that reading outside shows in the result. Statuses come back as the kernel
returned them. No processor, no threads: what is tested here is one kernel.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import wasmtime as w
from numpy.typing import NDArray

from tilework.hal import _abi
from tilework.hal.library import kernel_module

Array = NDArray[Any]
BUILDS = ("simd", "relaxed")
_PAGE = 65536
_REGION = 4 << 20  # where modules, a page each, and stacks end and spans begin
_PAGES = 2048
_GUARD = 256
_NAN = 0x7FC0_1234


class _SharedMemory(w.SharedMemory):
    """The binding's class cannot be imported by a module without this."""

    def _as_extern(self) -> Any:
        ffi = w._ffi
        union = ffi.wasmtime_extern_union(sharedmemory=self.ptr())
        return ffi.wasmtime_extern_t(ffi.WASMTIME_EXTERN_SHAREDMEMORY, union)


@dataclass
class Host:
    """One build's kernels in one memory.

    `deterministic`: relaxed instructions compute what the standard's deterministic profile says.
    """

    build: str
    deterministic: bool = False
    _functions: dict[tuple[str, str], Any] = field(default_factory=dict)
    _modules: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config = w.Config()
        config.wasm_threads = config.wasm_simd = config.shared_memory = True
        config.wasm_relaxed_simd = True
        config.wasm_relaxed_simd_deterministic = self.deterministic
        self._engine = w.Engine(config)
        limits = w.Limits(_PAGES, _PAGES)
        self._memory = _SharedMemory(self._engine, w.MemoryType(limits, shared=True))
        address = ctypes.cast(self._memory.data_ptr(), ctypes.POINTER(ctypes.c_uint8))
        self.bytes: Array = np.ctypeslib.as_array(address, (_PAGES * _PAGE,))

    def _function(self, family: str, name: str) -> Any:
        if family not in self._modules:
            module = w.Module(self._engine, kernel_module(family, self.build))
            store = w.Store(self._engine)
            base = _PAGE * (1 + len(self._modules))
            assert base + _PAGE <= _REGION, "more families than there is room for"
            imports: list[Any] = []
            wanted: Any
            values = {"__stack_pointer": _PAGE, "__memory_base": base, "__table_base": 1}
            for wanted in module.imports:
                if wanted.name == "memory":
                    imports.append(self._memory)
                elif wanted.name == "__indirect_function_table":
                    table = w.TableType(w.ValType.funcref(), w.Limits(64, None))
                    imports.append(w.Table(store, table, None))
                else:
                    value = w.Val.i32(values[str(wanted.name)])
                    imports.append(w.Global(store, wanted.type, value))
            exports: Any = w.Instance(store, module, imports).exports(store)
            for start in ("__wasm_apply_data_relocs", "__wasm_call_ctors"):
                if start in exports:
                    exports[start](store)
            self._modules[family] = (store, exports)
        store, exports = self._modules[family]
        return functools.partial(exports[name], store)

    def run(
        self,
        kernel: Any,
        counts: tuple[int, int, int],
        params: Any,
        arrays: Sequence[Array | None],
        scratch: int = 0,
        shuffle: int | None = 0,
        at_end: int | None = None,
        same: Mapping[int, int] | None = None,
    ) -> int:
        """Run all tiles in a shuffled order; results are copied back into the given arrays.

        Arrays are 1-D, of any dtype. Stops at the first tile whose status is not 0 and returns it.
        The array numbered `at_end` ends where memory ends, so that touching anything behind it
        traps. `same` maps arrays to the ones whose memory they share (work in place).
        Raises AssertionError when a kernel has written outside its bindings or scratch.
        """
        data = self.bytes
        top = _REGION
        data[top : top + 4096] = 0
        packed = params.pack()
        at_params, at_dispatch, at_tile, at_bindings = top, top + 512, top + 576, top + 640
        data[at_params : at_params + len(packed)] = np.frombuffer(packed, np.uint8)
        top += 4096
        spans: list[tuple[int, int]] = []
        shared = same or {}
        for index, array in enumerate(arrays):
            length = 0 if array is None else array.nbytes
            if index in shared:
                spans.append((spans[shared[index]][0], length))
                continue
            if index == at_end and array is not None:
                start = data.size - length
                data[start - _GUARD - start % 4 : start] = 0
                data[start:] = array.view(np.uint8)
                spans.append((start, length))
                continue
            end = top + _GUARD + length
            data[top : top + _GUARD].view(np.uint32)[:] = _NAN
            if array is not None:
                data[top + _GUARD : end] = array.view(np.uint8)
            after = (end + 3) // 4 * 4
            data[end:after] = 0
            data[after : after + _GUARD].view(np.uint32)[:] = _NAN
            spans.append((top + _GUARD, length))
            top = (after + _GUARD + 63) // 64 * 64
        scratch_at = top + _GUARD
        data[top : scratch_at + scratch + _GUARD].view(np.uint32)[:] = _NAN
        table = list(itertools.chain.from_iterable(spans))
        data[at_bindings : at_bindings + 4 * len(table)].view(np.uint32)[:] = table
        header = _abi.DISPATCH_FORMAT.pack(
            *counts, len(arrays), at_bindings, at_params, len(packed), 0
        )
        data[at_dispatch : at_dispatch + len(header)] = np.frombuffer(header, np.uint8)
        call = self._function(kernel.family, kernel.name)
        tile = data[at_tile : at_tile + 28].view(np.uint32)
        tile[3:] = (0, scratch_at, scratch, 0)
        status = 0
        for x, y, z in _order(counts, shuffle):
            tile[:3] = (x, y, z)
            status = call(at_dispatch, at_tile)
            if status:
                break
        inner = [(a, n) for i, (a, n) in enumerate(spans) if i != at_end and i not in shared]
        guards = [*((a - _GUARD, a) for a, _ in inner), (scratch_at - _GUARD, scratch_at)]
        guards += [((a + n + 3) // 4 * 4, (a + n + 3) // 4 * 4 + _GUARD) for a, n in inner]
        guards.append((scratch_at + scratch, scratch_at + scratch + _GUARD))
        for low, high in guards:
            assert (data[low:high].view(np.uint32) == _NAN).all(), f"{kernel.name} left its spans"
        padding = [data[a + n : (a + n + 3) // 4 * 4] for a, n in inner]
        assert not any(p.any() for p in padding), f"{kernel.name} left its spans"
        for array, (at, length) in zip(arrays, spans, strict=True):
            if array is not None:
                array.view(np.uint8)[:] = data[at : at + length]
        return int(status)


def _order(counts: tuple[int, int, int], seed: int | None) -> list[tuple[int, ...]]:
    tiles: list[tuple[int, ...]] = list(itertools.product(*(range(c) for c in counts)))
    if seed is not None:
        random.Random(seed).shuffle(tiles)
    return tiles


@functools.cache
def host(build: str) -> Host:
    """The one host of a build."""
    return Host(build)


@functools.cache
def deterministic() -> Host:
    """The relaxed build on an engine whose relaxed instructions are those of the standard's
    deterministic profile."""
    return Host("relaxed", deterministic=True)
