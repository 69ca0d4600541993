"""The code that travels in a package, and whether a package's code is that and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import IntegrityError
from ..checks.evidence import versions
from ..checks.gate import Gate

if TYPE_CHECKING:
    from ..runtime.container import Package

BUILT_IN = ("eager", "onnx", "tensorrt", "torchscript")  # folders of the backends whose records travel
# What runs a package without zoo, as it is here; `exporter/runtime/__init__.py` says what these may import.
RUNTIME = (
    "errors.py", "models/__init__.py", "models/spec.py", "models/preprocess.py",
    "models/processors.py",
    "calibration/__init__.py", "calibration/engine.py", "exporter/__init__.py",
    "exporter/checks/__init__.py", "exporter/checks/answer_statistics.py", "exporter/checks/gate.py",
    "exporter/checks/numerics.py", "exporter/checks/faithful.py", "exporter/checks/record.py",
    "exporter/checks/mistakes.py",
    "exporter/artifact/golden_answers.py",
    "exporter/artifact/__init__.py", "exporter/runtime/__init__.py", "exporter/runtime/container.py",
    "exporter/runtime/manifest.py", "exporter/runtime/operators.py", "exporter/runtime/programs.py",
    "exporter/runtime/safety.py", "exporter/runtime/predictor.py",
    "exporter/runtime/verify.py",
    "calibration/rules.py", "exporter/backends/__init__.py", "exporter/backends/info.py",
    "exporter/backends/infos.py", "exporter/backends/operators.py",
    *(f"exporter/backends/{name}/{file}.py" for name in BUILT_IN for file in ("__init__", "info")),
    "exporter/backends/onnx/operators.py",
    "exporter/timing/__init__.py", "exporter/timing/loop.py", "exporter/timing/machine.py", "exporter/timing/setup.py",
    "exporter/timing/statistics.py", "exporter/timing/tegrastats.py", "exporter/timing/telemetry.py",
    "exporter/runtime/profile.py", "exporter/runtime/main.py",
)  # fmt: skip
MAIN = '''"""Runs the package: python MODEL.zoo predict IMAGE..., verify, profile."""

import sys

from zoo.exporter.runtime.main import main

sys.exit(main(sys.path[0]))
'''
INIT = '"""What a package of zoo brings along to run without it; README.md says what it is."""\n'
ROOT = Path(__file__).parents[2]
LICENCE = "zoo/LICENSE"


def carried() -> dict[str, bytes]:
    """Return all code that a package has, by its name there."""
    own = {f"zoo/{name}": (ROOT / name).read_bytes() for name in RUNTIME}
    return {"__main__.py": MAIN.encode(), "zoo/__init__.py": INIT.encode(), **own}


def judge_code(package: Package) -> Gate:
    """Judge whether the code in a package, which `python PACKAGE` runs, is this zoo's own to the byte.

    Args:
        package: whose hashes were found right.

    Raises:
        IntegrityError: it is not, though it says that this zoo made it.
    """
    made_by, here = package.manifest.get("zoo"), versions()["zoo"]
    if made_by != here:
        reason = f"the code in it says it is zoo {made_by}'s, this is {here}: nobody compared what Python would run"
        return Gate("code", "inconclusive", reason)
    own = carried()
    held = {name for name in package.names() if name.endswith(".py") or name.startswith("zoo/")} - {LICENCE}
    other = sorted(held ^ own.keys()) or [name for name in sorted(own) if package.read(name) != own[name]]
    if other:
        raise IntegrityError(
            f"{package.path}: {other[0]} in it is not zoo {here}'s: `python PACKAGE` would run another's code",
            fix="do not run it",
        )
    return Gate("code", "pass", f"{len(own)} modules, each zoo {here}'s own to the byte")


def refuse_code(package: Package) -> None:
    """Raise IntegrityError for a package whose code is not this zoo's own, which would run where it is profiled."""
    found = judge_code(package)
    if found.verdict != "pass":
        raise IntegrityError(f"{package.path}: {found.reason}", fix="--allow-code, if you trust who made it")
