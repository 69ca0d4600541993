"""What the test of confined children has them do; it runs inside of one."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zoo.errors import GateError


def _read(inside: Any, given: Any) -> Any:
    return Path(given).read_text(encoding="utf-8")


def _write(inside: Any, given: Any) -> Any:
    return Path(given).write_text("written", encoding="utf-8")


def _remove(inside: Any, given: Any) -> Any:
    Path(given).unlink()


def _tcp(inside: Any, given: Any) -> Any:
    socket.create_connection(("127.0.0.1", given), 2).close()


def _udp(inside: Any, given: Any) -> Any:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"out", ("127.0.0.1", given))


def _program(inside: Any, given: Any) -> Any:
    subprocess.run([given], check=True)


def _kill(inside: Any, given: Any) -> Any:
    os.kill(given, signal.SIGTERM)


def _memory(inside: Any, given: Any) -> Any:
    return len(bytearray(given << 20))


def _memory_of_c(inside: Any, given: Any) -> Any:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    return libc.malloc(given << 20) is not None


def _spin(inside: Any, given: Any) -> Any:
    while True:
        inside.ready()  # once is enough: it gives no more time


def _sleep(inside: Any, given: Any) -> Any:
    time.sleep(given)


def _crash(inside: Any, given: Any) -> Any:
    sys.stderr.write("the last words\n")
    sys.stderr.flush()
    os.abort()


def _leave(inside: Any, given: Any) -> Any:
    os._exit(given)


def _shout(inside: Any, given: Any) -> Any:
    for stream in (sys.stdout, sys.stderr):
        stream.write("x" * given)
        stream.flush()
    return "shouted"


def _garble(inside: Any, given: Any) -> Any:
    inside._out.write(given + "\n")
    inside._out.flush()
    time.sleep(60)


def _long(inside: Any, given: Any) -> Any:
    return "x" * given


def _raise(inside: Any, given: Any) -> Any:
    raise GateError("it did not pass", fix="try another")


def _fault(inside: Any, given: Any) -> Any:
    raise KeyError("a fault of ours")


def _environment(inside: Any, given: Any) -> Any:
    return sorted(os.environ)


def _offspring(inside: Any, given: Any) -> Any:
    """A child of the child, which could outlive it, or have as much memory once more."""
    if pid := os.fork():
        return pid
    time.sleep(60)
    return None


def _threads(inside: Any, given: Any) -> Any:
    found: list[int] = []
    threads = [threading.Thread(target=found.append, args=(one,)) for one in range(given)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(found)


def _escape(inside: Any, given: Any) -> Any:
    os.setsid()


def _local_socket(inside: Any, given: Any) -> Any:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(given)


def _host(inside: Any, given: Any) -> Any:
    with socket.socket(socket.AF_VSOCK) as one:
        one.connect((2, 1024))


def _mode(inside: Any, given: Any) -> Any:
    Path(given).chmod(0o777)


def _times(inside: Any, given: Any) -> Any:
    os.utime(given)


def _attribute(inside: Any, given: Any) -> Any:
    os.setxattr(given, "user.mine", b"1")


def _limits_of(inside: Any, given: Any) -> Any:
    resource.prlimit(given, resource.RLIMIT_NOFILE, (0, 0))


def _own_limits(inside: Any, given: Any) -> Any:
    return resource.getrlimit(resource.RLIMIT_FSIZE)[0]


def _priority(inside: Any, given: Any) -> Any:
    os.setpriority(os.PRIO_PROCESS, given, 19)


def _shared_memory(inside: Any, given: Any) -> Any:
    os.memfd_create("mine")


def _close(inside: Any, given: Any) -> Any:
    """The pipe, and go on."""
    inside._out.close()
    time.sleep(60)


def _nest(inside: Any, given: Any) -> Any:
    os.chdir(os.environ["TMPDIR"])
    for _ in range(given):
        Path("d").mkdir()
        os.chdir("d")
    return "nested"


def _file(inside: Any, given: Any) -> Any:
    with inside.file(0) as file:
        return file.read().decode()


def _scratch(inside: Any, given: Any) -> Any:
    place = Path(os.environ["TMPDIR"]) / "kept"
    place.write_bytes(b"x" * given)
    return str(place)


DEEDS: dict[str, Callable[[Any, Any], Any]] = {
    name.removeprefix("_"): deed for name, deed in list(globals().items())
    if name.startswith("_") and not name.startswith("__") and callable(deed)
}  # fmt: skip


def answer(task: Mapping[str, Any], inside: Any) -> Any:
    """Do one of the deeds, and say what came of it."""
    inside.ready()
    try:
        return {"done": DEEDS[task["do"]](inside, task.get("given"))}
    except OSError as error:
        return {"refused": type(error).__name__}
