"""Which passes run when: once at load, and once more for each set of concrete shapes.

Pure: `run` takes a graph and gives a graph and the list of what fired. Order matters and is the
tables' order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tilework.ir.graph import Graph
from tilework.ir.opdefs.subgraph import map_graphs
from tilework.passes.activation import fuse_gelu
from tilework.passes.attention import fuse_attention
from tilework.passes.bytes import fuse_bytes, fuse_dequantised_conv, sink_dequantised
from tilework.passes.clean import (
    drop_dead,
    drop_expands,
    fold_constants,
    merge_equal,
    share_shapes,
    simplify,
    sink_scalars,
)
from tilework.passes.conv import (
    fuse_channels,
    fuse_conv_activation,
    fuse_conv_residual,
    fuse_silu,
    open_batch_norm,
)
from tilework.passes.editor import Editor
from tilework.passes.linear import (
    fuse_activation,
    fuse_bias,
    fuse_gemm,
    fuse_matmul,
    fuse_residual,
    merge_projections,
)
from tilework.passes.norm import fuse_layer_norm, fuse_residual_norm
from tilework.passes.quant import (
    fuse_dequantised,
    fuse_quantized_activation,
    fuse_quantized_bias,
    fuse_quantized_residual,
    fuse_scales,
)

Pass = Callable[[Editor], None]

# Needs no shapes, or is content with what it can know without them.
LOAD: tuple[Pass, ...] = (
    drop_dead,
    sink_dequantised,
    fuse_bytes,
    fuse_dequantised_conv,
    open_batch_norm,
    fold_constants,
    simplify,
    merge_equal,
    fuse_gelu,
    fuse_layer_norm,
    fuse_dequantised,
    fuse_matmul,
    fuse_bias,
    fuse_activation,
    fuse_silu,
    fuse_channels,
    fuse_conv_activation,
)

# Every extent is a number here and shape arithmetic is gone.
SHAPED: tuple[Pass, ...] = (
    drop_dead,
    simplify,
    sink_dequantised,
    fuse_bytes,
    drop_expands,
    sink_scalars,
    fuse_gelu,
    fuse_layer_norm,
    fuse_attention,
    fuse_gemm,
    fuse_dequantised,
    fuse_matmul,
    fuse_bias,
    fuse_activation,
    fuse_residual,
    fuse_conv_residual,
    fuse_conv_activation,
    fuse_scales,
    fuse_quantized_bias,
    fuse_quantized_activation,
    fuse_quantized_residual,
    fuse_residual_norm,
    merge_projections,
    simplify,
    share_shapes,
    merge_equal,
)


@dataclass(frozen=True, slots=True)
class Fired:
    """How often each rewrite was made."""

    counts: Mapping[str, int]

    def __str__(self) -> str:
        return "\n".join(f"{count:5} {rule}" for rule, count in sorted(self.counts.items()))

    def __getitem__(self, rule: str) -> int:
        return self.counts.get(rule, 0)


def run(graph: Graph, passes: Sequence[Pass]) -> tuple[Graph, Fired]:
    """The graph and those inside its nodes after `passes`, in order, and what they did."""
    counts: dict[str, int] = {}
    graph = _run(graph, passes, counts)
    return graph, Fired(counts)


def _run(graph: Graph, passes: Sequence[Pass], counts: dict[str, int]) -> Graph:
    editor = Editor(graph)  # one for all: to open a graph costs as much as most passes
    for rewrite in passes:
        rewrite(editor)
    graph = editor.finish()
    for rule, count in editor.fired.items():
        counts[rule] = counts.get(rule, 0) + count
    if not any(isinstance(one, Graph) for node in graph.nodes for one in node.attrs.values()):
        return graph

    def within(inner: Graph) -> Graph:
        return _run(inner, passes, counts)

    nodes = tuple(replace(node, attrs=map_graphs(node.attrs, within)) for node in graph.nodes)
    return replace(graph, nodes=nodes)
