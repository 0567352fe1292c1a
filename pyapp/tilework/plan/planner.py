"""make_draft: a graph for concrete shapes → Draft. The flow of planning, in one place.

cut → passes → lower each node → levels → lifetimes → offsets. Touches no device.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from tilework.core.growing import grows, most
from tilework.core.shapes import count, row_major_strides
from tilework.ir.graph import Constant, Graph, Node, Value
from tilework.ir.opdefs.create import whole_numbers
from tilework.ir.opdefs.registry import (
    FOLD_LIMIT,
    OPS,
    DataDependent,
    Info,
    apply,
    infer_node,
    label,
)
from tilework.passes import pipeline
from tilework.plan.arena import ALIGNMENT, place
from tilework.plan.builder import Builder, is_constant
from tilework.plan.caches import Laid
from tilework.plan.cut import constant_info
from tilework.plan.lowerings import LOWERINGS, half
from tilework.plan.plan import Draft
from tilework.plan.schedule import assign_levels, set_lifetimes
from tilework.plan.tensor import Kind, Storage, Tensor

NOTHING: Mapping[str, Any] = MappingProxyType({})


def make_draft(
    graph: Graph,
    constants: Mapping[str, Constant],
    threads: int,
    in_place: bool = False,
    ready: Collection[str] = (),
    laid: Mapping[str, Laid] = NOTHING,
    growing: Collection[str] = (),
) -> Draft:
    """Plans `graph`, whose extents are all numbers (`Cut.now`), for so many threads.

    `constants` are the session's. `in_place`: the inputs may lie in the caller's arrays, so nothing
    overwrites them. `ready`: keys of prepared constants that the session has, so that nothing needs
    to compute them. `laid`: inputs that have rows to spare. `growing`: outputs that are to have
    some, if they are caches. InvalidArgument when the shapes do not fit the graph.
    """
    special, fired = pipeline.run(graph, pipeline.SHAPED)
    weights = sum(constant.nbytes for constant in constants.values())
    lowerer = _Lowerer(constants, special, Builder(threads, ready, weights, growing), laid)
    for value in special.inputs:
        lowerer.tensors[value.name].storage.fixed = in_place
    for node in special.nodes:
        lowerer.lower(node)
    builder = lowerer.builder
    inputs = {value.name: lowerer.tensors[value.name] for value in special.inputs}
    outputs = {value.name: lowerer.output(value.name) for value in special.outputs}
    assign_levels(builder.prologue)
    steps = builder.twins.needed(builder.steps, (one.storage for one in outputs.values()))
    assign_levels(steps)
    steps = sorted(steps, key=lambda step: step.level)
    transients = set_lifetimes(
        steps,
        [tensor.storage for tensor in inputs.values()],
        [tensor.storage for tensor in outputs.values()],
    )
    return Draft(
        name=graph.name,
        shapes={name: tensor.shape for name, tensor in inputs.items()},
        inputs=inputs,
        outputs=outputs,
        steps=steps,
        prologue=builder.prologue,
        locals=builder.locals,
        # Whatever outlives the run has slots, which begin behind the arena's.
        arena_bytes=max(place(transients), ALIGNMENT if builder.shelved or laid else 0),
        fired=fired,
        shelved=builder.shelved,
    )


def numbers(value: Value) -> tuple[int, ...]:
    """The shape of a value whose extents are all numbers."""
    return cast("tuple[int, ...]", value.shape or ())


# Always the same from the same attributes.
MADE_ONCE = frozenset({"constant_of_shape", "range"})


class _Lowerer:
    """Names → tensors and infos, while nodes are lowered in order."""

    def __init__(
        self,
        session: Mapping[str, Constant],
        graph: Graph,
        builder: Builder,
        laid: Mapping[str, Laid],
    ) -> None:
        self.builder = builder
        self.tensors: dict[str, Tensor] = {}
        self._infos: dict[str, Info] = {}
        self._session = session
        self._constants = graph.constants
        self._uses: dict[str, int] = {}
        consumers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                if name:
                    consumers.setdefault(name, []).append(node)
                    self._uses[name] = self._uses.get(name, 0) + 1
        for value in graph.outputs:
            self._uses[value.name] = self._uses.get(value.name, 0) + 1
        self.builder.consumers = consumers
        self.builder.outputs = frozenset(value.name for value in graph.outputs)
        for value in graph.inputs:
            shape = numbers(value)
            self._infos[value.name] = Info(value.dtype, shape)
            lies = laid.get(value.name)
            if lies is None:
                self._bind(value.name, self.builder.transient(value.dtype, shape))
            else:
                self._bind(value.name, self.builder.resident(value.name, value.dtype, shape, lies))

    def lower(self, node: Node) -> None:
        """Emits the node's steps and binds its outputs."""
        builder = self.builder
        infos = [self._info(name) if name else None for name in node.inputs]
        node, results = infer_node(node, infos)
        outputs = [(name, info) for name, info in zip(node.outputs, results, strict=False) if name]
        if not any(builder.uses(name) for name, _ in outputs):
            self._release(node)
            return
        for name, info in outputs:
            self._infos[name] = info
        known = all(info.value is not None for _, info in outputs)
        if not node.inputs and not known and not OPS[node.op].random:
            # Nothing but attributes: computed once, however large.
            if grows(results[0].shape):
                self._bind(node.outputs[0], self._growing(node, results[0]))
                return
            if node.op in MADE_ONCE:
                self._make(node, outputs)
                return
            arrays = apply(node, (), [info.dtype for info in results])
            for (name, info), array in zip(outputs, arrays, strict=False):
                self._bind(name, builder.local(array, info.dtype))
            return
        inputs = [self._tensor(name) if name else None for name in node.inputs]
        # What depends on the session's constants alone is prepared for all plans, not for this.
        present = [tensor for tensor in inputs if tensor is not None]
        shared = bool(present) and all(map(is_constant, present))
        if not shared and known:
            for name, info in outputs:
                assert info.value is not None
                self._bind(name, builder.local(info.value, info.dtype))
            self._release(node)
            return
        builder.begin(node, inputs)
        self._release(node)
        lowering = LOWERINGS.get(node.op)
        lowered = "no kernel" if lowering is None else lowering(builder, node, inputs, results)
        if isinstance(lowered, str):
            inputs = [None if x is None else half.stored(builder, x) for x in inputs]
            tensors = [builder.new(info.dtype, info.shape) for info in results]
            builder.on_host(node, inputs, tensors, lowered)
            lowered = tensors
        for name, tensor in zip(node.outputs, lowered, strict=False):
            if name:
                self._bind(name, tensor)

    def output(self, name: str) -> Tensor:
        """A graph output as it is read back: dense, and in the arena or constant; a cache that
        stays where it may grow, as it lies."""
        tensor = self._tensor(name)
        if name in self.builder.shelved:
            return tensor
        return self.builder.dense(half.stored(self.builder, tensor))

    def _make(self, node: Node, outputs: list[tuple[str, Info]]) -> None:
        """What attributes alone make is as good as a constant of the session."""
        builder = self.builder
        builder.begin(node, ())
        tensors = []
        for number, (name, info) in enumerate(outputs, 1):
            key = f"{node.op}{sorted(node.attrs.items())}.{number}"
            tensor, _ = builder.prepared(key, info.dtype, info.shape)
            tensors.append(tensor)
            self._bind(name, tensor)
        builder.on_host(node, (), tensors, "made once")

    def _growing(self, node: Node, info: Info) -> Tensor:
        """What attributes make, as a view of so much that it is enough for every length."""
        attrs: Any = node.attrs
        builder = self.builder
        builder.begin(node, ())
        if node.op == "range":
            steps = range(most(info.shape[0]))
            every = whole_numbers([attrs["start"] + step * attrs["delta"] for step in steps])
            return replace(builder.local(every, info.dtype), shape=info.shape)
        if node.op == "constant_of_shape":
            value = np.full((1,) * len(info.shape), attrs["value"], info.dtype.numpy)
            return builder.local(value, info.dtype).broadcast_to(info.shape)
        raise DataDependent(f"{label(node)}: it is made for each length")

    # -- names ------------------------------------------------------------

    def _bind(self, name: str, tensor: Tensor) -> None:
        self.tensors[name] = tensor
        live = self.builder.live
        live[tensor.storage] = live.get(tensor.storage, 0) + self._uses.get(name, 0)

    def _release(self, node: Node) -> None:
        for name in node.inputs:
            tensor = self.tensors.get(name)
            if tensor is not None:
                self.builder.live[tensor.storage] -= 1

    def _info(self, name: str) -> Info:
        info = self._infos.get(name)
        if info is None:
            info = self._infos[name] = constant_info(self._constants[name])
        return info

    def _tensor(self, name: str) -> Tensor:
        tensor = self.tensors.get(name)
        if tensor is None:
            self._bind(name, self._constant(name, self._constants[name]))
            tensor = self.tensors[name]
        return tensor

    def _constant(self, name: str, constant: Constant) -> Tensor:
        array = constant.array
        if self._session.get(name) is not constant:
            assert array is not None  # made by specialisation or a pass
            return self.builder.local(array, constant.dtype)
        shape = constant.shape
        nbytes = max(count(shape) * constant.dtype.size, 1)
        storage = Storage(Kind.CONSTANT, nbytes, name, name)
        tensor = Tensor(storage, constant.dtype, shape, row_major_strides(shape))
        if array is not None and array.size <= FOLD_LIMIT:
            self.builder.arrays[tensor.storage] = array
        return tensor
