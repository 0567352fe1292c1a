"""GraphProto to ir.Graph: the model's own graph, and those inside nodes (branches, bodies).

Owns names and order: what is known where, what an inner graph takes from outside. What an operator
means is in `onnx.ops`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tilework.core import errors
from tilework.core.config import MESSAGE_DEPTH
from tilework.core.dtypes import from_onnx
from tilework.core.errors import InvalidArgument, InvalidGraph, TileworkError
from tilework.ir.graph import UNTYPED, Constant, Graph, Value
from tilework.ir.verifier import verify
from tilework.onnx.attributes import attribute_value
from tilework.onnx.context import Context, Inner, OnnxNode
from tilework.onnx.external import ExternalData
from tilework.onnx.functions import Functions, Opsets, Placed, inline
from tilework.onnx.ops import DOMAINS, OPERATORS, Operator
from tilework.onnx.ops.table import SETTLED, SETTLED_OPSET
from tilework.onnx.order import in_order
from tilework.onnx.proto import GraphProto, NodeProto
from tilework.onnx.tensors import Stored, read_tensor
from tilework.onnx.types import read_declared, read_inner, read_output, read_value, untyped

# From this IR version on an initializer that is also an input can be overridden by the caller.
OVERRIDABLE_FROM = 4


class Builder:
    """Builds the graphs of one model."""

    def __init__(
        self,
        functions: Functions,
        external: ExternalData | None,
        ir_version: int,
        given: Mapping[str, Constant] | None = None,
    ) -> None:
        """`given` stand for the initializers of their names in the outermost graph."""
        self._functions = functions
        self._external = external
        self._given = given or {}
        self._overridable = ir_version >= OVERRIDABLE_FROM

    def model(self, proto: GraphProto, opsets: Opsets) -> tuple[Graph, dict[str, Constant]]:
        """The model's graph, and the initial values of inputs that need not be fed."""
        nodes = in_order(inline(proto.node, self._functions, opsets))
        self._refuse_unknown(nodes)
        stored = self._initializers(proto, self._given)
        for name in self._given:
            if name not in stored:
                raise InvalidArgument(f"the model has no initializer {name!r} to give a value to")
        fed = [value for value in proto.input if value.name not in stored]
        defaults: dict[str, Constant] = {}
        if self._overridable:
            fed = list(proto.input)
            for one in proto.input:
                if one.name in stored:
                    defaults[one.name] = stored.pop(one.name).constant
        inputs = tuple(read_value(value, "input") for value in fed)
        outputs = tuple(map(read_output, proto.output))
        scope = _Scope(proto, inputs, outputs, stored, nodes, self._external)
        self._translate(scope, nodes)
        graph = scope.finish()
        for output in graph.outputs:
            if output.dtype is UNTYPED:
                raise untyped(f"output '{output.name}'")
        verify(graph)
        return graph, defaults

    def _inner(
        self, outer: _Scope, proto: GraphProto, placed: Placed, passed: Sequence[str]
    ) -> Inner:
        """A graph inside a node; what it lacks is taken from `outer`."""
        if outer.depth == MESSAGE_DEPTH:
            raise InvalidGraph(f"graph '{proto.name}': graphs are {MESSAGE_DEPTH} deep")
        nodes = in_order(inline(proto.node, self._functions, placed.opsets, placed.depth))
        stored = self._initializers(proto)
        fed = [one for one in proto.input if one.name not in stored]
        likes = [outer.value(name) for name in passed]
        likes += [None] * (len(fed) - len(likes))
        inputs = tuple(
            read_inner(one, "input", like) for one, like in zip(fed, likes, strict=False)
        )
        outputs = tuple(read_inner(value, "output") for value in proto.output)
        scope = _Scope(proto, inputs, outputs, stored, nodes, self._external, outer)
        self._translate(scope, nodes)
        return Inner(scope.finish(), scope.captured)

    def _translate(self, scope: _Scope, nodes: Sequence[Placed]) -> None:
        ctx = scope.ctx
        for placed in nodes:
            proto = placed.node
            for name in proto.input:
                if name and not scope.find(name):
                    raise scope.unready(proto, name)
            domain = DOMAINS.get(proto.domain, proto.domain)
            operator: Operator = OPERATORS[domain, proto.op_type]
            node = OnnxNode(
                op_type=proto.op_type,
                domain=domain,
                name=proto.name,
                inputs=tuple(ctx.resolve(name) for name in proto.input),
                outputs=tuple(proto.output),
                attrs={a.name: attribute_value(a, proto) for a in proto.attribute},
                version=placed.opsets[domain],
            )
            ctx.begin(node)
            ctx.inner = lambda graph, passed, placed=placed: self._inner(  # type: ignore[misc]
                scope, graph, placed, passed
            )
            _check_arity(ctx, node, operator)
            try:
                results = operator.build(ctx, node)
            except TileworkError:
                raise
            except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
                # A function read an attribute that is absent or of another kind than it has.
                raise ctx.invalid(f"its attributes are not the operator's ({error!r})") from error
            ctx.finish((results,) if isinstance(results, str) else results)
            scope.known.update(proto.output)

    def _initializers(
        self, proto: GraphProto, given: Mapping[str, Constant] | None = None
    ) -> dict[str, Stored]:
        if proto.sparse_initializer:
            raise errors.NotImplemented(
                f"graph '{proto.name}': sparse initializers are not supported"
            )
        result: dict[str, Stored] = {}
        for index, tensor in enumerate(proto.initializer):
            where = f"initializer '{tensor.name or f'number {index}'}'"
            if not tensor.name or tensor.name in result:
                raise InvalidGraph(f"{where}: is unnamed or there twice")
            held = given.get(tensor.name) if given else None
            if held is None:
                result[tensor.name] = read_tensor(tensor, where, self._external)
                continue
            dtype, shape = from_onnx(tensor.data_type, where), tuple(tensor.dims)
            if (held.dtype, held.shape) != (dtype, shape):
                raise InvalidArgument(
                    f"{where}: is {dtype}{list(shape)}, a tensor of {held.dtype}"
                    f"{list(held.shape)} was given"
                )
            result[tensor.name] = Stored(held)
        return result

    def _refuse_unknown(self, nodes: Sequence[Placed]) -> None:
        """NotImplemented listing every operator that `onnx.ops` has not, with its first node."""
        unknown: dict[tuple[str, str], tuple[NodeProto, Opsets]] = {}
        pending = list(reversed(nodes))
        while pending:
            node, opsets, depth = pending.pop()
            domain = DOMAINS.get(node.domain, node.domain)
            if (domain, node.op_type) not in OPERATORS:
                unknown.setdefault((domain, node.op_type), (node, opsets))
            elif domain not in opsets:
                raise InvalidGraph(
                    f"{node.op_type} '{node.name}': the model imports no opset of its domain "
                    f"'{domain or 'ai.onnx'}'"
                )
            elif not domain and opsets[domain] < SETTLED_OPSET and node.op_type not in SETTLED:
                raise errors.NotImplemented(
                    f"{node.op_type} '{node.name}': in ONNX opset {opsets[domain]} it has a form "
                    f"that is not supported, since {SETTLED_OPSET} another: convert the model with "
                    "onnx.version_converter"
                )
            for attribute in node.attribute:
                if attribute.g is not None:
                    pending += reversed(inline(attribute.g.node, self._functions, opsets, depth))
        if unknown:
            listed = "; ".join(
                f"{domain or 'ai.onnx'}.{op_type} (opset {opsets.get(domain, 'not imported')}, "
                f"node '{node.name or next(iter(node.output), '')}')"
                for (domain, op_type), (node, opsets) in unknown.items()
            )
            raise errors.NotImplemented(
                f"operators that are not implemented: {listed}. Add them in "
                "tilework/onnx/ops, as docs/operators.md shows, or export the model without them"
            )


