"""Makes the demo's model with tools/minilm.py: whole in build/, in pieces in dist/.

Owns when that happens, not how.
"""

from __future__ import annotations

import sys

from tools.dependencies import group
from tools.project import BUILD, DIST, ROOT, BuildError, run
from tools.steps import Line, step

MINILM = BUILD / "models" / "minilm"
MINILM_PIECES = DIST / "models" / "minilm"


def make_model() -> None:
    """The model, as a step."""
    tool = ROOT / "tools" / "minilm.py"
    if not tool.is_file():
        raise BuildError("tools/minilm.py is missing, so there is no model for the demo.")

    def action(_: Line) -> str:
        said = run(
            [sys.executable, tool, "--build", MINILM, "--dist", MINILM_PIECES],
            what="tools/minilm.py",
        )
        return said.strip().splitlines()[-1].rpartition(": ")[2] if said.strip() else ""

    step(
        "model",
        action,
        inputs=[tool, *group("weights"), *group("model")],
        outputs=[
            MINILM / "model.onnx",
            MINILM / "model.onnx.data",
            MINILM_PIECES / "model.onnx",
            MINILM_PIECES / "model.onnx.data.json",
        ],
    )
