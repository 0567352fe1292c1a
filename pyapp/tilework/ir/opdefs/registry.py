"""OpDef, Info and the table OPS: what every operation of the graph means.

An operation has ONE form in which `infer` and `reference` see it, the resolved one: what ONNX
passes as a small tensor but decides a shape or an order (axes, a target shape, slice bounds) is an
attribute. In a graph such a thing may still be a trailing input, because its value may hang on the
run's shapes; `values` names those inputs and `resolve` moves them over once their values are known.
Never touches devices, kernels or plans; the planner, the folder, the host fallback and the oracle
`ir.reference` are built on it.

To add an operation: one `define(...)` in the chapter it belongs to, in `ir/opdefs/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tilework.core import errors
from tilework.core.chapters import Chapters
from tilework.core.config import FOLD_LIMIT as FOLD_LIMIT
from tilework.core.config import LARGEST_TENSOR, MOST_AXES
from tilework.core.dtypes import DType, from_numpy
from tilework.core.errors import InvalidArgument, InvalidGraph, OutOfMemory, TileworkError
from tilework.core.growing import grows
from tilework.ir.graph import Graph, Node
from tilework.ir.narrow import narrow, widen

Array: TypeAlias = NDArray[Any]
Attrs: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Info:
    """What is known of a tensor: dtype, concrete shape, and its value where that is small."""

    dtype: DType
    shape: tuple[int, ...]
    value: Array | None = None

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


Infer: TypeAlias = Callable[[Node, Sequence[Any]], list[Info]]
# It takes and gives arrays; a dynamic operation's also lists of them, and None.
Reference: TypeAlias = Callable[..., tuple[Any, ...]]
Normalise: TypeAlias = Callable[[Node, Sequence[Any]], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class OpDef:
    """One operation.

    `infer(node, infos)` gives an Info per output; `reference(attrs, *arrays)` a NumPy array per
    output with ONNX's exact semantics. Both see the resolved node; an absent optional input is
    None. `values` maps an attribute to the input that may hold it instead. `normalise(node, infos)`
    gives attributes to replace (negative axes counted from the front, defaults spelled out).
    `outputs` is the number of outputs, or -1 when the node says it. A reference is given narrow
    dtypes widened and its results are narrowed again (`apply`), unless it is `raw`: those that move
    elements, and conversions. What a `random` operation gives is another thing at every run: it is
    neither folded nor merged with one alike.

    What a `dynamic` operation gives, its sizes, or whether that is a tensor at all, is known only
    once it has run: it has no inference, its reference checks, and a plan is cut at it.
    """

    name: str
    min_inputs: int
    max_inputs: int  # -1: no limit
    outputs: int
    infer: Infer
    reference: Reference
    values: Mapping[str, int]
    normalise: Normalise | None = None
    raw: bool = False
    dynamic: bool = False
    random: bool = False


OPS: Chapters[str, OpDef] = Chapters("tilework.ir.opdefs")


class DataDependent(errors.NotImplemented):
    """A shape hangs on a tensor's value that is not known before the run."""


def define(
    name: str,
    inputs: int | tuple[int, int],
    infer: Infer,
    reference: Reference,
    *,
    outputs: int = 1,
    values: Mapping[str, int] | None = None,
    normalise: Normalise | None = None,
    raw: bool = False,
    random: bool = False,
) -> OpDef:
    """Enter an operation into OPS. `inputs` is its number or (fewest, most), most -1: no limit."""
    fewest, most = (inputs, inputs) if isinstance(inputs, int) else inputs
    entry = OpDef(
        name, fewest, most, outputs, infer, reference, values or {}, normalise, raw, random=random
    )
    OPS.enter(name, entry)
    return entry


def define_dynamic(
    name: str, inputs: int | tuple[int, int], reference: Reference, outputs: int = 1
) -> OpDef:
    """Enter a dynamic operation into OPS; its reference is given the values as they are."""
    entry = replace(
        define(name, inputs, _unknown, reference, outputs=outputs, raw=True), dynamic=True
    )
    OPS[name] = entry
    return entry


def _unknown(node: Node, infos: Sequence[Any]) -> list[Info]:
    raise DataDependent(f"{label(node)}: what it gives is known only once it has run")


def opdef(node: Node) -> OpDef:
    """The definition of `node.op`; NotImplemented naming the node when there is none."""
    found: OpDef | None = OPS.get(node.op)
    if found is None:
        raise errors.NotImplemented(
            f"{label(node)}: operation '{node.op}' is not defined; define it in tilework/ir/opdefs"
        )
    return found


