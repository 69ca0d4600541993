"""How a command ends does not hang on whether somebody reads what it says."""

from __future__ import annotations

import signal
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


@pytest.mark.parametrize("again", [signal.SIGINT, signal.SIGTERM])
def test_an_impatient_second_signal_ends_without_a_traceback(again: signal.Signals, tmp_path: Path) -> None:
    """After the first one Python waits for threads, where nobody handles an interrupt."""
    code = (
        "import sys, threading, time, typer; from zoo.exporter.cli.main import run\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "def wait():\n"
        "    threading.Thread(target=time.sleep, args=(30,)).start()\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(30)\n"
        "code = run(app, [])\n"
        "print('over', flush=True)\n"
        "sys.exit(code)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "over\n"
        process.send_signal(again)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors == "error: interrupted\n"


@pytest.mark.parametrize("command", ["check artifact", "package artifact", "export tiny --to onnx"])
def test_a_limit_of_files_is_said_to_be_the_shells(
    command: str, exported: dict[str, Path], trained_folder: Path, tmp_path: Path
) -> None:
    """And not a fault of a file: "export again" would not help."""
    (tmp_path / "artifact").symlink_to(exported["onnx"])
    (tmp_path / "tiny").symlink_to(trained_folder)
    script = f"ulimit -f 100; {sys.executable} -m zoo {command}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=ENVIRONMENT, check=False, capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "ulimit -f" in done.stderr
    assert "Traceback" not in done.stderr
