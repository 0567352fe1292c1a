"""Speeds of the convolution kernels in headless Chromium, one thread, case by case.

    PYTHONPATH=pyapp .venv/bin/python -m tests.bench.conv [milliseconds a case]

Prints the tables of kernels/conv/README.md. Needs the compiled kernels (`python3 build.py build`)
and a browser. Not a test: what it prints depends on the machine.
"""

from __future__ import annotations

import sys
from typing import Any

from tests.bench.kernel_page import Group, measured
from tests.graphs import Maker, f32
from tilework.plan.planner import make_draft
from tilework.plan.step import Dispatch

# channels, side, filters, kernel, stride, groups
CONVS = [
    (3, 224, 64, 7, 2, 1), (64, 56, 64, 1, 1, 1), (64, 56, 64, 3, 1, 1), (64, 56, 256, 1, 1, 1),
    (256, 56, 64, 1, 1, 1), (128, 28, 128, 3, 1, 1), (128, 56, 128, 3, 2, 1),
    (512, 28, 128, 1, 1, 1), (256, 14, 256, 3, 1, 1), (1024, 14, 256, 1, 1, 1),
    (256, 14, 1024, 1, 1, 1), (512, 7, 512, 3, 1, 1), (512, 7, 2048, 1, 1, 1),
    (1024, 14, 2048, 1, 2, 1), (128, 56, 32, 3, 1, 1), (128, 14, 32, 3, 1, 1),
    (16, 55, 64, 3, 1, 1), (136, 28, 136, 1, 1, 4), (272, 14, 272, 1, 1, 4),
    (256, 56, 256, 3, 1, 256), (136, 28, 136, 3, 1, 136), (272, 14, 272, 3, 2, 272),
]  # fmt: skip
POOLS = [("max_pool", 64, 112, 3, 2), ("average_pool", 192, 28, 3, 1)]


def dispatches(build: str, op: str, dims: tuple[int, ...], attrs: dict[str, Any],
               weights: list[Any], flops: int) -> list[dict[str, Any]]:  # fmt: skip
    """The last dispatch of the operation's plan that is not a copy."""
    m = Maker()
    # A convolution before it, so that the operand is channels last as within a network.
    x = m.op("conv", m.input("x", dims), m.constant(f32(dims[1], 1, 1, 1)), group=dims[1])
    graph = m.graph(m.op(op, x, *map(m.constant, weights), **attrs))
    draft = make_draft(graph, graph.constants, 1)
    steps = [s for s in draft.steps if isinstance(s, Dispatch) and s.kernel.family == "conv"]
    step = steps[-1]
    params: Any = step.params
    return [{
        "name": build,
        "module": f"{build}/conv.wasm",
        "kernel": step.kernel.name,
        "counts": step.counts,
        "params": list(params.pack()),
        "bindings": [0 if b is None else b.nbytes // 4 for b in step.bindings],
        "scratch": max(step.scratch, 64),
        "flops": flops,
    }]  # fmt: skip


def groups() -> list[Group]:
    made: list[Group] = []
    for channels, side, filters, kernel, stride, group in CONVS:
        w = f32(filters, channels // group, kernel, kernel)
        attrs: dict[str, Any] = {"group": group, "strides": (stride,) * 2}
        attrs["pads"] = (kernel // 2,) * 4
        out = (side + stride - 1) // stride
        flops = 2 * w.size * out * out
        dims = (1, channels, side, side)
        title = f"{kernel}x{kernel}/{stride} {channels}->{filters} {side} g{group}"
        cases = [
            case
            for build in ("relaxed", "simd")
            for case in dispatches(build, "conv", dims, attrs, [w, f32(filters)], flops)
        ]
        made.append((title, cases))
    for op, channels, side, kernel, stride in POOLS:
        attrs = {"kernel_shape": (kernel,) * 2, "strides": (stride,) * 2, "pads": (1,) * 4}
        flops = channels * side * side // stride // stride * kernel * kernel
        case = dispatches("relaxed", op, (1, channels, side, side), attrs, [], flops)
        made.append((f"{op} {kernel}/{stride} {channels} {side}", case))
    return made


def main(milliseconds: int, only: str = "") -> None:
    asked = [group for group in groups() if only in group[0]]
    for title, timed in measured(asked, milliseconds):
        shown = (
            f"{case['name']} {t:8.3f} ms {case['flops'] / t / 1e6:6.1f}" for case, t in timed
        )
        print(f"{title:36s}", "  ".join(shown), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200, "".join(sys.argv[2:3]))
