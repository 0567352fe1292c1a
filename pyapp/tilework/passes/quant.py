"""Products of bytes take along what follows them: scales, bias, activation, residual.

onnxruntime's quantiser writes MatMulInteger or ConvInteger, Cast and a Mul by the product of two
scales; that is quantized_matmul or quantized_conv. Models in the other notation have a
DequantizeLinear before each operand of a MatMul. Bias, activation and residual then move into it
as they do into fused_matmul. Both operations have the same inputs in the same places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilework.core.dtypes import FLOAT32, INT8, UINT8
from tilework.ir.graph import Extent, Node
from tilework.ir.opdefs.fused import ACTIVATIONS
from tilework.passes.editor import Editor
from tilework.passes.epilogue import activated, activation, take_residuals

BIAS, RESIDUAL = 6, 7  # inputs
QUANTISED = {"matmul_integer": "quantized_matmul", "conv_integer": "quantized_conv"}
NAMES = {"quantized_matmul": "matmul of bytes", "quantized_conv": "conv of bytes"}
SINGLE = ((), (1,))
BYTES = (UINT8, INT8)


def _fused(node: Node, inputs: Sequence[str], outputs: Sequence[str], **attrs: Any) -> Node:
    trimmed = list(inputs)
    while not trimmed[-1]:
        trimmed.pop()
    attrs = {**node.attrs, "to": "float32", **attrs}
    op = QUANTISED.get(node.op, node.op)
    return Node(op, tuple(trimmed), tuple(outputs), attrs, node.origin)


def _each(editor: Editor, product: Node) -> tuple[Extent, ...] | None:
    """The shape of what is one for each column, or channel, of the weights; None if not known."""
    shape = editor.shape(product.inputs[1])
    if shape is None or len(shape) < 2:
        return None
    return shape[:1] if "conv" in product.op else shape[-1:]


def fuse_dequantised(editor: Editor) -> None:
    """matmul of two dequantised operands, the second's bytes constant → quantized_matmul."""
    for node in editor:
        if node.op != "matmul":
            continue
        sides = [_opened(editor, name) for name in node.inputs]
        if None in sides or sides[1] is None or sides[1].inputs[0] not in editor.constants:
            continue
        (a, a_scale, a_zero), (b, b_scale, b_zero) = (
            [*side.inputs, ""][:3] for side in sides if side is not None
        )
        shape = editor.shape(b)
        if shape is None or len(shape) != 2 or sides[1].attrs.get("axis", 1) not in (1, -1):
            continue
        of_weights = (*SINGLE, shape[-1:])
        if any(name and editor.concrete(name) not in SINGLE for name in (a_scale, a_zero)) or any(
            name and editor.concrete(name) not in of_weights for name in (b_scale, b_zero)
        ):
            continue
        inputs = (a, b, a_scale, b_scale, a_zero, b_zero)
        bare = Node("quantized_matmul", (), (), {}, node.origin)
        editor.replace(node, [_fused(bare, inputs, node.outputs)], "matmul of bytes")


def _opened(editor: Editor, name: str) -> Node | None:
    """The dequantize_linear of bytes to float32, without blocks, that computes `name`."""
    node = editor.producer(name)
    if node is None or node.op != "dequantize_linear" or node.attrs.get("block_size", 0):
        return None
    known = editor.dtype(node.inputs[0]) in BYTES and editor.dtype(node.inputs[1]) is FLOAT32
    return node if known and node.attrs.get("to") == "float32" else None


def fuse_scales(editor: Editor) -> None:
    """cast(matmul_integer) · (a_scale · b_scale) → quantized_matmul."""
    for node in editor:
        if node.op != "mul":
            continue
        for sums, scales in (node.inputs, node.inputs[::-1]):
            product = _sums(editor, sums)
            if product is None:
                continue
            pair = _pair(editor, scales, product)
            if pair is not None:
                a, b, a_zero, b_zero = [*product.inputs, "", ""][:4]
                inputs = (a, b, *pair, a_zero, b_zero)
                new = _fused(product, inputs, node.outputs)
                editor.replace(node, [new], NAMES[new.op])
                break


