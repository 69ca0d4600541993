"""Where in a user's own code something happened: for messages of one line instead of a traceback."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_OURS = ("models", "calibration", "exporter", "__init__.py", "__main__.py", "atomic.py", "config.py", "errors.py")
_PACKAGES = ("site-packages", "dist-packages")
_MACHINERY = ("torch", "torchao", "onnx", "onnxscript", "onnx_ir", "numpy", "sympy", "_pytest", "pluggy", "pytest")


def place_of(error: BaseException) -> str:
    """Return the innermost line of the user's code that an error came through, as "their/file.py:12", or ""."""
    for part in _chain(error):
        place = place_in(traceback.extract_tb(part.__traceback__))
        if place:
            return place
    return ""


def place_in(stack: Iterable[traceback.FrameSummary]) -> str:
    """Return the innermost frame of a stack that is neither zoo's, nor torch's, nor Python's own, or ""."""
    for frame in reversed(list(stack)):
        path = _shown(frame.filename)
        if path:
            return f"{path}:{frame.lineno}"
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those it was made from, from the one that came first."""
    chain: list[BaseException] = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None and before not in chain:
        chain.append(before)
    yield from reversed(chain)


def _shown(filename: str) -> str:
    """A file as a message names it: from the current folder, or from its package; "" for files that are not theirs."""
    if filename.startswith("<"):  # code that has no file, such as what torch.fx writes
        return ""
    path = Path(filename).absolute()
    ours = path.resolve()
    if ours.is_relative_to(_ROOT) and ours.relative_to(_ROOT).parts[0] in _OURS:
        return ""
    folders = [index for index, name in enumerate(path.parts) if name in _PACKAGES]
    if folders:
        inner = path.parts[folders[-1] + 1 :]
        return "" if inner[0].removesuffix(".py") in _MACHINERY else "/".join(inner)
    if path.is_relative_to(sysconfig.get_path("stdlib")):
        return ""
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else str(path)
