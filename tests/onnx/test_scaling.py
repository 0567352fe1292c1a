"""`build.py scaling` simulates what the processor runs: the same tiles in the same regions."""

from __future__ import annotations

import numpy as np
import pytest

from tilework.onnx.options import SessionOptions
from tilework.onnx.session import InferenceSession
from tools.bench_models import matmul_model
from tools.processor_model import Costs, simulate
from tools.scaling import tile_times

pytestmark = pytest.mark.onnx


@pytest.mark.parametrize("constant", [False, True])
def test_simulated_tiles_are_the_plan_s(constant: bool) -> None:
    model = matmul_model(160, constant)
    feeds = {name: np.ones((160, 160), np.float32) for name in ("a", "b")[: 2 - constant]}
    with InferenceSession(model, SessionOptions(intra_op_num_threads=1)) as session:
        planned = tile_times(session._session(frozenset()), feeds, (1, 2, 4), seconds=0)
    for threads, regions in planned.items():
        with InferenceSession(model, SessionOptions(intra_op_num_threads=threads)) as session:
            session.run(None, feeds)
            device = session.device
            before = sum(device.tiles_run)
            session.run(None, feeds)
            tiles = sum(device.tiles_run) - before
            (plan,) = session._session(frozenset()).latest()
        assert len(regions) == len({step.level for step in plan.draft.steps})
        assert len(simulate(regions, threads, Costs()).tiles) == tiles
        assert all(work.each > 0 for region in regions for work in region)
