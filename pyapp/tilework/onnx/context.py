"""What an operator's function sees while a model's nodes become the graph's: OnnxNode, Context.

A function in `onnx/ops` gets one ONNX node, emits nodes of the graph and returns the names of the
values that are the ONNX node's outputs. Naming them, resolving Identity and collecting the result
is done here and in `onnx.model`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tilework.core import errors
from tilework.core.config import READ_BACK_LIMIT
from tilework.core.dtypes import BOOL, BY_NAME, FLOAT32, INT64, DType, from_numpy
from tilework.core.errors import InvalidGraph
from tilework.ir.graph import UNTYPED, Constant, Graph, Node, Value
from tilework.ir.narrow import convert
from tilework.ir.opdefs import OPS
from tilework.ir.opdefs.elementwise import COMPARISON
from tilework.ir.opdefs.registry import as_attribute
from tilework.onnx.external import ExternalData
from tilework.onnx.proto import GraphProto

Array: TypeAlias = NDArray[Any]

_BOOL_RESULTS = {
    *COMPARISON, "isnan", "isinf", "and", "or", "xor", "not", "optional_has_element",
    "regex_full_match",
}  # fmt: skip
_INT64_RESULTS = {
    "shape", "size", "argmax", "argmin", "nonzero", "listed_boxes", "sequence_length",
}  # fmt: skip
# The dtypes of an operation's outputs where they are not its first input's: a dtype, or the input
# that has it.
_RESULTS: dict[str, tuple[DType | int, ...]] = {
    "where": (1,),
    "one_hot": (1,),
    "class_one_hot": (FLOAT32,),
    "known_one_hot": (FLOAT32,),
    "tf_idf": (FLOAT32,),
    "top_k": (0, INT64),
    "scaled_attention": (0, 1, 2, 0),
}


@dataclass(frozen=True, slots=True)
class OnnxNode:
    """One node as the model states it; absent optional inputs are "", names are resolved.

    Attributes are int, float, str, tuples of these, arrays (tensors), or a GraphProto. `version`
    is the model's opset of the node's domain.
    """

    op_type: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    version: int

    @property
    def origin(self) -> str:
        return f"{self.op_type} '{self.name or next(filter(None, self.outputs), '')}'"

    def input(self, index: int) -> str:
        """The name of the input, "" when it is absent."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def wants(self, index: int) -> bool:
        """Whether somebody may use the output."""
        return index < len(self.outputs) and bool(self.outputs[index])


@dataclass(frozen=True, slots=True)
class Inner:
    """A graph inside a node; `captured` has the names of its last inputs, and those outside."""

    graph: Graph
    captured: Mapping[str, str]


