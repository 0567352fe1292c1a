"""Weights inside a model's file that go to the device at load, so that Python may forget the file.

A constant is a view of the file's bytes, which stay in Python's memory as long as any view does;
that is right where weights are packed and read no more. Tables, and weights of few bits, are read
where they lie: they would be in memory twice. Where they are most of a file they become the
session's external data, and the rest is copied. Decides that and does it; owns nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tilework.engine.constants import contiguous
from tilework.engine.devices import Buffer, Device
from tilework.ir.graph import Constant, Graph
from tilework.onnx.model import LoadedModel

READ_IN_PLACE = {"matmul_blocks": (1, 2, 3), "gather_blocks": (0, 2, 3), "gather": (0,)}
LEAST = 4096  # bytes of one that goes
REST = 4  # what stays is at most such a part of what goes
ALIGNED = 64


def move(model: LoadedModel, device: Device) -> tuple[LoadedModel, Buffer | None]:
    """(the model without those weights' arrays, the buffer that has them), or as it was."""
    constants = model.graph.constants
    chosen = {name: constants[name] for name in _in_place(model.graph)}
    going = sum(one.nbytes for one in chosen.values())
    every = (*constants.values(), *model.defaults.values())
    staying = sum(one.nbytes for one in every if one.array is not None) - going
    if not chosen or staying * REST > going:
        return model, None
    places: dict[str, int] = {}
    end = 0
    for name, one in chosen.items():
        places[name] = end
        end += -(-one.nbytes // ALIGNED) * ALIGNED
    buffer = device.allocate(end, "weights")
    try:
        for name, place in places.items():
            array = chosen[name].array
            assert array is not None  # `_in_place` sees to it
            buffer.write(contiguous(array), place)
    except BaseException:
        buffer.free()
        raise
    kept = {
        name: replace(one, array=None, external=(places[name], one.nbytes))
        if name in places
        else _copied(one)
        for name, one in constants.items()
    }
    defaults = {name: _copied(one) for name, one in model.defaults.items()}
    return replace(model, graph=replace(model.graph, constants=kept), defaults=defaults), buffer


def _in_place(graph: Graph) -> list[str]:
    """Names of the larger constants that kernels read where they lie, if only by another shape."""
    constants: Mapping[str, Constant] = graph.constants
    shaped = {n.outputs[0]: n.inputs[0] for n in graph.nodes if n.op == "reshape"}
    found: dict[str, None] = {}
    for node in graph.nodes:
        for place in READ_IN_PLACE.get(node.op, ()):
            name = node.inputs[place] if place < len(node.inputs) else ""
            name = shaped.get(name, name)
            one = constants.get(name)
            if one is not None and one.array is not None and one.nbytes >= LEAST:
                found[name] = None
    return list(found)


def _copied(constant: Constant) -> Constant:
    array = constant.array
    return constant if array is None else replace(constant, array=array.copy())
