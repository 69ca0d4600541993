"""A device that tests reach over ssh: an sshd of their own."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conftest import need
from zoo.exporter.device.target import Place


@dataclass
class Sshd:
    """A running sshd, and how it is reached."""

    process: subprocess.Popen[bytes]
    place: Place
    home: Path
    folder: Path

    def left(self) -> list[str]:
        """What is left on the device."""
        return [path.name for path in self.home.iterdir() if path.name.startswith(".zoo-")]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def running(folder: Path, python: Path) -> Iterator[Sshd]:
    """A real sshd on the loopback address with a throw-away key; its home is in the folder."""
    binary = shutil.which("sshd") or "/usr/sbin/sshd"
    need(Path(binary).exists() and shutil.which("sftp") is not None, "apt install openssh-server openssh-client")
    home = folder / "home"
    home.mkdir()
    for name in ("host", "user", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "authorized_keys").write_text((folder / "user.pub").read_text())
    port = free_port()
    Path("/run/sshd").mkdir(exist_ok=True)
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\n"
        f"PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n"
        f"PidFile {folder}/pid\nSubsystem sftp internal-sftp -d {home}\n"
        f"ForceCommand export HOME={home} && cd {home} && "
        f'case "$SSH_ORIGINAL_COMMAND" in internal-sftp*) exec {sftp_server()} -d {home};; '
        f'*) eval "$SSH_ORIGINAL_COMMAND";; esac\n'
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, "-D", "-e", "-f", str(folder / "config")], stderr=log, stdout=log)
    host_key = (folder / "host.pub").read_text().split()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host_key[0]} {host_key[1]}\n")
    place = Place(
        f"ssh://{getpass.getuser()}@127.0.0.1:{port}", "board", str(python), str(folder / "user"),
        str(folder / "known"), 30,
    )  # fmt: skip
    for _ in range(100):
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    try:
        yield Sshd(process, place, home, folder)
    finally:
        process.terminate()
        process.wait(10)


def sftp_server() -> str:
    return next((path for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server")
                 if Path(path).exists()), "/usr/lib/openssh/sftp-server")  # fmt: skip
