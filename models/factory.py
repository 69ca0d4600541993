"""A user's own model: import `package.module:factory` and call it, and decide who may name one."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

from torch import nn

from ..config import near
from ..errors import UsageError, ZooError, one_line


def call_factory(source: str, arguments: dict[str, Any]) -> nn.Module:
    """Import `package.module:factory` and call it; the current folder is searched last, so it shadows nothing."""
    module_name, _, factory_name = source.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except ZooError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise UsageError(f"{source}: no module {module_name} here or installed", fix="run where it is") from error
        raise UsageError(f"{source}: importing it failed: {error}", fix=f"pip install {error.name}") from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise UsageError(f"{source}: importing it failed: {type(error).__name__}: {one_line(error)}") from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise UsageError(f"{module_name} has no callable {factory_name}{near(factory_name, public)}")
    try:
        made = factory(**arguments)
    except (Exception, SystemExit) as error:  # a user's factory may raise anything
        raise UsageError(f"{source} failed: {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(made, nn.Module):
        raise UsageError(f"{source} returned {type(made).__name__}, not a torch.nn.Module")
    return made


def refuse_foreign(source: str) -> None:
    """Refuse a factory that a folder names unless its file lies in the current folder and defines it."""
    module, _, factory = source.partition(":")
    place = Path.cwd().joinpath(*module.split("."))
    files = [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()]
    defined = re.compile(rf"^(def|class) {re.escape(factory)}\b", re.MULTILINE)
    if not module.replace(".", "").isidentifier() or not any(defined.search(path.read_text("utf-8")) for path in files):
        raise UsageError(
            f"the folder names the factory {source}, which {Path.cwd()} does not define",
            fix=f"run where {module.replace('.', '/')}.py is, or give the source yourself",
        )
