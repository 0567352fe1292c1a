"""A graph and what is known of its inputs → what can be planned now, and what has to wait.

Nodes whose shapes follow are planned. Where sizes hang on data, or a value is no tensor that a
device can hold (sequences, optionals, strings), the host goes on: it runs the nodes that need that,
in order, and then the rest of the graph is cut anew, with what is known by then. An `if` whose
condition follows from shapes is replaced by its branch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tilework.core.dtypes import DType
from tilework.ir.graph import UNTYPED, Constant, Graph, Node, Value
from tilework.ir.nested import in_place_of
from tilework.ir.opdefs.registry import FOLD_LIMIT, DataDependent, Info, infer_node, opdef


@dataclass(frozen=True, slots=True)
class Cut:
    """`now` has only numbers for extents; `host` runs after it, in order; `later` is what is left.

    `constants` are those of all three, and what followed from shapes. `later`'s inputs are whatever
    it reads of the rest. Where `now` is the `whole` graph, it has all its inputs and outputs; else
    only those inputs that its nodes read, and for outputs what others read of what they make.
    """

    now: Graph
    host: tuple[Node, ...]
    later: Graph | None
    constants: Mapping[str, Constant]
    whole: bool


def constant_info(constant: Constant) -> Info:
    """The Info of a constant; with its value when that is small and on the host."""
    array = constant.array
    small = array is not None and array.size <= FOLD_LIMIT
    return Info(constant.dtype, constant.shape, array if small else None)


def cut(graph: Graph, inputs: Mapping[str, Info]) -> Cut:
    """Pure. `inputs` has the tensors among the graph's inputs; those with a value become constants.

    InvalidArgument for inputs that do not fit; DataDependent when nothing at all can be done.
    """
    cutter = _Cutter(graph, inputs)
    pending = list(reversed(graph.nodes))
    while pending:
        node = pending.pop()
        branch = cutter.branch(node)
        if branch is None:
            cutter.place(node)
            continue
        nodes, constants = in_place_of(node, branch)
        for name, constant in constants.items():
            cutter.know(name, constant)
        pending += reversed(nodes)
    return cutter.result()


class _Cutter:
    """What is known of each value while nodes are placed in order."""

    def __init__(self, graph: Graph, inputs: Mapping[str, Info]) -> None:
        self._graph = graph
        self._infos: dict[str, Info] = {}
        self._constants: dict[str, Constant] = {}
        self._given = {name: info for name, info in inputs.items() if info.value is None}
        # On the host only: inputs that are no tensors of a device, then what `host` gives.
        self._held = {one.name for one in graph.inputs if one.name not in inputs}
        self._made: set[str] = set()
        self._late: set[str] = set()
        self._now: list[Node] = []
        self._host: list[Node] = []
        self._later: list[Node] = []
        for name, constant in graph.constants.items():
            self.know(name, constant)
        for name, info in inputs.items():
            if info.value is None:
                self._infos[name] = info
            else:
                self.know(name, Constant(info.dtype, info.shape, info.value))

    def know(self, name: str, constant: Constant) -> None:
        """Enters a constant."""
        self._constants[name] = constant
        self._infos[name] = constant_info(constant)

    def branch(self, node: Node) -> Graph | None:
        """The graph that an `if` runs, where the condition is known."""
        if node.op != "if":
            return None
        info = self._infos.get(node.inputs[0])
        if info is None or info.value is None or info.value.size != 1:
            return None
        taken: Graph = node.attrs["then" if info.value.reshape(-1)[0] else "else"]
        return taken

    def place(self, node: Node) -> None:
        """Decides when the node runs."""
        missing = {name for name in node.inputs if name and name not in self._infos}
        dynamic = opdef(node).dynamic
        if missing & self._late:
            self._wait(node)
        elif missing:
            (self._on_host if dynamic or missing <= self._held else self._wait)(node)
        else:
            try:
                resolved, results = infer_node(node, [self._infos.get(n) for n in node.inputs])
            except DataDependent:
                (self._on_host if dynamic else self._wait)(node)
                return
            self._plan(node, resolved, results)

    def _plan(self, node: Node, resolved: Node, results: list[Info]) -> None:
        outputs = [(name, info) for name, info in zip(node.outputs, results, strict=False) if name]
        if results and all(info.value is not None for _, info in outputs):
            for name, info in outputs:
                self.know(name, Constant(info.dtype, info.shape, info.value))
            return
        operands = [self._infos[name].dtype for name in node.inputs if name]
        if not all(map(_on_device, (*operands, *(info.dtype for info in results)))):
            self._on_host(node)
            return
        self._now.append(resolved)
        self._infos.update(outputs)

    def _on_host(self, node: Node) -> None:
        self._host.append(node)
        self._made.update(name for name in node.outputs if name)

    def _wait(self, node: Node) -> None:
        self._later.append(node)
        self._late.update(name for name in node.outputs if name)

    # -- the three parts ------------------------------------------------------------

    def result(self) -> Cut:
        graph, infos = self._graph, self._infos
        if self._later and not self._now and not self._host and not self._progress():
            # The values that it lacks are all there and yet it cannot run: it says why.
            infer_node(self._later[0], [infos.get(name) for name in self._later[0].inputs])
        wanted = [value.name for value in graph.outputs]
        whole = not self._host and not self._later and all(
            name in infos and _on_device(infos[name].dtype) for name in wanted
        )
        given = wanted
        if not whole:
            read = {*_read(self._host), *_read(self._later), *wanted}
            given = [name for node in self._now for name in node.outputs if name in read]
        outputs = tuple(Value(name, infos[name].dtype, infos[name].shape) for name in given)
        used = dict.fromkeys((*_read(self._now), *given))
        inputs = tuple(
            Value(name, info.dtype, info.shape)
            for name, info in self._given.items()
            if whole or name in used
        )
        now = replace(
            graph,
            inputs=inputs,
            outputs=outputs,
            nodes=tuple(self._now),
            constants={name: one for name, one in self._constants.items() if name in used},
            values={
                name: Value(name, info.dtype, info.shape)
                for name, info in infos.items()
                if name not in self._constants
            },
        )
        return Cut(now, tuple(self._host), self._rest(), self._constants, whole)

    def _progress(self) -> bool:
        """Whether anything became known that was not."""
        return len(self._later) < len(self._graph.nodes)

    def _rest(self) -> Graph | None:
        if not self._later:
            return None
        made = {name for node in self._later for name in node.outputs}
        read = [name for name in _read(self._later) if name not in made]
        names = [name for name in read if name not in self._constants]
        return Graph(
            self._graph.name,
            tuple(Value(name, UNTYPED, None) for name in names),
            tuple(value for value in self._graph.outputs if value.name in made),
            tuple(self._later),
            {name: self._constants[name] for name in read if name in self._constants},
        )


def _on_device(dtype: DType) -> bool:
    return dtype.kind != "s"


def _read(nodes: Iterable[Node]) -> dict[str, None]:
    return dict.fromkeys(name for node in nodes for name in node.inputs if name)
