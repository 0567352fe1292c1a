"""Which inputs' elements, not just their shapes, may decide shapes further on."""

from __future__ import annotations

from tilework.ir.graph import Graph, Node
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
    branched: set[str] = set()
    for one in graph.nodes:
        if one.op == "if":
            direct.add(one.inputs[0])
            for name, shape in _decide(one).items():
                (direct if shape else branched).add(name)
    pending = [*direct, *branched]
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


def _decide(node: Node) -> dict[str, bool]:
    """Of an `if` what its branches need of what they read outside, as `value_inputs` says it, for
    one of them stands in its place where the condition is known."""
    found: dict[str, bool] = {}
    for branch in (node.attrs["then"], node.attrs["else"]):
        outside = dict(zip([one.name for one in branch.inputs], node.inputs[1:], strict=True))
        for name, direct in value_inputs(branch).items():
            found[outside[name]] = direct or found.get(outside[name], False)
    return found