def label(node: Node) -> str:
    """How an error names the node: its origin, else the operation and first output."""
    return node.origin or f"{node.op} '{node.outputs[0] if node.outputs else ''}'"


def fail(node: Node, infos: Sequence[Info | None], reason: str) -> InvalidArgument:
    """The error of a node whose inputs do not fit; names the node and the inputs' shapes."""
    inputs = ", ".join("absent" if info is None else str(info) for info in infos)
    return InvalidArgument(f"{label(node)}: {reason} (inputs: {inputs})")


def check_arity(node: Node, definition: OpDef) -> None:
    """InvalidGraph when the number of inputs or outputs is not the operation's."""
    given = len(node.inputs)
    required = node.inputs[: definition.min_inputs]
    if len(required) < definition.min_inputs or "" in required:
        # An input that `values` names may have become an attribute.
        missing = {i for i in range(definition.min_inputs) if i >= given or not node.inputs[i]}
        held = {index for name, index in definition.values.items() if name in node.attrs}
        if missing - held:
            raise InvalidGraph(
                f"{label(node)}: {given} inputs, '{node.op}' needs {definition.min_inputs}; "
                f"input {min(missing - held)} is absent"
            )
    if 0 <= definition.max_inputs < given:
        raise InvalidGraph(
            f"{label(node)}: {given} inputs, '{node.op}' takes at most {definition.max_inputs}"
        )
    if definition.outputs >= 0 and len(node.outputs) > definition.outputs:
        raise InvalidGraph(
            f"{label(node)}: {len(node.outputs)} outputs, '{node.op}' has {definition.outputs}"
        )


def resolve(node: Node, infos: Sequence[Info | None]) -> tuple[Node, list[Info | None]]:
    """The node in its resolved form, and the infos of the inputs that it still has.

    Raises DataDependent when an input that `values` names has no known value.
    """
    definition = opdef(node)
    check_arity(node, definition)
    kept = list(infos)
    attrs: dict[str, Any] | None = None
    inputs = node.inputs
    if definition.values:
        lowest = len(kept)
        for name, index in definition.values.items():
            if index >= len(kept):
                continue
            lowest = min(lowest, index)
            info = kept[index]
            if info is None:
                continue
            if info.value is None:
                raise DataDependent(
                    f"{label(node)}: its '{name}' is computed from data ('{inputs[index]}'), so "
                    "the shapes that follow are not known before the run"
                )
            attrs = dict(node.attrs) if attrs is None else attrs
            attrs[name] = as_attribute(info.value)
        if lowest < len(kept):
            kept, inputs = kept[:lowest], inputs[:lowest]
    if attrs is not None or inputs is not node.inputs:
        node = replace(node, inputs=inputs, attrs=node.attrs if attrs is None else attrs)
    if definition.normalise is not None:
        try:
            changed = definition.normalise(node, infos)  # moved inputs still tell their dtype
        except InvalidArgument as error:
            raise fail(node, kept, str(error)) from None
        if changed:
            node = replace(node, attrs={**node.attrs, **changed})
    return node, kept


def as_attribute(value: Array) -> Any:
    """An array as the attribute that stands for it: a number, or a flat tuple of numbers."""
    value = widen(value)
    return value.item() if value.ndim == 0 else tuple(value.reshape(-1).tolist())


# What Python raises when an attribute is of another kind than the operation's.
MALFORMED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)


def infer_node(node: Node, infos: Sequence[Info | None]) -> tuple[Node, list[Info]]:
    """The resolved node and an Info per output; small known values are carried along.

    Raises InvalidGraph, InvalidArgument or DataDependent, each naming the node.
    """
    try:
        node, kept = resolve(node, infos)
        definition = OPS[node.op]
        if definition.dynamic:
            return node, _infer_dynamic(node, kept)
        results = _possible(node, kept, definition.infer(node, kept))
    except TileworkError:
        raise
    except MALFORMED as error:
        raise _malformed(node, error) from error
    if any(len(result.shape) > MOST_AXES for result in results):
        raise fail(node, kept, f"gives a tensor of more than {MOST_AXES} axes")
    # What grows moves along a constant, which stays where it is: a view is all that takes.
    if definition.random or (kept and grows(*node.attrs.values())):
        return node, results
    if all(info is None or info.value is not None for info in kept) and all(
        result.value is None and _small(result.shape) for result in results
    ):
        values = _compute(node, [None if info is None else info.value for info in kept], results)
        results = [
            Info(result.dtype, result.shape, _settled(value, result.dtype))
            for result, value in zip(results, values, strict=False)  # trailing ones are unused
        ]
    return node, results


