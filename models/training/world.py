"""The processes that train together: one, or as many as torchrun started; what they tell each other."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...errors import UnavailableError, UsageError


@dataclass(frozen=True)
class World:
    """Which of them this process is.

    Attributes:
        rank: of this process, from 0.
        size: how many there are, on all machines.
        local: the rank on this machine, which is the number of its GPU.
        local_size: how many are on this machine.
        talk: the group in which small numbers of the host are exchanged, without a wait for a GPU.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    local_size: int = 1
    talk: Any = field(default=None, compare=False)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def own(self, count: int) -> slice:
        """This process's part of a batch of `count` images, which every process has the same number of."""
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes of a tensor on the device, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(value)
        return value

    def least(self, value: int) -> int:
        """The smallest of the numbers that the processes give; the device is not waited for."""
        if self.size == 1:
            return value
        number = torch.tensor(value, dtype=torch.int64)
        torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MIN, group=self.talk)
        return int(number)

    def of_first(self, value: int) -> int:
        """Return the number that the first process gives; the others' are not looked at."""
        if self.size == 1:
            return value
        number = torch.tensor(value, dtype=torch.int64)
        torch.distributed.broadcast(number, 0, group=self.talk)
        return int(number)

    def any(self, value: bool) -> bool:
        """Whether it holds in one of the processes."""
        return self.least(0 if value else 1) == 0

    def wait(self) -> None:
        """Until all are here."""
        self.least(0)


ALONE = World()


def world_of(environment: Mapping[str, str]) -> World:
    """Read what torchrun says; without it there is one process.

    Raises:
        UsageError: half of what torchrun sets, or no numbers.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if "WORLD_SIZE" not in environment or "RANK" not in environment:
        return World()
    given = {name: environment.get(name, "") for name in names}
    if not all(value.isascii() and value.isdigit() for value in given.values()):
        told = ", ".join(f"{name}={value or 'nothing'}" for name, value in given.items())
        raise UsageError(
            f"a distributed training needs four numbers in the environment, got {told}", fix="use torchrun"
        )
    rank, size, local, local_size = map(int, given.values())
    if rank >= size or local >= local_size:
        raise UsageError(f"RANK={rank} of WORLD_SIZE={size}, LOCAL_RANK={local} of {local_size}", fix="use torchrun")
    return World(rank, size, local, local_size)


@contextmanager
def join(device: torch.device) -> Iterator[World]:
    """The block in which this process is one of those that torchrun started; alone without it.

    NCCL on GPUs, gloo on CPUs (torch.distributed's own advice); small numbers always by gloo.
    """
    here = world_of(os.environ)
    if here.size == 1:
        yield here
        return
    if here.rank and threading.current_thread() is threading.main_thread():
        # a wait for another process is no Python, which would only notice torchrun's SIGTERM when it has passed
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.distributed.init_process_group("nccl", device_id=device)
    else:
        torch.distributed.init_process_group("gloo")
    talk = torch.distributed.new_group(backend="gloo")
    try:
        yield World(here.rank, here.size, here.local, here.local_size, talk)
    except RuntimeError as error:
        if not lost(error):
            raise
        raise UnavailableError(
            "another process of this training ended, and said why in its own message", fix="--resume goes on"
        ) from error
    finally:
        torch.distributed.destroy_process_group()


def lost(error: RuntimeError) -> bool:
    """Whether the connection to another process is what failed."""
    signs = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "TCPStore")
    return isinstance(error, torch.distributed.DistError) or any(sign in str(error) for sign in signs)
