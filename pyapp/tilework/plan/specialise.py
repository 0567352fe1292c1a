"""A graph with symbolic extents and concrete input shapes → the graph for those shapes.

Every value gets its dtype and shape; what follows from shapes alone (Shape, Gather, Concat, Range,
ConstantOfShape, …) becomes constants and disappears. Raises what inference raises: InvalidArgument
for inputs that do not fit, DataDependent for shapes that hang on data: `cut` goes on there.
"""

from __future__ import annotations

from collections.abc import Mapping

from tilework.core.dtypes import from_numpy
from tilework.ir.graph import Graph
from tilework.ir.opdefs.registry import Array, DataDependent, Info, label, opdef
from tilework.plan.cut import cut

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
    """The inputs whose elements, not just whose shapes, may decide shapes further on.

    Their values are part of what a plan is made for: a Reshape's target that is fed, a Range's
    limit. What only passes through Shape or Size does not count. True for those that are such a
    shape themselves, so that nothing can be planned without them.
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


def specialise(
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    known_inputs: Mapping[str, Array] | None = None,
) -> Graph:
    """`graph` for these input shapes. Pure; `shapes` has every input.

    `known_inputs` become constants; `value_inputs` says which have to be given.
    """
    known = known_inputs or {}
    inputs = {value.name: Info(value.dtype, shapes[value.name]) for value in graph.inputs}
    inputs.update(
        (name, Info(from_numpy(array.dtype), array.shape, array)) for name, array in known.items()
    )
    parts = cut(graph, inputs)
    if not parts.whole:
        waiting = parts.host or (parts.later.nodes if parts.later is not None else ())
        name = label(waiting[0]) if waiting else f"graph '{graph.name}'"
        raise DataDependent(f"{name}: its shapes, or what follows, are known only once it has run")
    return parts.now
