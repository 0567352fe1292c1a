"""Convolutions, pooling and normalisation of channels against onnxruntime, one model a row."""

from __future__ import annotations

import numpy as np
import pytest

from tests.onnx.rows import Row, f32, infer_row, positive, run_row

pytestmark = pytest.mark.onnx

X1, X2, X3 = f32(2, 4, 9), f32(2, 4, 9, 7), f32(1, 2, 5, 6, 4)


def w(*shape: int) -> object:
    return f32(*shape, seed=1)


ROWS = [
    Row("Conv", (X1, w(6, 4, 3)), {"pads": [1, 1]}),
    Row("Conv", (X2, w(6, 4, 3, 2), f32(6)), {"strides": [2, 1], "pads": [0, 1, 2, 3]}),
    Row("Conv", (X2, w(6, 2, 3, 3), f32(6)), {"group": 2, "dilations": [2, 1]}),
    Row("Conv", (X2, w(8, 1, 3, 3)), {"group": 4, "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    Row("Conv", (X3, w(3, 2, 2, 3, 1), f32(3)), {"pads": [1, 0, 0, 0, 1, 2]}),
    *(Row("Conv", (X2, w(3, 4, 4, 3)), {"auto_pad": auto, "strides": [2, 3]})
      for auto in ("SAME_UPPER", "SAME_LOWER", "VALID")),
    Row("ConvTranspose", (X1, w(4, 3, 3)), {"strides": [2], "pads": [1, 0]}),
    Row("ConvTranspose", (X2, w(4, 3, 3, 2), f32(6)),
        {"group": 2, "strides": [2, 3], "pads": [1, 0, 1, 1], "output_padding": [1, 2]}),
    Row("ConvTranspose", (X2, w(4, 3, 3, 3)), {"dilations": [2, 1], "pads": [1, 1, 1, 1]}),
    Row("ConvTranspose", (X3, w(2, 3, 2, 2, 3)), {"strides": [2, 1, 3]}),
    Row("ConvTranspose", (X2, w(4, 3, 3, 3)), {"strides": [2, 2], "output_shape": [18, 15]}),
    *(Row("ConvTranspose", (X2, w(4, 3, 3, 3)), {"auto_pad": auto, "strides": [2, 2]})
      for auto in ("SAME_UPPER", "VALID")),
    *(Row(op, (x,), {"kernel_shape": kernel, "strides": strides, "pads": pads, **more}, 12)
      for op, more in (("MaxPool", {}), ("AveragePool", {}), ("LpPool", {"p": 3}),
                       ("AveragePool", {"count_include_pad": 1}))
      for x, kernel, strides, pads in (
          (X1, [3], [2], [1, 1]), (X2, [3, 2], [2, 1], [1, 0, 2, 1]),
          (X3, [2] * 3, [1] * 3, [1] * 6),
      )),
    *(Row(op, (X2,), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, 12)
      for op in ("MaxPool", "AveragePool")),
    Row("MaxPool", (X2,), {"kernel_shape": [3, 2], "dilations": [2, 3]}, 12),
    *(Row("MaxPool", (X2,), {"kernel_shape": [3, 2], "pads": [1] * 4, "storage_order": order}, 12,
          outputs=2) for order in (0, 1)),
    Row("MaxPool", (np.full((1, 1, 3, 3), -np.inf, np.float32),),
        {"kernel_shape": [2, 2], "pads": [1] * 4}, 12, outputs=2),
    *(Row(op, (x,)) for op in ("GlobalAveragePool", "GlobalMaxPool") for x in (X1, X2, X3)),
    Row("GlobalLpPool", (X2,), {"p": 3}),
    Row("MaxUnpool", (f32(1, 1, 2, 2), np.array([[[[5, 7], [13, 15]]]], np.int64)),
        {"kernel_shape": [2, 2], "strides": [2, 2]}),
    *(Row("BatchNormalization", (x, *(w(4) for _ in range(3)), positive(4)), {"epsilon": 1e-3},
          version) for x in (X1, X2) for version in (7, 9, 15)),
    *(Row("InstanceNormalization", (x, w(4), f32(4))) for x in (X1, X2)),
    Row("GroupNormalization", (X2, w(4), f32(4)), {"num_groups": 2}, 21),
    *(Row("LRN", (X2,), {"size": size, "alpha": 0.1, "beta": 0.6, "bias": 2.0})
      for size in (1, 3, 5)),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_against_onnxruntime(row: Row) -> None:
    run_row(row, 2e-5)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_inference_agrees_with_the_reference(row: Row) -> None:
    infer_row(row)
