"""The wheel of this zoo, for workers elsewhere: built from a checkout, or put together again from what is installed.

Only the unpacked wheel is handed to Ray: a .whl in `py_modules` Ray gives to `pip install --target`, which downloads
all its dependencies again on every node and needs a pip there; a checkout's folder would not import as `zoo`.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath
from typing import Any

from .... import atomic
from ....config import cache_folder
from ....errors import UnavailableError
from ..cache_keys import ROOT

NAME = "zoo-export"
BUILD = "import sys, setuptools.build_meta as b; print(b.build_wheel(sys.argv[1]))"
ROOT_FILES = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")


def unpacked(root: Path = ROOT) -> list[Path]:
    """The top-level folders of this zoo's wheel, unpacked, in zoo's cache: `zoo` and its dist-info.

    Raises:
        UnavailableError: it cannot be built here.
    """
    sources = from_checkout(root) if is_checkout(root) else from_installed(root)
    place = cache_folder() / "wheels" / _hash(sources)[:32]
    if not (place / "zoo" / "__init__.py").is_file():
        with atomic.staged(place) as made:
            if is_checkout(root):
                with zipfile.ZipFile(build(sources, made)) as wheel:
                    wheel.extractall(made)
                shutil.rmtree(made / "dist")
            else:
                _copy(sources, made)
    return sorted(path for path in place.iterdir() if path.is_dir())


def is_checkout(root: Path) -> bool:
    """Whether zoo is imported from its sources."""
    return _project(root).get("project", {}).get("name") == NAME


def from_checkout(root: Path) -> dict[str, Path]:
    """What the wheel is built of: the packages that pyproject.toml names, and no other file."""
    tables = _project(root)["tool"]["setuptools"]
    found = {name: root / name for name in ROOT_FILES if (root / name).is_file()}
    for package in tables["packages"]:
        folder = root.joinpath(*package.split(".")[1:])
        for pattern in ("*.py", *tables.get("package-data", {}).get(package, ())):
            found |= {str(path.relative_to(root)): path for path in folder.glob(pattern) if path.is_file()}
    return found


def from_installed(root: Path) -> dict[str, Path]:
    """The files that pip wrote down in RECORD, as they lie in a wheel.

    Raises:
        UnavailableError: this zoo was not installed from a wheel.
    """
    try:
        files = distribution(NAME).files or []
    except PackageNotFoundError:
        files = []
    found = {str(one): Path(str(one.locate())) for one in files if _in_wheel(PurePosixPath(str(one)))}
    if found.get("zoo/__init__.py", Path()).parent.resolve() != root.resolve():
        raise UnavailableError(f"no wheel can be made of zoo in {root}: it is no checkout, and pip did not install it",
                               fix="pip install zoo-export")  # fmt: skip
    return found


def build(sources: Mapping[str, Path], place: Path) -> Path:
    """Build a wheel into `place`/dist, from a copy, so that no build folder is left in a checkout.

    Raises:
        UnavailableError: setuptools is missing, or failed.
    """
    out = place / "dist"
    out.mkdir()
    with tempfile.TemporaryDirectory(prefix="zoo-wheel-") as copied:
        _copy(sources, Path(copied))
        done = subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=copied, capture_output=True, text=True,
                              check=False)  # fmt: skip
    wheels = list(out.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        why = (done.stderr.strip().splitlines() or ["no wheel came out"])[-1]
        raise UnavailableError(f"the workers' wheel cannot be built: {why}", fix='pip install "setuptools>=77"')
    return wheels[0]


def _project(root: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return {}


def _in_wheel(name: PurePosixPath) -> bool:
    """Not the commands that pip made, nor what Python compiled."""
    top = name.parts[0]
    return (top == "zoo" or top.endswith(".dist-info")) and "__pycache__" not in name.parts


def _copy(sources: Mapping[str, Path], place: Path) -> None:
    for name, path in sources.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place / name)


def _hash(sources: Mapping[str, Path]) -> str:
    found = hashlib.sha256()
    for name, path in sorted(sources.items()):
        found.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()