class Context:
    """Collects the graph's nodes and constants, and answers what is known of a value."""

    def __init__(
        self,
        constants: dict[str, Constant],
        places: dict[str, tuple[str, int]],
        values: dict[str, Value],
        external: ExternalData | None,
        taken: set[str],
    ) -> None:
        self.constants = constants
        self.values = values
        self.nodes: list[Node] = []
        self._places = places  # external constants: location and offset in it
        self._external = external
        self._taken = taken
        self._alias: dict[str, str] = {}
        self._dtypes: dict[str, DType] = {
            name: value.dtype for name, value in values.items() if value.dtype is not UNTYPED
        }
        self._dtypes.update((name, c.dtype) for name, c in constants.items())
        self._fresh = 0
        # What the current node has emitted: operation, inputs, outputs, attributes.
        self._pending: list[tuple[str, tuple[str, ...], tuple[str, ...], dict[str, Any]]] = []
        self._node: OnnxNode | None = None
        # Reads a graph that an attribute holds; the names are of what the node passes to it.
        self.inner: Callable[[GraphProto, Sequence[str]], Inner]

    # -- for the operators' functions ----------------------------------------------------------

    def emit(self, op: str, *inputs: str, **attrs: Any) -> str:
        """One node with one output, whose name is returned."""
        return self.emit_many(op, inputs, 1, attrs)[0]

    def emit_many(
        self, op: str, inputs: Sequence[str], outputs: int, attrs: Mapping[str, Any]
    ) -> tuple[str, ...]:
        """One node with several outputs. Attributes that are None are left out."""
        assert self._node is not None
        names = tuple(self._name(op) for _ in range(outputs))
        present = list(inputs)
        while present and not present[-1]:
            present.pop()
        kept = {key: value for key, value in attrs.items() if value is not None}
        self._pending.append((op, tuple(present), names, kept))
        for number, name in enumerate(names):
            dtype = self._result_dtype(op, number, present, kept)
            if dtype is not None:
                self._dtypes[name] = dtype
        return names

    def emit_with(
        self, op: str, *inputs: str, values: Mapping[str, str], outputs: int = 1, **attrs: Any
    ) -> tuple[str, ...]:
        """A node some of whose attributes are tensors: `values` maps attribute -> value's name.

        What is constant becomes the attribute, the rest the trailing inputs that OpDef.values says.
        """
        places = OPS[op].values
        listed = list(inputs)
        for attribute, name in values.items():
            if not name:
                continue
            array = self.value(name)
            if array is not None:
                attrs[attribute] = as_attribute(array)
                continue
            while len(listed) <= places[attribute]:
                listed.append("")
            listed[places[attribute]] = name
        return self.emit_many(op, listed, outputs, attrs)

    def constant(self, array: Array) -> str:
        """A new constant."""
        name = self._name("constant")
        self.constants[name] = Constant(from_numpy(array.dtype), array.shape, array=array)
        self._dtypes[name] = self.constants[name].dtype
        return name

    def scalar(self, number: float, like: str) -> str:
        """A constant of rank 0 in the dtype of the value `like`."""
        return self.constant(convert(np.array(number), self.dtype(like)))

    def value(self, name: str) -> Array | None:
        """The value of a constant, None of anything else (or of a large external constant)."""
        constant = self.constants.get(name)
        if constant is None or constant.array is not None:
            return None if constant is None else constant.array
        assert constant.external is not None
        nbytes = constant.external[1]
        if self._external is None or self._external.read is None or nbytes > READ_BACK_LIMIT:
            return None
        location, offset = self._places[name]
        data = self._external.read(location, offset, nbytes)
        return np.frombuffer(data, constant.dtype.numpy).reshape(constant.shape)

    def dtype(self, name: str) -> DType:
        """The value's dtype; InvalidGraph when neither the model nor the operators tell it."""
        found = self._dtypes.get(name)
        if found is None:
            raise self.invalid(
                f"the dtype of '{name}' is not known; declare it in the graph's value_info"
            )
        return found

    def set_dtype(self, name: str, dtype: DType) -> None:
        """What an emitted value is, where that is not the first input's dtype."""
        self._dtypes.pop(name, None)
        if dtype is not UNTYPED:
            self._dtypes[name] = dtype

    def made_by(self, name: str) -> str:
        """The operation whose result a value is; "" for an input or a constant."""
        return next((node.op for node in reversed(self.nodes) if name in node.outputs), "")

    def rank(self, name: str) -> int | None:
        """The value's rank where it is a constant or declared."""
        if name in self.constants:
            return len(self.constants[name].shape)
        value = self.values.get(name)
        return None if value is None or value.shape is None else len(value.shape)

    def invalid(self, reason: str) -> InvalidGraph:
        """The error of a node that contradicts its operator's definition."""
        return InvalidGraph(f"{self._where()}: {reason}")

    def unsupported(self, reason: str) -> errors.NotImplemented:
        """The error of a node whose use of its operator is not implemented."""
        return errors.NotImplemented(f"{self._where()}: {reason} is not supported")

    # -- for the model's reader ----------------------------------------------------------------

    def resolve(self, name: str) -> str:
        """The name of the value that `name` stands for."""
        return self._alias.get(name, name)

    def begin(self, node: OnnxNode) -> None:
        """Emitted nodes belong to `node` from here on."""
        self._node = node
        self._pending = []

    def finish(self, results: Sequence[str]) -> None:
        """Give `results` the names of the current node's outputs."""
        assert self._node is not None
        node = self._node
        produced = {name for entry in self._pending for name in entry[2]}
        renamed: dict[str, str] = {}
        for output, result in zip(node.outputs, results, strict=False):
            if not output:
                continue
            if result in produced and result not in renamed:
                renamed[result] = output
                if result in self._dtypes:
                    self._dtypes.setdefault(output, self._dtypes[result])
            elif not result:
                raise self.unsupported(f"its output '{output}'")
            else:
                self._alias[output] = renamed.get(result, result)
        if len(node.outputs) > len(results) and any(node.outputs[len(results) :]):
            raise self.invalid(f"{len(node.outputs)} outputs, {len(results)} are produced")
        origin = node.origin
        for op, inputs, outputs, attrs in self._pending:
            if produced.intersection(inputs):
                inputs = tuple([renamed.get(name, name) for name in inputs])
            outputs = tuple([renamed.get(name, name) for name in outputs])
            self.nodes.append(Node(op, inputs, outputs, attrs, origin))

    def take_constant(self, name: str, outside: Context, source: str) -> None:
        """A constant of the graph around this one, under this graph's name for it."""
        constant = self.constants[name] = outside.constants[source]
        self._dtypes[name] = constant.dtype
        if source in outside._places:
            self._places[name] = outside._places[source]

    def declare(self, value: Value) -> None:
        """Says what a value is, before the node that makes it is finished, or of an outer one."""
        if value.dtype is not UNTYPED:
            self._dtypes[value.name] = value.dtype
        self.values[value.name] = value

    def known_value(self, name: str) -> Value:
        """What is known of a value's type."""
        constant = self.constants.get(name)
        if constant is not None:
            return Value(name, constant.dtype, constant.shape)
        declared = self.values.get(name)
        dtype = self._dtypes.get(name, UNTYPED)
        return Value(name, dtype, None) if declared is None else self.typed(declared)

    def typed(self, value: Value) -> Value:
        """The value with the dtype that was found out, where the model says none."""
        if value.dtype is not UNTYPED:
            return value
        return replace(value, dtype=self._dtypes.get(value.name, UNTYPED))

    def known_values(self) -> dict[str, Value]:
        """What is declared of the values, and the dtypes that were found out."""
        result = dict(self.values)
        for node in self.nodes:
            for name in node.outputs:
                if name and name not in result and name in self._dtypes:
                    result[name] = Value(name, self._dtypes[name], None)
        return result

    def _name(self, stem: str) -> str:
        while True:
            name = f"{stem}#{self._fresh}"
            self._fresh += 1
            if name not in self._taken:
                return name

    def _result_dtype(
        self, op: str, number: int, inputs: Sequence[str], attrs: Mapping[str, Any]
    ) -> DType | None:
        rule = _RESULTS.get(op, ())
        if number < len(rule):
            known = rule[number]
            if isinstance(known, DType):
                return known
            return self._dtypes.get(inputs[known]) if known < len(inputs) else None
        if op in _BOOL_RESULTS:
            return BOOL
        if op in _INT64_RESULTS:
            return INT64
        named = attrs.get("to") or attrs.get("dtype")
        if named is not None:
            return BY_NAME.get(str(named))
        return self._dtypes.get(inputs[0]) if inputs else None

    def _where(self) -> str:
        assert self._node is not None
        node = self._node
        return f"{node.origin} ({node.domain or 'ai.onnx'} opset {node.version})"
