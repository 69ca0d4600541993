"""Closes a process in, once and for good: before it loads a library, while it has one thread.

Landlock (docs.kernel.org/userspace-api/landlock.html, Linux 5.13 and later) closes files, programs and TCP; a user and
network namespace of its own (user_namespaces(7)) closes every network; limits of resources (getrlimit(2)) hold on every
system. None of it needs rights. What a system lacks stays open, and is said.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .confinement import Walls

ROOT = Path(__file__).parents[2]
SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/sys", "/proc/self", "/proc/cpuinfo", "/proc/meminfo")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_NEWUSER, _NEWNET = 0x10000000, 0x40000000  # linux/sched.h
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, linux/prctl.h


def close_in(
    reads: Sequence[str], writes: Sequence[str], *, memory_mb: int, file_mb: int, seconds: int, parent: int
) -> Walls:
    """Close this process in; what it starts is closed in likewise.

    Args:
        reads: files and folders that it may read beside the libraries of this Python.
        writes: folders that it may write into.
        file_mb: the largest file that it may write.
        seconds: of the time of all its cores, each process that it starts for itself: what would outlive it ends, too.
        memory_mb: of its own.
        parent: the process that waits for it: without that one it ends.
    """
    _die_with(parent)
    memory = _limit(memory_mb, file_mb, seconds)
    network = "a network namespace of its own" if _unshare(_NEWUSER | _NEWNET) else ""
    files, tcp = _landlock([*reads, *libraries(), *SYSTEM], writes)
    return Walls(files, network or tcp, memory)


def libraries() -> list[str]:
    """Where this Python's own modules are, and zoo's: of a checkout only its source, not what lies beside it."""
    own = [str(path) for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    return [*sys.path, sys.prefix, sys.base_prefix, *own]


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        _libc().prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it went away before that
        os._exit(1)


def _limit(memory_mb: int, file_mb: int, seconds: int) -> str:
    import resource  # not on every system

    limits = {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": file_mb << 20, "RLIMIT_DATA": memory_mb << 20, "RLIMIT_CPU": seconds}
    held = set()
    for name, value in limits.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):
            kind = getattr(resource, name)
            _, hard = resource.getrlimit(kind)
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))
            held.add(name)
    return f"{memory_mb:,} MB" if "RLIMIT_DATA" in held and sys.platform == "linux" else ""


def _unshare(flags: int) -> bool:
    """Whether new namespaces were made: some distributions and containers forbid it."""
    return sys.platform == "linux" and _libc().unshare(flags) == 0


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _landlock(reads: Sequence[str], writes: Sequence[str]) -> tuple[str, str]:
    """What closes files, and what TCP; "" where the kernel has none."""
    if sys.platform != "linux":
        return "", ""
    from landlockpy import AccessFS, LandlockError, Ruleset, Scope

    read = AccessFS.READ_FILE | AccessFS.READ_DIR
    write = read | AccessFS.WRITE_FILE | AccessFS.MAKE_REG | AccessFS.MAKE_DIR | AccessFS.TRUNCATE
    write |= AccessFS.REMOVE_FILE | AccessFS.REMOVE_DIR
    try:
        with Ruleset(scoped=Scope.ABSTRACT_UNIX_SOCKET | Scope.SIGNAL) as rules:
            for path in _existing(reads):
                rules.allow_path(path, read if Path(path).is_dir() else AccessFS.READ_FILE)
            for path in _existing(writes):
                rules.allow_path(path, write)
            for path in _existing(DEVICES):
                rules.allow_path(path, AccessFS.READ_FILE | AccessFS.WRITE_FILE)
            rules.restrict()
            told = f"Landlock {rules.abi_version}"
            return told, f"{told}, TCP only" if rules.abi_version >= 4 else ""
    except LandlockError:  # UnsupportedError is one
        return "", ""


def _existing(paths: Sequence[str]) -> Iterator[str]:
    yield from (path for path in dict.fromkeys(paths) if path and Path(path).exists())
