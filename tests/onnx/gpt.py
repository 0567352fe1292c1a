"""Small language models with a past, and how they are run token by token.

One as onnxruntime's optimiser writes GPT-2, one as its model builder writes Llama, and two of
ONNX's own operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.onnx.merge import merge

WORDS, WIDTH, HEADS, SHARED, LAYERS = 50, 64, 4, 2, 2
SIZE = WIDTH // HEADS
ROOM = 32  # positions
MICROSOFT = "com.microsoft"


class Writer:
    """Collects nodes and weights; methods return names of values."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.stored: list[Any] = []
        self._random = np.random.default_rng(0)

    def weight(self, *shape: int, scale: float = 0.2, around: float = 0.0) -> str:
        return self.store((self._random.standard_normal(shape) * scale + around).astype("f4"))

    def store(self, array: Any) -> str:
        name = f"w{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(array, name))
        return name

    def op(self, op: str, *inputs: str, out: Any = None, domain: str = "", **attrs: Any) -> str:
        out = out or [f"v{len(self.nodes)}"]
        self.nodes.append(helper.make_node(op, inputs, out, f"n{len(self.nodes)}", domain=domain,
                                           **attrs))  # fmt: skip
        first: str = out[0]
        return first

    def norm(self) -> str:
        return self.weight(WIDTH, scale=0.1, around=1.0)

    def model(self, inputs: dict[str, Any], outputs: dict[str, Any], opset: int = 17) -> bytes:
        fed, read = (
            [helper.make_tensor_value_info(name, *kind) for name, kind in one.items()]
            for one in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, "gpt", fed, read, self.stored)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
        content: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10
                                           ).SerializeToString()  # fmt: skip
        return content

    def decoder(
        self, fed: dict[str, Any], heads: int, opset: int = 17, past: bool = True
    ) -> bytes:
        """The model, fed these and for each layer keys and values of so many heads; without a
        `past` it only gives them."""
        sides = [f"{side}_{layer}" for layer in range(LAYERS) for side in ("key", "value")]
        form: list[Any] = ["batch", heads, "past", SIZE]
        pasts = dict.fromkeys(sides if past else (), (TensorProto.FLOAT, form))
        presents = {f"new_{name}": (TensorProto.FLOAT, [*form[:2], "all", SIZE]) for name in sides}
        return self.model({**fed, **pasts}, {"logits": LOGITS, **presents}, opset)


IDS = (TensorProto.INT64, ["batch", "rows"])
LOGITS = (TensorProto.FLOAT, ["batch", "rows", WORDS])


def gpt2() -> bytes:
    """Attention, SkipLayerNormalization and FastGelu; past is (2, batch, heads, rows, features)."""
    w = Writer()
    cache = (TensorProto.FLOAT, [2, "batch", HEADS, "past", SIZE])
    x = w.op("Add", w.op("Gather", w.weight(WORDS, WIDTH), "ids"),
             w.op("Gather", w.weight(ROOM, WIDTH), "positions"))  # fmt: skip
    y = w.op("LayerNormalization", x, w.norm(), w.weight(WIDTH))
    for layer in range(LAYERS):
        w.op(
            "Attention", y, w.weight(WIDTH, 3 * WIDTH), w.weight(3 * WIDTH), "", f"past_{layer}",
            out=[f"a{layer}", f"present_{layer}"], domain=MICROSOFT, num_heads=HEADS,
            unidirectional=1,
        )  # fmt: skip
        a = w.op("MatMul", f"a{layer}", w.weight(WIDTH, WIDTH))
        w.op("SkipLayerNormalization", x, a, w.norm(), w.weight(WIDTH), w.weight(WIDTH),
             out=[f"b{layer}", "", "", f"s{layer}"], domain=MICROSOFT)  # fmt: skip
        up = w.op("FastGelu", w.op("MatMul", f"b{layer}", w.weight(WIDTH, 96)), w.weight(96),
                  domain=MICROSOFT)  # fmt: skip
        down = w.op("MatMul", up, w.weight(96, WIDTH))
        outputs = [f"c{layer}", "", "", f"t{layer}"]
        y = w.op("SkipLayerNormalization", f"s{layer}", down, w.norm(), w.weight(WIDTH),
                 w.weight(WIDTH), out=outputs, domain=MICROSOFT)  # fmt: skip
        x = f"t{layer}"
    w.op("MatMul", y, w.weight(WIDTH, WORDS), out=["logits"])
    pasts = {f"past_{layer}": cache for layer in range(LAYERS)}
    presents = {f"present_{layer}": (cache[0], [2, "batch", HEADS, "all", SIZE])
                for layer in range(LAYERS)}  # fmt: skip
    return w.model({"ids": IDS, "positions": IDS, **pasts}, {"logits": LOGITS, **presents})


