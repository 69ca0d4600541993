"""Where an error of a foreign module came from, in words that its author understands."""

from __future__ import annotations

from torch import nn

from ...errors import one_line


def named(module: nn.Module, layer: str) -> str:
    """Return a layer's path and class, such as `layer1.0.conv1 (Conv2d)`."""
    return f"{layer or 'the model'} ({type(module.get_submodule(layer)).__name__})"


def running_layer(error: BaseException, module: nn.Module) -> str | None:
    """Return the path of the innermost layer that ran, or was narrowed, when an error was raised; None for none."""
    paths = {id(part): path for path, part in module.named_modules()}
    found, trace = None, error.__traceback__
    while trace is not None:
        values = trace.tb_frame.f_locals
        for held in (values.get("self"), values.get("layer")):  # of a forward, and of what torch-pruning narrows
            found = paths.get(id(held), found) if isinstance(held, nn.Module) else found
        trace = trace.tb_next
    return found


def raised_in(error: BaseException, module: nn.Module) -> str:
    """Return the layer in which an error was raised, where there is one, and the error in one line."""
    layer = running_layer(error, module)
    where = "" if layer is None else f"{named(module, layer)}: "
    return f"{where}{type(error).__name__}: {one_line(error)}"
