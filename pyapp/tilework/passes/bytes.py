"""Networks in bytes throughout: what lies between dequantize_linear and quantize_linear.

onnxruntime's static quantiser writes every operation between its operands' DequantizeLinear and
its result's QuantizeLinear; the operations of its other format (QLinearAdd and so on) are read as
that. Here they become operations on bytes: convolutions and products as exact integer sums,
functions of one operand as a table of 256 bytes, an average as a convolution by ones; what only
moves bytes moves them. An activation that only cuts off cuts the bytes off, for rounding keeps the
order of numbers.

Scales and zeros are constants here. Whatever does not fit stays as it is, in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tilework.core.dtypes import BY_NAME, FLOAT32, INT8, INT32, UINT8, DType
from tilework.ir.graph import Node, Value
from tilework.ir.opdefs.registry import OPS, Array
from tilework.passes.editor import Editor

BYTES = (UINT8, INT8)
RANGES = {"uint8": (0, 255), "int8": (-128, 127)}
# Functions of one operand, element by element, with nothing else that changes.
UNARY = frozenset(
    {
        "relu", "leaky_relu", "clip", "sigmoid", "silu", "hard_swish", "hard_sigmoid", "tanh",
        "gelu", "erf", "exp", "log", "sqrt", "abs", "neg", "elu", "selu", "celu", "softplus",
        "softsign", "mish", "reciprocal", "floor", "ceil", "round", "sign",
    }
)  # fmt: skip
# What gives elements of its first operand, and no others, whatever they are; the largest of bytes
# is the byte of the largest number.
MOVES = frozenset(
    {
        "reshape", "transpose", "flatten", "squeeze", "unsqueeze", "slice", "split", "expand",
        "tile", "gather", "identity", "depth_to_space", "space_to_depth", "max_pool",
        "global_max_pool",
    }
)  # fmt: skip
CHAIN = 8  # functions of one operand in a row


@dataclass(frozen=True, slots=True)
class Scale:
    """What one tensor's bytes stand for: (byte - zero) scale. `names` are the constants'."""

    scale: float
    zero: int
    dtype: DType
    names: tuple[str, str]

    def same(self, other: Scale) -> bool:
        """Whether equal bytes stand for equal numbers."""
        mine = (self.scale, self.zero, self.dtype)
        return mine == (other.scale, other.zero, other.dtype)

    def numbers(self) -> Array:
        """What the 256 bytes stand for, in the order of their bits."""
        every = np.arange(256).astype(np.uint8).view(self.dtype.numpy)
        moved = (every.astype(np.int64) - self.zero).astype(np.float32)
        return np.asarray(moved * np.float32(self.scale))

    def rounded(self, numbers: Array) -> Array:
        """The bytes of numbers, as quantize_linear's reference has them."""
        scale, zero = np.float32(self.scale), np.asarray(self.zero, self.dtype.numpy)
        attrs = {"to": self.dtype.name}
        (found,) = OPS["quantize_linear"].reference(attrs, numbers, np.asarray(scale), zero)
        return np.asarray(found)


def _scale(editor: Editor, node: Node) -> Scale | None:
    """The one scale of a (de)quantize_linear between float32 and bytes; None for any other."""
    if node.attrs.get("block_size", 0):
        return None
    scale, zero = node.inputs[1], [*node.inputs, ""][2]
    number = editor.array(scale)
    if number is None or number.size != 1 or number.dtype != np.float32:
        return None
    if zero:
        array = editor.array(zero)
        dtype = editor.dtype(zero)
        if array is None or array.size != 1:
            return None
        moved = int(array.reshape(-1)[0])
    else:
        moved, dtype = 0, _byte_dtype(editor, node)
    if dtype not in BYTES or not float(number.reshape(-1)[0]) > 0:
        return None
    return Scale(float(number.reshape(-1)[0]), moved, dtype, (scale, zero))


def _byte_dtype(editor: Editor, node: Node) -> DType | None:
    if node.op == "quantize_linear":
        return BY_NAME.get(str(node.attrs.get("to")))
    before = editor.producer(node.inputs[0])
    if before is not None and "to" in before.attrs:
        return BY_NAME.get(str(before.attrs["to"]))
    return editor.dtype(node.inputs[0])


