"""The case pack: ONNX's backend suite as bytes that any engine can be given, made from the package.

Owns which cases there are, what each is fed and what must come out; knows nothing of who runs them
(tests/conformance). Every case is a model's bytes and the bytes of TensorProto, SequenceProto or
OptionalProto messages, in pieces that one answer of a page's host can carry, with an index:

    index.json   a list of {"suite", "case", "operator", "rtol", "atol", "random", "model", "sets"};
                 "sets" has {"inputs", "outputs"}, lists of [name, kind, place]; a place is
                 [piece, first byte, number of bytes]
    0.bin …      the pieces

The suites are those of onnx.backend.test: node (made in memory), simple, pytorch-converted and
pytorch-operator (on disk), and the nine light models, whose input onnx.backend.test.runner makes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.dependencies import pin
from tools.project import BUILD, ROOT, BuildError, remove, replace_file
from tools.steps import Line, step

FOLDER = BUILD / "conformance" / "onnx"
INDEX = FOLDER / "index.json"
_STORED = ("simple", "pytorch-converted", "pytorch-operator")
_PIECE = 8 << 20  # bytes; tools/browser.py answers 16 MB at most at once
_RTOL, _ATOL = 1e-3, 1e-7  # what onnx.backend.test.loader takes where a case says nothing
# Their results differ from one implementation to the next, as the cases themselves say.
_RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}

Item = tuple[str, str, bytes]  # name, kind, message


def read_index() -> list[dict[str, Any]]:
    """The cases, each with its places in the pieces."""
    if not INDEX.is_file():
        raise BuildError(f"{INDEX} is not there; run: build.py conformance --suite onnx")
    index: list[dict[str, Any]] = json.loads(INDEX.read_text("utf-8"))
    return index


def read_pack() -> tuple[list[dict[str, Any]], list[bytes]]:
    """The index and the pieces."""
    pieces = sorted(FOLDER.glob("*.bin"), key=lambda path: int(path.stem))
    return read_index(), [path.read_bytes() for path in pieces]


@dataclass(frozen=True, slots=True)
class Case:
    """One case; a data set is what is fed and what must come out."""

    suite: str
    name: str
    operator: str  # "domain.Name" of a node case, else ""
    model: bytes
    sets: Sequence[tuple[Sequence[Item], Sequence[Item]]]
    rtol: float = _RTOL
    atol: float = _ATOL
    random: bool = False


def make_pack() -> None:
    """The pack, as a step."""

    def action(line: Line) -> str:
        remove(FOLDER)
        pack = _Pack()
        for case in _cases():
            line.progress(f"{case.suite} {case.name}")
            pack.add(case)
        pack.write()
        return f"{len(pack.index)} cases, {pack.nbytes / 1e6:.1f} MB"

    step(
        "conformance cases",
        action,
        inputs=[f"onnx {pin('onnx')}", ROOT / "tools" / "cases.py"],
        outputs=[INDEX],
    )


@dataclass(slots=True)
class _Pack:
    index: list[dict[str, Any]] = field(default_factory=list)
    pieces: list[bytearray] = field(default_factory=lambda: [bytearray()])

    @property
    def nbytes(self) -> int:
        return sum(map(len, self.pieces))

    def add(self, case: Case) -> None:
        sets = [
            {"inputs": self._items(inputs), "outputs": self._items(outputs)}
            for inputs, outputs in case.sets
        ]
        self.index.append(
            {
                "suite": case.suite,
                "case": case.name,
                "operator": case.operator,
                "rtol": case.rtol,
                "atol": case.atol,
                "random": case.random,
                "model": self._place(case.model),
                "sets": sets,
            }
        )

    def _items(self, items: Sequence[Item]) -> list[list[Any]]:
        return [[name, kind, self._place(message)] for name, kind, message in items]

    def _place(self, content: bytes) -> list[int]:
        if self.pieces[-1] and len(self.pieces[-1]) + len(content) > _PIECE:
            self.pieces.append(bytearray())
        first = len(self.pieces[-1])
        self.pieces[-1] += content
        return [len(self.pieces) - 1, first, len(content)]

    def write(self) -> None:
        for number, piece in enumerate(self.pieces):
            replace_file(FOLDER / f"{number}.bin", bytes(piece))
        text = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in self.index)
        replace_file(INDEX, f"[\n{text}\n]\n".encode())


def _cases() -> Iterator[Case]:
    yield from _node_cases()
    for suite in _STORED:
        yield from _stored_cases(suite)
    yield from _light_models()


# -- made in memory ------------------------------------------------------------------------------


def _node_cases() -> Iterator[Case]:
    import numpy as np
    from onnx.backend.test.case import node

    np.random.seed(0)  # most cases draw their inputs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases' own arithmetic overflows on purpose
        found = node.collect_testcases(None)
    operators = {
        name: ".".join(filter(None, (proto.domain, proto.op_type)))
        for name, proto in node._existing_names.items()
    }
    for case in found:
        assert case.model is not None and case.data_sets is not None  # node cases have both
        sets = [
            (
                _made(case.model.graph.input, inputs),
                _made(case.model.graph.output, outputs),
            )
            for inputs, outputs in case.data_sets
        ]
        yield Case(
            "node",
            case.name,
            operators[case.name.partition("_expanded")[0]],
            case.model.SerializeToString(deterministic=True),
            sets,
            case.rtol,
            case.atol,
            _is_random(case.model, case.data_sets[0][0]),
        )


def _made(declared: Any, values: Sequence[Any]) -> list[Item]:
    """The values as messages of the kinds that the model declares."""
    return [
        (one.name, *_message(one.type.WhichOneof("value"), value))
        for one, value in zip(declared, values, strict=True)
    ]


def _message(declared: str, value: Any) -> tuple[str, bytes]:
    import numpy as np
    import onnx
    from onnx import numpy_helper

    kind = declared.removesuffix("_type")
    if isinstance(value, onnx.TensorProto):
        message: Any = value
    elif kind == "sequence":
        message = numpy_helper.from_list(value, dtype=_SEQUENCE_OF_TENSORS)
    elif kind == "optional":
        message = numpy_helper.from_optional(value)
    else:
        message = numpy_helper.from_array(np.asarray(value))
    return kind, message.SerializeToString(deterministic=True)


_SEQUENCE_OF_TENSORS = 1  # SequenceProto.DataType.TENSOR, for one that is empty


def _is_random(model: Any, inputs: Sequence[Any]) -> bool:
    if any(node.op_type in _RANDOM for node in model.graph.node):
        return True
    (node, *_) = model.graph.node
    if node.op_type != "Dropout" or len(node.input) < 3:
        return False
    fed = dict(zip([name for name in node.input if name], inputs, strict=True))
    ratio = fed.get(node.input[1], 0.5)
    return bool(fed.get(node.input[2], False)) and float(ratio) > 0


# -- on disk -------------------------------------------------------------------------------------


def _data() -> Path:
    import onnx.backend.test

    return Path(str(onnx.backend.test.__file__)).parent / "data"


def _stored_cases(suite: str) -> Iterator[Case]:
    import onnx

    for folder in sorted(p.parent for p in (_data() / suite).glob("*/model.onnx")):
        content = (folder / "model.onnx").read_bytes()
        graph = onnx.load_from_string(content).graph
        kept = {tensor.name for tensor in graph.initializer}
        fed = [value for value in graph.input if value.name not in kept]
        sets = [
            (_stored(one, "input", fed), _stored(one, "output", graph.output))
            for one in sorted(folder.glob("test_data_set_*"))
        ]
        yield Case(suite, folder.name, "", content, sets, *_tolerances(folder))


def _stored(folder: Path, role: str, declared: Sequence[Any]) -> list[Item]:
    return [
        (
            one.name,
            one.type.WhichOneof("value").removesuffix("_type"),
            (folder / f"{role}_{number}.pb").read_bytes(),
        )
        for number, one in enumerate(declared)
    ]


def _tolerances(folder: Path) -> tuple[float, float]:
    file = folder / "data.json"
    said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return said.get("rtol", _RTOL), said.get("atol", _ATOL)


def _light_models() -> Iterator[Case]:
    import onnx
    from onnx import numpy_helper
    from onnx.backend.test.runner import Runner

    for folder in sorted(p.parent for p in (_data() / "real").glob("*/data.json")):
        url = json.loads((folder / "data.json").read_text(encoding="utf-8"))["url"]
        path = _data() / "light" / Path(url).name
        content = path.read_bytes()
        graph = onnx.load_from_string(content).graph
        kept = {tensor.name for tensor in graph.initializer}
        inputs = []
        for value in graph.input:
            if value.name not in kept:
                tensor = numpy_helper.from_array(Runner.generate_dummy_data(value))
                inputs.append((value.name, "tensor", tensor.SerializeToString()))
        outputs = []
        for number, value in enumerate(graph.output):
            stored = path.with_name(f"{path.stem}_output_{number}.pb").read_bytes()
            outputs.append((value.name, "tensor", stored))
        tolerances = _tolerances(folder)
        yield Case("light", folder.name, "", content, [(inputs, outputs)], *tolerances)
