"""ONNX's own backend protocol (onnx.backend.base): prepare, run_model, run_node, supports_device.

    import tilework.onnx.backend as backend
    prepared = backend.prepare(model)          # an onnx.ModelProto, its bytes, a path
    (y,) = prepared.run([x])

The module itself is the backend, as onnx.backend.test.BackendTest takes one, and nothing here needs
onnx to be there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tilework.core.dtypes import FLOAT32, from_numpy
from tilework.core.errors import InvalidArgument, TileworkError
from tilework.onnx.model import NEWEST_OPSET, load_graph
from tilework.onnx.session import InferenceSession

__all__ = [
    "Outputs",
    "Prepared",
    "is_compatible",
    "prepare",
    "run_model",
    "run_node",
    "supports_device",
]

_IR_VERSION = 8


class _Message(Protocol):
    """What an onnx.NodeProto is to this file."""

    input: Sequence[str]
    output: Sequence[str]
    domain: str

    def SerializeToString(self) -> bytes: ...  # noqa: N802 - protobuf's name


class Outputs(tuple[Any, ...]):
    """A run's outputs in the model's order, which may be asked for by name as well."""

    names: tuple[str, ...]

    @staticmethod
    def named(names: Sequence[str], values: Sequence[Any]) -> Outputs:
        """The values under these names."""
        made = Outputs(values)
        made.names = tuple(names)
        return made

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self.names.index(key) if isinstance(key, str) else key)


class Prepared:
    """A model that is ready to run: onnx's BackendRep."""

    def __init__(self, session: InferenceSession) -> None:
        self.session = session

    def run(self, inputs: object, **kwargs: object) -> Outputs:
        """The outputs for `inputs`: a dict by name, a sequence in the model's order, or an array
        for a model with one input. InvalidArgument for too many or too few."""
        names = [value.name for value in self.session.get_inputs()]
        if isinstance(inputs, Mapping):
            feeds = dict(inputs)
        else:
            many = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
            names += [value.name for value in self.session.get_overridable_initializers()]
            if len(many) > len(names):
                raise InvalidArgument(
                    f"{len(many)} inputs were given; the model's inputs: {', '.join(names)}"
                )
            feeds = dict(zip(names, many, strict=False))
        values = self.session.run(None, feeds)
        return Outputs.named([value.name for value in self.session.get_outputs()], values)


def supports_device(device: str) -> bool:
    """Whether models run on a device of this name, e.g. "CPU" or "CPU:0"."""
    kind, _, number = device.partition(":")
    return kind.upper() == "CPU" and number in ("", "0")


def _check_device(device: str) -> None:
    if not supports_device(device):
        raise InvalidArgument(f"there is no device {device!r} here; use 'CPU'")


def is_compatible(model: Any, device: str = "CPU", **kwargs: object) -> bool:
    """Whether the model can be read and has no operator that tilework lacks."""
    data = model.SerializeToString() if hasattr(model, "SerializeToString") else model
    try:
        load_graph(data)
    except TileworkError:
        return False
    return supports_device(device)


def prepare(model: object, device: str = "CPU", **kwargs: object) -> Prepared:
    """Reads a model once, to be run many times. `model` is what InferenceSession takes.

    Raises what InferenceSession raises; InvalidArgument for another device.
    """
    _check_device(device)
    return Prepared(InferenceSession(model))


def run_model(
    model: object, inputs: object, device: str = "CPU", **kwargs: object
) -> Outputs:
    """The outputs of one run."""
    _check_device(device)
    with InferenceSession(model) as session:
        return Prepared(session).run(inputs)


def run_node(
    node: _Message,
    inputs: object,
    device: str = "CPU",
    outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
    **kwargs: Any,
) -> Outputs:
    """The outputs of one node for arrays, one for each of its inputs that is there.

    `outputs_info` has dtype and shape of each output; they are only needed where a node does not
    tell. `opset_version` (a keyword): of the node's domain; the newest when it is absent.
    """
    _check_device(device)
    names = [name for name in node.input if name]
    if isinstance(inputs, Mapping):
        inputs = [inputs[name] for name in names]
    many = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    arrays = [np.asarray(one) for one in many]
    if len(arrays) != len(names):
        raise InvalidArgument(f"{len(arrays)} inputs were given; the node's: {', '.join(names)}")
    fed = b"".join(
        _field(11, _value(name, from_numpy(array.dtype).onnx, array.ndim))
        for name, array in zip(names, arrays, strict=True)
    )
    outputs = [name for name in node.output if name]
    kinds = [from_numpy(np.dtype(dtype)).onnx for dtype, _ in outputs_info or ()]
    kinds += [FLOAT32.onnx] * (len(outputs) - len(kinds))
    read = b"".join(
        _field(12, _value(name, kind)) for name, kind in zip(outputs, kinds, strict=False)
    )
    graph = _field(1, node.SerializeToString()) + _field(2, b"node") + fed + read
    version = kwargs.get("opset_version", NEWEST_OPSET if node.domain in ("", "ai.onnx") else 1)
    opset = _field(1, node.domain.encode()) + b"\x10" + _varint(version)
    model = b"\x08" + _varint(_IR_VERSION) + _field(7, graph) + _field(8, opset)
    return run_model(model, arrays, device)


# -- a model around a node, in protobuf's wire format ----------------------------------------------


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, content: bytes) -> bytes:
    """A field with a length."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _value(name: str, kind: int, rank: int | None = None) -> bytes:
    """A ValueInfoProto of a tensor, its extents without numbers."""
    shape = b"" if rank is None else _field(2, _field(1, b"") * rank)
    tensor = b"\x08" + _varint(kind) + shape
    return _field(1, name.encode()) + _field(2, _field(1, tensor))
