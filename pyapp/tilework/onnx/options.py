"""SessionOptions, RunOptions, NodeArg and the enumerations that onnxruntime's scripts use.

Only plain data. Settings that tune another library's internals are accepted and without effect, so
that a script written for onnxruntime runs unchanged; each says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from tilework.core.errors import InvalidArgument


class GraphOptimizationLevel(IntEnum):
    """Accepted for compatibility: graphs are always simplified and fused."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(IntEnum):
    """Accepted for compatibility: independent operations always run side by side."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


@dataclass(slots=True)
class SessionOptions:
    """How a session runs. A name that does not exist is an AttributeError.

    intra_op_num_threads: threads that compute, the calling one included; 0 is one for each core.
    The rest is accepted and without effect.
    """

    intra_op_num_threads: int = 0
    inter_op_num_threads: int = 0
    graph_optimization_level: GraphOptimizationLevel = GraphOptimizationLevel.ORT_ENABLE_ALL
    execution_mode: ExecutionMode = ExecutionMode.ORT_SEQUENTIAL
    enable_cpu_mem_arena: bool = True
    enable_mem_pattern: bool = True
    enable_mem_reuse: bool = True
    enable_profiling: bool = False
    log_severity_level: int = 2
    log_verbosity_level: int = 0
    logid: str = ""
    optimized_model_filepath: str = ""
    use_deterministic_compute: bool = False
    _entries: dict[str, str] = field(default_factory=dict, repr=False)

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Keeps the entry; none has an effect."""
        self._entries[key] = value

    def get_session_config_entry(self, key: str) -> str:
        """The entry; InvalidArgument when it was never added."""
        if key not in self._entries:
            raise InvalidArgument(f"session config entry {key!r} was not added")
        return self._entries[key]


@dataclass(slots=True)
class RunOptions:
    """Accepted for compatibility; a run has no options of its own."""

    log_severity_level: int = 2
    log_verbosity_level: int = 0
    logid: str = ""
    terminate: bool = False
    only_execute_path_to_fetches: bool = False


@dataclass(frozen=True, slots=True)
class NodeArg:
    """An input or output of a model, as onnxruntime shows it.

    `shape` has a number, the name of a symbolic extent, or None for one without a name; it is
    empty for a scalar and for an unknown rank. `type` is e.g. `tensor(float)`.
    """

    name: str
    type: str
    shape: list[int | str | None]
