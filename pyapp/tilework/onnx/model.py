"""Model bytes to the graph: load_graph, the first step of an ONNX session.

Owns what the file says of itself, and opsets; its graphs are `onnx.builder`'s. Tensors are never
copied: constants view the given bytes or say where they are in the external data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tilework.core import errors
from tilework.core.errors import InvalidProtobuf
from tilework.ir.graph import Constant, Graph
from tilework.onnx.builder import Builder
from tilework.onnx.external import ExternalData
from tilework.onnx.functions import function_table, opset_table
from tilework.onnx.proto import ModelProto, parse

OLDEST_OPSET, NEWEST_OPSET = 1, 28


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What the file says of itself; the names are those of onnxruntime's ModelMetadata."""

    producer_name: str = ""
    graph_name: str = ""
    domain: str = ""
    description: str = ""
    graph_description: str = ""
    version: int = 0
    custom_metadata_map: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model as a graph.

    `defaults` has the initial values of those graph inputs that need not be fed. They are not
    constants: a caller may feed something else, so nothing is folded over them.
    """

    graph: Graph
    opsets: Mapping[str, int]
    metadata: ModelMetadata
    defaults: Mapping[str, Constant]


def load_graph(
    data: bytes | bytearray | memoryview | ModelProto,
    external: ExternalData | None = None,
    given: Mapping[str, Constant] | None = None,
) -> LoadedModel:
    """Read a model, from its bytes or what `parse` has made of them.

    `external` says where external data lies; constants in it get `external=(offset, nbytes)` into
    the session's buffer. `given` stand for initializers, whatever the file holds. Raises
    InvalidProtobuf, InvalidGraph, NotImplemented (unknown operators, opsets, dtypes: all operators
    that are missing are listed), InvalidArgument or NoSuchFile.
    """
    model = data if isinstance(data, ModelProto) else parse(ModelProto, data)
    if model.graph is None:
        raise InvalidProtobuf("ModelProto: has no graph; the file is not an ONNX model")
    opsets = _opsets(model)
    proto = model.graph
    builder = Builder(function_table(model.functions), external, model.ir_version, given)
    graph, defaults = builder.model(proto, opsets)
    metadata = ModelMetadata(
        producer_name=model.producer_name,
        graph_name=proto.name,
        domain=model.domain,
        description=model.doc_string,
        graph_description=proto.doc_string,
        version=model.model_version,
        custom_metadata_map={entry.key: entry.value for entry in model.metadata_props},
    )
    return LoadedModel(graph, opsets, metadata, defaults)


def _opsets(model: ModelProto) -> dict[str, int]:
    opsets = opset_table(model.opset_import)
    version = opsets.get("")
    if version is not None and not OLDEST_OPSET <= version <= NEWEST_OPSET:
        raise errors.NotImplemented(
            f"the model uses ONNX opset {version}; {OLDEST_OPSET} to {NEWEST_OPSET} are supported: "
            "convert it with onnx.version_converter"
        )
    return opsets
