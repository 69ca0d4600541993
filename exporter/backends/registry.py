"""Backends by name: ours are a plain dict, imported on use; others come by the entry point group `zoo.backends`.

An entry point names either a `BackendInfo`, whose `backend` says where the class is, or a Backend class with one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import UsageError
from .info import BackendInfo
from .infos import BACKENDS, backend_info, backend_infos, backend_names, entry_of, find

if TYPE_CHECKING:
    from .base import Backend


def get_backend(name: str) -> Backend:
    """A backend by name.

    Raises:
        UsageError: an unknown name, with the nearest one; or a third party's backend that cannot be imported.
    """
    from .base import Backend

    if name not in backend_names():
        raise unknown_backend(name)
    if name in BACKENDS:
        return find(backend_info(name).backend)()
    backend_info(name)  # one without a record is refused
    what = entry_of(name)
    try:
        made = (find(what.backend) if isinstance(what, BackendInfo) else what)()
    except Exception as error:  # a third party's code may raise anything
        raise UsageError(f"backend {name} cannot be loaded: {error}") from error
    if not isinstance(made, Backend):
        raise UsageError(f"backend {name} is no zoo Backend but {type(made).__name__}")
    return made


def unknown_backend(name: str, where: str = "") -> UsageError:
    """Return the error for a name that no backend has, with the one that is probably meant.

    Args:
        name: what was given.
        where: begins the message, such as the key of a file.
    """
    from ...config import near

    names = backend_names()
    aliases = {alias: info.name for info in backend_infos() for alias in info.aliases}
    return UsageError(f'{where}unknown backend "{name}"{near(name, names, aliases)}', fix=f"one of {', '.join(names)}")