def _sums(editor: Editor, name: str) -> Node | None:
    """The product of integers whose sums, as float32, `name` are."""
    cast = editor.producer(name)
    if cast is None or cast.op != "cast" or cast.attrs.get("to") != "float32":
        return None
    node = editor.producer(cast.inputs[0])
    if node is None or node.op not in QUANTISED:
        return None
    if not (editor.used_once(name) and editor.used_once(node.outputs[0])):
        return None
    a, _, a_zero, b_zero = [*node.inputs, "", ""][:4]
    each = _each(editor, node)
    if each is None or editor.concrete(a) is None:
        return None
    if a_zero and editor.concrete(a_zero) not in SINGLE:
        return None
    if b_zero and editor.concrete(b_zero) not in (*SINGLE, each):
        return None
    return node


def _pair(editor: Editor, name: str, product: Node) -> tuple[str, str] | None:
    """a's scale, one number, and b's, one or one for each column."""
    scales = editor.producer(name)
    if scales is None or scales.op != "mul" or editor.dtype(name) is not FLOAT32:
        return None
    each = _each(editor, product)
    # A vector along the last axis is one for each column of a matrix; channels are another axis.
    of_weights = SINGLE if "conv" in product.op else (*SINGLE, each)
    for one, other in (scales.inputs, scales.inputs[::-1]):
        if editor.concrete(one) in SINGLE and editor.concrete(other) in of_weights:
            return one, other
    return None


def fuse_quantized_bias(editor: Editor) -> None:
    """A quantised product + a constant of one number for each column, or channel → bias."""
    for node in editor:
        if node.op != "add":
            continue
        for name, bias in (node.inputs, node.inputs[::-1]):
            product = _sole(editor, name)
            if product is None or _has(product, BIAS, RESIDUAL) or activated(product):
                continue
            vector = _vector(editor, product, bias)
            if not vector:
                continue
            new = _fused(product, (*_padded(product)[:BIAS], vector), node.outputs)
            editor.replace(node, [new], f"{NAMES[new.op]} + bias")
            break


def _vector(editor: Editor, product: Node, bias: str) -> str:
    """The constant as a vector, "" where it is not one number for each column or channel."""
    constant, each = editor.constants.get(bias), _each(editor, product)
    if constant is None or each is None:
        return ""
    if "conv" not in product.op:
        return bias if constant.shape == each else ""
    rank = len(editor.shape(product.inputs[0]) or ())
    array = editor.array(bias)
    if array is None or (1,) * (rank - array.ndim) + array.shape != (1, *each, *(1,) * (rank - 2)):
        return ""
    return editor.add_constant(f"{bias}@vector", array.reshape(-1))


def fuse_quantized_activation(editor: Editor) -> None:
    """activation(quantised product) → its epilogue."""
    for node in editor:
        name = activation(node)
        if name not in ACTIVATIONS:
            continue
        product = _sole(editor, node.inputs[0])
        if product is None or _has(product, RESIDUAL) or activated(product):
            continue
        new = _fused(product, product.inputs, node.outputs, activation=name)
        editor.replace(node, [new], f"{NAMES[new.op]} + {name}")


def fuse_quantized_residual(editor: Editor) -> None:
    """A quantised product + a tensor of exactly its shape → residual."""

    def taker(editor: Editor, name: str) -> Node | None:
        product = _sole(editor, name)
        return None if product is None or _has(product, RESIDUAL) else product

    def joined(product: Node, other: str, outputs: Sequence[str]) -> Node:
        return _fused(product, (*_padded(product)[:RESIDUAL], other), outputs)

    take_residuals(editor, taker, joined, lambda new: NAMES[new.op])


def _sole(editor: Editor, name: str) -> Node | None:
    node = editor.producer(name)
    if node is None or node.op not in NAMES or not editor.used_once(name):
        return None
    return node


def _padded(product: Node) -> list[str]:
    return [*product.inputs, *[""] * (RESIDUAL + 1)]


def _has(product: Node, *places: int) -> bool:
    return any(_padded(product)[place] for place in places)
