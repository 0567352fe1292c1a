"""Free dimensions of a model's inputs and outputs, given a number by SessionOptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tilework.ir.graph import Value
from tilework.onnx.model import LoadedModel
from tilework.onnx.proto import ModelProto, parse


def override(
    model: LoadedModel,
    data: bytes | bytearray | memoryview,
    by_name: Mapping[str, int],
    by_denotation: Mapping[str, int],
) -> LoadedModel:
    """The model, whose extents of these names or denotations are these numbers.

    `data` is the model's file, which alone has the denotations; a name that a denoted extent has is
    given the number everywhere.
    """
    names = {**_denoted(data, by_denotation), **by_name} if by_denotation else by_name
    if not names:
        return model

    def numbered(value: Value) -> Value:
        if value.shape is None:
            return value
        shape = tuple(names.get(one, one) if isinstance(one, str) else one for one in value.shape)
        return replace(value, shape=shape)

    graph = replace(
        model.graph,
        inputs=tuple(numbered(value) for value in model.graph.inputs),
        outputs=tuple(numbered(value) for value in model.graph.outputs),
    )
    return replace(model, graph=graph)


def _denoted(
    data: bytes | bytearray | memoryview, by_denotation: Mapping[str, int]
) -> dict[str, int]:
    graph = parse(ModelProto, data).graph
    found: dict[str, int] = {}
    for value in (*graph.input, *graph.output) if graph is not None else ():
        tensor = value.type.tensor_type if value.type is not None else None
        for dim in tensor.shape.dim if tensor is not None and tensor.shape is not None else ():
            if dim.dim_param and dim.denotation in by_denotation:
                found[dim.dim_param] = by_denotation[dim.denotation]
    return found