def _opened(editor: Editor, name: str) -> tuple[str, Scale] | None:
    """(bytes, their scale) of which `name` is the numbers."""
    node = editor.producer(name)
    if node is None or node.op != "dequantize_linear" or node.attrs.get("to") != "float32":
        return None
    scale = _scale(editor, node)
    return None if scale is None else (node.inputs[0], scale)


def _zero(editor: Editor, scale: Scale) -> str:
    """The name of the zero, which is made where it was left out."""
    return scale.names[1] or editor.add_constant(
        f"{scale.names[0]}@zero", np.asarray(scale.zero, scale.dtype.numpy)
    )


def sink_dequantised(editor: Editor) -> None:
    """dequantize_linear → a move  becomes  the move of bytes → dequantize_linear."""
    for node in editor:
        if node.op not in MOVES or node.inputs[0] in editor.constants:
            continue
        if node.op == "max_pool" and any(node.outputs[1:]):
            continue
        found = _opened(editor, node.inputs[0])
        if found is None or found[0] in editor.constants:
            continue
        source, scale = found
        outputs = tuple(f"{name}@bytes" if name else "" for name in node.outputs)
        new = [Node(node.op, (source, *node.inputs[1:]), outputs, node.attrs, node.origin)]
        attrs = {"to": "float32"}
        for name, out in zip(outputs, node.outputs, strict=True):
            if not out:
                continue
            _declare(editor, name, scale.dtype, out)
            inputs = tuple(name_ for name_ in (name, *scale.names) if name_)
            new.append(Node("dequantize_linear", inputs, (out,), attrs, node.origin))
        editor.replace(node, new, f"{node.op} of bytes")


def _declare(editor: Editor, name: str, dtype: DType, like: str) -> None:
    editor.values[name] = Value(name, dtype, editor.shape(like))


def fuse_bytes(editor: Editor) -> None:
    """… → quantize_linear  becomes one operation on bytes, where the operands are bytes."""
    for node in editor:
        if node.op != "quantize_linear":
            continue
        scale = _scale(editor, node)
        if scale is None:
            continue
        for rule in (_table, _after_limits, _joined):
            made = rule(editor, node, scale)
            if made is not None:
                new, name = made
                editor.replace(node, new, f"{name} of bytes")
                break


Made = tuple[list[Node], str]


def _table(editor: Editor, node: Node, to: Scale) -> Made | None:
    """Functions of one operand: a byte for each byte; nothing at all where that is itself."""
    chain: list[Node] = []
    name = node.inputs[0]
    while (found := _opened(editor, name)) is None:
        before = editor.producer(name)
        if before is None or before.op not in UNARY or len(before.inputs) != 1:
            return None
        if not editor.used_once(name) or len(chain) == CHAIN:
            return None
        chain.append(before)
        name = before.inputs[0]
    source, scale = found
    if not chain and scale.same(to):
        return [Node("identity", (source,), node.outputs, {}, node.origin)], "nothing"
    numbers = scale.numbers()
    with np.errstate(all="ignore"):
        for step in reversed(chain):
            (numbers,) = OPS[step.op].reference(step.attrs, numbers)
    return [_mapped(editor, source, to.rounded(np.asarray(numbers)), node)], "table"


def _mapped(editor: Editor, source: str, table: Array, node: Node) -> Node:
    """byte_map by a table that is entered as a constant."""
    name = editor.add_constant(f"{node.outputs[0]}@table", table)
    return Node("byte_map", (source, name), node.outputs, {}, node.origin)


def _limits(editor: Editor, name: str, to: Scale) -> tuple[Node | None, dict[str, int]]:
    """(what computes `name` but for relu and clip, the bytes that those leave)."""
    low, high = RANGES[to.dtype.name]
    least, most = low, high
    while True:
        node = editor.producer(name)
        if node is None or not editor.used_once(name):
            return None, {}
        if node.op == "relu":
            bounds: tuple[Any, Any] = (0.0, None)
        elif node.op == "clip" and len(node.inputs) == 1:
            bounds = (node.attrs.get("min"), node.attrs.get("max"))
        else:
            break
        for bound, lower in zip(bounds, (True, False), strict=True):
            if bound is None:
                continue
            byte = int(to.rounded(np.asarray(bound, np.float32).reshape(1))[0])
            least, most = (max(least, byte), most) if lower else (least, min(most, byte))
        name = node.inputs[0]
    if least > most:
        return None, {}
    attrs = {"least": least} if least > low else {}
    return node, attrs | ({"most": most} if most < high else {})


