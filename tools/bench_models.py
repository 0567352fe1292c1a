"""Makes the one-operator ONNX models that the benchmark measures, and finds the networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.onnx.tagger import tagger
from tests.onnx.whisper import TINY, decoder, encoder
from tools.networks import light_model, mobilenet, static_int8

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NETWORKS = ("resnet50", "squeezenet", "densenet121", "shufflenet", "inception_v2")
LIGHT_FEEDS = {"resnet50": "gpu_0/data_0", "squeezenet": "data_0", "shufflenet": "gpu_0/data_0"}
SIDE = 56  # pixels of the single convolutions
LAYERS, WIDTH, HEADS, WORDS, ROOM = 12, 160, 5, 800, 256  # of the decoder: 16 MB


def matmul_model(n: int, constant: bool) -> bytes:
    """y = a b of float32 (n, n); `constant` makes b an initializer, else it is an input."""
    shape = [n, n]
    inputs = [helper.make_tensor_value_info("a", TensorProto.FLOAT, shape)]
    initializers = []
    if constant:
        values = np.random.default_rng(n).standard_normal(shape, dtype=np.float32)
        initializers.append(numpy_helper.from_array(values, "b"))
    else:
        inputs.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, shape))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["y"], name="product")],
        f"matmul_{n}",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        initializers,
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())


def matmul_integer_model(n: int) -> bytes:
    """y = (a - 131) b of uint8 a (n, n) and int8 b, an initializer.

    b is what a quantiser makes of normal numbers: the largest becomes 127.
    """
    shape = [n, n]
    values = np.random.default_rng(n).standard_normal(shape, dtype=np.float32)
    weights = np.rint(values * (127 / np.abs(values).max())).astype(np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b", "zero"], ["y"], name="product")],
        f"matmul_integer_{n}",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, shape)],
        [
            numpy_helper.from_array(weights, "b"),
            numpy_helper.from_array(np.array(131, np.uint8), "zero"),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())


@dataclass(frozen=True, slots=True)
class Made:
    """A model of a float32 input, and how its bytes come about; `more` are its other feeds, as
    web/bench/page.js takes them."""

    make: Callable[[], bytes]
    feed: str
    dims: tuple[int, ...]
    more: tuple[Mapping[str, Any], ...] = ()


def single_model(
    op: str,
    dims: tuple[int, ...],
    results: tuple[int, ...],
    weights: Mapping[str, tuple[int, ...]],
    **attrs: Any,
) -> bytes:
    """y = op(x, weights...), weights initializers of random numbers of these shapes."""
    random = np.random.default_rng(sum(dims))
    initializers = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in weights.items()
    ]
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *weights], ["y"], name=op.lower(), **attrs)],
        op.lower(),
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, results)],
        initializers,
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())


def _conv(channels: int, filters: int, kernel: int, group: int = 1) -> Made:
    x, y = ((1, c, SIDE, SIDE) for c in (channels, filters))
    weights = {"w": (filters, channels // group, kernel, kernel), "b": (filters,)}
    make = partial(
        single_model, "Conv", x, y, weights, group=group, pads=[kernel // 2] * 4
    )
    return Made(make, "x", x)


def _square(op: str, weights: Mapping[str, tuple[int, ...]] | None = None) -> Made:
    dims = (1024, 1024)
    return Made(partial(single_model, op, dims, dims, weights or {}), "x", dims)


def _network(name: str) -> Made:
    path = LIGHT / f"light_{name}.onnx"
    graph = onnx.load(path).graph
    stored = {initializer.name for initializer in graph.initializer}
    (value,) = (v for v in graph.input if v.name not in stored)
    dims = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    return Made(path.read_bytes, value.name, dims)


def _in_bytes(model: Callable[[], onnx.ModelProto], **options: bool) -> Made:
    """A network of one picture of 3 x 224 x 224 in bytes."""

    def make() -> bytes:
        made = onnx.load_from_string(static_int8(model(), **options))
        assert [value.name for value in made.graph.input] == [feed]
        return bytes(made.SerializeToString())

    feed = "x" if model is mobilenet else LIGHT_FEEDS[model.args[0]]  # type: ignore[attr-defined]
    return Made(make, feed, (1, 3, 224, 224))


def decoder_model() -> bytes:
    """A small GPT as an exporter writes it: one new word, caches that are inputs and outputs.

    ids (1, 1), key_0 … value_11 (1, heads, past, features) -> logits (1, words), new_key_0 …: the
    caches with a row more. The word's position is the length of the past.
    """
    random = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []

    def op(kind: str, *inputs: str, out: str = "", **attrs: Any) -> str:
        name = out or f"v{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], **attrs))
        return name

    def store(array: Any) -> str:
        stored.append(numpy_helper.from_array(np.asarray(array), f"w{len(stored)}"))
        return stored[-1].name

    def weight(*shape: int, scale: float = 0.05, around: float = 0.0) -> str:
        return store((random.standard_normal(shape) * scale + around).astype(np.float32))

    def linear(x: str, rows: int, columns: int) -> str:
        return op("Add", op("MatMul", x, weight(rows, columns)), weight(columns))

    def norm(x: str) -> str:
        return op("LayerNormalization", x, weight(WIDTH, around=1.0), weight(WIDTH))

    heads, size = HEADS, WIDTH // HEADS
    past = op("Shape", "key_0", start=2, end=3)
    x = op("Add", op("Gather", weight(WORDS, WIDTH), "ids"),
           op("Unsqueeze", op("Gather", weight(ROOM, WIDTH), past), store([0])))  # fmt: skip
    form, flat, scale = store([0, 0, heads, size]), store([0, 0, -1]), store(np.float32(size**-0.5))
    for layer in range(LAYERS):
        y = norm(x)
        q, k, v = (
            op("Transpose", op("Reshape", linear(y, WIDTH, WIDTH), form), perm=[0, 2, 1, 3])
            for _ in range(3)
        )
        k, v = (
            op("Concat", f"{side}_{layer}", new, axis=2, out=f"new_{side}_{layer}")
            for side, new in (("key", k), ("value", v))
        )
        scores = op("Mul", op("MatMul", q, op("Transpose", k, perm=[0, 1, 3, 2])), scale)
        seen = op("Transpose", op("MatMul", op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        x = op("Add", x, linear(op("Reshape", seen, flat), WIDTH, WIDTH))
        up = linear(norm(x), WIDTH, 4 * WIDTH)
        gelu = op("Add", op("Erf", op("Div", up, store(np.float32(2**0.5)))), store(np.float32(1)))
        gelu = op("Mul", op("Mul", up, gelu), store(np.float32(0.5)))
        x = op("Add", x, linear(gelu, 4 * WIDTH, WIDTH))
    op("MatMul", norm(x), weight(WIDTH, WORDS), out="logits")
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 1])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1, WORDS])]
    for output, fed in decoder_caches():
        for ends, name, rows in ((inputs, fed, "past"), (outputs, output, "all")):
            shape: list[int | str] = [1, heads, rows, size]
            ends.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    graph = helper.make_graph(nodes, "decoder", inputs, outputs, stored)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())


def decoder_caches() -> list[tuple[str, str]]:
    """Which outputs are fed as which inputs."""
    sides = [f"{side}_{layer}" for layer in range(LAYERS) for side in ("key", "value")]
    return [(f"new_{side}", side) for side in sides]


def _whisper_step() -> Made:
    """A token behind 63 others, of the sizes of whisper-tiny: keys and values come and go."""
    past, *caches = (
        {"name": f"past_key_values.{layer}.{side}.{kind}", "dims": (1, TINY.heads, rows, TINY.size)}
        for layer in range(TINY.layers)
        for side, rows in (("decoder", 64), ("encoder", TINY.heard))
        for kind in ("key", "value")
    )
    ids = {"name": "input_ids", "dims": (1, 1), "below": TINY.words}
    make = partial(decoder, TINY, past=True)
    return Made(make, str(past["name"]), past["dims"], (ids, *caches))  # type: ignore[arg-type]


def _tagger(kind: str) -> Made:
    return Made(partial(tagger, kind, 128, 256), "x", (1, 100, 128))


def _frames() -> bytes:
    """30 seconds at 16 kHz as Whisper hears them: 3000 frames of 400 samples."""
    window = np.hanning(400).astype(np.float32)
    stored = [numpy_helper.from_array(np.asarray(a), n)
              for n, a in (("step", 160), ("w", window), ("length", 400))]  # fmt: skip
    node = helper.make_node("STFT", ["x", "step", "w", "length"], ["y"], name="stft", onesided=1)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 480000, 1))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2998, 201, 2))
    graph = helper.make_graph([node], "stft", [x], [y], stored)
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def _forest() -> bytes:
    """100 full trees of depth 8 over 30 features."""
    random = np.random.default_rng(0)
    trees, depth = 100, 8
    inner, count = (1 << depth) - 1, (2 << depth) - 1
    number = np.tile(np.arange(count), trees)
    tree = np.repeat(np.arange(trees), count)
    leaf = number >= inner
    attrs = {
        "nodes_treeids": tree, "nodes_nodeids": number,
        "nodes_featureids": np.where(leaf, 0, random.integers(0, 30, len(tree))),
        "nodes_truenodeids": np.where(leaf, 0, 2 * number + 1),
        "nodes_falsenodeids": np.where(leaf, 0, 2 * number + 2),
        "target_treeids": tree[leaf], "target_nodeids": number[leaf],
        "target_ids": np.zeros(leaf.sum(), int),
    }  # fmt: skip
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], name="trees", domain="ai.onnx.ml", n_targets=1,
        nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_values=random.standard_normal(len(tree)).tolist(),
        target_weights=random.standard_normal(int(leaf.sum())).tolist(),
        **{name: values.tolist() for name, values in attrs.items()},
    )  # fmt: skip
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (10000, 30))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (10000, 1))
    graph = helper.make_graph([node], "trees", [x], [y])
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def _grid(mode: str) -> bytes:
    """64 channels of 56 x 56, looked at in as many places."""
    random = np.random.default_rng(0)
    grid = random.uniform(-1.1, 1.1, (1, SIDE, SIDE, 2)).astype(np.float32)
    node = helper.make_node("GridSample", ["x", "grid"], ["y"], name="grid", mode=mode)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 64, SIDE, SIDE)) for n in "xy")
    graph = helper.make_graph([node], "grid", [x], [y], [numpy_helper.from_array(grid, "grid")])
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


@cache
def made_models() -> Mapping[str, Made]:
    """The models besides the products, by the names of their cases."""
    return {
        "conv_3x3_64": _conv(64, 64, 3),
        "conv_1x1_64_256": _conv(64, 256, 1),
        "conv_depthwise_256": _conv(256, 256, 3, 256),
        "exp_1024": _square("Exp"),
        "erf_1024": _square("Erf"),
        "softmax_1024": _square("Softmax"),
        "layer_norm_1024": _square("LayerNormalization", {"w": (1024,), "b": (1024,)}),
        "stft_whisper": Made(_frames, "x", (1, 480000, 1)),
        "trees_100": Made(_forest, "x", (10000, 30)),
        "grid_sample": Made(partial(_grid, "bilinear"), "x", (1, 64, SIDE, SIDE)),
        **{name: _network(name) for name in NETWORKS},
        "lstm": _tagger("LSTM"),
        "gru": _tagger("GRU"),
        "whisper_encoder": Made(
            partial(encoder, TINY), "input_features", (1, TINY.mels, TINY.frames)
        ),
        "whisper_step": _whisper_step(),
        "mobilenet": Made(lambda: bytes(mobilenet().SerializeToString()), "x", (1, 3, 224, 224)),
        "mobilenet_int8": _in_bytes(mobilenet),
        "mobilenet_int8_channels": _in_bytes(mobilenet, per_channel=True),
        "mobilenet_int8_operators": _in_bytes(mobilenet, operators=True),
        "resnet50_int8": _in_bytes(partial(light_model, "resnet50")),
        "resnet50_int8_channels": _in_bytes(partial(light_model, "resnet50"), per_channel=True),
        "squeezenet_int8": _in_bytes(partial(light_model, "squeezenet")),
        "shufflenet_int8": _in_bytes(partial(light_model, "shufflenet")),
    }
