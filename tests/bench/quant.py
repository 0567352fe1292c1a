"""Gop/s of convolutions of bytes in headless Chromium, one thread, case by case.

    PYTHONPATH=pyapp .venv/bin/python -m tests.bench.quant [milliseconds a case] [part of a title]

Prints the table of kernels/quant/README.md. Weights are normal numbers as a quantiser scales them,
by tensor, by channel, and so small that no sum saturates. Needs the compiled kernels (`python3
build.py build`) and a browser. Not a test: what it prints depends on the machine.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

import numpy as np

from tests.bench.kernel_page import Group, measured
from tests.graphs import Maker
from tests.kernels.bare_host import host
from tilework.core.dtypes import UINT8
from tilework.hal.kernels.quant import I8_GEMM_PACK_B
from tilework.plan.planner import make_draft
from tilework.plan.step import Dispatch

# channels, side, filters, kernel, stride, groups
CONVS = [
    (3, 224, 64, 7, 2, 1), (3, 224, 32, 3, 2, 1), (64, 56, 64, 1, 1, 1), (64, 56, 64, 3, 1, 1),
    (64, 56, 256, 1, 1, 1), (256, 56, 64, 1, 1, 1), (128, 28, 128, 3, 1, 1),
    (3, 224, 64, 3, 2, 1), (512, 13, 1000, 1, 1, 1), (16, 55, 64, 3, 1, 1),
    (256, 14, 256, 3, 1, 1), (1024, 14, 256, 1, 1, 1), (512, 7, 512, 3, 1, 1),
    (512, 7, 2048, 1, 1, 1), (16, 112, 96, 1, 1, 1), (32, 112, 16, 1, 1, 1),
    (144, 56, 24, 1, 1, 1), (192, 28, 32, 1, 1, 1), (136, 28, 136, 1, 1, 4),
    (256, 56, 256, 3, 1, 256), (32, 112, 32, 3, 1, 32), (96, 112, 96, 3, 2, 96),
    (384, 14, 384, 3, 1, 384), (136, 28, 136, 3, 1, 136),
]  # fmt: skip


def convolution(
    spread: str, channels: int, side: int, filters: int, kernel: int, stride: int, group: int
) -> dict[str, Any]:
    """The convolution of a plan, its filters packed on the desktop's engine."""
    rng = np.random.default_rng(channels + filters)
    w = rng.standard_normal((filters, channels // group, kernel, kernel))
    largest = np.abs(w).max(axis=(1, 2, 3), keepdims=True) if spread == "channels" else abs(w).max()
    weights = np.rint(w * ((50 if spread == "small" else 127) / largest)).astype(np.int8)
    m = Maker()
    one, zero = m.constant(np.float32(0.02)), m.constant(np.array(100, np.uint8))
    x = m.op("transpose", m.input("x", (1, side, side, channels), UINT8), perm=(0, 3, 1, 2))
    scales = m.constant(np.full(filters, 0.01, np.float32))
    operands = (x, one, zero, m.constant(weights), scales, m.constant(np.array(0, np.int8)))
    bias = m.constant(np.zeros(filters, np.int32))
    attrs: dict[str, Any] = {"group": group, "strides": (stride,) * 2, "to": "uint8"}
    attrs["pads"] = (kernel // 2,) * 4
    y = m.op("qlinear_conv", *operands, one, zero, bias, **attrs)
    graph = m.graph(y)
    draft = make_draft(graph, graph.constants, 1)
    steps = [s for s in draft.steps if isinstance(s, Dispatch) and s.kernel.family == "quant"]
    (step,) = steps
    given = {}
    for pack in draft.prologue:
        assert isinstance(pack, Dispatch)
        if pack.kernel is I8_GEMM_PACK_B:
            parts = weights.reshape(group, filters // group, channels // group, -1)
            source = np.ascontiguousarray(parts.transpose(0, 3, 2, 1)).ravel()
            made = np.zeros(pack.bindings[1].nbytes, np.uint8)  # type: ignore[union-attr]
            run = host("relaxed").run(pack.kernel, pack.counts, pack.params, [source, made])
            assert run == 0
            given[1] = made
    params: Any = step.params
    return {
        "name": spread,
        "module": "relaxed/quant.wasm",
        "kernel": step.kernel.name,
        "counts": step.counts,
        "params": list(params.pack()),
        "bindings": [0 if b is None else max(b.nbytes / 4, 0.25) for b in step.bindings],
        "scratch": max(step.scratch, 64),
        "flops": 2 * weights.size * (-(-side // stride)) ** 2,
        "given": [[i, base64.b64encode(a.tobytes()).decode()] for i, a in given.items()],
    }


def groups(only: str) -> list[Group]:
    """(title, cases run in turn)."""
    made = []
    for channels, side, filters, kernel, stride, group in CONVS:
        title = f"{kernel}x{kernel}/{stride} {channels}->{filters} {side} g{group}"
        if only in title:
            shape = (channels, side, filters, kernel, stride, group)
            spreads = ("tensor",) if group == channels else ("tensor", "channels", "small")
            made.append((title, [convolution(spread, *shape) for spread in spreads]))
    return made


if __name__ == "__main__":
    duration = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for heading, pairs in measured(groups("".join(sys.argv[2:3])), duration):
        shown = (f"{c['name']} {t:7.3f} ms {c['flops'] / t / 1e6:6.1f}" for c, t in pairs)
        print(f"{heading:32s}", "  ".join(shown), flush=True)
