"""Where an error of a foreign module came from, in words that its author understands."""

from __future__ import annotations

from torch import nn

from ...errors import one_line


def named(module: nn.Module, layer: str) -> str:
    """Return a layer's path and class, such as `layer1.0.conv1 (Conv2d)`."""
    return f"{layer or 'the model'} ({type(module.get_submodule(layer)).__name__})"


def raised_in(error: BaseException, module: nn.Module) -> str:
    """Return the innermost layer of a module that was running when an error was raised, and the error in one line."""
    paths = {id(part): path for path, part in module.named_modules()}
    layer, trace = None, error.__traceback__
    while trace is not None:
        values = trace.tb_frame.f_locals
        for running in (values.get("self"), values.get("layer")):  # a forward, and what torch-pruning narrows
            layer = paths.get(id(running), layer) if isinstance(running, nn.Module) else layer
        trace = trace.tb_next
    where = "" if layer is None else f"{named(module, layer)}: "
    return f"{where}{type(error).__name__}: {one_line(error)}"
