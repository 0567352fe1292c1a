"""ReduceMean and its kin, ArgMax, CumSum, CumProd.

Axes are attributes in old opsets and inputs in new ones (ReduceSum since 13, the others since 18);
a constant input becomes the attribute again.
"""

from __future__ import annotations

from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import Build, operator


def _reduction(op: str) -> Build:
    def build(ctx: Context, node: OnnxNode) -> str:
        return ctx.emit_with(
            op,
            node.inputs[0],
            values={"axes": node.input(1)},
            axes=node.attrs.get("axes"),
            keepdims=node.attrs.get("keepdims", 1),
            noop_with_empty_axes=node.attrs.get("noop_with_empty_axes") or None,
        )[0]

    return build


for _name, _op in (
    ("ReduceSum", "reduce_sum"),
    ("ReduceMean", "reduce_mean"),
    ("ReduceMax", "reduce_max"),
    ("ReduceMin", "reduce_min"),
    ("ReduceProd", "reduce_prod"),
    ("ReduceL1", "reduce_l1"),
    ("ReduceL2", "reduce_l2"),
    ("ReduceSumSquare", "reduce_sum_square"),
    ("ReduceLogSum", "reduce_log_sum"),
    ("ReduceLogSumExp", "reduce_log_sum_exp"),
):
    operator(_name, (1, 2))(_reduction(_op))


def _position(op: str) -> Build:
    def build(ctx: Context, node: OnnxNode) -> str:
        return ctx.emit(
            op,
            *node.inputs,
            axis=node.attrs.get("axis", 0),
            keepdims=node.attrs.get("keepdims", 1),
            select_last_index=node.attrs.get("select_last_index", 0),
        )

    return build


operator("ArgMax", 1)(_position("argmax"))
operator("ArgMin", 1)(_position("argmin"))


def _running(op: str) -> Build:
    def build(ctx: Context, node: OnnxNode) -> str:
        return ctx.emit_with(
            op,
            node.inputs[0],
            values={"axis": node.inputs[1]},
            exclusive=node.attrs.get("exclusive", 0),
            reverse=node.attrs.get("reverse", 0),
        )[0]

    return build


operator("CumSum", 2)(_running("cumsum"))
operator("CumProd", 2)(_running("cumprod"))
