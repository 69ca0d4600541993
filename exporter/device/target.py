"""Where to measure: `local`, `ssh://user@host:port`, or a file that names several."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ...config import from_mapping, read_toml
from ...errors import UsageError

LOCAL = "local"
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_PYTHON = re.compile(r"[A-Za-z0-9_.~/][A-Za-z0-9_.+/-]*")


@dataclass(frozen=True)
class Place:
    """One device.

    Attributes:
        on: local, or ssh://[user@]host[:port].
        name: what tables call it; "" for the host.
        python: on the device, such as /opt/venv/bin/python.
        identity: a private key for ssh; None for what ssh's own configuration says.
        known_hosts: a file of host keys; None for ssh's own.
        timeout: seconds in which it has to answer; copying and running may take twenty times as long.
    """

    on: str = LOCAL
    name: str = ""
    python: str = "python3"
    identity: str | None = None
    known_hosts: str | None = None
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if self.on != LOCAL:
            _split(self.on)
        if not _PYTHON.fullmatch(self.python):
            raise UsageError(f"python {self.python!r} is no path without blanks or quotes", fix="/usr/bin/python3")
        if not 1 <= self.timeout <= 86_400:
            raise UsageError(f"timeout is 1 to 86400 seconds, got {self.timeout}", fix="timeout = 60")
        if not self.name.isprintable():
            raise UsageError(f"the name {self.name!r} cannot be printed", fix="give letters and digits")

    @property
    def label(self) -> str:
        """For tables."""
        return self.name or (LOCAL if self.on == LOCAL else self.host)

    @property
    def host(self) -> str:
        """With the user, as ssh takes it."""
        user, host, _ = _split(self.on)
        return f"{user}@{host}" if user else host

    @property
    def port(self) -> int | None:
        """Where sshd listens."""
        return _split(self.on)[2]


@dataclass(frozen=True)
class _Devices:
    device: tuple[Place, ...] = field(default=())


def places(on: str) -> tuple[Place, ...]:
    """The places that `--on` names.

    Raises:
        UsageError: neither local, nor an ssh URL, nor a TOML file of `[[device]]` tables.
    """
    if on == LOCAL or on.startswith("ssh://"):
        return (Place(on),)
    path = Path(on)
    if path.suffix != ".toml":
        raise UsageError(f"--on {on} is neither local, ssh://user@host nor a .toml file", fix="ssh://pi@board:22")
    data = read_toml(path)
    found = from_mapping(_Devices, data, str(path)).device
    if not found:
        raise UsageError(f"{path} names no device", fix='[[device]] with on = "ssh://pi@board"')
    for table, one in zip(data["device"], found, strict=True):
        if "on" not in table:
            raise UsageError(f"{path}: a [[device]] does not say where it is", fix='on = "ssh://pi@board", or "local"')
        refuse_files(one, str(path))
    labels = [one.label for one in found]
    twice = {label for label in labels if labels.count(label) > 1}
    if twice:
        raise UsageError(f"{path} has two devices named {', '.join(sorted(twice))}", fix="give each its name")
    return found


def refuse_files(place: Place, where: str) -> None:
    """Raise UsageError for what only ssh takes, and for a key or a file of host keys that is not there."""
    for name in ("identity", "known_hosts"):
        value = getattr(place, name)
        if value is not None and place.on != LOCAL and not Path(value).expanduser().is_file():
            raise UsageError(f"{where}: {name} of {place.label}: no such file, {value}", fix="give its whole path")
    given = [
        name
        for name in ("python", "identity", "known_hosts", "timeout")
        if getattr(place, name) != getattr(Place(), name)
    ]
    if place.on == LOCAL and given:
        raise UsageError(f"{where}: {', '.join(given)} of {place.label} are of a device over ssh", fix="leave out")


def _split(url: str) -> tuple[str, str, int | None]:
    """User, host, port. What ssh could take for an option, or a shell for a command, is refused."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"--on {url}: {error}", fix="ssh://user@host:22") from error
    user, _, host = parts.netloc.rpartition("@")
    host = host if port is None else host.rpartition(":")[0]
    plain = not (parts.path.strip("/") or parts.query or parts.fragment) and ":" not in user
    if port == 0 or parts.netloc.startswith("@") or not url.isprintable():
        raise UsageError(f"--on {url!r} is not ssh://[user@]host[:port]", fix="ssh://user@host:22")
    if parts.scheme != "ssh" or not plain or not _HOST.fullmatch(host) or (user and not _USER.fullmatch(user)):
        raise UsageError(f"--on {url} is not ssh://[user@]host[:port]", fix="ssh://user@host:22")
    return user, host.strip("[]"), port
