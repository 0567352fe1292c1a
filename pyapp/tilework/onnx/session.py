"""InferenceSession: a model file, run with onnxruntime's names.

Reads the model, puts its weights on a device, checks what is fed and hands it to the engine. Plans,
kernels and memory are the engine's.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilework.core.dtypes import ort_type
from tilework.core.errors import Fail, InvalidArgument
from tilework.core.scoped import Scoped
from tilework.engine.devices import Device, get_device
from tilework.engine.session import GraphSession
from tilework.ir.graph import Graph, Value
from tilework.onnx.feeds import Feeds
from tilework.onnx.model import LoadedModel, ModelMetadata, load_graph
from tilework.onnx.options import NodeArg, RunOptions, SessionOptions
from tilework.onnx.source import External, Source

PROVIDER = "TileworkExecutionProvider"


class InferenceSession(Scoped):
    """A model that is ready to run.

    path_or_bytes: a path, an http(s) URL, the bytes of a model file, or an onnx.ModelProto.
    sess_options: see SessionOptions. providers: accepted for compatibility and not looked at.
    external_data: the weights that are not in the file, when they do not lie beside it: a device
    buffer that has them already (used in place, it stays the caller's), or a dict from location to
    bytes, path or device buffer.

    Raises NoSuchFile, InvalidProtobuf, InvalidGraph, NotImplemented or InvalidArgument, each naming
    what and where. Usable as a context manager; closing gives all device memory back.
    """

    def __init__(
        self,
        path_or_bytes: object,
        sess_options: SessionOptions | None = None,
        providers: Sequence[object] | None = None,
        provider_options: Sequence[object] | None = None,
        *,
        external_data: External = None,
    ) -> None:
        options = SessionOptions() if sess_options is None else sess_options
        if not isinstance(options, SessionOptions):
            raise InvalidArgument(
                f"sess_options is a {type(options).__name__}; expected tilework.SessionOptions"
            )
        self._options = options
        self._device = get_device(options.intra_op_num_threads)
        source = Source(path_or_bytes, external_data, self._device)
        self._model: LoadedModel = load_graph(source.data, source.external)
        graph = self._model.graph
        optional = frozenset(self._model.defaults)
        self._feeds = Feeds(graph.inputs, optional)
        self._optional = optional
        self._output_names = [value.name for value in graph.outputs]
        self._known_outputs = frozenset(self._output_names)
        self._external, owned = source.upload()
        self._sessions: dict[frozenset[str], GraphSession] = {}
        self._end = weakref.finalize(self, _free, self._sessions, self._external if owned else None)
        try:
            self._session(frozenset())
        except BaseException:
            self._end()
            raise

    # -- running ------------------------------------------------------------

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, object],
        run_options: RunOptions | None = None,
    ) -> list[NDArray[Any]]:
        """The named outputs (None: all), as new arrays in that order.

        InvalidArgument, before anything runs, for a wrong name, dtype, rank or extent, or a missing
        input; KernelFailure or RuntimeException when the run itself fails. The session can be used
        after any of them.
        """
        names = self._output_names if output_names is None else self._names(output_names)
        arrays = self._feeds.check(input_feed)
        if not self._end.alive:
            raise Fail("the session is closed; make a new one")
        session = self._session(frozenset(arrays) & self._optional)
        try:
            return session.run(arrays, names)
        except InvalidArgument as error:
            conflict = self._feeds.conflict(arrays)
            if conflict:
                raise InvalidArgument(f"{conflict}. {error}") from error
            raise

    def _names(self, names: Sequence[str]) -> list[str]:
        if isinstance(names, str):
            raise InvalidArgument(f"output_names is the string {names!r}; expected a list")
        asked = list(names)
        for name in asked:
            if name not in self._known_outputs:
                known = ", ".join(repr(one) for one in self._output_names)
                raise InvalidArgument(f"invalid output name {name!r}; the model's outputs: {known}")
        return asked or self._output_names

    def _session(self, fed: frozenset[str]) -> GraphSession:
        """The graph with every default that is not `fed` as a constant."""
        session = self._sessions.get(fed)
        if session is None:
            graph = _with_defaults(self._model, fed)
            session = GraphSession(graph, self._device, self._external)
            self._sessions[fed] = session
        return session

    # -- describing ------------------------------------------------------------

    def get_inputs(self) -> list[NodeArg]:
        """The inputs that have to be fed."""
        return [
            _node_arg(value)
            for value in self._model.graph.inputs
            if value.name not in self._optional
        ]

    def get_overridable_initializers(self) -> list[NodeArg]:
        """The inputs that have a value in the model and may be fed."""
        return [
            _node_arg(value) for value in self._model.graph.inputs if value.name in self._optional
        ]

    def get_outputs(self) -> list[NodeArg]:
        """The outputs, in the model's order."""
        return [_node_arg(value) for value in self._model.graph.outputs]

    def get_modelmeta(self) -> ModelMetadata:
        """What the file says of itself."""
        return self._model.metadata

    def get_providers(self) -> list[str]:
        """What runs the model."""
        return [PROVIDER]

    def get_session_options(self) -> SessionOptions:
        """The options that the session was made with."""
        return self._options

    @property
    def device(self) -> Device:
        """The device that the session runs on."""
        return self._device

    def explain(self, shapes: Mapping[str, Sequence[int]]) -> str:
        """The plan for these input shapes, in words: every step with its kernel, tiles and bytes.

        Plans now if that was not done yet.
        """
        values = {
            value.name: value
            for value in self._model.graph.inputs
            if value.name not in self._optional
        }
        arrays = {
            name: np.zeros(tuple(shape), values[name].dtype.numpy)
            for name, shape in shapes.items()
            if name in values
        }
        checked = self._feeds.check({**shapes, **arrays})
        session = self._session(frozenset())
        plan = session.plan(checked)
        return f"{plan}\n\nat load:\n{session.fired}\n\nfor these shapes:\n{plan.draft.fired}"

    def where(self) -> str:
        """What has computed the runs so far: "kernel", "host" (NumPy) or "mixed"; "" before any."""
        found = frozenset[str]().union(*(one.places() for one in self._sessions.values()))
        return "mixed" if len(found) > 1 else next(iter(found), "")

    # -- ending ------------------------------------------------------------

    def close(self) -> None:
        """Gives all device memory back; the session cannot run any more."""
        self._end()

    def _leave(self) -> None:
        self.close()


def _free(sessions: dict[frozenset[str], GraphSession], external: Any) -> None:
    for session in sessions.values():
        session.close()
    sessions.clear()
    if external is not None:
        external.free()


def _with_defaults(model: LoadedModel, fed: frozenset[str]) -> Graph:
    graph = model.graph
    kept = {name: constant for name, constant in model.defaults.items() if name not in fed}
    if not kept:
        return graph
    return replace(
        graph,
        inputs=tuple(value for value in graph.inputs if value.name not in kept),
        constants={**graph.constants, **kept},
    )


def _node_arg(value: Value) -> NodeArg:
    shape = [extent if extent != "" else None for extent in value.shape or ()]
    return NodeArg(value.name, ort_type(value.dtype), list(shape))
