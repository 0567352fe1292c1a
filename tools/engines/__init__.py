"""The browsers that pages of ours are tested in, behind one small interface.

Adding one means a file here and a line in `ENGINES`. Each answers a page's requests from a `Host`
without a server where the browser shows its requests to us, else with one on loopback.
"""

from __future__ import annotations

from collections.abc import Mapping

from tools.engines.chromium import Chromium
from tools.engines.engine import Engine, EngineError, EnginePage
from tools.engines.firefox import Firefox
from tools.engines.webkitgtk import WebKitGTK

__all__ = ["ENGINES", "Engine", "EngineError", "EnginePage"]

ENGINES: Mapping[str, Engine] = {
    engine.name: engine for engine in (Chromium(), Firefox(), WebKitGTK())
}
