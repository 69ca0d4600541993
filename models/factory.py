"""A user's own model: import `package.module:factory` and call it, and decide who may name one."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..config import near
from ..errors import UsageError
from .user_code import described, users_code


def call_factory(source: str, arguments: dict[str, Any]) -> nn.Module:
    """Import `package.module:factory` and call it; the current folder is searched last, so it shadows nothing.

    Raises:
        UsageError: it cannot be imported, it fails, or it does not return a module that zoo can use.
    """
    module_name, _, factory_name = source.partition(":")
    if not module_name:
        raise UsageError(f"{source} names no module", fix=f"give package.module:{factory_name or 'factory'}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    with users_code(f"{source}: importing it failed"):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
                fix = "run where it is"
                if "/" in module_name or module_name.endswith(".py"):
                    fix = f"write the file as a module: {module_of(module_name)}:{factory_name}"
                raise UsageError(f"{source}: no module {module_name} here or installed", fix=fix) from error
            fix = f"pip install {error.name}" if error.name else ""
            raise UsageError(f"{source}: importing it failed: {described(error)}", fix=fix) from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        raise _no_factory(module, source)
    with users_code(f"{source} failed"):
        made = factory(**arguments)
    if not isinstance(made, nn.Module):
        raise UsageError(
            f"{source} returned {type(made).__name__}, not a torch.nn.Module", fix="let it return the model itself"
        )
    _refuse_wrapped(made, source)
    _refuse_quantised(made, source)
    _refuse_unusable(made, source)
    _detach_computed(made)
    return made


def _no_factory(module: ModuleType, source: str) -> UsageError:
    """The error for a function that a module has not, or that is not named, with those that it has."""
    module_name, _, factory_name = source.partition(":")
    public = {name: value for name, value in vars(module).items() if callable(value) and not name.startswith("_")}
    own = [name for name, value in public.items() if getattr(value, "__module__", "") == module.__name__]
    fix = f"{module_name} has {', '.join(own[:5])}" if own else "write a function there that returns the model"
    if not factory_name:
        return UsageError(f"{source} names no function", fix=fix)
    return UsageError(f"{module_name} has no callable {factory_name}{near(factory_name, public)}", fix=fix)


def module_of(file: str) -> str:
    """Return the name by which Python imports a file: nets/mine.py as nets.mine."""
    return file.removesuffix(".py").removeprefix("./").strip("/").replace("/", ".")


def _refuse_wrapped(module: nn.Module, source: str) -> None:
    """Raise UsageError for what torch makes of a model to run it faster: of that no other format can be made."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise UsageError(f"{source} returned a model in {type(module).__name__}", fix="return model.module")
    if hasattr(module, "_orig_mod"):  # OptimizedModule; to import it takes seconds
        raise UsageError(
            f"{source} returned what torch.compile made of a model", fix="return the model itself, not torch.compile's"
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise UsageError(
            f"{source} returned TorchScript ({type(module).__name__}), of which only its own format can be made",
            fix="return the model itself, not what torch.jit made of it",
        )
    with users_code(
        f"{source} returned a {type(module).__name__} that cannot be put into evaluation mode",
        fix="return the model itself, not what torch.export made of it",
    ):
        module.eval()


def _refuse_quantised(module: nn.Module, source: str) -> None:
    """Raise UsageError for layers whose weights are integers already: only torch's own kernels read them."""
    for name, part in module.named_modules():
        place, kind = type(part).__module__, type(part).__name__
        quantised = place.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized"))
        if quantised and "FloatFunctional" not in kind:  # which adds floats, to be observed
            raise UsageError(
                f"{source} returned a quantised module: {name or 'all of it'} is a {place.split('.modules')[0]} {kind}",
                fix="return the model before it was quantised; zoo quantises at export, with --int8",
            )


def _refuse_unusable(module: nn.Module, source: str) -> None:
    """Raise UsageError for parameters that have no shape yet, or that are not float32 on the CPU."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in tensors:
        if is_lazy(tensor):
            raise UsageError(
                f"{source} returned a module with a lazy layer: {name} has no shape yet",
                fix="call the model once in the factory: model(torch.zeros(1, 3, 224, 224))",
            )
        if tensor.device.type != "cpu":
            raise UsageError(
                f"{source} returned a module on {tensor.device} ({name})",
                fix="return model.cpu(), zoo moves it" if not tensor.is_meta else "make it on the CPU",
            )
    for name, parameter in module.named_parameters():
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            raise UsageError(
                f"{source} returned a module with parameters of {parameter.dtype} ({name})",
                fix="return model.float(); the precision is chosen at export, with --fp16 or --bf16",
            )


def _detach_computed(module: nn.Module) -> None:
    """Cut plain tensor attributes off the computation that they came from: a module that holds one cannot be copied."""
    for part in module.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                vars(part)[name] = value.detach()


def refuse_foreign(source: str) -> None:
    """Refuse a factory that a folder names unless its file lies in the current folder and defines it."""
    module, _, factory = source.partition(":")
    place = Path.cwd().joinpath(*module.split("."))
    files = [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()]
    defined = re.compile(rf"^(def|class) {re.escape(factory)}\b", re.MULTILINE)
    texts = [path.read_text("utf-8", errors="replace") for path in files]
    if not module.replace(".", "").isidentifier() or not any(map(defined.search, texts)):
        raise UsageError(
            f"the folder names the factory {source}, which {Path.cwd()} does not define",
            fix=f"run where {module.replace('.', '/')}.py is, or give the source yourself",
        )
