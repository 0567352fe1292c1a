"""SessionOptions, RunOptions, NodeArg and the enumerations that onnxruntime's scripts use.

Only settings, no model. Those that tune another library's internals are accepted and without
effect, so that a script written for onnxruntime runs unchanged; each says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from tilework.core.errors import Fail, InvalidArgument
from tilework.engine.stop import Stop
from tilework.onnx.value import OrtValue

__all__ = [
    "ExecutionMode",
    "ExecutionOrder",
    "GraphOptimizationLevel",
    "NodeArg",
    "RunOptions",
    "SessionOptions",
]


class GraphOptimizationLevel(IntEnum):
    """Accepted for compatibility: graphs are always simplified and fused."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99

    __str__ = Enum.__str__


class ExecutionMode(IntEnum):
    """Accepted for compatibility: independent operations always run side by side."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1

    __str__ = Enum.__str__


class ExecutionOrder(IntEnum):
    """Accepted for compatibility: the plan orders by real dependencies."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2

    __str__ = Enum.__str__


@dataclass(slots=True)
class SessionOptions:
    """How a session runs. A name that does not exist is an AttributeError.

    intra_op_num_threads: threads that compute, the calling one included; 0 is one for each core.
    enable_profiling: runs are measured step by step, which makes them slower, and `end_profiling`
        writes a trace named profile_file_prefix, the time, `.json`.
    optimized_model_filepath: where a copy of the model file is written when the session is made. It
        is the model as it was given, without its external data: what tilework makes of it are
        kernels, not ONNX operators.
    log_severity_level, logid: what goes to stderr, from 0 (verbose) to 4 (fatal); -1 is what
        `set_default_logger_severity` said.
    The rest is accepted and without effect.
    """

    intra_op_num_threads: int = 0
    inter_op_num_threads: int = 0
    graph_optimization_level: GraphOptimizationLevel = GraphOptimizationLevel.ORT_ENABLE_ALL
    execution_mode: ExecutionMode = ExecutionMode.ORT_SEQUENTIAL
    execution_order: ExecutionOrder = ExecutionOrder.DEFAULT
    enable_cpu_mem_arena: bool = True
    enable_mem_pattern: bool = True
    enable_mem_reuse: bool = True
    enable_profiling: bool = False
    profile_file_prefix: str = "onnxruntime_profile_"
    log_severity_level: int = -1
    log_verbosity_level: int = 0
    logid: str = ""
    optimized_model_filepath: str = ""
    use_deterministic_compute: bool = False
    use_per_session_threads: bool = True
    _entries: dict[str, str] = field(default_factory=dict, repr=False)
    _by_name: dict[str, int] = field(default_factory=dict, repr=False)
    _by_denotation: dict[str, int] = field(default_factory=dict, repr=False)
    _initializers: dict[str, OrtValue] = field(default_factory=dict, repr=False)
    _files: dict[str, bytes] = field(default_factory=dict, repr=False)

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Keeps the entry; none has an effect."""
        self._entries[key] = value

    def get_session_config_entry(self, key: str) -> str:
        """The entry; Fail, a RuntimeError, when it was never added."""
        return _entry(self._entries, key, "session")

    def add_free_dimension_override_by_name(self, name: str, extent: int) -> None:
        """Inputs and outputs whose shape has `name` have `extent` there instead.

        InvalidArgument for a negative extent.
        """
        self._by_name[name] = _extent(name, extent)

    def add_free_dimension_override_by_denotation(self, denotation: str, extent: int) -> None:
        """The same for dimensions that the model denotes so, e.g. DATA_BATCH."""
        self._by_denotation[denotation] = _extent(denotation, extent)

    def add_initializer(self, name: str, value: OrtValue) -> None:
        """Has the session use the value for an initializer of the model, whatever the file holds.

        The session raises InvalidArgument when there is none, or one of another dtype or shape.
        """
        self._initializers[name] = value

    def add_external_initializers(
        self, names: Sequence[str], values: Sequence[OrtValue]
    ) -> None:
        """The same for several, whose external data is then not looked for."""
        if len(names) != len(values):
            raise InvalidArgument(f"{len(names)} names and {len(values)} values; give one for each")
        self._initializers.update(zip(names, values, strict=True))

    def add_external_initializers_from_files_in_memory(
        self, names: Sequence[str], buffers: Sequence[bytes], lengths: Sequence[int]
    ) -> None:
        """Files of external data by the names that the model has for them."""
        if not len(names) == len(buffers) == len(lengths):
            raise InvalidArgument("names, buffers and lengths must be of one length")
        for name, buffer, length in zip(names, buffers, lengths, strict=True):
            self._files[str(name)] = bytes(buffer[:length])

    @property
    def initializers(self) -> dict[str, OrtValue]:
        """What stands for initializers, by name."""
        return dict(self._initializers)

    @property
    def files(self) -> dict[str, bytes]:
        """Files of external data, by location."""
        return dict(self._files)

    @property
    def free_dimensions(self) -> tuple[dict[str, int], dict[str, int]]:
        """What was overridden: by name, by denotation."""
        return dict(self._by_name), dict(self._by_denotation)


class RunOptions:
    """How a run runs; one may serve several runs, also at the same time.

    terminate: True cancels the runs that use it now, from whatever thread, and refuses later ones
        until it is False again. Such a run raises Fail.
    The rest is accepted and without effect.
    """

    __slots__ = (
        "_entries", "log_severity_level", "log_verbosity_level", "logid",
        "only_execute_path_to_fetches", "stop",
    )  # fmt: skip

    def __init__(self) -> None:
        self.log_severity_level = -1
        self.log_verbosity_level = 0
        self.logid = ""
        self.only_execute_path_to_fetches = False
        self.stop = Stop()
        self._entries: dict[str, str] = {}

    @property
    def terminate(self) -> bool:
        """Whether runs are to end."""
        return self.stop.wanted

    @terminate.setter
    def terminate(self, wanted: bool) -> None:
        if wanted:
            self.stop.set()
        else:
            self.stop.clear()

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Keeps the entry; none has an effect."""
        self._entries[key] = value

    def get_run_config_entry(self, key: str) -> str:
        """The entry; Fail, a RuntimeError, when it was never added."""
        return _entry(self._entries, key, "run")


@dataclass(frozen=True, slots=True)
class NodeArg:
    """An input or output of a model, as onnxruntime shows it.

    `shape` has a number, the name of a symbolic extent, or None for one without a name; it is
    empty for a scalar and for an unknown rank. `type` is e.g. `tensor(float)`.
    """

    name: str
    type: str
    shape: list[int | str | None]


def _entry(entries: dict[str, str], key: str, kind: str) -> str:
    if key not in entries:
        raise Fail(f"{kind} config entry {key!r} was not added; add_{kind}_config_entry adds it")
    return entries[key]


def _extent(name: str, extent: int) -> int:
    if not isinstance(extent, int) or extent < 0:
        raise InvalidArgument(f"dimension {name!r} is overridden by {extent!r}; use a number ≥ 0")
    return extent
