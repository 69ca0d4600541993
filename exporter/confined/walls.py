"""Closes a process in, once and for good: before it loads a library, while it has one thread.

Landlock (docs.kernel.org/userspace-api/landlock.html, Linux 5.13 and later) closes files, programs and TCP; namespaces
of its own (user_namespaces(7)) close every network and other processes; a filter of system calls (calls.py) closes what
these leave; limits of resources (getrlimit(2)) hold on every system. None of it needs rights. What a system lacks stays
open, and is said.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .calls import close_calls
from .confinement import Walls

ROOT = Path(__file__).parents[2]
SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/sys", "/proc/self", "/proc/cpuinfo", "/proc/meminfo")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_NEWUSER, _NEWNET, _NEWPID, _NEWIPC = 0x10000000, 0x40000000, 0x20000000, 0x08000000  # linux/sched.h
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
    apart = _unshare(_NEWUSER | _NEWNET | _NEWPID | _NEWIPC)
    if apart:
        _fork()
    files, tcp = _landlock([*reads, *libraries(), *SYSTEM], writes)
    return Walls(files, "a namespace of its own" if apart else tcp, memory, close_calls())


def libraries() -> list[str]:
    """Where this Python's own modules are, and zoo's: of a checkout only its source, not what lies beside it."""
    own = [str(path) for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    return [*sys.path, sys.prefix, sys.base_prefix, *own]


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        _libc().prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it went away before that
        os._exit(1)


def _fork() -> None:
    """Go on as the first process of the new namespace: all others in it end with it, and it sees none outside of it."""
    inside = os.fork()
    if inside == 0:
        _libc().prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        return
    signal.signal(signal.SIGTERM, lambda *_: os.kill(inside, signal.SIGKILL))  # and is waited for, below
    os.closerange(3, 1024)  # the pipe of the answer ends with who answers
    _, status = os.waitpid(inside, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:  # what ended it ends this one, whose end the parent sees
        with contextlib.suppress(OSError):  # SIGKILL has no other
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)


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
