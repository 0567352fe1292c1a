"""Small language models with weights of 4 bits, in the form that people run in browsers.

The graph is the one that onnxruntime-genai's builder writes: SimplifiedLayerNormalization,
MatMulNBits, GroupQueryAttention with the rotary embedding inside, a gate by SiLU, a head as wide as
the vocabulary. Weights are random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
BLOCK = 32


@dataclass(frozen=True, slots=True)
class Language:
    """Sizes, names of the usual configuration; `packed`: q, k and v are one product; `half`: all is
    float16; `shared`: the embedding is a GatherBlockQuantized of the head's own weights."""

    layers: int = 30
    width: int = 576
    heads: int = 9
    kv_heads: int = 3
    inner: int = 1536
    words: int = 49152
    room: int = 2048
    accuracy: int = 4
    packed: bool = False
    half: bool = False
    shared: bool = False

    @property
    def size(self) -> int:
        return self.width // self.heads

    @property
    def kind(self) -> int:
        return int(TensorProto.FLOAT16 if self.half else TensorProto.FLOAT)

    @property
    def numbers(self) -> Any:
        return np.float16 if self.half else np.float32

    def caches(self) -> list[tuple[str, str]]:
        """Which outputs are fed as which inputs."""
        sides = [(n, side) for n in range(self.layers) for side in ("key", "value")]
        return [(f"present.{n}.{side}", f"past_key_values.{n}.{side}") for n, side in sides]


SMOL = Language()
SHORT = Language(layers=10, shared=True)  # of the bench
SMALL = Language(layers=2, width=128, heads=4, kv_heads=2, inner=192, words=320, room=256)


def language(sizes: Language, seed: int = 0) -> Any:
    """The model: input_ids, attention_mask and past_key_values -> logits and present."""
    random = np.random.default_rng(seed)
    nodes: list[Any] = []
    stored: list[Any] = []

    def op(kind: str, *inputs: str, out: Any = None, domain: str = "", **attrs: Any) -> str:
        names = [out] if isinstance(out, str) else out or [f"v{len(nodes)}"]
        name = f"n{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, names, name, domain=domain, **attrs))
        return str(names[0])

    def store(array: Any, name: str = "") -> str:
        stored.append(numpy_helper.from_array(np.asarray(array), name or f"w{len(stored)}"))
        return str(stored[-1].name)

    def packed(n: int, k: int) -> tuple[str, str]:
        blocks = -(-k // BLOCK)
        numbers = random.integers(0, 256, (n, blocks, BLOCK // 2), np.uint8)
        scales = random.uniform(0.5, 1.5, n * blocks) / (4.6 * k**0.5)
        return store(numbers), store(scales.astype(sizes.numbers))

    def product(x: str, n: int, k: int, of: tuple[str, str] | None = None, out: str = "") -> str:
        more = {"accuracy_level": sizes.accuracy} if sizes.accuracy else {}
        return op("MatMulNBits", x, *(of or packed(n, k)), out=out or None, domain=MICROSOFT,
                  N=n, K=k, bits=4, block_size=BLOCK, **more)  # fmt: skip

    def norm() -> str:
        return store((random.standard_normal(sizes.width) * 0.1 + 1).astype(sizes.numbers))

    width, size, heads, shared = sizes.width, sizes.size, sizes.heads, sizes.kv_heads
    columns = op("ReduceSum", "attention_mask", store(np.array([1])), keepdims=1)
    lengths = op("Cast", op("Sub", columns, store(np.array([1]))), to=TensorProto.INT32)
    total = op("Gather", op("Shape", "attention_mask"), store(np.array(1)), axis=0)
    total = op("Cast", total, to=TensorProto.INT32)
    angles = np.arange(sizes.room)[:, None] * 10000.0 ** (-np.arange(size // 2) / (size // 2))
    cos, sin = (store(f(angles).astype(sizes.numbers)) for f in (np.cos, np.sin))
    head = packed(sizes.words, width)
    if sizes.shared:
        flat, scales = (op("Reshape", part, store(np.array([sizes.words, -1]))) for part in head)
        x = op("GatherBlockQuantized", flat, "input_ids", scales, domain=MICROSOFT, bits=4,
               block_size=BLOCK, gather_axis=0, quantize_axis=1)  # fmt: skip
    else:
        words = random.standard_normal((sizes.words, width)).astype(sizes.numbers)
        x = op("Gather", store(words), "input_ids")
    y = op("SimplifiedLayerNormalization", x, norm(), axis=-1, epsilon=1e-5, stash_type=1)
    for n in range(sizes.layers):
        if sizes.packed:
            rows = (heads + 2 * shared) * size
            bias = store((random.standard_normal(rows) * 0.1).astype(sizes.numbers))
            sides = [op("Add", product(y, rows, width), bias), "", ""]
        else:
            sides = [product(y, count * size, width) for count in (heads, shared, shared)]
        past = [f"past_key_values.{n}.{side}" for side in ("key", "value")]
        present = [f"present.{n}.{side}" for side in ("key", "value")]
        seen = op("GroupQueryAttention", *sides, *past, lengths, total, cos, sin,
                  out=[f"seen{n}", *present], domain=MICROSOFT, num_heads=heads, do_rotary=1,
                  kv_num_heads=shared, scale=size**-0.5, local_window_size=-1, softcap=0.0,
                  rotary_interleaved=0)  # fmt: skip
        for part in ("attention", "network"):
            if part == "attention":
                y = product(seen, width, heads * size)
            else:
                gate, up = (product(y, sizes.inner, width) for _ in range(2))
                gated = op("Mul", op("Mul", gate, op("Sigmoid", gate)), up)
                y = product(gated, width, sizes.inner)
            last = part == "network" and n == sizes.layers - 1
            out = [f"y{part}{n}", *([] if last else ["", "", f"x{part}{n}"])]
            y = op("SkipSimplifiedLayerNormalization", x, y, norm(), out=out, domain=MICROSOFT,
                   epsilon=1e-5)  # fmt: skip
            x = f"x{part}{n}"
    product(y, sizes.words, width, head, "logits")
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "rows"]),
        helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "total"]),
    ]
    logits: list[Any] = ["batch", "rows", sizes.words]
    outputs = [helper.make_tensor_value_info("logits", sizes.kind, logits)]
    for output, fed in sizes.caches():
        for ends, name, length in ((inputs, fed, "past"), (outputs, output, "total")):
            shape: list[Any] = ["batch", shared, length, size]
            ends.append(helper.make_tensor_value_info(name, sizes.kind, shape))
    graph = helper.make_graph(nodes, "language", inputs, outputs, stored)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def fed(sizes: Language, ids: Any, known: int, caches: list[Any]) -> dict[str, Any]:
    """The feeds of a run of `ids`, (batch, rows), behind `known` others."""
    batch, rows = ids.shape
    names = ["input_ids", "attention_mask", *(name for _, name in sizes.caches())]
    mask = np.ones((batch, known + rows), np.int64)
    return dict(zip(names, [ids, mask, *caches], strict=True))


def nothing(sizes: Language, batch: int = 1) -> list[Any]:
    """Caches without rows."""
    return [np.zeros((batch, sizes.kv_heads, 0, sizes.size), sizes.numbers)
            for _ in sizes.caches()]  # fmt: skip
