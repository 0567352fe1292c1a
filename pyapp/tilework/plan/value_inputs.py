"""Which inputs' elements, not just their shapes, may decide shapes further on."""

from __future__ import annotations

from tilework.ir.graph import Graph
from tilework.ir.opdefs.registry import opdef

# Operations of which shapes are made: through these a shape is followed to the inputs that it comes
# from. What is computed otherwise is data, and the plan is cut where that decides a shape.
ARITHMETIC = frozenset({
    "identity", "cast", "reshape", "flatten", "squeeze", "unsqueeze", "transpose", "concat",
    "split", "slice", "gather", "gather_elements", "expand", "tile", "range", "constant_of_shape",
    "add", "sub", "mul", "div", "mod", "neg", "abs", "sign", "floor", "ceil", "round", "sqrt",
    "pow", "min", "max", "where", "equal", "less", "greater", "less_equal", "greater_equal", "not",
    "and", "or", "reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "scatter_elements",
    "scatter_nd", "pad", "cumsum",
})  # fmt: skip


def value_inputs(graph: Graph) -> dict[str, bool]:
    """Their names; true for those that are such a shape themselves, so that nothing can be planned
    without them.

    Their values are part of what a plan is made for: a Reshape's target that is fed, a Range's
    limit. What only passes through Shape or Size does not count.
    """
    producers = {name: node for node in graph.nodes for name in node.outputs}
    direct = {
        node.inputs[index]
        for node in graph.nodes
        for index in opdef(node).values.values()
        if index < len(node.inputs) and node.inputs[index]
    }
    direct.update(node.inputs[0] for node in graph.nodes if node.op == "if")
    pending = list(direct)
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        node = producers.get(name)
        if node is not None and node.op in ARITHMETIC:
            pending.extend(one for one in node.inputs if one)
    return {value.name: value.name in direct for value in graph.inputs if value.name in seen}