def _after_limits(editor: Editor, node: Node, to: Scale) -> Made | None:
    before, limits = _limits(editor, node.inputs[0], to)
    build = None if before is None else BUILDERS.get(before.op)
    if before is None or build is None:
        return None
    made = build(editor, before, to)
    if made is None:
        return None
    op, inputs, attrs, ahead = made
    attrs = {**attrs, **limits, "to": to.dtype.name}
    return [*ahead, Node(op, tuple(inputs), node.outputs, attrs, before.origin)], before.op


# An operation, its inputs and attributes, and nodes that have to come before it.
Built = tuple[str, list[str], dict[str, Any], list[Node]]


def _weights(editor: Editor, name: str, axis: int) -> tuple[str, str, str] | None:
    """(bytes, scale, zero) of constant weights, scaled as a whole or along an axis."""
    node = editor.producer(name)
    if node is None or node.op != "dequantize_linear" or node.attrs.get("block_size", 0):
        return None
    source, scale, zero = [*node.inputs, ""][:3]
    constant, scales = editor.constants.get(source), editor.constants.get(scale)
    if constant is None or scales is None or constant.dtype not in BYTES:
        return None
    if scales.dtype is not FLOAT32 or len(scales.shape) > 1:
        return None
    each = scales.shape != () and scales.shape != (1,)
    rank = len(constant.shape)
    if each and int(node.attrs.get("axis", 1)) % rank != axis % rank:
        return None
    if not zero:
        made = np.zeros(scales.shape, constant.dtype.numpy)
        zero = editor.add_constant(f"{source}@zero", np.asarray(made))
    return source, scale, zero


def _bias(editor: Editor, name: str, x: Scale, w_scale: str) -> str | None:
    """The int32 constant of a bias in units of x's scale times the weights'; else None."""
    node = editor.producer(name)
    if node is None or node.op != "dequantize_linear":
        return None
    source, scale, zero = [*node.inputs, ""][:3]
    constant = editor.constants.get(source)
    own, weights = editor.array(scale), editor.array(w_scale)
    zeros = editor.array(zero) if zero else np.zeros(1)
    if constant is None or constant.dtype is not INT32 or own is None or weights is None:
        return None
    if zeros is None or np.any(zeros != 0):
        return None
    units = np.float32(x.scale) * weights
    same = np.allclose(own.reshape(-1), units.reshape(-1), rtol=1e-6, atol=0)
    return source if own.size in (1, units.size) and same else None


def _product(
    editor: Editor, node: Node, to: Scale, axis: int
) -> tuple[list[str], str] | None:
    """(the inputs of a product of bytes without its bias, the weights' scale)."""
    x, w = _opened(editor, node.inputs[0]), _weights(editor, node.inputs[1], axis)
    if x is None or w is None:
        return None
    source, scale = x
    inputs = [source, scale.names[0], _zero(editor, scale), w[0], w[1], w[2]]
    return [*inputs, to.names[0], _zero(editor, to)], w[1]


def _conv(editor: Editor, node: Node, to: Scale) -> Built | None:
    if len([name for name in node.inputs if name]) > 3 or node.attrs.get("activation"):
        return None
    made = _product(editor, node, to, 0)
    x = _opened(editor, node.inputs[0])
    if made is None or x is None:
        return None
    inputs, w_scale = made
    if any(node.inputs[2:3]):
        bias = _bias(editor, node.inputs[2], x[1], w_scale)
        if bias is None:
            return None
        inputs.append(bias)
    return "qlinear_conv", inputs, dict(node.attrs), []


def _matmul(editor: Editor, node: Node, to: Scale) -> Built | None:
    attrs = node.attrs
    if attrs.get("transpose_a", 0) or attrs.get("alpha", 1.0) != 1.0:
        return None
    turned = bool(attrs.get("transpose_b", 0))
    made = _product(editor, node, to, 0 if turned else 1)
    x = _opened(editor, node.inputs[0])
    if made is None or x is None:
        return None
    inputs, w_scale = made
    if len(editor.constants[inputs[3]].shape) != 2:
        return None
    if any(node.inputs[2:3]) and attrs.get("beta", 1.0) != 0.0:
        bias = _bias(editor, node.inputs[2], x[1], w_scale)
        columns = editor.constants[inputs[3]].shape[0 if turned else 1]
        if bias is None or attrs.get("beta", 1.0) != 1.0:
            return None
        if editor.constants[bias].shape != (columns,):
            return None
        inputs.append(bias)
    ahead = []
    if turned:
        name = f"{node.outputs[0]}@weights"
        _declare(editor, name, editor.constants[inputs[3]].dtype, "")
        ahead.append(Node("transpose", (inputs[3],), (name,), {"perm": (1, 0)}, node.origin))
        inputs[3] = name
    return "qlinear_matmul", inputs, {}, ahead