def llama() -> bytes:
    """GroupQueryAttention with rotary embedding, RMS normalisation, a gated network; the lengths
    come from the attention mask."""
    w = Writer()
    x = w.op("Gather", w.weight(WORDS, WIDTH), "ids")
    long = w.op("ReduceSum", "mask", w.store(np.array([1])), keepdims=0)
    seqlens = w.op("Cast", w.op("Sub", long, w.store(np.array([1]))), to=TensorProto.INT32)
    columns = w.op("Gather", w.op("Shape", "mask"), w.store(np.array(1)))
    total = w.op("Cast", columns, to=TensorProto.INT32)
    angles = np.arange(ROOM)[:, None] * 0.7 ** np.arange(SIZE // 2)
    cos, sin = (w.store(f(angles).astype("f4")) for f in (np.cos, np.sin))
    y = w.op("SimplifiedLayerNormalization", x, w.norm(), epsilon=1e-6)
    for layer in range(LAYERS):
        q, k, v = (w.op("MatMul", y, w.weight(WIDTH, n * SIZE)) for n in (HEADS, SHARED, SHARED))
        w.op(
            "GroupQueryAttention", q, k, v, f"key_{layer}", f"value_{layer}", seqlens, total, cos,
            sin, out=[f"a{layer}", f"new_key_{layer}", f"new_value_{layer}"], domain=MICROSOFT,
            num_heads=HEADS, kv_num_heads=SHARED, do_rotary=1,
        )  # fmt: skip
        a = w.op("MatMul", f"a{layer}", w.weight(WIDTH, WIDTH))
        w.op("SkipSimplifiedLayerNormalization", x, a, w.norm(), domain=MICROSOFT, epsilon=1e-6,
             out=[f"b{layer}", "", "", f"s{layer}"])  # fmt: skip
        gate, up = (w.op("MatMul", f"b{layer}", w.weight(WIDTH, 96)) for _ in range(2))
        gated = w.op("Mul", w.op("Mul", gate, w.op("Sigmoid", gate)), up)
        down = w.op("MatMul", gated, w.weight(96, WIDTH))
        y = w.op("SkipSimplifiedLayerNormalization", f"s{layer}", down, w.norm(), domain=MICROSOFT,
                 epsilon=1e-6, out=[f"c{layer}", "", "", f"t{layer}"])  # fmt: skip
        x = f"t{layer}"
    w.op("MatMul", y, w.weight(WIDTH, WORDS), out=["logits"])
    mask = (TensorProto.INT64, ["batch", "columns"])
    return w.decoder({"ids": IDS, "mask": mask}, SHARED)


def plain(past: bool = True) -> bytes:
    """ONNX's own operators, as an exporter writes them: heads apart, a causal mask from shapes."""
    w = Writer()
    x = w.op("Add", w.op("Gather", w.weight(WORDS, WIDTH), "ids"),
             w.op("Gather", w.weight(ROOM, WIDTH), "positions"))  # fmt: skip
    square = w.store(np.tril(np.ones((ROOM, ROOM), bool)))
    zero, one = w.store(np.array([0])), w.store(np.array([1]))
    for layer in range(LAYERS):
        y = w.op("LayerNormalization", x, w.norm(), w.weight(WIDTH))
        product = w.op("Add", w.op("MatMul", y, w.weight(WIDTH, 3 * WIDTH)), w.weight(3 * WIDTH))
        sides = [f"side_{side}{layer}" for side in "qkv"]
        w.op("Split", product, w.store(np.array([WIDTH] * 3)), axis=2, out=sides)
        shape = w.store(np.array([0, 0, HEADS, SIZE]))
        q, k, v = (
            w.op("Transpose", w.op("Reshape", side, shape), perm=[0, 2, 1, 3]) for side in sides
        )
        k, v = (
            w.op("Concat", f"{side}_{layer}", made, axis=2, out=[f"new_{side}_{layer}"]) if past
            else w.op("Identity", made, out=[f"new_{side}_{layer}"])
            for side, made in (("key", k), ("value", v))
        )  # fmt: skip
        keys = w.op("Shape", k, start=2, end=3)
        first = w.op("Sub", keys, w.op("Shape", q, start=2, end=3))
        seen = w.op("Slice", square, first, keys, zero)
        seen = w.op("Slice", seen, zero, keys, one)
        scores = w.op("Div", w.op("MatMul", q, w.op("Transpose", k, perm=[0, 1, 3, 2])),
                      w.store(np.array(SIZE**0.5, "f4")))  # fmt: skip
        masked = w.op("Where", seen, scores, w.store(np.array(-3e38, "f4")))
        z = w.op("MatMul", w.op("Softmax", masked, axis=-1), v)
        z = w.op("Transpose", z, perm=[0, 2, 1, 3])
        z = w.op("Reshape", z, w.store(np.array([0, 0, WIDTH])))
        x = w.op("Add", x, w.op("MatMul", z, w.weight(WIDTH, WIDTH)))
        y = w.op("LayerNormalization", x, w.norm(), w.weight(WIDTH))
        up = w.op("Relu", w.op("Add", w.op("MatMul", y, w.weight(WIDTH, 96)), w.weight(96)))
        x = w.op("Add", x, w.op("MatMul", up, w.weight(96, WIDTH)))
    w.op("MatMul", x, w.weight(WIDTH, WORDS), out=["logits"])
    return w.decoder({"ids": IDS, "positions": IDS}, HEADS, past=past)


def merged() -> bytes:
    """`plain` with and without a past, in an If."""
    return merge(plain(past=False), plain())


def modern() -> bytes:
    """Attention, RotaryEmbedding and RMSNormalization of ONNX's opset 23."""
    w = Writer()
    x = w.op("Gather", w.weight(WORDS, WIDTH), "ids")
    angles = np.arange(ROOM)[:, None] * 0.7 ** np.arange(SIZE // 2)
    cos, sin = (w.store(f(angles).astype("f4")) for f in (np.cos, np.sin))
    for layer in range(LAYERS):
        y = w.op("RMSNormalization", x, w.norm(), epsilon=1e-6)
        q, k, v = (w.op("MatMul", y, w.weight(WIDTH, n * SIZE)) for n in (HEADS, SHARED, SHARED))
        q, k = (
            w.op("RotaryEmbedding", one, cos, sin, "positions", num_heads=heads)
            for one, heads in ((q, HEADS), (k, SHARED))
        )
        w.op(
            "Attention", q, k, v, "", f"key_{layer}", f"value_{layer}", is_causal=1,
            out=[f"a{layer}", f"new_key_{layer}", f"new_value_{layer}"], q_num_heads=HEADS,
            kv_num_heads=SHARED,
        )  # fmt: skip
        x = w.op("Add", x, w.op("MatMul", f"a{layer}", w.weight(WIDTH, WIDTH)))
        y = w.op("RMSNormalization", x, w.norm(), epsilon=1e-6)
        up = w.op("Gelu", w.op("MatMul", y, w.weight(WIDTH, 96)))
        x = w.op("Add", x, w.op("MatMul", up, w.weight(96, WIDTH)))
    w.op("MatMul", x, w.weight(WIDTH, WORDS), out=["logits"])
    return w.decoder({"ids": IDS, "positions": IDS}, SHARED, opset=23)


def halved(content: bytes) -> bytes:
    """The model with all that is float32 in float16."""
    model = onnx.load_from_string(content)

    def halve(tensor: Any) -> None:
        if tensor.data_type == TensorProto.FLOAT:
            with np.errstate(over="ignore"):
                small = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(small, tensor.name))

    pending = [model.graph]
    while pending:
        graph = pending.pop()
        for tensor in graph.initializer:
            halve(tensor)
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                value.type.tensor_type.elem_type = TensorProto.FLOAT16
        for node in graph.node:
            for one in node.attribute:
                if one.HasField("g"):
                    pending.append(one.g)
                elif one.HasField("t"):
                    halve(one.t)
                elif node.op_type == "Cast" and one.i == TensorProto.FLOAT:
                    one.i = TensorProto.FLOAT16
    return bytes(model.SerializeToString())


def generate(session: Any, value: Callable[[Any], Any], steps: int) -> tuple[list[Any], list[Any]]:
    """Greedy tokens and all logits of a prompt of 5 and what follows, caches as OrtValues."""
    ids = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]], np.int64)  # a page's int has 32 bits
    names = [one.name for one in session.get_inputs()]
    outputs = [one.name for one in session.get_outputs()]
    switched = names[-1] == "use_cache_branch"
    caches = [
        value(np.zeros([2 if n == "batch" else 0 if n == "past" else n for n in one.shape], "f4"))
        for one in session.get_inputs()[2 : -1 if switched else None]
    ]
    tokens, logits, known = [], [], 0
    for _ in range(steps):
        rows = ids.shape[1]
        second = np.tile(np.arange(known, known + rows, dtype=np.int64), (2, 1))
        if "mask" in names:
            second = np.ones((2, known + rows), np.int64)
        feeds = [value(ids), value(second), *caches]
        if switched:
            feeds.append(value(np.array([known > 0])))
        found, *caches = session.run_with_ort_values(outputs, dict(zip(names, feeds, strict=True)))
        known += rows
        logits.append(found.numpy())
        ids = logits[-1][:, -1:].argmax(axis=-1).astype(np.int64)
        tokens.append(ids)
    return tokens, logits
