"""What is timed and how: subjects, and the four setups that every time in zoo is measured with.

A setup is data. It travels with each measurement, and two measurements are compared only where their setups agree. This
file, like all that `runtime/` needs of timing, also runs inside packages, without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ...errors import UsageError
from ...models.processors import cpus, physical_cores

Inputs = Literal["golden", "random"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Something whose runs can be timed, opened in a process of its own.

    Attributes:
        name: for people, and the key of its measurement.
        opener: `module:function`. It is called with `given`, the setup and the batch, imports what it needs, and
            returns a function that opens the subject (a context manager; see `worker.Opened`).
        given: arguments of the opener, as JSON holds them.
        batch: images at once.
        shares: subjects with the same one may run in one process, by turns: the threads of their runtime are the
            process's own, so that none waits for another's. "" for a process of its own.
    """

    name: str
    opener: str
    given: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 1
    shares: str = ""


@dataclass(frozen=True, kw_only=True)
class TimingSetup:
    """How runs are timed.

    Attributes:
        device: cpu, cuda, or another of the backend.
        threads: of the runtime on a CPU; None for `default_threads()`.
        rounds: how often each subject is measured, in an order drawn anew.
        lives: rounds that a process serves. 1 makes rounds independent, as a gate needs them; where a process lies in
            memory, and on which cores its threads are, moves its times by some per cent.
        mirrored: two blocks a round, the second in the reverse order: what drifts during a round cancels.
        block_ms: how long the runs of a block take together, at least.
        least: runs of a block, at least.
        most: runs of a block, at most, where `least` would take longer than `longest_s`.
        longest_s: seconds after which `most` is enough.
        lead_in_ms: runs at the start of a block that are not counted: the caches are another process's, and threads
            that slept are on one core until the scheduler parts them (docs/benchmarks/checks.md).
        warm_s: seconds of warm-up after loading, at least and at most: it ends when two windows agree.
        control: the name of a subject that is measured twice, to know the noise; "" for none.
        inputs: golden images of the artifact, or random numbers.
        leave_after: rounds after which subjects that are surely slower than the fastest leave; 0 for never.
        operators: profiled runs behind each round's blocks, for the time of each operator; 0 for none.
        seed: of the order.
    """

    device: str = "cpu"
    threads: int | None = None
    rounds: int = 1
    lives: int = 1
    mirrored: bool = True
    block_ms: float = 80.0
    least: int = 5
    most: int = 1_000_000
    longest_s: float = 300.0
    lead_in_ms: float = 120.0
    warm_s: tuple[float, float] = (0.06, 3.0)
    control: str = ""
    inputs: Inputs = "golden"
    leave_after: int = 0
    operators: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("rounds", self.rounds), ("threads", self.threads or 1), ("least", self.least)):
            if value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")

    @property
    def threads_here(self) -> int:
        """The number of threads that this machine's runtimes are given."""
        return self.threads or default_threads()

    def same_conditions(self) -> tuple[Any, ...]:
        """Return what two measurements have to share to be compared."""
        return (self.device, self.threads, self.block_ms, self.least, self.lead_in_ms, self.inputs, self.lives)


# The gate of `zoo check --latency`: each round is a process of its own, which is what the statistics resample.
GATE = TimingSetup(rounds=12, control="reference")
# Choosing among candidates: starting a process takes longer than a round, so that each serves two; what is surely
# slower than the fastest leaves after the first two. The blocks are the gate's.
SELECT = TimingSetup(rounds=4, lives=2, inputs="random", leave_after=2)
# What a user sees on a device: from the host's memory to logits there, in a process that does nothing else.
PROFILE = TimingSetup(
    mirrored=False, block_ms=3_000.0, least=100, most=20, longest_s=60.0, lead_in_ms=0.0, warm_s=(0.5, 0.5),
    inputs="random",
)  # fmt: skip
# Layers: those of a graph by the runtime's own profile, in three rounds; or single ones, thousands of them, for which a
# few milliseconds each are enough and one process serves all (`engine.measure_each`).
LAYERS = TimingSetup(
    rounds=3, mirrored=False, block_ms=3.0, least=12, most=57, lead_in_ms=0.0, warm_s=(0.0, 0.0), inputs="random",
    operators=40,
)  # fmt: skip


def default_threads() -> int:
    """Return how many threads a runtime is given everywhere in zoo unless a person asks for another number.

    As many as physical cores that this process may keep busy, which is what ONNX Runtime takes by itself.
    """
    return max(1, min(cpus(), physical_cores()))
