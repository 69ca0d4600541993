"""A device over OpenSSH's own client: copy, run, bring back, clean up; nothing is installed and nothing left there.

BatchMode (no question is ever asked), strict host keys, argument lists, and constant programs (launcher.py). Files go
by sftp, whose `reput` goes on where a broken copy stopped; their hashes are verified on the device.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import IO, Any

from ...errors import GateError, IntegrityError, UnavailableError, UsageError
from .bootstrap import PROBE, RUN
from .target import Place

COPY_TRIES = 3
RUNS = 20  # times as long as for an answer it may take to copy, and to run
SPARE = 64 << 20  # bytes that are to stay free on the device


class LinkError(UnavailableError):
    """The device cannot be reached, or the link to it broke."""


@dataclass(frozen=True)
class Device:
    """What a device said of itself."""

    python: str
    machine: str
    system: str
    free: int
    onnxruntime: str | None = None
    numpy: str | None = None
    pillow: str | None = None
    torch: str | None = None
    tensorrt: str | None = None
    zoo: str | None = None
    trtexec: str | None = None


def options_of(place: Place) -> list[str]:
    """Ssh's and sftp's options."""
    alive = max(1, round(place.timeout / 3))
    found = [
        "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=15", "-o",
        f"ServerAliveInterval={alive}", "-o", "ServerAliveCountMax=3", "-o", "ForwardAgent=no", "-o", "ForwardX11=no",
        "-o", "ClearAllForwardings=yes", "-o", "PermitLocalCommand=no",
    ]  # fmt: skip
    if place.identity is not None:
        found += ["-o", "IdentitiesOnly=yes", "-i", place.identity]
    if place.known_hosts is not None:
        found += ["-o", f"UserKnownHostsFile={place.known_hosts}"]
    return found


def probe(place: Place) -> Device:
    """What the device has.

    Raises:
        LinkError: it cannot be reached, or has no such Python.
        UnavailableError: it lacks what a package needs.
    """
    answer = _ssh(place, [place.python, "-c", PROBE])
    try:
        return Device(**json.loads(answer.splitlines()[-1]))
    except (ValueError, IndexError, TypeError) as error:
        raise LinkError(
            f"{place.label} answered {answer[:80]!r} in place of what it has", fix="see what its shell prints"
        ) from error


def run_there(
    place: Place,
    files: dict[str, Path],
    arguments: Sequence[str],
    told: Callable[[str, int, int], None] = lambda _what, _done, _all: None,
) -> dict[str, Any]:
    """Copy files to a folder on the device, run the package among them, and return the JSON that it printed.

    The folder is removed by what runs there, and once more from here when anything went wrong.

    Args:
        place: the device.
        files: by their name there; `package.zoo` is run.
        arguments: of the package.
        told: (what, done, in all).

    Raises:
        LinkError: the link broke, or it stayed silent too long.
        UnavailableError: no room on the device.
        IntegrityError: a file did not arrive as it was sent.
        UsageError: what the package itself refuses.
    """
    answer = run_program(place, probe(place), files, RUN, json.dumps(list(arguments)), told=told)
    return understood(place, answer)


def run_program(
    place: Place,
    here: Device,
    files: dict[str, Path],
    program: str,
    *more: str,
    room: int = 1,
    told: Callable[[str, int, int], None] = lambda _what, _done, _all: None,
) -> dict[str, Any]:
    """Copy files to a folder on the device, run one of launcher.py's programs on it, and return its answer.

    Args:
        place: the device.
        here: what it said of itself.
        files: by their name there.
        program: is given the folder, the hashes, and what follows.
        more: follows.
        room: times the size of the files that is needed there.
        told: (what, done, in all).

    Raises:
        LinkError, UnavailableError, IntegrityError: as `run_there`.
    """
    need = room * sum(path.stat().st_size for path in files.values())
    if here.free < need + SPARE:
        raise UnavailableError(
            f"{place.label} has {here.free / 1e6:.0f} MB free, {(need + SPARE) / 1e6:.0f} are needed"
        )
    folder = f".zoo-{secrets.token_hex(8)}"
    try:
        told("copying", 0, 1)
        copy(place, files, folder)
        told("copying", 1, 1)
        hashes = {}
        for name, path in files.items():
            with path.open("rb") as file:
                hashes[name] = file_digest(file, "sha256").hexdigest()
        text = _ssh(place, [place.python, "-c", program, folder, json.dumps(hashes), *more], RUNS * place.timeout)
    except BaseException:
        clean(place, folder)
        raise
    try:
        answer = json.loads(text.splitlines()[-1])
    except (ValueError, IndexError) as error:
        clean(place, folder)
        raise LinkError(f"{place.label} ended without an answer", fix="try again") from error
    if answer.get("error"):
        raise IntegrityError(f"{place.label}: {answer['error']}", fix="try again; see its disk")
    return answer


def understood(place: Place, answer: dict[str, Any]) -> dict[str, Any]:
    """What the package, or zoo there, printed; its own errors become ours."""
    try:
        found = json.loads(answer["out"])
    except ValueError as error:
        last = (answer["err"].strip().splitlines() or ["nothing"])[-1]
        raise UnavailableError(f"{place.label}: it ended with {answer['code']}: {last[:200]}") from error
    if not found["ok"]:
        kinds = {2: UsageError, 3: UnavailableError, 4: GateError, 5: IntegrityError}
        kind = kinds.get(found["exit_code"], UnavailableError)
        raise kind(f"{place.label}: {found['error']['message']}", fix=found["error"].get("fix", ""))
    return found


def copy(place: Place, files: dict[str, Path], folder: str) -> None:
    """Copy files into a new folder; a copy that breaks goes on where it stopped.

    Raises:
        LinkError: it broke each time.
    """
    with tempfile.TemporaryDirectory() as here:
        for name, path in files.items():  # under names that sftp's own language cannot misread
            (Path(here) / name).symlink_to(path.absolute())
        last = ""
        for attempt in range(COPY_TRIES):
            put = "put" if attempt == 0 else "reput"
            lines = [f"-mkdir {folder}", f"chmod 700 {folder}", *(f"{put} {name} {folder}/{name}" for name in files)]
            done = _run(
                ["sftp", "-b", "-", *options_of(place), *(["-P", str(place.port)] if place.port else []), place.host],
                "\n".join(lines), place, RUNS * place.timeout, cwd=here,
            )  # fmt: skip
            if done.returncode == 0:
                return
            last = _reason(done.stderr)
            if "No space left" in done.stderr or "Failure" in done.stderr:
                break  # the same would happen again
            time.sleep(0.2 * attempt)
    raise LinkError(f"copying to {place.label} failed: {last}", fix="see its disk and the link, then try again")


def clean(place: Place, folder: str) -> None:
    """Remove the folder, as far as the device can be reached; what is left goes with the next probe after a day."""
    assert folder.startswith(".zoo-")
    assert folder[5:].isalnum()
    try:
        _ssh(place, ["rm", "-rf", folder])
    except UnavailableError:
        return


def _ssh(place: Place, command: Sequence[str], patience: float | None = None) -> str:
    port = ["-p", str(place.port)] if place.port else []
    line = " ".join(shlex.quote(part) for part in command)  # ssh hands one string to the shell there
    done = _run(["ssh", *options_of(place), *port, place.host, line], None, place, patience or place.timeout)
    if done.returncode != 0:
        raise LinkError(f"{place.label}: {_reason(done.stderr)}", fix=_fix(done.stderr, place))
    return done.stdout


def _run(
    command: list[str], text: str | None, place: Place, patience: float, cwd: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ssh or sftp; its standard input stays open until it ends, which tells the device that we are still here."""
    if shutil.which(command[0]) is None:
        raise UnavailableError(f"{command[0]} is not here", fix="apt install openssh-client")
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd,
        encoding="utf-8", errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        out, err = _ended(process, text, patience)
    except subprocess.TimeoutExpired:
        raise LinkError(
            f"{place.label} did not answer within {patience:g} s", fix="a larger timeout in devices.toml"
        ) from None
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _ended(process: subprocess.Popen[str], text: str | None, patience: float) -> tuple[str, str]:
    """What a process printed; without a text, its standard input is open until it ends. It never outlives this."""
    kept: dict[str, str] = {}
    with process:  # closes its pipes, and waits
        assert process.stdin is not None
        pipes = {"out": process.stdout, "err": process.stderr}
        readers = [threading.Thread(target=_read, args=(kept, name, pipe), daemon=True) for name, pipe in pipes.items()]
        for one in readers:
            one.start()
        try:
            if text is not None:
                with contextlib.suppress(BrokenPipeError):  # it ended first, and says why
                    process.stdin.write(text)
                    process.stdin.close()
            process.wait(patience)
        except BaseException:
            process.kill()
            raise
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            for one in readers:
                one.join(5)
    return kept.get("out", ""), kept.get("err", "")


def _read(kept: dict[str, str], name: str, pipe: IO[str]) -> None:
    kept[name] = pipe.read()


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("sftp>")]
    if any("Host key verification failed" in line for line in lines):
        return "its host key is not the one that is known, or none is known"
    return lines[-1][:200] if lines else "no word of ssh"


def _fix(text: str, place: Place) -> str:
    port = f"-p {place.port} " if place.port else ""
    if "Host key verification failed" in text:
        return f"ssh {port}{place.host} once by hand, and compare its key"
    if "Permission denied" in text:
        return f"ssh-copy-id {port}{place.host}: no password is asked for"
    return "see that it is on, and that ssh reaches it"
