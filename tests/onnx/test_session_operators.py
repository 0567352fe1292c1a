"""Every operator and ONNX's own node cases through sessions on the desktop device.

The tables are those that the front and the oracle are tested with; here passes, planner, kernels
and host steps stand between the model and the numbers.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.onnx.rows import Row, answered
from tests.onnx.test_node_cases import agree, as_value, cases, expected, runnable
from tests.onnx.test_operators import ROWS
from tilework.onnx.session import InferenceSession

pytestmark = pytest.mark.onnx


@pytest.mark.parametrize("name", runnable())
def test_case(name: str) -> None:
    case = cases()[name]
    with InferenceSession(case.model) as session:
        fed = [*session.get_inputs()]
        for inputs, outputs in case.data_sets:
            feeds = {one.name: as_value(a) for one, a in zip(fed, inputs, strict=True)}
            results = session.run(None, feeds)
            for result, wanted in zip(results, map(as_value, outputs), strict=True):
                wanted = expected(name, result, wanted)
                agree(result, wanted, max(case.rtol, 1e-5), max(case.atol, 1e-6))


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("constant", [False, True], ids=["fed", "constant"])
def test_row(row: Row, constant: bool) -> None:
    """With the operands fed, and with all but the first of them constants of the model."""
    if constant:
        row = Row(**{**{name: getattr(row, name) for name in row.__dataclass_fields__},
                     "constants": tuple(range(1, len(row.inputs)))})  # fmt: skip
    model, feeds, wanted = answered(row)
    with InferenceSession(model) as session:
        for _ in range(2):
            results = session.run(None, feeds)
        for result, right in zip(results, wanted, strict=True):
            assert (result.dtype, result.shape) == (right.dtype, right.shape)
            np.testing.assert_allclose(result, right, rtol=max(row.rtol, 2e-5), atol=2e-6)