def _settled(value: Array, dtype: DType) -> Array:
    """Integers as such again where nothing of an array of objects grows any more."""
    if value.dtype == object and dtype.kind in "iub" and not grows(*value.flat):
        return value.astype(dtype.numpy)
    return value


def apply(
    node: Node, arrays: Sequence[Array | None], dtypes: Sequence[DType]
) -> tuple[Array, ...]:
    """The reference of a resolved node, whose outputs have `dtypes`."""
    definition = OPS[node.op]
    if definition.raw:
        return definition.reference(node.attrs, *arrays)
    wide = [None if array is None else widen(array) for array in arrays]
    results = definition.reference(node.attrs, *wide)
    return tuple(
        narrow(one, dtype, saturate=False) if dtype.wide and one.dtype.names is None else one
        for one, dtype in zip(results, dtypes, strict=False)  # trailing ones are unused
    )


def _infer_dynamic(node: Node, infos: Sequence[Info | None]) -> list[Info]:
    """From known values what they give; a graph's own nodes are for whoever runs it."""
    known = not any(isinstance(value, Graph) for value in node.attrs.values())
    if known and all(info is None or info.value is not None for info in infos):
        results = _compute(node, [None if info is None else info.value for info in infos], ())
        if all(isinstance(result, np.ndarray) and _small(result.shape) for result in results):
            return [info_of(result) for result in results]
    return OPS[node.op].infer(node, infos)


def _compute(node: Node, values: Sequence[Any], infos: Sequence[Info]) -> tuple[Any, ...]:
    try:
        return apply(node, values, [info.dtype for info in infos])
    except InvalidArgument as error:
        given = ", ".join(map(_described, values))
        raise InvalidArgument(f"{label(node)}: {error} (inputs: {given})") from None
    except MALFORMED as error:
        raise _malformed(node, error) from error


def _malformed(node: Node, error: Exception) -> InvalidGraph:
    return InvalidGraph(
        f"{label(node)}: its attributes {dict(node.attrs)} are not what '{node.op}' takes "
        f"({error!r})"
    )


def _possible(node: Node, infos: Sequence[Info | None], results: list[Info]) -> list[Info]:
    """`results`, if there can be such tensors; damaged attributes ask for others."""
    for info in results:
        nbytes = info.dtype.size
        for extent in info.shape:
            if isinstance(extent, float) or extent < 0:
                raise fail(node, infos, f"its result would be {list(info.shape)}")
            nbytes *= extent or 1  # NumPy minds the others even where an extent is 0
        if nbytes > LARGEST_TENSOR:
            raise OutOfMemory(
                f"{label(node)}: its result, {info}, takes {nbytes:,} bytes; a tensor may have "
                f"{LARGEST_TENSOR:,}"
            )
    return results


def _small(shape: tuple[int, ...]) -> bool:
    size = 1
    for extent in shape:
        size *= extent
    return size <= FOLD_LIMIT and not grows(size)


def evaluate(node: Node, values: Sequence[Any]) -> tuple[Any, ...]:
    """The node's outputs by its reference; the host fallback. Checks as inference does.

    A value is an array, a list of them (a sequence) or None (absent, or an optional without one).
    """
    definition = opdef(node)
    if definition.dynamic:
        check_arity(node, definition)
        return _compute(node, values, ())
    for name, value in zip(node.inputs, values, strict=True):
        if isinstance(value, list) or (value is None and name):
            if node.op == "identity":
                return (value,)
            raise InvalidArgument(
                f"{label(node)}: its input '{name}' is {_described(value)}; '{node.op}' takes "
                "tensors"
            )
    infos = [None if array is None else info_of(array) for array in values]
    try:
        node, kept = resolve(node, infos)
        results = _possible(node, kept, definition.infer(node, kept))
    except TileworkError:
        raise
    except MALFORMED as error:
        raise _malformed(node, error) from error
    return _compute(node, values[: len(kept)], results)


def _described(value: Any) -> str:
    if isinstance(value, list):
        return f"a sequence of {len(value)}"
    return "absent" if value is None else str(info_of(value))


def info_of(array: Array) -> Info:
    """The Info of an array whose value is known."""
    return Info(from_numpy(array.dtype), array.shape, array)
