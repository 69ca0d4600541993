"""What is done with a package of a stranger, in the confined child: all of it is read and run there."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...models.processors import limit_threads
from ..runtime.container import Package

if TYPE_CHECKING:
    from ..confined.child import Inside


def answer(task: Mapping[str, Any], inside: Inside) -> dict[str, Any]:
    """Verify or profile a package whose file was handed over.

    Args:
        task: path, the runtimes to load before the time counts, what to do with it, and that one's arguments.
        inside: the child.
    """
    limit_threads(os.environ)  # before a runtime counts the machine's cores
    for name in task["runtimes"]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    do = {"verify": _verify, "profile": _profile}[task["do"]]
    with inside.file(0) as file:
        inside.ready()
        with Package(task["path"], file) as package:
            return do(package, inside, **task["given"])


def _verify(package: Package, _inside: Inside, artifact: str | None, *, allow_code: bool) -> dict[str, Any]:
    from ..runtime.verify import verify
    from .card import judge_card
    from .code import judge_code

    found = verify(package, artifact, allow_code=allow_code)
    gates = [*found.gates[:2], judge_card(package), judge_code(package), *found.gates[2:]]
    return {"gates": [asdict(gate) for gate in gates], "skews": [asdict(skew) for skew in found.skews]}


def _profile(package: Package, inside: Inside, samples: str | None, **options: Any) -> dict[str, Any]:
    from ..runtime.profile import profile
    from .layer_names import with_layers

    folder = None if samples is None else Path(samples)
    return with_layers(asdict(profile(package, samples=folder, tell=inside.tell, **options)), package)
