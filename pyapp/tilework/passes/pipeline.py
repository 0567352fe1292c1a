"""Which passes run when: once at load, and once more for each set of concrete shapes.

Pure: `run` takes a graph and gives a graph and the list of what fired. Order matters and is the
tables' order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module

from tilework.ir.graph import Graph
from tilework.passes.activation import fuse_gelu, fuse_hard_swish, fuse_silu
from tilework.passes.attention import fuse_attention
from tilework.passes.clean import (
    drop_dead,
    drop_expands,
    fold_constants,
    merge_equal,
    share_shapes,
    simplify,
    sink_scalars,
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
from tilework.passes.norm import fuse_layer_norm, fuse_residual_norm, fuse_rms_norm

Pass = Callable[[Editor], None]
# What the passes of bytes.py, conv.py and quant.py begin or end at.
BYTES = frozenset({"dequantize_linear", "quantize_linear"})
CONVOLUTIONS = frozenset({"batch_normalization", "channel_affine", "conv", "fused_conv"})
QUANTISED = frozenset(
    {"conv_integer", "dequantize_linear", "matmul_integer", "quantized_conv", "quantized_matmul"}
)


def _where(ops: frozenset[str], module: str, name: str) -> Pass:
    """A pass that changes only graphs with one of `ops`; its module is imported only for those."""

    def rewrite(editor: Editor) -> None:
        if any(node.op in ops for node in editor):
            getattr(import_module(f"tilework.passes.{module}"), name)(editor)

    return rewrite


_bytes = partial(_where, BYTES, "bytes")
_conv = partial(_where, CONVOLUTIONS, "conv")
_quant = partial(_where, QUANTISED, "quant")
_norms = partial(
    _where, frozenset({"group_normalization", "instance_normalization"}), "grouped"
)
_pairs = partial(_where, frozenset({"neg"}), "rotary")

# Needs no shapes, or is content with what it can know without them.
LOAD: tuple[Pass, ...] = (
    drop_dead,
    _where(frozenset({"loop"}), "loop", "free_states"),
    _where(frozenset({"scan"}), "distance", "fuse_distances"),
    _bytes("sink_dequantised"),
    _bytes("fuse_bytes"),
    _bytes("fuse_dequantised_conv"),
    _conv("open_batch_norm"),
    fold_constants,
    simplify,
    merge_equal,
    fuse_gelu,
    fuse_layer_norm,
    _quant("fuse_dequantised"),
    fuse_matmul,
    fuse_bias,
    fuse_hard_swish,
    fuse_silu,
    fuse_activation,
    _conv("fuse_channels"),
    _conv("fuse_conv_activation"),
)

# Every extent is a number here and shape arithmetic is gone.
SHAPED: tuple[Pass, ...] = (
    drop_dead,
    simplify,
    _conv("pool_means"),
    _conv("take_padding"),
    _bytes("sink_dequantised"),
    _bytes("fuse_bytes"),
    drop_expands,
    sink_scalars,
    fuse_gelu,
    fuse_layer_norm,
    fuse_rms_norm,
    _norms("fuse_group_norm"),
    _norms("fuse_norm_channels"),
    _norms("fuse_norm_activation"),
    _pairs("fuse_rotary"),
    fuse_attention,
    fuse_gemm,
    _quant("fuse_dequantised"),
    fuse_matmul,
    fuse_bias,
    fuse_activation,
    fuse_residual,
    _conv("fuse_conv_residual"),
    _conv("fuse_conv_activation"),
    _quant("fuse_scales"),
    _quant("fuse_quantized_bias"),
    _quant("fuse_quantized_activation"),
    _quant("fuse_quantized_residual"),
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

    from tilework.ir.opdefs.subgraph import map_graphs

    def within(inner: Graph) -> Graph:
        return _run(inner, passes, counts)

    nodes = tuple(replace(node, attrs=map_graphs(node.attrs, within)) for node in graph.nodes)
    return replace(graph, nodes=nodes)
