"""Which steps each sub-command of build.py runs, and in which order.

Owns the order only; each step's work is in the module it calls. Runs inside .venv.
"""

from __future__ import annotations

from tools import kernels
from tools.dependencies import install
from tools.steps import building


def build(until: str = "site") -> None:
    """Run the build's steps up to "kernels", "wheel" or "site"."""
    with building():
        install("compile")
        kernels.generate()
        kernels.compile_all()
