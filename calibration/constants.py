"""Which values of a traced graph no image reaches, and what they come to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx


def constant_of(made: fx.GraphModule, value: Any) -> Tensor | None:
    """What a node that no image reaches comes to; None for one that an image reaches, or that is random.

    Args:
        made: whose node it is.
        value: an argument of another node; what is no node is no tensor either.
    """
    if not isinstance(value, fx.Node):
        return None
    before = {value}
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if node.op == "placeholder":
            return None
        fresh = [other for other in node.all_input_nodes if other not in before]
        before.update(fresh)
        waiting += fresh
    results: list[Any] = []
    for _ in range(2):
        interpreter = fx.Interpreter(made)
        interpreter.extra_traceback = False
        with torch.no_grad():
            for node in made.graph.nodes:
                if node in before:
                    interpreter.env[node] = interpreter.run_node(node)
        results.append(interpreter.env[value])
    first, second = results
    return first if isinstance(first, Tensor) and torch.equal(first, second) else None
