"""Model bytes to the graph: load_graph, the first step of an ONNX session.

Owns: reading types, initializers and attributes, the order of nodes, names and opsets. What an
operator means is in `onnx.ops`. Tensors are never copied: constants view the given bytes or say
where they are in the external data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tilework.core.dtypes import BY_ONNX, from_onnx
from tilework.core.errors import InvalidGraph, InvalidProtobuf, NotImplemented, TileworkError
from tilework.ir.graph import Constant, Extent, Graph, Value
from tilework.ir.verifier import verify
from tilework.onnx.attributes import attribute_value
from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.external import ExternalData
from tilework.onnx.functions import inline
from tilework.onnx.ops import DOMAINS, OPERATORS, Operator
from tilework.onnx.proto import GraphProto, ModelProto, NodeProto, ValueInfoProto, parse
from tilework.onnx.tensors import Stored, read_tensor

# Below opset 6 most operators had another form; no exporter since 2017 writes that.
OLDEST_OPSET, NEWEST_OPSET = 6, 28
# From this IR version on an initializer that is also an input can be overridden by the caller.
OVERRIDABLE_FROM = 4


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
    data: bytes | bytearray | memoryview, external: ExternalData | None = None
) -> LoadedModel:
    """Read a model.

    `external` says where external data lies; constants in it get `external=(offset, nbytes)` into
    the session's buffer. Raises InvalidProtobuf, InvalidGraph, NotImplemented (unknown operators,
    opsets, dtypes: all operators that are missing are listed) or NoSuchFile.
    """
    model = parse(ModelProto, data)
    if model.graph is None:
        raise InvalidProtobuf("ModelProto: has no graph; the file is not an ONNX model")
    opsets = _opsets(model)
    proto = model.graph
    nodes = inline(proto.node, model.functions, opsets)
    _refuse_unknown(nodes, opsets)
    if proto.sparse_initializer:
        raise NotImplemented(f"graph '{proto.name}': sparse initializers are not supported")
    loaded = _build(proto, nodes, opsets, external, model.ir_version)
    metadata = ModelMetadata(
        producer_name=model.producer_name,
        graph_name=proto.name,
        domain=model.domain,
        description=model.doc_string,
        graph_description=proto.doc_string,
        version=model.model_version,
        custom_metadata_map={entry.key: entry.value for entry in model.metadata_props},
    )
    graph, defaults = loaded
    return LoadedModel(graph, opsets, metadata, defaults)


def _opsets(model: ModelProto) -> dict[str, int]:
    opsets = {
        DOMAINS.get(entry.domain, entry.domain): entry.version for entry in model.opset_import
    }
    version = opsets.get("")
    if version is not None and not OLDEST_OPSET <= version <= NEWEST_OPSET:
        raise NotImplemented(
            f"the model uses ONNX opset {version}; {OLDEST_OPSET} to {NEWEST_OPSET} are supported: "
            "convert it with onnx.version_converter"
        )
    return opsets


def _refuse_unknown(nodes: Sequence[NodeProto], opsets: Mapping[str, int]) -> None:
    """NotImplemented listing every operator that `onnx.ops` has not, with its first node."""
    unknown: dict[tuple[str, str], NodeProto] = {}
    for node in nodes:
        domain = DOMAINS.get(node.domain, node.domain)
        if (domain, node.op_type) not in OPERATORS:
            unknown.setdefault((domain, node.op_type), node)
        elif domain not in opsets:
            raise InvalidGraph(
                f"{node.op_type} '{node.name}': the model imports no opset of its domain "
                f"'{domain or 'ai.onnx'}'"
            )
    if unknown:
        listed = "; ".join(
            f"{domain or 'ai.onnx'}.{op_type} (opset {opsets.get(domain, 'not imported')}, node "
            f"'{node.name or next(iter(node.output), '')}')"
            for (domain, op_type), node in unknown.items()
        )
        raise NotImplemented(
            f"operators that are not implemented: {listed}. Add them in tilework/onnx/ops"
        )


def _build(
    proto: GraphProto,
    nodes: Sequence[NodeProto],
    opsets: Mapping[str, int],
    external: ExternalData | None,
    ir_version: int,
) -> tuple[Graph, dict[str, Constant]]:
    stored = _initializers(proto, external)
    fed = [value for value in proto.input if value.name not in stored]
    defaults: dict[str, Constant] = {}
    if ir_version >= OVERRIDABLE_FROM:
        fed = list(proto.input)
        for value in proto.input:
            if value.name in stored:
                defaults[value.name] = stored.pop(value.name).constant
    constants = {name: entry.constant for name, entry in stored.items()}
    places = {name: entry.place for name, entry in stored.items() if entry.place is not None}

    inputs = tuple(_value(value, "input") for value in fed)
    values = {value.name: value for value in inputs}
    for declared in proto.value_info:
        read = _declared(declared)
        if read is not None:
            values.setdefault(read.name, read)
    outputs = tuple(_value(value, "output") for value in proto.output)
    for output in outputs:
        values.setdefault(output.name, output)
    known = {value.name for value in inputs} | set(constants)
    if len(known) != len(inputs) + len(constants):
        raise InvalidGraph(f"graph '{proto.name}': two inputs have one name")

    taken = {name for node in nodes for name in node.output} | known
    ctx = Context(constants, places, values, external, taken)
    _translate(ctx, nodes, opsets, known, proto.name)
    for output in outputs:
        source = ctx.resolve(output.name)
        if source != output.name:
            ctx.begin(OnnxNode("Identity", "", output.name, (source,), (output.name,), {}, 0))
            ctx.finish([ctx.emit("identity", source)])
    used = {name for node in ctx.nodes for name in node.inputs}
    used.update(output.name for output in outputs)
    graph = Graph(
        name=proto.name,
        inputs=inputs,
        outputs=outputs,
        nodes=tuple(ctx.nodes),
        constants={name: c for name, c in ctx.constants.items() if name in used},
        values=ctx.known_values(),
    )
    verify(graph)
    return graph, defaults


def _translate(
    ctx: Context,
    nodes: Sequence[NodeProto],
    opsets: Mapping[str, int],
    known: set[str],
    graph_name: str,
) -> None:
    producers: dict[str, NodeProto] = {}
    for proto in nodes:
        for name in proto.output:
            if name in producers or (name and name in known):
                raise InvalidGraph(
                    f"{proto.op_type} '{proto.name}': '{name}' is produced twice in graph "
                    f"'{graph_name}'"
                )
            if name:
                producers[name] = proto
    for proto in nodes:
        for name in proto.input:
            if name and name not in known:
                raise _unready(proto, name, producers)
        domain = DOMAINS.get(proto.domain, proto.domain)
        operator: Operator = OPERATORS[domain, proto.op_type]
        node = OnnxNode(
            op_type=proto.op_type,
            domain=domain,
            name=proto.name,
            inputs=tuple(ctx.resolve(name) for name in proto.input),
            outputs=tuple(proto.output),
            attrs={a.name: attribute_value(a, proto) for a in proto.attribute},
            version=opsets[domain],
        )
        ctx.begin(node)
        _check_arity(ctx, node, operator)
        try:
            results = operator.build(ctx, node)
        except TileworkError:
            raise
        except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
            # A function read an attribute that is absent or of another kind than the operator has.
            raise ctx.invalid(f"its attributes are not the operator's ({error!r})") from error
        ctx.finish((results,) if isinstance(results, str) else results)
        known.update(proto.output)


def _check_arity(ctx: Context, node: OnnxNode, operator: Operator) -> None:
    given = len(node.inputs)
    fewest, most = operator.inputs
    if given < fewest or not all(node.inputs[:fewest]) or 0 <= most < given:
        wanted = f"{fewest}" if fewest == most else f"{fewest} to {'any' if most < 0 else most}"
        raise ctx.invalid(f"{given} inputs {list(node.inputs)}; the operator takes {wanted}")


def _unready(proto: NodeProto, name: str, producers: Mapping[str, NodeProto]) -> InvalidGraph:
    where = f"{proto.op_type} '{proto.name or next(iter(proto.output), '')}'"
    if name in producers:
        other = producers[name]
        return InvalidGraph(
            f"{where}: its input '{name}' is produced only by the later node {other.op_type} "
            f"'{other.name}', or by itself: the graph has a cycle or is not in topological order"
        )
    return InvalidGraph(
        f"{where}: its input '{name}' is neither an input, nor an initializer, nor produced by a "
        "node"
    )


def _initializers(proto: GraphProto, external: ExternalData | None) -> dict[str, Stored]:
    result: dict[str, Stored] = {}
    for index, tensor in enumerate(proto.initializer):
        where = f"initializer '{tensor.name or f'number {index}'}'"
        if not tensor.name or tensor.name in result:
            raise InvalidGraph(f"{where}: is unnamed or there twice")
        result[tensor.name] = read_tensor(tensor, where, external)
    return result


def _value(proto: ValueInfoProto, role: str) -> Value:
    where = f"{role} '{proto.name}'"
    kind = proto.type
    if not proto.name:
        raise InvalidGraph(f"an {role} of the graph has no name")
    if kind is None or kind.tensor_type is None:
        for other in ("sequence", "map", "optional", "sparse_tensor"):
            if kind is not None and kind.has(f"{other}_type"):
                raise NotImplemented(f"{where}: type {other} is not supported, only tensors are")
        raise InvalidGraph(f"{where}: has no type")
    tensor = kind.tensor_type
    dtype = from_onnx(tensor.elem_type, where)
    if tensor.shape is None:
        return Value(proto.name, dtype, None)
    extents: list[Extent] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.has("dim_value"):
            if dim.dim_value < 0:
                raise InvalidGraph(f"{where}: extent {dim.dim_value} of axis {axis} is negative")
            extents.append(dim.dim_value)
        else:
            extents.append(dim.dim_param)
    return Value(proto.name, dtype, tuple(extents))


def _declared(proto: ValueInfoProto) -> Value | None:
    """A value_info entry; those of types that are not read are only hints and are passed over."""
    tensor = proto.type.tensor_type if proto.type is not None else None
    if tensor is None or tensor.elem_type not in BY_ONNX or not proto.name:
        return None
    return _value(proto, "value")
