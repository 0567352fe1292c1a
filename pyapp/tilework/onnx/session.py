"""InferenceSession: a model file, run with onnxruntime's names.

Reads the model, puts its weights on a device, checks what is fed and hands it to the engine. Plans,
kernels and memory are the engine's.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from tilework.core.dtypes import from_numpy
from tilework.core.errors import Cancelled, Fail, InvalidArgument, RuntimeException
from tilework.core.scoped import Scoped
from tilework.engine.devices import Device, get_device
from tilework.engine.resident import Fed, Resident
from tilework.engine.session import GraphSession
from tilework.ir.graph import Constant, Graph, Value
from tilework.onnx.feeds import Feeds, value_type
from tilework.onnx.logs import INFO, VERBOSE, say
from tilework.onnx.model import LoadedModel, ModelMetadata, load_graph
from tilework.onnx.moved import move
from tilework.onnx.options import NodeArg, RunOptions, SessionOptions
from tilework.onnx.overrides import override
from tilework.onnx.providers import chosen
from tilework.onnx.source import External, Source
from tilework.onnx.value import OrtValue

if TYPE_CHECKING:
    from tilework.engine.view import PlanView
    from tilework.onnx.binding import IOBinding
    from tilework.onnx.profile import Profile

_THREADS = sys.platform != "emscripten"


class InferenceSession(Scoped):
    """A model that is ready to run.

    path_or_bytes: a path, an http(s) URL, the bytes of a model file, or an onnx.ModelProto.
    sess_options: see SessionOptions. providers, provider_options: what `get_providers` names; all
    sessions run alike. disabled_optimizers, enable_fallback: without effect.
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
        disabled_optimizers: object = None,
        enable_fallback: int = 1,
        external_data: External = None,
    ) -> None:
        options = SessionOptions() if sess_options is None else sess_options
        if not isinstance(options, SessionOptions):
            raise InvalidArgument(
                f"sess_options is a {type(options).__name__}; expected tilework.SessionOptions"
            )
        self._options = options
        self._providers = chosen(providers, provider_options)
        self._profile: Profile | None = None
        if options.enable_profiling:
            from tilework.onnx.profile import Profile

            self._profile = Profile()
        self._measured = self._profile
        self._device = get_device(options.intra_op_num_threads)
        with self._section("model_loading"):
            given = options.initializers
            files = external_data if external_data is not None else options.files or None
            source = Source(path_or_bytes, files, self._device, given)
            held = {name: _constant(value) for name, value in given.items()}
            model = load_graph(source.proto, source.external, held)
            self._model: LoadedModel = override(model, source.data, *options.free_dimensions)
        if options.optimized_model_filepath:
            Path(options.optimized_model_filepath).write_bytes(source.data)
        graph = self._model.graph
        optional = frozenset(self._model.defaults)
        self._feeds = Feeds(graph.inputs, optional, self._device)
        self._optional = optional
        self._output_names = [value.name for value in graph.outputs]
        self._known_outputs = frozenset(self._output_names)
        self._external, owned = source.upload()
        if self._external is None:
            self._model, self._external = move(self._model, self._device)
            owned = True
        self._sessions: dict[frozenset[str], GraphSession] = {}
        self._used: GraphSession | None = None  # by the last run
        self._end = weakref.finalize(self, _free, self._sessions, self._external if owned else None)
        try:
            with self._section("session_initialization"):
                session = self._session(frozenset())
        except BaseException:
            self._end()
            raise
        self._say(INFO, f"{graph.name or 'a model'}: {len(session.graph.nodes)} operations")
        self._say(VERBOSE, f"rewritten at load:\n{session.fired}")

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
        if run_options is None and self._profile is None and self._used is not None:
            asked = self._output_names if output_names is None else output_names
            results = self._used.again(asked, input_feed)
            if results is not None:  # for small models most of their time is what this leaves out
                return results
        names = self._output_names if output_names is None else self._names(output_names)
        feeds = self._feeds.check(input_feed)
        return cast("list[NDArray[Any]]", self._run(names, feeds, run_options, {}))

    def _run(
        self,
        names: Sequence[str],
        feeds: dict[str, Fed],
        options: RunOptions | None,
        kept: Mapping[str, Resident | None],
    ) -> Sequence[Fed]:
        """Outputs in `kept` stay on the device, where it says or in new tensors."""
        if not self._end.alive:
            raise Fail("the session is closed; make a new one")
        session = self._used = self._session(frozenset(feeds) & self._optional)
        stop = None if options is None else options.stop
        profile = self._profile
        try:
            if stop is None and profile is None and not kept and _on_host(feeds):
                return session.run(cast("dict[str, NDArray[Any]]", feeds), names)
            recorder = None if profile is None else profile.recorder
            with self._section("model_run"):
                return session.run_resident(feeds, names, kept, stop, recorder)
        except InvalidArgument as error:
            conflict = self._feeds.conflict(feeds)
            if conflict:
                raise InvalidArgument(f"{conflict}. {error}") from error
            raise
        except Cancelled as error:
            if stop is None or not stop.wanted:
                raise
            raise Fail("the run has ended early: its RunOptions.terminate was set") from error

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, object],
        callback: Callable[[list[Any], object, str], object],
        user_data: object,
        run_options: RunOptions | None = None,
    ) -> None:
        """`run` on a thread of its own, which then calls `callback(outputs, user_data, error)`.

        `error` is "" or says what was wrong, with no outputs. Where Python has no threads, in a
        browser, all of that has happened when this returns.
        """

        def go() -> None:
            outputs, error = [], ""
            try:
                outputs = self.run(output_names, input_feed, run_options)
            except Exception as raised:  # noqa: BLE001 - the callback is told, nobody else can be
                error = str(raised) or type(raised).__name__
            callback(outputs, user_data, error)

        if _THREADS:
            threading.Thread(target=go, name="tilework run_async", daemon=True).start()
        else:
            go()

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """`run` from OrtValues to new ones, which stay on the device."""
        if run_options is None:
            found = self._next(output_names, input_dict_ort_values)
            if found is not None:
                return found
        names = self._output_names if output_names is None else self._names(output_names)
        feeds = self._feeds.check(input_dict_ort_values)
        kept: dict[str, Resident | None] = dict.fromkeys(names)
        return [OrtValue(one) for one in self._run(names, feeds, run_options, kept)]

    def _next(
        self, output_names: Sequence[str] | None, values: Mapping[str, object]
    ) -> list[OrtValue] | None:
        """The outputs of a run that goes on from the last one, as a decoder's next token; else
        None. For small models most of their time is what this leaves out."""
        if self._used is None or self._profile is not None or type(values) is not dict:
            return None
        asked = self._output_names if output_names is None else output_names
        held = {n: v.held() if type(v) is OrtValue else v for n, v in values.items()}
        results = self._used.next(asked, held)
        return None if results is None else [OrtValue(one) for one in results]

    def io_binding(self) -> IOBinding:
        """Ties inputs and outputs to values; for `run_with_iobinding`."""
        from tilework.onnx.binding import IOBinding

        return IOBinding(self)

    def run_with_iobinding(
        self, iobinding: IOBinding, run_options: RunOptions | None = None
    ) -> None:
        """Runs from and to what is bound.

        RuntimeException for a missing input, no output, or a value of another dtype or shape.
        """
        if not iobinding.outputs:
            raise RuntimeException("no output is bound; bind_output says which are wanted")
        names = list(iobinding.outputs)
        if run_options is None and not any(iobinding.outputs.values()):
            found = self._next(names, iobinding.inputs)
            if found is not None:
                iobinding.made.update(zip(names, found, strict=True))
                return
        kept: dict[str, Resident | None] = {}
        for name, value in iobinding.outputs.items():
            held = None if value is None else value.target(self._device)
            kept[name] = held if isinstance(held, Resident) else None
        try:
            feeds = self._feeds.check(iobinding.inputs)
            results = self._run(self._names(names), feeds, run_options, kept)
            for name, result in zip(names, results, strict=True):
                bound = iobinding.outputs[name]
                if bound is None:
                    bound = OrtValue(result)
                elif bound.held() is not result:  # the caller's array, or on another device
                    bound.take(result)
                iobinding.made[name] = bound
        except InvalidArgument as error:
            raise RuntimeException(f"what is bound does not fit: {error}") from error

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
        """What the session was asked to run on, as far as it is available; else all."""
        return list(self._providers)

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """The options that came with each provider; none has an effect."""
        return {name: dict(options) for name, options in self._providers.items()}

    def set_providers(
        self,
        providers: Sequence[object] | None = None,
        provider_options: Sequence[object] | None = None,
    ) -> None:
        """Changes what `get_providers` says; the session runs as before."""
        self._providers = chosen(providers, provider_options)

    def enable_fallback(self) -> None:
        """Without effect: there is nothing to fall back from."""

    def disable_fallback(self) -> None:
        """Without effect: there is nothing to fall back from."""

    def get_session_options(self) -> SessionOptions:
        """The options that the session was made with."""
        return self._options

    @property
    def device(self) -> Device:
        """The device that the session runs on."""
        return self._device

    def plan(self, shapes: Mapping[str, Sequence[int]] | None = None) -> PlanView:
        """The plan for these input shapes: every step with its kernel, tiles and bytes, and what
        was fused. Print it, or show it in a notebook.

        Without shapes the plan of the last run, Fail before the first. With them it is made now if
        that was not done yet.
        """
        from tilework.engine.view import PlanView

        session = self._session(frozenset())
        if shapes is None:
            if self._used is None:
                raise Fail("the session has not run yet; give plan() the shapes of its inputs")
            return PlanView(self._used.latest(), self._used.fired)
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
        return PlanView([session.plan(checked)], session.fired)

    def explain(self, shapes: Mapping[str, Sequence[int]]) -> str:
        """`plan(shapes)` in words."""
        return str(self.plan(shapes))

    def where(self) -> str:
        """What has computed the runs so far: "kernel", "host" (NumPy) or "mixed"; "" before any."""
        found = frozenset[str]().union(*(one.places() for one in self._sessions.values()))
        return "mixed" if len(found) > 1 else next(iter(found), "")

    # -- measuring ------------------------------------------------------------

    @property
    def profile(self) -> Profile | None:
        """What was measured since the session was made, also after `end_profiling`; None when
        enable_profiling was not set. Print it: nodes by time. Show it in a notebook."""
        return self._measured

    def get_profiling_start_time_ns(self) -> int:
        """The wall clock's time when profiling began; 0 when it never did."""
        return self._measured.start_ns if self._measured is not None else 0

    def end_profiling(self) -> str:
        """Writes the trace and gives its file's name; "" when nothing is measured (any more)."""
        profile, self._profile = self._profile, None
        return "" if profile is None else profile.write(self._options.profile_file_prefix)

    def _section(self, name: str) -> AbstractContextManager[None]:
        return nullcontext() if self._profile is None else self._profile.section(name)

    def _say(self, severity: int, text: str) -> None:
        say(severity, self._options.log_severity_level, self._options.logid, text)

    def __repr__(self) -> str:
        """What a person who prints a session wants to feed it and get from it."""
        words = [
            ", ".join(f"{v.name} {v.type} {v.shape}".replace("'", "") for v in values)
            for values in (self.get_inputs(), self.get_outputs())
        ]
        return f"<InferenceSession: {words[0]} → {words[1]}>"

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


def _on_host(feeds: Mapping[str, Fed]) -> bool:
    for fed in feeds.values():  # a loop, as every run waits for it  # noqa: SIM110
        if type(fed) is Resident:
            return False
    return True


def _constant(value: OrtValue) -> Constant:
    array = np.array(value.numpy())  # as it is now
    return Constant(from_numpy(array.dtype), array.shape, array)


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
    return NodeArg(value.name, value_type(value), list(shape))
