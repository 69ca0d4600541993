"""What is done with a package of a stranger, in the confined child: all of it is read and run there."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .card import judge_card
from .code import judge_code
from .container import Package
from .verify import verify

if TYPE_CHECKING:
    from ..confined.child import Inside


def answer(task: Mapping[str, Any], inside: Inside) -> dict[str, Any]:
    """Verify a package whose file was handed over; gates and skews as JSON has them.

    Args:
        task: path, artifact, allow_code, and the runtimes to load before the time counts.
        inside: the child.
    """
    for name in task["runtimes"]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    inside.ready()
    with Package(task["path"], inside.file(0)) as package:
        found = verify(package, task["artifact"], allow_code=task["allow_code"])
        gates = [*found.gates[:2], judge_card(package), judge_code(package), *found.gates[2:]]
    return {"gates": [asdict(gate) for gate in gates], "skews": [asdict(skew) for skew in found.skews]}
