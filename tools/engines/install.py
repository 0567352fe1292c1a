"""Brings the browsers that this machine lacks, where that is ours to do: as root, with apt-get."""

from __future__ import annotations

import os
import shutil

from tools.engines import ENGINES
from tools.project import BuildError, run
from tools.steps import Line


def install_engines() -> None:
    """All that are absent, in one go; what stays absent is said in words, its tests are skipped."""
    wanted = [p for engine in ENGINES.values() if engine.absent() for p in engine.packages()]
    if wanted and _may_install():
        line = Line("browsers")
        line.progress(", ".join(wanted))
        options = ["-y", "-qq", "--no-install-recommends"]
        try:
            for command in (["update", "-qq"], ["install", *options, *wanted]):
                run(
                    ["apt-get", *command],
                    what=f"apt-get {command[0]}",
                    env={"DEBIAN_FRONTEND": "noninteractive"},
                )
            line.end(f"{line.seconds():6.1f} s  {', '.join(wanted)}")
        except BuildError as error:
            line.end(f"{line.seconds():6.1f} s  {error}")
    for engine in ENGINES.values():
        why = engine.absent()
        if why:
            packages = " ".join(engine.packages())
            print(f"  {engine.name}: {why}; on Debian, apt-get install {packages}", flush=True)


def _may_install() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0 and bool(shutil.which("apt-get"))
