"""Control flow: If, Loop, Scan, SequenceMap, whose attributes are graphs.

What a graph takes from outside becomes an input of the node and of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tilework.core.dtypes import INT64
from tilework.ir.graph import Graph, Node, Value
from tilework.onnx.context import Context, Inner, OnnxNode
from tilework.onnx.ops.table import operator


def _emit(
    ctx: Context,
    op: str,
    inputs: Sequence[str],
    outputs: Sequence[Value],
    attrs: Mapping[str, Any],
) -> tuple[str, ...]:
    """A node whose outputs have the dtypes of a graph's."""
    names = ctx.emit_many(op, inputs, len(outputs), attrs)
    for name, value in zip(names, outputs, strict=True):
        ctx.set_dtype(name, value.dtype)
    return names


def _graph(ctx: Context, node: OnnxNode, attribute: str, passed: Sequence[str] = ()) -> Inner:
    proto = node.attrs.get(attribute)
    if proto is None:
        raise ctx.invalid(f"has no {attribute}")
    return ctx.inner(proto, passed)


@operator("If", 1)
def if_(ctx: Context, node: OnnxNode) -> Sequence[str]:
    branches = [_graph(ctx, node, name) for name in ("then_branch", "else_branch")]
    captured = {name: source for inner in branches for name, source in inner.captured.items()}
    values = {value.name: value for inner in branches for value in inner.graph.inputs}
    if any(len(inner.graph.inputs) > len(inner.captured) for inner in branches):
        raise ctx.invalid("a branch has inputs; it may only read what is around the node")
    if any(len(inner.graph.outputs) != len(node.outputs) for inner in branches):
        raise ctx.invalid(f"{len(node.outputs)} outputs, the branches have another number")
    # Both take all that one of them needs, in one order.
    inputs = tuple(values[name] for name in captured)
    taken, other = (replace(inner.graph, inputs=inputs) for inner in branches)
    return _emit(
        ctx,
        "if",
        (node.inputs[0], *captured.values()),
        taken.outputs,
        {"then": taken, "else": other},
    )


@operator("Loop", (0, -1))
def loop(ctx: Context, node: OnnxNode) -> Sequence[str]:
    given = (*node.inputs, "", "") if not node.inputs else node.inputs
    if len(given) < 2:
        raise ctx.invalid("needs a trip count and a condition, each of which may be empty")
    body = _graph(ctx, node, "body", given)
    carried = len(given) - 2
    graph = body.graph
    if len(graph.inputs) != len(given) + len(body.captured) or len(graph.outputs) < 1 + carried:
        raise ctx.invalid(
            f"{carried} values are carried; its body takes {len(graph.inputs)} and gives "
            f"{len(graph.outputs)}, with number and condition"
        )
    attrs = {"body": graph, "carried": carried}
    return _emit(ctx, "loop", (*given, *body.captured.values()), graph.outputs[1:], attrs)


@operator("Scan", (0, -1))
def scan(ctx: Context, node: OnnxNode) -> Sequence[str]:
    if node.version < 9:
        return _scan_of_batch(ctx, node)
    scanned = _scanned(ctx, node, len(node.inputs))
    states = len(node.inputs) - scanned
    body = _graph(ctx, node, "body", node.inputs)
    graph = body.graph
    stacked = len(graph.outputs) - states
    if stacked < 0 or len(graph.inputs) != len(node.inputs) + len(body.captured):
        raise ctx.invalid(
            f"{states} states and {scanned} scanned; its body takes {len(graph.inputs)} and gives "
            f"{len(graph.outputs)}"
        )
    axes_in = node.attrs.get("scan_input_axes", (0,) * scanned)
    axes_out = node.attrs.get("scan_output_axes", (0,) * stacked)
    inputs = list(node.inputs)
    for index, axis in enumerate(axes_in, states):
        if axis:
            inputs[index] = ctx.emit("transpose", inputs[index], move=(axis, 0))
    attrs = {
        "body": graph,
        "states": states,
        "reverse_in": tuple(node.attrs.get("scan_input_directions", (0,) * scanned)),
        "reverse_out": tuple(node.attrs.get("scan_output_directions", (0,) * stacked)),
    }
    outputs = list(_emit(ctx, "scan", (*inputs, *body.captured.values()), graph.outputs, attrs))
    for index, axis in enumerate(axes_out, states):
        if axis:
            outputs[index] = ctx.emit("transpose", outputs[index], move=(0, axis))
    return outputs


