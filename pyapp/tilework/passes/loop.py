"""States that a loop's body hands on as they are become what the body reads from outside.

tf2onnx writes a while loop's weights so. As constants of the body they are prepared once a session
instead of once a turn; anything else is at least not carried.
"""

from __future__ import annotations

from dataclasses import replace

from tilework.ir.graph import Graph, Node
from tilework.passes.editor import Editor

_BEFORE = 2  # a loop's count and condition; in its body, number and condition


def free_states(editor: Editor) -> None:
    """loop: each state that its body does not change → a constant of the body, or captured."""
    for node in editor:
        if node.op != "loop":
            continue
        body, carried = node.attrs["body"], node.attrs["carried"]
        assert isinstance(body, Graph) and isinstance(carried, int)
        kept = [k for k in range(carried) if not _same(body, k)]
        free = [k for k in range(carried) if k not in kept]
        if not free:
            continue
        constants = dict(body.constants)
        inputs, captured = list(node.inputs), list(node.inputs[_BEFORE + carried :])
        inner = list(body.inputs[_BEFORE + carried :])
        for k in free:
            given, value = inputs[_BEFORE + k], body.inputs[_BEFORE + k]
            constant = editor.constants.get(given)
            if constant is not None:
                constants[value.name] = constant
            else:
                captured.append(given)
                inner.append(value)
        rows = body.outputs[1 + carried :]
        changed = replace(
            body,
            inputs=(*body.inputs[:_BEFORE], *(body.inputs[_BEFORE + k] for k in kept), *inner),
            outputs=(body.outputs[0], *(body.outputs[1 + k] for k in kept), *rows),
            constants=constants,
        )
        outputs = (*(node.outputs[k] for k in kept), *node.outputs[carried:])
        new = [
            Node("identity", (inputs[_BEFORE + k],), (node.outputs[k],), {}, node.origin)
            for k in free
            if k < len(node.outputs) and node.outputs[k] and editor.reads(node.outputs[k])
        ]
        if any(outputs):
            states = (inputs[_BEFORE + k] for k in kept)
            attrs = {**node.attrs, "body": changed, "carried": len(kept)}
            names = (*inputs[:_BEFORE], *states, *captured)
            new.append(Node("loop", names, outputs, attrs, node.origin))
        editor.replace(node, new, "loop's unchanged states")


def _same(body: Graph, state: int) -> bool:
    """Whether the body gives the state as it came. An absent output has nobody who reads it."""
    sources = {node.outputs[0]: node.inputs[0] for node in body.nodes if node.op == "identity"}
    name = body.outputs[1 + state].name
    while name in sources:
        name = sources[name]
    return name == body.inputs[_BEFORE + state].name
