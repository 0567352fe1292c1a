"""Makes MiniLM with dynamic int8 products, as onnxruntime's own quantiser makes it.

Owns when that happens and where it lies: build/models/minilm-int8, whole. Needs onnxruntime, which
the tests' dependencies bring, and the demo's model, which the build makes.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import onnx
from onnx import external_data_helper

from tools.model import MINILM
from tools.project import BUILD, ROOT, remove
from tools.steps import Line, step

MINILM_INT8 = BUILD / "models" / "minilm-int8"
DATA_NAME = "model.onnx.data"
EXTERNAL_FROM = 1024  # bytes; smaller tensors stay in model.onnx


def make_quantised() -> Path:
    """The model, as a step; its path."""
    path = MINILM_INT8 / "model.onnx"

    def action(line: Line) -> str:
        line.progress("quantising")
        quantise(MINILM / "model.onnx", path)
        return f"{(MINILM_INT8 / DATA_NAME).stat().st_size / 1e6:.1f} MB of weights"

    step(
        "model in int8",
        action,
        inputs=[ROOT / "tools" / "quantised.py", MINILM / "model.onnx"],
        outputs=[path, MINILM_INT8 / DATA_NAME],
    )
    return path


def quantise(source: Path, target: Path) -> None:
    """`source`'s weights as signed bytes, in `target` with external data beside it."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source, load_external_data=False)
    for tensor in model.graph.initializer:
        _fill(tensor, source.parent)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.onnx"
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)  # it recommends a preparation that changes nothing here
        try:
            quantize_dynamic(model, made, weight_type=QuantType.QInt8)
        finally:
            logging.disable(before)
        quantised = onnx.load(made)
    remove(target.parent)
    target.parent.mkdir(parents=True)
    save_apart(quantised, target)


def save_apart(model: onnx.ModelProto, target: Path) -> None:
    """`model` in `target`, its larger tensors in DATA_NAME beside it."""
    onnx.save(
        model, target, save_as_external_data=True, location=DATA_NAME,
        size_threshold=EXTERNAL_FROM,
    )  # fmt: skip


def _fill(tensor: onnx.TensorProto, folder: Path) -> None:
    """Reads what lies outside the model; onnx itself refuses files that have several links."""
    if not external_data_helper.uses_external_data(tensor):
        return
    said = external_data_helper.ExternalDataInfo(tensor)
    with (folder / said.location).open("rb") as file:
        file.seek(said.offset or 0)
        tensor.raw_data = file.read(said.length)
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.DEFAULT
