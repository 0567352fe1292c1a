"""What a session says while it works: lines on stderr, by severity, as onnxruntime's logger does.

Severities are 0 verbose, 1 info, 2 warning, 3 error, 4 fatal. A session's own level counts, else
the default that `set_default_logger_severity` sets.
"""

from __future__ import annotations

import sys

from tilework.core.errors import Fail

VERBOSE, INFO, WARNING = 0, 1, 2
LETTERS = "VIWEF"


class _Default:
    severity = WARNING


def set_default_logger_severity(severity: int) -> None:
    """From which severity on sessions without a level of their own speak. Fail outside 0 to 4."""
    if severity not in range(len(LETTERS)):
        raise Fail(f"severity {severity!r}: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal")
    _Default.severity = severity


def set_default_logger_verbosity(level: int) -> None:
    """Accepted for compatibility: what is verbose is not graded."""


def say(severity: int, level: int, logid: str, text: str) -> None:
    """Writes a line when `severity` reaches `level`; -1 is the default's."""
    if severity >= (_Default.severity if level < 0 else level):
        print(f"[{LETTERS[severity]}:tilework:{logid}] {text}", file=sys.stderr)
