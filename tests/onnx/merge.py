"""Two decoders in one model, as Optimum merges them: what transformers.js downloads."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper

SWITCH = "use_cache_branch"


def merge(first: bytes, cached: bytes, share: bool = True) -> bytes:
    """An If on the input `use_cache_branch` between a decoder without a past and one with it.

    Weights with the same elements are stored once, outside; without `share` each branch has its
    own. What only `first` gives is an empty constant of the other, of 0 along the first axis that
    is named, 1 along the others.
    """
    graphs = [onnx.load_from_string(content).graph for content in (first, cached)]
    stored: dict[Any, Any] = {}
    for graph in graphs if share else ():
        names = {}
        for tensor in graph.initializer:
            key = tensor.data_type, tuple(tensor.dims), tensor.raw_data
            names[tensor.name] = stored.setdefault(key, tensor).name
        for node in graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
        del graph.initializer[:]
    outputs = list(graphs[0].output)
    given = {output.name for output in graphs[1].output}
    for output in outputs:
        if output.name in given:
            continue
        dims = [one.dim_value for one in output.type.tensor_type.shape.dim]
        named = [axis for axis, extent in enumerate(dims) if not extent]
        for axis in named[1:]:
            dims[axis] = 1
        empty = helper.make_tensor("nothing", output.type.tensor_type.elem_type, dims, [])
        graphs[1].node.append(helper.make_node("Constant", [], [output.name], value=empty))
    uncached, with_past = (
        helper.make_graph(graph.node, name, [], outputs, graph.initializer)
        for graph, name in zip(graphs, ("no_past", "with_past"), strict=True)
    )
    node = helper.make_node(
        "If", [SWITCH], [one.name for one in outputs], "optimum::if", then_branch=with_past,
        else_branch=uncached,
    )  # fmt: skip
    inputs = {one.name: one for graph in reversed(graphs) for one in graph.input}
    switch = helper.make_tensor_value_info(SWITCH, TensorProto.BOOL, [1])
    weights = list({one.name: one for one in stored.values()}.values())
    assert len(weights) == len(stored)  # of one name are only those that are the same
    graph = helper.make_graph([node], "merged", [*inputs.values(), switch], outputs, weights)
    opsets = onnx.load_from_string(cached).opset_import
    made = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return bytes(made.SerializeToString())
