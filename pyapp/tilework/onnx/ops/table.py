"""The table of operators and the decorator that fills it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tilework.core.chapters import Chapters
from tilework.onnx.context import Context, OnnxNode

# Gets the node, emits operations, returns the names of the values that are the node's outputs.
Build: TypeAlias = Callable[[Context, OnnxNode], "str | Sequence[str]"]


@dataclass(frozen=True, slots=True)
class Operator:
    """One ONNX operator, all its versions. `inputs` is (fewest, most), most -1: no limit.

    Of the fewest, those at `absent` may be "".
    """

    build: Build
    inputs: tuple[int, int]
    absent: tuple[int, ...] = ()


OPERATORS: Chapters[tuple[str, str], Operator] = Chapters("tilework.onnx.ops", spell=".".join)

# Other spellings of a domain's name.
DOMAINS = {"ai.onnx": ""}

# Below this opset many operators had another form, which no exporter since 2017 writes; taken are
# those whose form of opset 1 was still the same then.
SETTLED_OPSET = 6
_SETTLED = """
    And ArgMax ArgMin AveragePool Constant Conv ConvTranspose DepthToSpace Equal Flatten Gather
    GlobalAveragePool GlobalMaxPool Greater Hardmax Identity If LRN Less LogSoftmax Loop
    LpNormalization MatMul MaxPool MaxRoiPool Not Or Pow RNN RandomNormal RandomNormalLike
    RandomUniform RandomUniformLike ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Shape Size Slice Softmax Softplus
    Softsign SpaceToDepth Squeeze Transpose Unsqueeze Upsample Xor
"""
SETTLED = frozenset(_SETTLED.split())

MICROSOFT = "com.microsoft"
ML = "ai.onnx.ml"


def operator(
    name: str, inputs: int | tuple[int, int], domain: str = "", absent: tuple[int, ...] = ()
) -> Callable[[Build], Build]:
    """Enter the decorated function as the meaning of `name`."""
    limits = (inputs, inputs) if isinstance(inputs, int) else inputs

    def enter(build: Build) -> Build:
        OPERATORS.enter((domain, name), Operator(build, limits, absent))
        return build

    return enter


def direct(names: dict[str, str], inputs: int | tuple[int, int]) -> None:
    """Operators that are one operation of the graph with the same inputs and no attributes."""
    for name, op in names.items():
        operator(name, inputs)(_direct(op))


def paired(names: dict[str, str]) -> None:
    """Operators of two operands that broadcast, with the attributes that said so until opset 6."""
    for name, op in names.items():
        operator(name, 2)(_paired(op))


def _direct(op: str) -> Build:
    def build(ctx: Context, node: OnnxNode) -> str:
        return ctx.emit(op, *node.inputs)

    return build


def _paired(op: str) -> Build:
    def build(ctx: Context, node: OnnxNode) -> str:
        a, b = node.inputs
        if node.version < 7 and node.attrs.get("broadcast", 0) and "axis" in node.attrs:
            # b's axes are a's from `axis` on; since opset 7 they are the last ones, as in NumPy.
            rank, other = ctx.rank(a), ctx.rank(b)
            if rank is None or other is None:
                raise ctx.unsupported("broadcasting along an axis of tensors of undeclared rank")
            axis = node.attrs["axis"]
            ones = rank - (axis + rank if axis < 0 else axis) - other
            if ones > 0:
                b = ctx.emit("unsqueeze", b, axes=tuple(range(other, other + ones)))
        return ctx.emit(op, a, b)

    return build
