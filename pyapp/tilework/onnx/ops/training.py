"""ai.onnx.preview.training: Adagrad, Adam, Momentum and Gradient, in operations of the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tilework.ir.graph import Node
from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import operator

DOMAIN = "ai.onnx.preview.training"


class _Formula:
    """Writes arithmetic on values; numbers become scalars of the dtype of `like`."""

    def __init__(self, ctx: Context, like: str) -> None:
        self._ctx = ctx
        self._like = like

    def __call__(self, op: str, *operands: str | float) -> str:
        names = [
            one if isinstance(one, str) else self._ctx.scalar(one, self._like) for one in operands
        ]
        return self._ctx.emit(op, *names)

    def cast(self, name: str) -> str:
        """The value in the dtype of `like`."""
        if self._ctx.dtype(name) is self._ctx.dtype(self._like):
            return name
        return self._ctx.emit("cast", name, to=self._ctx.dtype(self._like).name)


def _groups(ctx: Context, node: OnnxNode, each: int) -> list[tuple[str, ...]]:
    """The inputs behind R and T, which are lists of `each` kinds one after another, by tensor."""
    rest = node.inputs[2:]
    if len(rest) % each:
        raise ctx.invalid(f"{len(rest)} tensors behind R and T; expected a multiple of {each}")
    count = len(rest) // each
    return [tuple(rest[kind * count + i] for kind in range(each)) for i in range(count)]


def _outputs(updated: Sequence[Sequence[str]]) -> list[str]:
    return [name for kind in zip(*updated, strict=True) for name in kind]


@operator("Adagrad", (5, -1), DOMAIN)
def adagrad(ctx: Context, node: OnnxNode) -> Sequence[str]:
    updated = []
    for x, gradient, squares in _groups(ctx, node, 3):
        f = _Formula(ctx, x)
        rate, step = f.cast(node.inputs[0]), f.cast(node.inputs[1])
        rate = f("div", rate, f("add", f("mul", step, node.attrs.get("decay_factor", 0.0)), 1.0))
        g = f("add", f("mul", x, node.attrs.get("norm_coefficient", 0.0)), gradient)
        squares = f("add", squares, f("mul", g, g))
        root = f("add", f("sqrt", squares), node.attrs.get("epsilon", 0.0))
        updated.append((f("sub", x, f("div", f("mul", rate, g), root)), squares))
    return _outputs(updated)


@operator("Adam", (6, -1), DOMAIN)
def adam(ctx: Context, node: OnnxNode) -> Sequence[str]:
    alpha, beta = node.attrs.get("alpha", 0.9), node.attrs.get("beta", 0.999)
    updated = []
    for x, gradient, mean, squares in _groups(ctx, node, 4):
        f = _Formula(ctx, x)
        rate, step = f.cast(node.inputs[0]), f.cast(node.inputs[1])
        g = f("add", f("mul", x, node.attrs.get("norm_coefficient", 0.0)), gradient)
        mean = f("add", f("mul", mean, alpha), f("mul", g, 1 - alpha))
        squares = f("add", f("mul", squares, beta), f("mul", f("mul", g, g), 1 - beta))
        root = f("add", f("sqrt", squares), node.attrs.get("epsilon", 1e-6))
        # Neither moment is corrected at step 0.
        late = f("sqrt", f("sub", 1.0, f("pow", ctx.scalar(beta, x), step)))
        early = f("sub", 1.0, f("pow", ctx.scalar(alpha, x), step))
        corrected = f("div", f("mul", rate, late), early)
        rate = f("where", f("greater", step, 0.0), corrected, rate)
        new = f("sub", x, f("mul", rate, f("div", mean, root)))
        new = f("mul", new, 1 - node.attrs.get("norm_coefficient_post", 0.0))
        updated.append((new, mean, squares))
    return _outputs(updated)


@operator("Momentum", (5, -1), DOMAIN)
def momentum(ctx: Context, node: OnnxNode) -> Sequence[str]:
    nesterov = node.attrs.get("mode", "standard") == "nesterov"
    updated = []
    for x, gradient, velocity in _groups(ctx, node, 3):
        f = _Formula(ctx, x)
        rate, step = f.cast(node.inputs[0]), f.cast(node.inputs[1])
        g = f("add", f("mul", x, node.attrs["norm_coefficient"]), gradient)
        # The gradient counts whole at step 0.
        beta = f("where", f("greater", step, 0.0), node.attrs["beta"], 1.0)
        velocity = f("add", f("mul", velocity, node.attrs["alpha"]), f("mul", beta, g))
        change = f("add", g, f("mul", velocity, node.attrs["alpha"])) if nesterov else velocity
        updated.append((f("sub", x, f("mul", rate, change)), velocity))
    return _outputs(updated)


# What flows back to each input: (formula, node's inputs, its output, what flows to that).
_Back = Callable[[_Formula, Sequence[str], str, str], Sequence[str]]
_BACK: Mapping[str, _Back] = {
    "identity": lambda f, x, y, d: (d,),
    "add": lambda f, x, y, d: (d, d),
    "sub": lambda f, x, y, d: (d, f("neg", d)),
    "mul": lambda f, x, y, d: (f("mul", d, x[1]), f("mul", d, x[0])),
    "div": lambda f, x, y, d: (
        f("div", d, x[1]),
        f("neg", f("div", f("mul", d, y), x[1])),
    ),
    "neg": lambda f, x, y, d: (f("neg", d),),
    "exp": lambda f, x, y, d: (f("mul", d, y),),
    "log": lambda f, x, y, d: (f("div", d, x[0]),),
    "sqrt": lambda f, x, y, d: (f("div", f("mul", d, 0.5), y),),
    "sin": lambda f, x, y, d: (f("mul", d, f("cos", x[0])),),
    "cos": lambda f, x, y, d: (f("neg", f("mul", d, f("sin", x[0]))),),
    "tanh": lambda f, x, y, d: (f("mul", d, f("sub", 1.0, f("mul", y, y))),),
    "sigmoid": lambda f, x, y, d: (f("mul", d, f("mul", y, f("sub", 1.0, y))),),
}


@operator("Gradient", (1, -1), DOMAIN)
def gradient(ctx: Context, node: OnnxNode) -> Sequence[str]:
    """The derivative of the sum of y by each of xs, through the nodes that are there already."""
    names = [ctx.resolve(name) for name in (*node.attrs["xs"], *node.attrs.get("zs", ()))]
    if tuple(names) != node.inputs[: len(names)]:
        raise ctx.unsupported("evaluating a derivative elsewhere than at xs and zs themselves")
    y = ctx.resolve(node.attrs["y"])
    xs = names[: len(node.attrs["xs"])]
    hang = _hanging(ctx.nodes, set(xs))
    f = _Formula(ctx, y)
    shape = ctx.emit("shape", y)
    flows = {y: ctx.emit("expand", ctx.scalar(1.0, y), shape)}
    for inner in reversed(list(ctx.nodes)):
        (output, *others) = inner.outputs
        flow = flows.get(output)
        if flow is None or output not in hang or output in xs:
            continue
        back = _BACK.get(inner.op)
        if back is None or others:
            raise ctx.unsupported(f"the derivative of '{inner.op}'")
        for name, part in zip(inner.inputs, back(f, inner.inputs, output, flow), strict=True):
            if len(inner.inputs) > 1:  # an operand that was broadcast gets the sum
                part = ctx.emit("sum_to", part, name)
            flows[name] = f("add", flows[name], part) if name in flows else part
    return [flows.get(x) or f("mul", x, 0.0) for x in xs]


def _hanging(nodes: Sequence[Node], sources: set[str]) -> set[str]:
    """The values that are computed from `sources`."""
    found = set(sources)
    for node in nodes:
        if found.intersection(node.inputs):
            found.update(node.outputs)
    return found