class _Scope:
    """One graph while its nodes are translated: what is known in it, and what lies around it."""

    def __init__(
        self,
        proto: GraphProto,
        inputs: tuple[Value, ...],
        outputs: tuple[Value, ...],
        stored: Mapping[str, Stored],
        nodes: Sequence[Placed],
        external: ExternalData | None,
        outer: _Scope | None = None,
    ) -> None:
        self.name = proto.name
        self.outer = outer
        self.depth: int = 0 if outer is None else outer.depth + 1
        self.captured: dict[str, str] = {}  # the name here → the name outside
        self._inputs = list(inputs)
        self._outputs = outputs
        self._producers = self._index(nodes, {value.name for value in inputs} | set(stored))
        constants = {name: entry.constant for name, entry in stored.items()}
        places = {name: entry.place for name, entry in stored.items() if entry.place is not None}
        values = {value.name: value for value in inputs}
        for declared in proto.value_info:
            read = read_declared(declared)
            if read is not None:
                values.setdefault(read.name, read)
        for output in outputs:
            values.setdefault(output.name, output)
        self.known = {value.name for value in inputs} | set(constants)
        if len(self.known) != len(inputs) + len(constants):
            raise InvalidGraph(f"graph '{proto.name}': two inputs have one name")
        taken = set(self._producers) | self.known
        self.ctx = Context(constants, places, values, external, taken)

    def _index(self, nodes: Sequence[Placed], given: set[str]) -> dict[str, NodeProto]:
        producers: dict[str, NodeProto] = {}
        for placed in nodes:
            proto = placed.node
            for name in proto.output:
                if name in producers or (name and name in given):
                    raise InvalidGraph(
                        f"{proto.op_type} '{proto.name}': '{name}' is produced twice in graph "
                        f"'{self.name}'"
                    )
                if name:
                    producers[name] = proto
        return producers

    def find(self, name: str) -> bool:
        """Whether `name` is known by now, here or outside; from there it is taken."""
        if name in self.known:
            return True
        if self.outer is None or name in self._producers or not self.outer.find(name):
            return False
        source, outside = self.outer.ctx.resolve(name), self.outer.ctx
        constant = outside.constants.get(source)
        if constant is not None:
            # Weights may be prepared for the node that reads them only where they are constants.
            self.ctx.take_constant(name, outside, source)
        else:
            value = self.outer.value(name)
            assert value is not None  # it was found
            self.captured[name] = source
            self._inputs.append(replace(value, name=name))
            self.ctx.declare(replace(value, name=name))
        self.known.add(name)
        return True

    def value(self, name: str) -> Value | None:
        """What is known of a value's type; None of an absent one."""
        return self.ctx.known_value(self.ctx.resolve(name)) if name else None

    def finish(self) -> Graph:
        """The graph, once all nodes are translated."""
        ctx = self.ctx
        for output in self._outputs:
            if output.name not in self.known:
                self.find(output.name)
            source = ctx.resolve(output.name)
            if source != output.name:
                ctx.begin(OnnxNode("Identity", "", output.name, (source,), (output.name,), {}, 0))
                ctx.finish([ctx.emit("identity", source)])
        used = {name for node in ctx.nodes for name in node.inputs}
        used.update(output.name for output in self._outputs)
        outputs = tuple(ctx.typed(output) for output in self._outputs)
        return Graph(
            name=self.name,
            inputs=tuple(self._inputs),
            outputs=outputs,
            nodes=tuple(ctx.nodes),
            constants={name: c for name, c in ctx.constants.items() if name in used},
            values=ctx.known_values(),
        )

    def unready(self, proto: NodeProto, name: str) -> InvalidGraph:
        """The error of a node that reads what is not there yet."""
        where = f"{proto.op_type} '{proto.name or next(iter(proto.output), '')}'"
        if name in self._producers:
            other = self._producers[name]
            return InvalidGraph(
                f"{where}: its input '{name}' is produced only by {other.op_type} "
                f"'{other.name}', which needs what the node makes: the graph has a cycle"
            )
        return InvalidGraph(
            f"{where}: its input '{name}' is neither an input, nor an initializer, nor produced "
            "by a node"
        )


def _check_arity(ctx: Context, node: OnnxNode, operator: Operator) -> None:
    given = len(node.inputs)
    fewest, most = operator.inputs
    missing = any(
        not name and place not in operator.absent
        for place, name in enumerate(node.inputs[:fewest])
    )
    if given < fewest or missing or 0 <= most < given:
        wanted = f"{fewest}" if fewest == most else f"{fewest} to {'any' if most < 0 else most}"
        raise ctx.invalid(f"{given} inputs {list(node.inputs)}; the operator takes {wanted}")
