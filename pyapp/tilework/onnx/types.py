"""ValueInfoProto to a Value: a tensor's dtype and extents, and what wraps it."""

from __future__ import annotations

from tilework.core import errors
from tilework.core.dtypes import BY_ONNX, from_onnx
from tilework.core.errors import InvalidGraph
from tilework.ir.graph import MAP, OPTIONAL, SEQUENCE, UNTYPED, Extent, Value
from tilework.onnx.proto import TensorTypeProto, TypeProto, ValueInfoProto


def read_value(proto: ValueInfoProto, role: str) -> Value:
    """The value of an input or output (`role`). InvalidGraph without a type, NotImplemented."""
    where = f"{role} '{proto.name}'"
    if not proto.name:
        raise InvalidGraph(f"an {role} of the graph has no name")
    tensor, wraps = _unwrapped(proto.type)
    if tensor is None:
        if proto.type is not None and proto.type.has("sparse_tensor_type"):
            raise errors.NotImplemented(f"{where}: type sparse_tensor is not supported")
        raise untyped(where)
    dtype = from_onnx(tensor.elem_type, where)
    return Value(proto.name, dtype, _extents(tensor, where), wraps)


def read_output(proto: ValueInfoProto) -> Value:
    """As `read_value`, of an output; one whose name only is given is what the graph makes of it.

    That is how people look at what is inside a model: they append a name to its outputs.
    """
    if proto.name and proto.type is None:
        return Value(proto.name, UNTYPED, None)
    return read_value(proto, "output")


def untyped(where: str) -> InvalidGraph:
    """The error of a value of the graph's whose type nothing tells."""
    return InvalidGraph(f"{where}: has no type")


def read_inner(proto: ValueInfoProto, role: str, like: Value | None = None) -> Value:
    """The value of an input or output of a graph inside a node, which need not say its type.

    `like` is what the node passes for it: that one's dtype is taken where none is said.
    """
    if not proto.name:
        raise InvalidGraph(f"an {role} of a graph inside a node has no name")
    tensor, wraps = _unwrapped(proto.type)
    dtype = None if tensor is None else BY_ONNX.get(tensor.elem_type)
    if tensor is None or dtype is None:
        dtype = UNTYPED if like is None else like.dtype
        return Value(proto.name, dtype, None, () if like is None else like.wraps)
    return Value(proto.name, dtype, _extents(tensor, f"{role} '{proto.name}'"), wraps)


def read_declared(proto: ValueInfoProto) -> Value | None:
    """A value_info entry; those of types that are not read are only hints and are passed over."""
    tensor, _ = _unwrapped(proto.type)
    if tensor is None or tensor.elem_type not in BY_ONNX or not proto.name:
        return None
    return read_value(proto, "value")


def _unwrapped(kind: TypeProto | None) -> tuple[TensorTypeProto | None, tuple[str, ...]]:
    """The type of the tensors inside, and what is around them."""
    wraps: list[str] = []
    while kind is not None:
        if kind.sequence_type is not None:
            wraps.append(SEQUENCE)
            kind = kind.sequence_type.elem_type
        elif kind.optional_type is not None:
            wraps.append(OPTIONAL)
            kind = kind.optional_type.elem_type
        elif kind.map_type is not None:
            wraps.append(MAP + from_onnx(kind.map_type.key_type, "a map's keys").name)
            kind = kind.map_type.value_type
        else:
            return kind.tensor_type, tuple(wraps)
    return None, ()


def _extents(tensor: TensorTypeProto, where: str) -> tuple[Extent, ...] | None:
    if tensor.shape is None:
        return None
    extents: list[Extent] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.has("dim_value"):
            # Exporters write -1 for what is not known (PaddlePaddle), as onnxruntime reads it.
            if dim.dim_value < -1:
                raise InvalidGraph(f"{where}: extent {dim.dim_value} of axis {axis} is negative")
            extents.append("" if dim.dim_value == -1 else dim.dim_value)
        else:
            extents.append(dim.dim_param)
    return tuple(extents)
