"""A confined child gives an answer or one line of why not, and can reach nothing that it was not given."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from zoo.errors import GateError, UsageError
from zoo.exporter.confined.confinement import Confinement, Walls
from zoo.exporter.confined.room import Answered, ChildEndedError, run_confined

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The children find what they are to do."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def run(do: str, given: Any = None, **more: Any) -> Answered:
    """Have a child do it."""
    files = more.pop("files", ())
    confinement = Confinement(**{"seconds": 20.0, "memory_mb": 512, "reads": (str(HERE),), **more})
    return run_confined("mischief", {"do": do, "given": given}, confinement, files=files)


def done(do: str, given: Any = None, **more: Any) -> Any:
    """What came of it."""
    return run(do, given, **more).value


@pytest.fixture
def landlock() -> None:
    """Skip where the kernel closes no files."""
    if not run("environment").walls.files:
        pytest.skip("this kernel has no Landlock")


def test_says_what_closes_it() -> None:
    walls = run("environment").walls
    assert set(walls.closed) | set(walls.open)
    assert walls.memory == "512 MB"


@pytest.mark.usefixtures("landlock")
def test_reads_nothing_but_what_it_may(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of somebody", encoding="utf-8")
    assert done("read", str(secret)) == {"refused": "PermissionError"}
    assert done("read", "/etc/passwd") == {"refused": "PermissionError"}
    assert done("read", f"/proc/{os.getpid()}/environ") == {"refused": "PermissionError"}
    assert done("read", str(secret), reads=(str(HERE), str(secret))) == {"done": "of somebody"}


@pytest.mark.usefixtures("landlock")
def test_writes_and_removes_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("as it was", encoding="utf-8")
    assert done("write", str(tmp_path / "new")) == {"refused": "PermissionError"}
    assert done("write", str(kept)) == {"refused": "PermissionError"}
    assert done("remove", str(kept)) == {"refused": "PermissionError"}
    assert kept.read_text(encoding="utf-8") == "as it was"
    assert done("write", str(tmp_path / "new"), writes=(str(tmp_path),)) == {"done": 7}


def test_has_a_folder_that_goes_with_it() -> None:
    place = Path(done("scratch", 10)["done"])
    assert not place.parent.exists()
    assert done("scratch", 2 << 20) == {"refused": "OSError"}  # larger than file_mb
    assert "done" in done("scratch", 2 << 20, file_mb=4)


@pytest.mark.usefixtures("landlock")
def test_starts_no_program_and_signals_nobody() -> None:
    assert done("program", "/bin/true") == {"refused": "PermissionError"}
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        assert done("kill", other.pid) == {"refused": "PermissionError"}
        other.kill()


@pytest.mark.enable_socket
@pytest.mark.usefixtures("landlock")
def test_has_no_network() -> None:
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(0.2)
        assert "refused" in done("tcp", tcp.getsockname()[1])
        found = run("udp", udp.getsockname()[1])
        if "namespace" not in found.walls.network:
            pytest.skip("this kernel makes no namespace for us, and its Landlock closes TCP alone")
        with pytest.raises(TimeoutError):
            udp.recv(10)


@pytest.mark.parametrize("do", ["memory", "memory_of_c"])
def test_memory_has_a_limit(do: str) -> None:
    assert done(do, 100) in ({"done": 100 << 20}, {"done": True})
    if do == "memory_of_c":
        assert done(do, 600) == {"done": False}
    else:
        with pytest.raises(ChildEndedError, match="needed more than the 512 MB"):
            done(do, 600)


@pytest.mark.parametrize("do", ["spin", "sleep"])
def test_time_has_a_limit_that_saying_ready_again_does_not_move(do: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ChildEndedError, match="took more than 1 s"):
        run(do, 60, seconds=1.0)
    assert time.monotonic() - begun < 15


def test_time_to_load_libraries_has_a_limit() -> None:
    with pytest.raises(ChildEndedError, match="had not loaded its libraries after 0 s"):
        run("environment", start_seconds=0.01)


@pytest.mark.parametrize(
    ("do", "given", "why"),
    [
        ("crash", None, r"ended with SIGABRT \(.*\)"),
        ("leave", 0, "ended with code 0"),
        ("leave", 7, "ended with code 7"),
        ("garble", "no JSON", "answered something else"),
        ("garble", "[]", "answered something else"),
        ("garble", "[" * 5000, "answered something else"),
        ("garble", '{"walls": 3}', "answered something else"),
        ("garble", '{"walls": {"other": "x"}}', "answered something else"),
        ("long", 70 << 20, "answered more than 64 MB"),
    ],
)  # fmt: skip
def test_whatever_it_does_is_one_line(do: str, given: Any, why: str) -> None:
    with pytest.raises(ChildEndedError, match=why):
        run(do, given)


def test_output_goes_nowhere_and_blocks_nothing() -> None:
    assert done("shout", 5 << 20) == {"done": "shouted"}


def test_errors_of_ours_arrive_as_they_are() -> None:
    with pytest.raises(GateError, match="it did not pass; try another"):
        run("raise")


def test_a_fault_has_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'a fault of ours'") as found:
        run("fault")
    assert "mischief.py" in found.value.__notes__[0]


def test_sees_no_environment_but_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "of somebody")
    seen = done("environment", environment={"GIVEN": "1"})["done"]
    assert "GIVEN" in seen
    assert "SECRET_TOKEN" not in seen


def test_what_it_leaves_running_ends_with_it() -> None:
    pid = done("offspring")["done"]
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2]:
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("it went on")


def test_a_file_is_handed_over_open(tmp_path: Path) -> None:
    path = tmp_path / "given"
    path.write_text("its text", encoding="utf-8")
    with path.open("rb") as file:
        path.unlink()  # whatever becomes of its name
        assert done("file", files=[file]) == {"done": "its text"}


def test_ends_with_who_waits_for_it(tmp_path: Path) -> None:
    program = (
        "from zoo.exporter.confined.room import run_confined\n"
        "from zoo.exporter.confined.confinement import Confinement\n"
        f"run_confined('mischief', {{'do': 'sleep', 'given': 60}}, "
        f"Confinement(seconds=60, memory_mb=512, reads=({str(HERE)!r},)))\n"
    )
    with subprocess.Popen([sys.executable, "-P", "-c", program]) as parent:
        child = None
        for _ in range(100):
            found = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
            if text := found.read_text(encoding="utf-8").split():
                child = int(text[0])
                break
            time.sleep(0.1)
        assert child is not None
        time.sleep(1.0)
        parent.kill()
        parent.wait()
    for _ in range(50):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{child}/stat").read_text(encoding="utf-8").split()[2] != "Z":
                time.sleep(0.1)
                continue
        return
    os.kill(child, signal.SIGKILL)
    pytest.fail("it went on")


@pytest.mark.parametrize(
    "wrong", [{"seconds": 0}, {"seconds": float("nan")}, {"memory_mb": 1}, {"start_seconds": -1}, {"file_mb": -1}]
)
def test_limits_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Confinement(**{"seconds": 1.0, "memory_mb": 512, **wrong})


def test_walls_say_what_is_open() -> None:
    assert Walls().open == ["files it may read and write", "the network", "its memory"]
    assert Walls("Landlock 7", "", "64 MB").closed == ["files (Landlock 7)", "memory (64 MB)"]
