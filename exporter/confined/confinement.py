"""What a confined child may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """The limits of a child; what it needs beyond them is refused by the system.

    Attributes:
        seconds: of the wall clock from when the child has loaded its libraries.
        memory_mb: of memory of its own (RLIMIT_DATA: private and writable).
        start_seconds: until it has loaded its libraries, which are ours and not what is judged.
        reads: files and folders that it may read beside the libraries of this Python.
        writes: folders that it may write into, beside a temporary one of its own.
        file_mb: the largest file that it may write.
        environment: variables that it sees beside those of `room.KEPT`.
    """

    seconds: float
    memory_mb: int
    start_seconds: float = 120.0
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    file_mb: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("limit", self.seconds), ("limit for loading libraries", self.start_seconds)):
            if not 0 < value <= 86400:
                raise UsageError(
                    f"the time {name} must be more than 0 and at most 86400 s, got {value}", fix="such as 60"
                )
        if not 64 <= self.memory_mb <= 1 << 24:
            raise UsageError(f"the memory limit must be 64 to {1 << 24} MB, got {self.memory_mb}", fix="such as 4096")
        if not 0 <= self.file_mb <= 1 << 24:
            raise UsageError(f"files must be 0 to {1 << 24} MB, got {self.file_mb}", fix="such as 1")


@dataclass(frozen=True)
class Walls:
    """What the system really closed; "" for what it cannot close here.

    Attributes:
        files: reading and writing files, starting programs.
        network: opening connections and ports.
        memory: more memory than allowed.
        calls: system calls that none of these closes: sockets in files, new processes, attributes of files.
    """

    files: str = ""
    network: str = ""
    memory: str = ""
    calls: str = ""

    @property
    def open(self) -> list[str]:
        """What is not closed, in words."""
        told = {"files": "files it may read and write", "network": "the network", "memory": "its memory",
                "calls": "its system calls"}  # fmt: skip
        return [words for name, words in told.items() if not getattr(self, name)]

    @property
    def closed(self) -> list[str]:
        """What is closed, and by what."""
        found = {"files": self.files, "the network": self.network, "memory beyond its own": self.memory,
                 "other processes": self.calls}  # fmt: skip
        return [f"{words} ({by})" for words, by in found.items() if by]
