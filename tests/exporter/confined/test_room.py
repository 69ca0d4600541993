"""A confined child gives an answer or one line of why not, and can reach nothing that it was not given."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from zoo.errors import GateError, UsageError
from zoo.exporter.confined.calls import program
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
        try:
            assert "refused" in done("kill", other.pid)
            assert other.poll() is None
        finally:
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
        if "namespace" not in found.walls.network and not found.walls.calls:
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
    with pytest.raises(ChildEndedError, match="had not loaded its libraries after 0.01 s"):
        run("environment", start_seconds=0.01)


@pytest.mark.parametrize(
    ("do", "given", "why"),
    [
        ("crash", None, r"ended with SIG(ABRT|SEGV) \(.*\)"),
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


@pytest.fixture
def calls() -> None:
    """Skip where nobody listed the system calls of the architecture."""
    if not run("environment").walls.calls:
        pytest.skip("no filter of system calls here")


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("do", ["offspring", "escape", "shared_memory", "host"])
def test_what_it_cannot_make(do: str) -> None:
    assert done(do) == {"refused": "PermissionError"}


@pytest.mark.usefixtures("calls")
def test_it_has_threads_and_its_own_limits() -> None:
    assert done("threads", 20) == {"done": 20}
    assert done("own_limits") == {"done": 1 << 20}


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("do", ["mode", "times", "attribute"])
def test_the_attributes_of_files_stay(do: str, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_text("as it was", encoding="utf-8")
    before = path.stat()
    assert done(do, str(path)) == {"refused": "PermissionError"}
    assert path.stat() == before


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("do", ["limits_of", "priority"])
def test_other_processes_stay_as_they_are(do: str) -> None:
    assert "refused" in done(do, os.getpid())
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0


@pytest.mark.enable_socket
@pytest.mark.usefixtures("calls")
def test_sockets_in_the_file_system_are_closed_too(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        assert done("local_socket", str(tmp_path / "s")) == {"refused": "PermissionError"}


def test_who_closes_the_pipe_and_goes_on_is_ended() -> None:
    begun = time.monotonic()
    with pytest.raises(ChildEndedError, match="ended with SIGKILL"):
        run("close")
    assert time.monotonic() - begun < 15


def test_folders_in_folders_are_no_error_of_ours() -> None:
    assert done("nest", 1500) == {"done": "nested"}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_jumps_forward_and_answers(machine: str) -> None:
    """Every way through it ends in an answer: the kernel would refuse it otherwise, and only on that machine."""
    made = program(machine)
    assert made
    for place, (code, yes, no, _) in enumerate(made):
        if code not in (0x20, 0x06):
            assert place + 1 + max(yes, no) < len(made)
    assert made[-1][0] == 0x06
    assert program("riscv64") == []


def _answer_of(made: list[tuple[int, int, int, int]], number: int, arch: int, first: int = 0) -> int:
    """What the filter answers to a call."""
    held, place = 0, 0
    while True:
        code, yes, no, value = made[place]
        if code == 0x06:
            return value
        if code == 0x20:
            held, place = {0: number, 4: arch, 16: first}[value], place + 1
            continue
        true = {0x15: held == value, 0x45: bool(held & value), 0x35: held >= value}[code]
        place += 1 + (yes if true else no)


@pytest.mark.parametrize(
    ("machine", "arch", "read", "socket_", "clone", "clone3", "prlimit"),
    [("x86_64", 0xC000003E, 0, 41, 56, 435, 302), ("aarch64", 0xC00000B7, 63, 198, 220, 435, 261)],
)
def test_what_the_filter_answers(
    machine: str, arch: int, read: int, socket_: int, clone: int, clone3: int, prlimit: int
) -> None:
    made = program(machine)
    allowed, refused = 0x7FFF0000, 0x00050001
    assert _answer_of(made, read, arch) == allowed
    assert _answer_of(made, socket_, arch) == refused
    assert _answer_of(made, read, arch + 1) == refused, "the calls of another architecture have other numbers"
    assert _answer_of(made, clone, arch, 0x10F00) == allowed, "a thread"
    assert _answer_of(made, clone, arch, 17) == refused, "a process"
    assert _answer_of(made, clone3, arch) == 0x00050000 | 38
    assert _answer_of(made, prlimit, arch, 0) == allowed
    assert _answer_of(made, prlimit, arch, 1) == refused


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
    assert Walls().open == ["files it may read and write", "the network", "its memory", "its system calls"]
    assert Walls("Landlock 7", "", "64 MB").closed == ["files (Landlock 7)", "memory beyond its own (64 MB)"]
