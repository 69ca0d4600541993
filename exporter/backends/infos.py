"""The records of backends by name: ours are a plain dict, imported on use; others come by an entry point of Python.

The entry point group is `zoo.backends`; it names either a `BackendInfo`, whose `backend` says where the class is, or a
Backend class with one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ...calibration.rules import Rules
from ...errors import UsageError
from .info import BackendInfo

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


# One line a backend: where its record is.
BACKENDS: dict[str, str] = {
    "eager": ".eager.info:INFO",
    "torchscript": ".torchscript.info:INFO",
    "onnx": ".onnx.info:INFO",
    "trt": ".tensorrt.info:INFO",
}
GROUP = "zoo.backends"


def backend_names() -> list[str]:
    """Ours in their order, then those that other packages brought."""
    return [*BACKENDS, *sorted(entry.name for entry in _foreign() if entry.name not in BACKENDS)]


def backend_info(name: str) -> BackendInfo:
    """A backend's record; nothing of its runtime is imported.

    Raises:
        UsageError: an unknown name, with the nearest one; or a third party's backend that cannot be imported.
    """
    if name in BACKENDS:
        module, _, attribute = BACKENDS[name].partition(":")
        return getattr(importlib.import_module(module, __package__), attribute)
    return _info_of(name, entry_of(name))


def backend_infos() -> list[BackendInfo]:
    """The records of all backends; a third party's that cannot be imported is left out, and `get_backend` says why."""
    found: list[BackendInfo] = []
    for name in backend_names():
        try:
            found.append(backend_info(name))
        except UsageError:
            continue
    return found


def known_info(name: str) -> BackendInfo | None:
    """The record of a backend that a file names; None where nothing here knows it, or its package is broken."""
    try:
        return backend_info(name)
    except UsageError:
        return None


def rules_of(name: str) -> Rules:
    """Return where a backend's integers go.

    Raises:
        UsageError: an unknown name, or a backend without int8.
    """
    int8 = backend_info(name).int8
    if int8 is None:
        able = [info.name for info in backend_infos() if info.int8 is not None]
        raise UsageError(f"{name} has no int8", fix=f"one of {', '.join(able)}")
    return int8.rules


def builds(name: str) -> bool:
    """Whether the last step of a backend's artifacts needs the device; False for a backend that nothing here knows."""
    info = known_info(name)
    return info is not None and info.builds


def find(place: str) -> Any:
    """What `module:attribute` names; a module that begins with a dot is one of the package above this one.

    What travels in a package may have another name there than zoo.
    """
    module, _, attribute = place.partition(":")
    above = (__package__ or "").rpartition(".")[0]
    return getattr(importlib.import_module(module, above if module.startswith(".") else None), attribute)


def entry_of(name: str) -> Any:
    """What a third party's entry point names: its record, or its class."""
    for entry in _foreign():
        if entry.name == name:
            try:
                return entry.load()
            except Exception as error:  # a third party's code may raise anything
                raise UsageError(f"backend {name} ({entry.value}) cannot be loaded: {error}") from error
    raise UsageError(f'unknown backend "{name}"', fix=f"one of {', '.join(backend_names())}")


def _info_of(name: str, what: Any) -> BackendInfo:
    found = what if isinstance(what, BackendInfo) else getattr(what, "info", None)
    if not isinstance(found, BackendInfo):
        raise UsageError(f"backend {name} has no BackendInfo", fix="docs/backends.md says how to write one")
    return found


def _foreign() -> list[EntryPoint]:
    from importlib.metadata import entry_points  # not in the start of a command that needs no other's backend

    return list(entry_points(group=GROUP))
