"""How a command ends does not hang on whether somebody reads what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENVIRONMENT


def shell(line: str, folder: Path) -> int:
    script = f'set -o pipefail; zoo() {{ {sys.executable} -m zoo "$@"; }}; {line}'
    return subprocess.run(["bash", "-c", script], cwd=folder, env=ENVIRONMENT, check=False).returncode


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("zoo run --help | true", 0),
        ("zoo list models 2>&-", 0),
        ("zoo list models 2>/dev/full", 0),
        ("zoo list models 2>&1 | true", 0),
        ("zoo run nowhere.toml 2>&-", 2),
        ("zoo run nowhere.toml 2>/dev/full", 2),
        ("zoo run nowhere.toml 2>&1 | true", 2),
        ("zoo run nowhere.toml --json 2>&- | true", 2),
    ],
)
def test_nobody_listens(line: str, code: int, tmp_path: Path) -> None:
    assert shell(line, tmp_path) == code


def test_a_closed_stderr_is_no_files(tmp_path: Path) -> None:
    """The next file that is opened would get its number, and whatever a library complains of."""
    code = (
        "import os, sys; from zoo.exporter.cli.streams import keep_stderr; keep_stderr(); "
        "held = open('held', 'w'); os.write(2, b'a complaint'); sys.stderr.write('another'); held.close()"
    )
    line = f'{sys.executable} -c "{code}" 2>&-'
    assert shell(line, tmp_path) == 0
    assert (tmp_path / "held").read_text() == ""
