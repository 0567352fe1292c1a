"""The exported model: external data, pieces, numbers, and that its bytes never change."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from search.tokenizer import Tokenizer
from tools import minilm

TINY = minilm.Config(
    hidden=16, heads=4, layers=2, intermediate=32, positions=24, epsilon=1e-12
)  # fmt: skip

# Cosine similarities that sentence-transformers documents for all-MiniLM-L6-v2, to four digits.
DOCUMENTED = (
    ("The weather is lovely today.", "It's so sunny outside!", 0.6660),
    ("The weather is lovely today.", "He drove to the stadium.", 0.1046),
    ("It's so sunny outside!", "He drove to the stadium.", 0.1411),
    ("That is a happy person", "That is a happy dog", 0.6946),
    ("That is a happy person", "That is a very happy person", 0.9429),
    ("That is a happy person", "Today is a sunny day", 0.2569),
)


def tiny_weights(config: minilm.Config = TINY, seed: int = 7) -> dict[str, minilm.Array]:
    """Random weights under BERT's names; the word table is large enough to be external."""
    random = np.random.default_rng(seed)
    hidden, wide = config.hidden, config.intermediate
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (50, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        "embeddings.position_embeddings.weight": (config.positions, hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "embeddings.LayerNorm.bias": (hidden,),
    }
    for layer in range(config.layers):
        at = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            shapes[f"{at}.attention.self.{part}.weight"] = (hidden, hidden)
            shapes[f"{at}.attention.self.{part}.bias"] = (hidden,)
        for part, rows, columns in (
            ("attention.output", hidden, hidden),
            ("intermediate", wide, hidden),
            ("output", hidden, wide),
        ):
            shapes[f"{at}.{part}.dense.weight"] = (rows, columns)
            shapes[f"{at}.{part}.dense.bias"] = (rows,)
            shapes[f"{at}.{part}.LayerNorm.weight"] = (rows,)
            shapes[f"{at}.{part}.LayerNorm.bias"] = (rows,)
    weights: dict[str, minilm.Array] = {
        name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()
    }
    weights["embeddings.position_ids"] = np.arange(config.positions)[None]
    return weights


def feeds(batch: int, length: int, seed: int = 3) -> dict[str, NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    mask = np.ones((batch, length), np.int64)
    mask[0, max(1, length // 2) :] = 0
    return {
        "input_ids": random.integers(0, 50, (batch, length)),
        "attention_mask": mask,
        "token_type_ids": random.integers(0, 2, (batch, length)),
    }


def normalise(x: minilm.Array, scale: minilm.Array, bias: minilm.Array) -> minilm.Array:
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + 1e-12) * scale + bias)


def bert(
    weights: dict[str, minilm.Array], inputs: dict[str, NDArray[np.int64]], heads: int, layers: int
) -> tuple[minilm.Array, minilm.Array]:
    """The encoder and the pooling in float64, written from the formulas and not from the graph."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    erf = np.vectorize(math.erf)
    ids = inputs["input_ids"]
    batch, length = ids.shape
    x = (
        w["embeddings.word_embeddings.weight"][ids]
        + w["embeddings.token_type_embeddings.weight"][inputs["token_type_ids"]]
        + w["embeddings.position_embeddings.weight"][:length]
    )
    x = normalise(x, w["embeddings.LayerNorm.weight"], w["embeddings.LayerNorm.bias"])
    hidden = np.where(inputs["attention_mask"] == 1, 0.0, -np.inf)[:, None, None, :]
    for layer in range(layers):
        at = f"encoder.layer.{layer}"

        def linear(x: minilm.Array, name: str, at: str = at) -> minilm.Array:
            return np.asarray(x @ w[f"{at}.{name}.weight"].T + w[f"{at}.{name}.bias"])

        def norm(x: minilm.Array, name: str, at: str = at) -> minilm.Array:
            return normalise(x, w[f"{at}.{name}.weight"], w[f"{at}.{name}.bias"])

        q, k, v = (
            linear(x, f"attention.self.{part}").reshape(batch, length, heads, -1).swapaxes(1, 2)
            for part in ("query", "key", "value")
        )
        scores = q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1]) + hidden
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        context = (scores @ v).swapaxes(1, 2).reshape(x.shape)
        x = norm(linear(context, "attention.output.dense") + x, "attention.output.LayerNorm")
        wide = linear(x, "intermediate.dense")
        wide = wide * (1 + erf(wide / np.sqrt(2))) / 2
        x = norm(linear(wide, "output.dense") + x, "output.LayerNorm")
    mask = inputs["attention_mask"][:, :, None]
    mean = (x * mask).sum(1) / mask.sum(1)
    return x, mean / np.linalg.norm(mean, axis=1, keepdims=True)


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 9), (3, 24)])
def test_agrees_with_the_formulas(
    tmp_path: Path, decomposed: bool, batch: int, length: int
) -> None:
    weights = tiny_weights()
    path = minilm.export(TINY, weights, tmp_path, decomposed)
    session = onnxruntime.InferenceSession(path)
    inputs = feeds(batch, length)
    tokens, sentence = session.run(["last_hidden_state", "sentence_embedding"], inputs)
    expected_tokens, expected_sentence = bert(weights, inputs, TINY.heads, TINY.layers)
    np.testing.assert_allclose(tokens, expected_tokens, atol=2e-5)
    np.testing.assert_allclose(sentence, expected_sentence, atol=2e-6)


@pytest.mark.parametrize(("decomposed", "opset"), [(False, 17), (True, 14)])
def test_the_form_of_the_graph(tmp_path: Path, decomposed: bool, opset: int) -> None:
    path = minilm.export(TINY, tiny_weights(), tmp_path, decomposed)
    model = onnx.load(path, load_external_data=False)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    operators = {node.op_type for node in model.graph.node}
    assert ("LayerNormalization" in operators) is not decomposed
    assert ("Pow" in operators) is decomposed
    assert {"Shape", "Gather", "Unsqueeze", "Concat", "Reshape", "Erf", "Softmax"} <= operators
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)


def test_external_data_is_aligned_and_disjoint(tmp_path: Path) -> None:
    path = minilm.export(TINY, tiny_weights(), tmp_path)
    size = (tmp_path / minilm.DATA_NAME).stat().st_size
    position = 0
    external = 0
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        nbytes = int(np.prod(tensor.dims)) * (8 if tensor.data_type == 7 else 4)
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            assert nbytes < minilm.EXTERNAL_FROM
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}
        offset, length = int(place["offset"]), int(place["length"])
        assert place["location"] == minilm.DATA_NAME
        assert length == nbytes >= minilm.EXTERNAL_FROM
        assert offset % minilm.ALIGNMENT == 0 and offset >= position
        position = offset + length
        external += 1
    assert external > 0 and position == size


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        minilm.export(TINY, tiny_weights(), tmp_path / name)
    for name in ("model.onnx", minilm.DATA_NAME):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_pieces_are_the_file_and_their_digests_are_right(tmp_path: Path) -> None:
    data = tmp_path / minilm.DATA_NAME
    data.write_bytes(np.random.default_rng(5).bytes(1000))
    site = tmp_path / "site"
    site.mkdir()
    (site / f"{minilm.DATA_NAME}.009").write_bytes(b"of an earlier model")
    manifest = json.loads(minilm.write_pieces(data, site, piece_bytes=384).read_text())
    assert manifest["location"] == minilm.DATA_NAME and manifest["bytes"] == 1000
    assert [piece["bytes"] for piece in manifest["pieces"]] == [384, 384, 232]
    blocks = [(site / piece["name"]).read_bytes() for piece in manifest["pieces"]]
    assert b"".join(blocks) == data.read_bytes()
    digests = [hashlib.sha256(block).hexdigest() for block in blocks]
    assert digests == [piece["sha256"] for piece in manifest["pieces"]]
    assert not (site / f"{minilm.DATA_NAME}.009").exists()
    assert minilm.PIECE_BYTES <= 16_000_000 and minilm.PIECE_BYTES % minilm.ALIGNMENT == 0


def safetensors(header: dict[str, object], body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def test_safetensors_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    values = np.arange(6, dtype=np.float32)
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    path.write_bytes(safetensors({"__metadata__": {"format": "pt"}, "w": entry}, values.tobytes()))
    tensors = minilm.read_safetensors(path)
    assert list(tensors) == ["w"]
    assert np.array_equal(tensors["w"], values.reshape(2, 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack("<Q", 10**6) + b"{}", "the header says 1000000 bytes"),
        (
            safetensors({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(8)),
            "w lies outside the file",
        ),
        (
            safetensors({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, bytes(8)),
            "w lies outside the file or has the wrong length",
        ),
        (
            safetensors({"w": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}, bytes(8)),
            "w is BF16",
        ),
    ],
)
def test_a_damaged_safetensors_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        minilm.read_safetensors(path)
    assert str(path) in str(raised.value)


def test_the_real_model_gives_the_documented_similarities(tmp_path: Path) -> None:
    minilm.make(tmp_path, dist=None)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    tokenizer = Tokenizer.parse((tmp_path / "vocab.txt").read_text(encoding="utf-8"))
    sentences = sorted({sentence for row in DOCUMENTED for sentence in row[:2]})
    inputs = tokenizer.arrays([tokenizer.encode(sentence) for sentence in sentences])
    (embeddings,) = session.run(["sentence_embedding"], inputs)
    by_sentence = dict(zip(sentences, embeddings, strict=True))
    for one, other, documented in DOCUMENTED:
        assert float(by_sentence[one] @ by_sentence[other]) == pytest.approx(documented, abs=1e-4)
