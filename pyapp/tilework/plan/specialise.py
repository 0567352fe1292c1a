"""A graph with symbolic extents and concrete input shapes → the graph for those shapes.

Every value gets its dtype and shape; what follows from shapes alone (Shape, Gather, Concat, Range,
ConstantOfShape, …) becomes constants and disappears. Raises what inference raises: InvalidArgument
for inputs that do not fit, DataDependent for shapes that hang on data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tilework.core.dtypes import from_numpy
from tilework.ir.graph import Constant, Graph, Node, Value
from tilework.ir.opdefs.registry import FOLD_LIMIT, Array, Info, infer_node, opdef


def constant_info(constant: Constant) -> Info:
    """The Info of a constant; with its value when that is small and on the host."""
    array = constant.array
    small = array is not None and array.size <= FOLD_LIMIT
    return Info(constant.dtype, constant.shape, array if small else None)


def value_inputs(graph: Graph) -> tuple[str, ...]:
    """The inputs whose elements, not just whose shapes, decide shapes further on.

    Their values are part of what a plan is made for: a Reshape's target that is fed, a Range's
    limit. What only passes through Shape or Size does not count.
    """
    producers = {name: node for node in graph.nodes for name in node.outputs}
    pending = [
        node.inputs[index]
        for node in graph.nodes
        for index in opdef(node).values.values()
        if index < len(node.inputs) and node.inputs[index]
    ]
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        node = producers.get(name)
        if node is not None and node.op not in ("shape", "size"):
            pending.extend(one for one in node.inputs if one)
    return tuple(value.name for value in graph.inputs if value.name in seen)


def specialise(
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    known_inputs: Mapping[str, Array] | None = None,
) -> Graph:
    """`graph` for these input shapes. Pure; `shapes` has every input.

    `known_inputs` become constants; `value_inputs` says which have to be given.
    """
    constants: dict[str, Constant] = dict(graph.constants)
    given_values = known_inputs or {}
    for name, array in given_values.items():
        constants[name] = Constant(from_numpy(array.dtype), array.shape, array)
    infos: dict[str, Info] = {name: constant_info(one) for name, one in constants.items()}
    inputs = [value for value in graph.inputs if value.name not in given_values]
    for value in inputs:
        infos[value.name] = Info(value.dtype, shapes[value.name])
    nodes: list[Node] = []
    for node in graph.nodes:
        given = [infos[name] if name else None for name in node.inputs]
        resolved, results = infer_node(node, given)
        known = True
        for name, info in zip(node.outputs, results, strict=False):
            infos[name] = info
            if name:
                known = known and info.value is not None
        if known and results:
            for name, info in zip(node.outputs, results, strict=False):
                if name:
                    constants[name] = Constant(info.dtype, info.shape, info.value)
        else:
            nodes.append(resolved)
    read = {name for node in nodes for name in node.inputs}
    read.update(value.name for value in graph.outputs)
    values = {
        name: Value(name, info.dtype, info.shape)
        for name, info in infos.items()
        if name not in constants
    }
    outputs = tuple(_typed(value, infos[value.name]) for value in graph.outputs)
    return replace(
        graph,
        inputs=tuple(_typed(value, infos[value.name]) for value in inputs),
        outputs=outputs,
        nodes=tuple(nodes),
        constants={name: one for name, one in constants.items() if name in read},
        values=values,
    )


def _typed(value: Value, info: Info) -> Value:
    return Value(value.name, info.dtype, info.shape)
