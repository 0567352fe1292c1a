"""Whisper-like speech recognition as exporters write it: log-mel, encoder, decoders with a past.

Random weights, the same in all models of one size, for a weight's name seeds it. Models are named
and shaped as optimum exports them; `STYLES` are the forms in which attention comes: as PyTorch's
eager code is exported (`eager`), with heads joined to the batch as it was before 2024 (`joined`),
as its scaled_dot_product_attention is (`sdpa`), and as onnxruntime's optimiser fuses it (`fused`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
STYLES = ("eager", "joined", "sdpa", "fused")
LOWEST = float(np.finfo(np.float32).min)
PROMPT = (3, 1, 4, 1)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a model: what the audio gives, what the transformer has."""

    window: int  # samples
    step: int
    mels: int
    frames: int
    width: int
    heads: int
    layers: int
    words: int
    room: int  # tokens

    @property
    def size(self) -> int:
        """Features of a head."""
        return self.width // self.heads

    @property
    def heard(self) -> int:
        """Rows that the encoder gives."""
        return self.frames // 2


TINY = Sizes(400, 160, 80, 3000, 384, 6, 4, 5000, 448)  # whisper-tiny, with fewer words
SMALL = Sizes(64, 24, 20, 60, 48, 3, 2, 97, 64)


class _Export:
    """Collects nodes and weights; methods return names of values."""

    def __init__(self, sizes: Sizes, style: str = "eager") -> None:
        self.sizes = sizes
        self.style = style
        self.nodes: list[Any] = []
        self.stored: dict[str, Any] = {}
        self._made = 0

    # -- nodes and weights ------------------------------------------------------------

    def op(self, op: str, *inputs: str, out: Any = None, domain: str = "", **attrs: Any) -> str:
        self._made += 1
        out = out or [f"{op.lower()}_{self._made}"]
        name = f"/{op}_{self._made}"
        self.nodes.append(helper.make_node(op, inputs, out, name, domain=domain, **attrs))
        first: str = out[0]
        return first

    def keep(self, name: str, array: Any) -> str:
        self.stored.setdefault(name, numpy_helper.from_array(np.asarray(array), name))
        return name

    def ints(self, *values: int) -> str:
        return self.keep(f"ints_{values}", np.array(values, np.int64))

    def index(self, value: int) -> str:
        return self.keep(f"index_{value}", np.array(value, np.int64))

    def number(self, value: float) -> str:
        return self.keep(f"number_{value}", np.array(value, np.float32))

    def weight(self, name: str, *shape: int, scale: float, around: float = 0.0) -> str:
        if name not in self.stored:
            draw = np.random.default_rng(zlib.crc32(name.encode()))
            self.keep(name, draw.standard_normal(shape, np.float32) * np.float32(scale)
                      + np.float32(around))  # fmt: skip
        return name

    @contextmanager
    def branch(self) -> Any:
        """What is written within goes to a list of its own."""
        outside, self.nodes = self.nodes, []
        yield self.nodes
        self.nodes = outside

    def model(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> bytes:
        graph = helper.make_graph(
            self.nodes, "main_graph", inputs, outputs, list(self.stored.values())
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        return bytes(made.SerializeToString())

    # -- layers ------------------------------------------------------------

    def linear(self, name: str, x: str, rows: int, columns: int, bias: bool = True) -> str:
        y = self.op("MatMul", x, self.weight(f"{name}.weight", rows, columns, scale=rows**-0.5))
        return self.op("Add", self.weight(f"{name}.bias", columns, scale=0.1), y) if bias else y

    def norm(self, name: str, x: str, out: Any = None) -> str:
        width = self.sizes.width
        return self.op(
            "LayerNormalization", x, self.weight(f"{name}.weight", width, scale=0.1, around=1.0),
            self.weight(f"{name}.bias", width, scale=0.1), axis=-1, out=out,
        )  # fmt: skip

    def gelu(self, x: str) -> str:
        erf = self.op("Erf", self.op("Div", x, self.number(2**0.5)))
        return self.op("Mul", self.op("Mul", x, self.op("Add", erf, self.number(1.0))),
                       self.number(0.5))  # fmt: skip

    def extent(self, x: str, axis: int) -> str:
        return self.op("Gather", self.op("Shape", x), self.index(axis), axis=0)

    def reshape(self, x: str, *extents: str | int) -> str:
        """Extents are numbers or names of scalars."""
        one = self.ints(0)
        parts = [self.ints(e) if isinstance(e, int) else self.op("Unsqueeze", e, one)
                 for e in extents]  # fmt: skip
        return self.op("Reshape", x, self.op("Concat", *parts, axis=0))

    def apart(self, x: str) -> str:
        """(batch, rows, width) as (batch, heads, rows, size)."""
        y = self.reshape(x, self.extent(x, 0), self.extent(x, 1), self.sizes.heads, self.sizes.size)
        return self.op("Transpose", y, perm=[0, 2, 1, 3])

    def project(self, name: str, x: str, side: str) -> str:
        """The query, key or value side of an attention; Whisper's keys have no bias."""
        width = self.sizes.width
        bias = side != "k" and self.style != "fused"
        y = self.linear(f"{name}.{side}_proj", x, width, width, bias=bias)
        if side == "q" and self.style in ("eager", "joined"):
            y = self.op("Mul", y, self.number(self.sizes.size**-0.5))
        return y

    def attention(
        self,
        name: str,
        x: str,
        source: str,
        mask: str = "",
        past: tuple[str, str] | None = None,
        present: tuple[str, str] | None = None,
    ) -> str:
        """Of x's rows to the keys and values in `past`, then those that come from `source`."""
        q = self.project(name, x, "q")
        made = [self.project(name, source, side) for side in "kv"] if source else []
        if self.style == "fused":
            z = self._fused(name, q, made, past, present)
        else:
            keys = [self.apart(one) for one in made] or list(past or ())
            for index in range(2 if present else 0):
                assert present is not None
                out = [present[index]]
                if past:
                    keys[index] = self.op("Concat", past[index], keys[index], axis=2, out=out)
                else:
                    keys[index] = self.op("Identity", keys[index], out=out)
            z = getattr(self, f"_{self.style}")(q, *keys, mask)
        return self.linear(f"{name}.out_proj", z, self.sizes.width, self.sizes.width)

    def _eager(self, q: str, k: str, v: str, mask: str) -> str:
        scores = self.op("MatMul", self.apart(q), self.op("Transpose", k, perm=[0, 1, 3, 2]))
        return self._together(q, self._weighted(scores, v, mask))

    def _sdpa(self, q: str, k: str, v: str, mask: str) -> str:
        q4 = self.apart(q)
        last = self.op("Slice", self.op("Shape", q4), self.ints(-1), self.ints(2**63 - 1))
        features = self.op("Cast", last, to=TensorProto.FLOAT)
        scale = self.op("Div", self.number(1.0), self.op("Sqrt", features))
        turned = self.op("Transpose", k, perm=[0, 1, 3, 2])
        scores = self.op("MatMul", self.op("Mul", q4, self.op("Sqrt", scale)),
                         self.op("Mul", turned, self.op("Sqrt", scale)))  # fmt: skip
        return self._together(q, self._weighted(scores, v, mask))

    def _weighted(self, scores: str, v: str, mask: str) -> str:
        masked = self.op("Add", scores, mask) if mask else scores
        return self.op("MatMul", self.op("Softmax", masked, axis=-1), v)

    def _together(self, like: str, z: str) -> str:
        z = self.op("Transpose", z, perm=[0, 2, 1, 3])
        return self.reshape(z, self.extent(like, 0), self.extent(like, 1), self.sizes.width)

    def _joined(self, q: str, k: str, v: str, mask: str) -> str:
        heads, size = self.sizes.heads, self.sizes.size
        batch, rows, keys = self.extent(q, 0), self.extent(q, 1), self.extent(k, 2)
        all_heads = self.op("Mul", batch, self.index(heads))
        q3, k3, v3 = (self.reshape(one, all_heads, -1, size) for one in (self.apart(q), k, v))
        scores = self.op("MatMul", q3, self.op("Transpose", k3, perm=[0, 2, 1]))
        if mask:
            scores = self.op("Add", self.reshape(scores, batch, heads, rows, keys), mask)
            scores = self.reshape(scores, all_heads, rows, keys)
        z = self.op("MatMul", self.op("Softmax", scores, axis=-1), v3)
        return self._together(q, self.reshape(z, batch, heads, rows, size))

    def _fused(
        self,
        name: str,
        q: str,
        made: Sequence[str],
        past: tuple[str, str] | None,
        present: tuple[str, str] | None,
    ) -> str:
        """Biases in the operator, causal by its attribute, caches its own inputs and outputs."""
        width, own = self.sizes.width, bool(made and name.startswith("decoder") and "self" in name)
        parts = [
            numpy_helper.to_array(self.stored[self.weight(f"{name}.{side}_proj.bias", width,
                                                          scale=0.1)])
            for side in "qv"
        ]  # fmt: skip
        whole = np.concatenate([parts[0], np.zeros(width, np.float32), parts[1]])
        if not made:  # those of keys and values are in the past
            whole[width:] = 0
        bias = self.keep(f"{name}.bias{'' if made else '_q'}", whole)
        before = past if past and made else ("", "")
        z = f"{name}.attended_{self._made}"
        return self.op(
            "MultiHeadAttention", q, *(made or past or ()), bias, "", "", *before,
            out=[z, *(present or ())], domain=MICROSOFT, num_heads=self.sizes.heads,
            unidirectional=int(own),
        )  # fmt: skip

    def feed_forward(self, name: str, x: str) -> str:
        width = self.sizes.width
        inner = self.gelu(self.linear(f"{name}.fc1", x, width, 4 * width))
        return self.linear(f"{name}.fc2", inner, 4 * width, width)


FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def _tensor(name: str, kind: int, *shape: int | str) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def log_mel(sizes: Sizes) -> bytes:
    """Samples → the logarithm of what each band of the mel scale has, by ONNX's own operators."""
    w = _Export(sizes)
    half = sizes.window // 2
    padded = w.op("Pad", "samples", w.ints(0, half, 0, half), mode="reflect")
    signal = w.op("Unsqueeze", padded, w.ints(2))
    hann = w.op("HannWindow", w.index(sizes.window))
    found = w.op("STFT", signal, w.index(sizes.step), hann, w.index(sizes.window))
    found = w.op("Slice", found, w.ints(0), w.ints(-1), w.ints(1))  # as Whisper: without the last
    power = w.op("ReduceSum", w.op("Mul", found, found), w.ints(-1), keepdims=0)
    rate = 16000
    filters = w.op(
        "MelWeightMatrix", w.index(sizes.mels), w.index(sizes.window), w.index(rate),
        w.number(0.0), w.number(rate / 2),
    )  # fmt: skip
    bands = w.op("Transpose", w.op("MatMul", power, filters), perm=[0, 2, 1])
    tens = w.op("Div", w.op("Log", w.op("Clip", bands, w.number(1e-10))), w.number(np.log(10.0)))
    most = w.op("ReduceMax", tens, axes=[1, 2], keepdims=1)
    near = w.op("Max", tens, w.op("Sub", most, w.number(8.0)))
    w.op("Div", w.op("Add", near, w.number(4.0)), w.number(4.0), out=["input_features"])
    return w.model(
        [_tensor("samples", FLOAT, "batch", "samples")],
        [_tensor("input_features", FLOAT, "batch", sizes.mels, "frames")],
    )


def encoder(sizes: Sizes, style: str = "eager") -> bytes:
    """encoder_model: input_features → last_hidden_state."""
    w = _Export(sizes, style)
    width = sizes.width
    x = "input_features"
    for number, (channels, stride) in enumerate(((sizes.mels, 1), (width, 2)), 1):
        weight = w.weight(f"conv{number}.weight", width, channels, 3, scale=(3 * channels) ** -0.5)
        bias = w.weight(f"conv{number}.bias", width, scale=0.1)
        x = w.gelu(w.op("Conv", x, weight, bias, kernel_shape=[3], pads=[1, 1], strides=[stride],
                        dilations=[1], group=1))  # fmt: skip
    x = w.op("Transpose", x, perm=[0, 2, 1])
    x = w.op("Add", x, w.weight("encoder.positions", sizes.heard, width, scale=0.5))
    for layer in range(sizes.layers):
        name = f"encoder.{layer}"
        y = w.norm(f"{name}.self_norm", x)
        x = w.op("Add", x, w.attention(f"{name}.self", y, y))
        x = w.op("Add", x, w.feed_forward(name, w.norm(f"{name}.final_norm", x)))
    w.norm("encoder.norm", x, out=["last_hidden_state"])
    return w.model(
        [_tensor("input_features", FLOAT, "batch", sizes.mels, sizes.frames)],
        [_tensor("last_hidden_state", FLOAT, "batch", sizes.heard, width)],
    )


SIDES = ("decoder.key", "decoder.value", "encoder.key", "encoder.value")


def _caches(sizes: Sizes, before: str, sides: Sequence[str], rows: str) -> list[Any]:
    heard = {"decoder": rows, "encoder": "encoder_sequence_length"}
    return [
        _tensor(f"{before}.{layer}.{side}", FLOAT, "batch", sizes.heads, heard[side[:7]],
                sizes.size)
        for layer in range(sizes.layers)
        for side in sides
    ]  # fmt: skip


def _mask(w: _Export, rows: str, past: str | None) -> str:
    """(batch, 1, rows, keys), of 0 and the lowest number: what comes later is hidden."""
    zero, one = w.index(0), w.index(1)
    keys = rows if past is None else w.op("Add", past, rows)
    batch = w.extent("input_ids", 0)
    if w.style == "joined":  # as PyTorch's triu of a full matrix is exported
        shape = w.op("Concat", *(w.op("Unsqueeze", one_, w.ints(0)) for one_ in (keys, keys)),
                     axis=0)  # fmt: skip
        full = w.op("ConstantOfShape", shape, value=numpy_helper.from_array(
            np.array([LOWEST], np.float32)))  # fmt: skip
        square = w.op("Trilu", full, w.index(1), upper=1)
        first = w.op("Sub", keys, rows)
        ends = [w.op("Unsqueeze", one_, w.ints(0)) for one_ in (first, keys)]
        seen = w.op("Slice", square, *ends, w.ints(0))
    else:
        key = w.op("Range", zero, keys, one)
        query = w.op("Range", zero if past is None else past, keys, one)
        hidden = w.op("Greater", key, w.op("Unsqueeze", query, w.ints(1)))
        seen = w.op("Where", hidden, w.number(LOWEST), w.number(0.0))
    four = w.op("Unsqueeze", seen, w.ints(0, 1))
    extents = [w.op("Unsqueeze", one_, w.ints(0)) for one_ in (batch, rows, keys)]
    wide = w.op("Concat", extents[0], w.ints(1), *extents[1:], axis=0)
    return w.op("Expand", four, wide)


def _decode(w: _Export, past: bool, heard: str, suffix: str = "") -> None:
    """Writes a decoder's nodes; its results' names end with `suffix`."""
    sizes, width = w.sizes, w.sizes.width
    rows = w.extent("input_ids", 1)
    before = w.extent("past_key_values.0.decoder.key", 2) if past else None
    words = w.weight("decoder.embed_tokens", sizes.words, width, scale=0.3)
    positions = w.weight("decoder.embed_positions", sizes.room, width, scale=3.0)
    first = w.index(0) if before is None else before
    last = rows if before is None else w.op("Add", before, rows)
    ends = [w.op("Unsqueeze", end, w.ints(0)) for end in (first, last)]
    x = w.op("Add", w.op("Gather", words, "input_ids"),
             w.op("Slice", positions, *ends, w.ints(0)))  # fmt: skip
    mask = _mask(w, rows, before)
    for layer in range(sizes.layers):
        name = f"decoder.{layer}"
        y = w.norm(f"{name}.self_norm", x)
        own, others, held, kept = (
            (f"{stem}.{layer}.{kind}.key{end}", f"{stem}.{layer}.{kind}.value{end}")
            for stem, end in (("present", suffix), ("past_key_values", ""))
            for kind in ("decoder", "encoder")
        )
        x = w.op("Add", x, w.attention(f"{name}.self", y, y, mask, held if past else None, own))
        y = w.norm(f"{name}.cross_norm", x)
        crossed = (
            w.attention(f"{name}.cross", y, "", past=kept) if past
            else w.attention(f"{name}.cross", y, heard, present=others)
        )  # fmt: skip
        x = w.op("Add", x, crossed)
        x = w.op("Add", x, w.feed_forward(name, w.norm(f"{name}.final_norm", x)))
    y = w.norm("decoder.norm", x)
    w.op("MatMul", y, w.weight("decoder.proj_out", width, sizes.words, scale=width**-0.5),
         out=[f"logits{suffix}"])  # fmt: skip


def decoder(sizes: Sizes, style: str = "eager", past: bool = False) -> bytes:
    """decoder_model, or decoder_with_past_model: logits of the next token, all keys and values."""
    w = _Export(sizes, style)
    _decode(w, past, "encoder_hidden_states")
    ids = _tensor("input_ids", INT64, "batch", "rows")
    logits = _tensor("logits", FLOAT, "batch", "rows", sizes.words)
    fed = _caches(sizes, "past_key_values", SIDES, "past") if past else [_hidden(sizes)]
    given = _caches(sizes, "present", SIDES[:2] if past else SIDES, "all")
    return w.model([ids, *fed], [logits, *given])


def _hidden(sizes: Sizes) -> Any:
    shape = ("batch", "encoder_sequence_length", sizes.width)
    return _tensor("encoder_hidden_states", FLOAT, *shape)


def merged(sizes: Sizes, style: str = "eager") -> bytes:
    """decoder_model_merged: both in one, chosen by `use_cache_branch`; weights lie outside."""
    w = _Export(sizes, style)
    results = ["logits", *(f"present.{n}.{side}" for n in range(sizes.layers) for side in SIDES)]
    graphs = []
    for past, suffix in ((True, "_past"), (False, "_first")):
        with w.branch() as nodes:
            _decode(w, past, "encoder_hidden_states", suffix)
            if past:  # what the first token's run has given goes on as it is
                for n in range(sizes.layers):
                    for side in SIDES[2:]:
                        w.op("Identity", f"past_key_values.{n}.{side}",
                             out=[f"present.{n}.{side}{suffix}"])  # fmt: skip
        given = [_tensor(f"{name}{suffix}", FLOAT) for name in results]
        for one in given:
            one.type.tensor_type.ClearField("shape")
        graphs.append(helper.make_graph(nodes, f"branch{suffix}", [], given))
    w.op("If", "use_cache_branch", then_branch=graphs[0], else_branch=graphs[1], out=results)
    return w.model(
        [
            _tensor("input_ids", INT64, "batch", "rows"),
            _hidden(sizes),
            *_caches(sizes, "past_key_values", SIDES, "past"),
            _tensor("use_cache_branch", TensorProto.BOOL, 1),
        ],
        [
            _tensor("logits", FLOAT, "batch", "rows", sizes.words),
            *_caches(sizes, "present", SIDES, "all"),
        ],
    )


# -- their use ------------------------------------------------------------------------------------


def sound(sizes: Sizes, batch: int = 1) -> Any:
    """Some tones that rise and fall, and noise: (batch, samples), as many as give all frames."""
    draw = np.random.default_rng(1)
    time = np.arange(sizes.frames * sizes.step, dtype=np.float64) / 16000
    pitches = 200.0 + 2000.0 * draw.random((batch, 4, 1))
    tones = np.sin(2 * np.pi * pitches * time * (1 + 0.1 * np.sin(3 * time))).sum(axis=1)
    return (0.1 * tones + 0.01 * draw.standard_normal(tones.shape)).astype(np.float32)


def greedy(
    sessions: Sequence[Any], value: Callable[[Any], Any], heard: Any, prompt: Any, steps: int
) -> tuple[list[list[int]], list[Any]]:
    """Tokens and logits, caches as OrtValues. Sessions: (decoder, with past) or (merged,)."""
    merged_in_one = len(sessions) == 1
    names = [one.name for one in sessions[0].get_inputs()]
    caches: dict[str, Any] = {}
    if merged_in_one:
        for one in sessions[0].get_inputs():
            if one.name.startswith("past"):  # nothing yet; which branch runs does not ask
                shape = [len(prompt), one.shape[1], 0, one.shape[3]]
                caches[one.name] = value(np.zeros(shape, np.float32))
    ids, tokens, logits = prompt, [], []
    for step in range(steps):
        session = sessions[0] if step == 0 else sessions[-1]
        feeds = {"input_ids": value(ids), **caches}
        if "encoder_hidden_states" in names and (merged_in_one or step == 0):
            feeds["encoder_hidden_states"] = heard
        if merged_in_one:
            feeds["use_cache_branch"] = value(np.array([step > 0]))
        outputs = [one.name for one in session.get_outputs()]
        found = dict(zip(outputs, session.run_with_ort_values(outputs, feeds), strict=True))
        logits.append(found.pop("logits").numpy())
        for name, cache in found.items():
            caches[name.replace("present", "past_key_values")] = cache
        ids = logits[-1][:, -1:].argmax(axis=-1).astype(np.int64)
        tokens.append(ids[:, 0].tolist())
    return tokens, logits