def _pair(editor: Editor, node: Node, to: Scale) -> Built | None:
    """A sum or a product of two tensors of one shape (which must be known)."""
    sides = [_opened(editor, name) for name in node.inputs]
    shapes = [editor.concrete(name) for name in node.inputs]
    if None in sides or shapes[0] is None or shapes[0] != shapes[1]:
        return None
    inputs: list[str] = []
    for side in sides:
        assert side is not None
        source, scale = side
        inputs += [source, scale.names[0], _zero(editor, scale)]
    inputs += [to.names[0], _zero(editor, to)]
    return f"qlinear_{node.op}", inputs, {}, []


def _average(editor: Editor, node: Node, to: Scale) -> Built | None:
    """An average is a convolution by ones, channel by channel, scaled by their number."""
    x, shape = _opened(editor, node.inputs[0]), editor.concrete(node.inputs[0])
    if x is None or shape is None or len(shape) < 3 or node.attrs.get("ceil_mode", 0):
        return None
    source, scale = x
    kernel: Any = shape[2:]
    attrs: dict[str, Any] = {}
    if node.op == "average_pool":
        names = ("strides", "dilations", "pads", "auto_pad")
        attrs = {name: node.attrs[name] for name in names if name in node.attrs}
        padded = any(attrs.get("pads", ())) or attrs.get("auto_pad", "NOTSET") != "NOTSET"
        if padded and not node.attrs.get("count_include_pad", 0):
            return None
        kernel = node.attrs["kernel_shape"]
    count = int(np.prod(kernel))
    ones = np.ones((shape[1], 1, *kernel), np.int8)
    out = node.outputs[0]
    inputs = [
        *(source, scale.names[0], _zero(editor, scale)),
        editor.add_constant(f"{out}@ones", ones),
        editor.add_constant(f"{out}@part", np.asarray(np.float32(1) / np.float32(count))),
        editor.add_constant(f"{out}@none", np.asarray(0, np.int8)),
        *(to.names[0], _zero(editor, to)),
    ]
    return "qlinear_conv", inputs, {**attrs, "group": shape[1]}, []


BUILDERS = {
    "conv": _conv,
    "fused_conv": _conv,
    "matmul": _matmul,
    "gemm": _matmul,
    "add": _pair,
    "mul": _pair,
    "average_pool": _average,
    "global_average_pool": _average,
}


def _joined(editor: Editor, node: Node, to: Scale) -> Made | None:
    """concat: of bytes that stand for the same numbers, or are mapped to those before."""
    before = editor.producer(node.inputs[0])
    if before is None or before.op != "concat" or not editor.used_once(node.inputs[0]):
        return None
    sides = [_opened(editor, name) for name in before.inputs]
    if None in sides:
        return None
    new: list[Node] = []
    names: list[str] = []
    for number, side in enumerate(sides):
        assert side is not None
        source, scale = side
        if not scale.same(to):
            out = f"{node.outputs[0]}@{number}"
            _declare(editor, out, to.dtype, before.inputs[number])
            like = Node("", (), (out,), {}, node.origin)
            new.append(_mapped(editor, source, to.rounded(scale.numbers()), like))
            source = out
        names.append(source)
    new.append(Node("concat", tuple(names), node.outputs, before.attrs, before.origin))
    return new, "concat"


def fuse_dequantised_conv(editor: Editor) -> None:
    """A convolution of dequantised operands whose result nobody quantises → quantized_conv."""
    for node in editor:
        if node.op != "conv" or len([name for name in node.inputs if name]) > 3:
            continue
        x, w = _opened(editor, node.inputs[0]), _weights(editor, node.inputs[1], 0)
        if x is None or w is None:
            continue
        source, scale = x
        inputs = [source, w[0], scale.names[0], w[1], _zero(editor, scale), w[2]]
        attrs = {**node.attrs, "to": "float32"}
        new = Node("quantized_conv", (*inputs, *node.inputs[2:3]), node.outputs, attrs, node.origin)
        editor.replace(node, [new], "conv of bytes")