def _scanned(ctx: Context, node: OnnxNode, inputs: int) -> int:
    scanned = int(node.attrs["num_scan_inputs"])
    if not 1 <= scanned <= inputs:
        raise ctx.invalid(f"num_scan_inputs is {scanned}, of {inputs} inputs")
    return scanned


def _scan_of_batch(ctx: Context, node: OnnxNode) -> Sequence[str]:
    """Opset 8: states and scanned have a batch in front. A scan over it, around the scan."""
    if node.input(0):
        raise ctx.unsupported("sequence_lens of the Scan of opset 8")
    given = node.inputs[1:]
    scanned = _scanned(ctx, node, len(given))
    body = _graph(ctx, node, "body", given)
    graph = body.graph
    states = len(given) - scanned
    own, captured = graph.inputs[: len(given)], graph.inputs[len(given) :]
    backward = tuple(node.attrs.get("directions", (0,) * scanned))
    attrs = {
        "body": graph,
        "states": states,
        "reverse_in": backward,
        "reverse_out": (0,) * (len(graph.outputs) - states),
    }
    # Names of another graph: those of the inner one do for all that is no output.
    outputs = tuple(replace(one, name=f"{one.name}@all", shape=None) for one in graph.outputs)
    names = tuple(one.name for one in outputs)
    inner = Node("scan", tuple(v.name for v in graph.inputs), names, attrs, node.origin)
    inputs = tuple(replace(one, shape=None) for one in own)
    around = Graph(graph.name, (*inputs, *captured), outputs, (inner,), {})
    outer = {
        "body": around,
        "states": 0,
        "reverse_in": (0,) * len(given),
        "reverse_out": (0,) * len(outputs),
    }
    return _emit(ctx, "scan", (*given, *body.captured.values()), outputs, outer)


@operator("SequenceMap", (1, -1))
def sequence_map(ctx: Context, node: OnnxNode) -> Sequence[str]:
    body = _graph(ctx, node, "body", node.inputs)
    graph = body.graph
    if len(graph.inputs) != len(node.inputs) + len(body.captured):
        raise ctx.invalid(f"{len(node.inputs)} inputs, its body takes {len(graph.inputs)}")
    attrs = {"body": graph, "others": len(node.inputs) - 1}
    return _emit(
        ctx, "sequence_map", (*node.inputs, *body.captured.values()), graph.outputs, attrs
    )


@operator("NonZero", 1)
def nonzero(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("nonzero", *node.inputs)


@operator("Compress", 2)
def compress(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("compress", *node.inputs, axis=node.attrs.get("axis"))


@operator("Unique", 1)
def unique(ctx: Context, node: OnnxNode) -> Sequence[str]:
    attrs = {"axis": node.attrs.get("axis"), "sorted": node.attrs.get("sorted", 1)}
    names = ctx.emit_many("unique", node.inputs, 4, attrs)
    for name in names[1:]:
        ctx.set_dtype(name, INT64)
    return names[: len(node.outputs)]


@operator("NonMaxSuppression", (2, 5))
def non_max_suppression(ctx: Context, node: OnnxNode) -> str:
    boxes, scores, iou, least = (node.input(i) for i in (0, 1, 3, 4))
    (chosen,) = ctx.emit_with(
        "suppress",
        *(boxes, scores, iou, least),
        values={"most": node.input(2)},
        center=int(bool(node.attrs.get("center_point_box", 0))),
    )
    return ctx.emit("listed_boxes", chosen)
