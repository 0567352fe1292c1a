"""The onnx package's light models with weights of their own, so that their results mean something.

The package stores them with weights that are all alike, whose outputs are the same number over and
over. Here every ConstantOfShape becomes an initializer of random numbers, seeded and scaled so that
activations neither vanish nor explode.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
BATCH_NORM = ("x", "scale", "bias", "mean", "variance")


def light_model(name: str, seed: int = 0) -> onnx.ModelProto:
    """`light_<name>.onnx` with random weights."""
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    graph = model.graph
    random = np.random.default_rng(seed)
    shapes = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    roles: dict[str, str] = {}
    kept = []
    made: dict[str, tuple[int, ...]] = {}
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            made[node.output[0]] = tuple(shapes[node.input[0]])
            continue
        kept.append(node)
        if node.op_type == "BatchNormalization":
            roles.update(zip(node.input, BATCH_NORM, strict=True))
    for weight, shape in made.items():
        array: Any
        if len(shape) > 1:
            array = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        elif roles.get(weight) in ("scale", "variance"):
            array = random.uniform(0.5, 1.0, shape)
        else:
            array = random.standard_normal(shape) * 0.1
        graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), weight))
    del graph.node[:]
    graph.node.extend(kept)
    return model


def picture(model: onnx.ModelProto, seed: int = 1) -> dict[str, Any]:
    """A feed for the one input that is a picture."""
    fed = {i.name for i in model.graph.initializer}
    (value,) = (v for v in model.graph.input if v.name not in fed)
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    array = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return {value.name: array}
