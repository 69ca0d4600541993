"""Assert what the wheel and the sdist hold; run by .ci/wheel in the clean environment it was installed in."""

from __future__ import annotations

import importlib
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = (".toml", ".html", ".css", ".js")
NOT_SHIPPED = ("tests", "benchmarks", "examples", "docs", ".ci", ".venv", "build", "dist")


def main(wheel: str, sdist: str) -> None:
    """Exit with a message unless everything holds."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"zoo"}, f"top-level names of the wheel: {tops}"
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    sources = [path.relative_to(ROOT) for path in ROOT.rglob("*.py")]
    sources = [path for path in sources if path.parts[0] not in NOT_SHIPPED]
    packages = {".".join(["zoo", *path.parent.parts]) for path in sources}
    assert packages == listed, f"packages listed in pyproject.toml and found differ: {packages ^ listed}"
    folders = [ROOT / "models" / "recipes", ROOT / "exporter" / "lint", ROOT / "exporter" / "report" / "template"]
    data = [path.relative_to(ROOT) for folder in folders for path in folder.iterdir() if path.suffix in DATA]
    missing = [str(path) for path in [*sources, *data, Path("py.typed")] if f"zoo/{path}" not in names]
    assert not missing, f"not in the wheel: {missing}"
    with tarfile.open(sdist) as archive:
        shipped = archive.getnames()
    tests = [name for name in shipped if "/tests/" in name and name.endswith(".py")]
    assert len(tests) == len(list((ROOT / "tests").rglob("*.py"))), "the sdist carries the tests"
    for name in sorted(listed):
        importlib.import_module(name)
    assert "torch" not in sys.modules
    assert ROOT not in Path(importlib.import_module("zoo").__file__ or "").parents


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
