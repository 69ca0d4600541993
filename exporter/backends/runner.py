"""The contract of a loaded artifact: what it takes, what it gives, and how it is timed.

As in `base.py`, the public methods check and then call those with a leading underscore, which a backend writes.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from ...errors import IntegrityError, UsageError, ZooError, one_line
from ...models.preprocess import Images, as_input
from ...models.spec import ModelSpec
from ..artifact.manifest import Batch, Receipt
from .operators import Operator

Logits = npt.NDArray[np.float32]


class Runner(abc.ABC):
    """A loaded artifact that can run; a context manager.

        with backend.load(artifact, "cpu") as runner:
            logits = runner.run(batch)

    For timing without copies: `prepare(batch)` once, then `step()` many times and `synchronize()`; `time_steps` does
    that. `upload(batch)` replaces the prepared images by others in the same number, `fetch()` brings the last step's
    logits to the host.
    `notes` says what a person should know of how it runs, such as a faster way that could not be taken.
    `threads`, set before it is opened, is how many of the CPU it computes on; None for what its runtime chooses.
    `pixels` says that the artifact normalises by itself: it reads uint8 N x H x W x C. What a batch is given as is the
    same either way, and `taken` makes the model's own input of it.
    """

    def __init__(self, name: str, spec: ModelSpec, batch: Batch | None = None) -> None:
        self.name = name
        self.spec = spec
        self.batch = batch
        self.notes: list[str] = []
        self.threads: int | None = None
        self.pixels = False
        self.holds: object = None  # what has to live as long as the runner
        self._open = False
        self._prepared = False

    def __enter__(self) -> Self:
        if self._open:
            raise UsageError(f"{self.name} is open already", fix="use one `with` block per runner")
        self._start()
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = self._prepared = False
        self._stop()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image as the model reads it."""
        channels, height, width = self.spec.input
        return (height, width, channels) if self.pixels else (channels, height, width)

    @property
    def dtype(self) -> type[np.uint8 | np.float32]:
        """Of the model's input."""
        return np.uint8 if self.pixels else np.float32

    def taken(self, batch: Images) -> Images:
        """A batch as the model reads it: see `models.preprocess.as_input`. What is so already is not copied.

        Raises:
            UsageError: the batch has another type or shape than the model's input.
        """
        self._check(batch)
        return as_input(batch, self.spec.preprocess, self.pixels)

    def run(self, batch: Images) -> Logits:
        """Images N x C x H x W, float32 (normalised) or uint8 (pixels after the crop) -> logits, float32 N x K.

        More images than the artifact takes at once run in parts; too few are filled up with copies of the last one,
        whose logits are dropped.

        Raises:
            UsageError: the runner is not open, or the batch has another type or shape than the model's input.
            IntegrityError: the model gives something else than logits for the classes of its spec, or its runtime fails
                on such a batch.
        """
        self._require_open()
        parts = [self._try(np.ascontiguousarray(part)) for part in split(self.taken(batch), self.batch)]
        logits = (parts[0] if len(parts) == 1 else np.concatenate(parts))[: len(batch)]
        expected = (len(batch), len(self.spec.labels))
        if logits.shape != expected or logits.dtype != np.float32:
            raise IntegrityError(f"{self.name} gave logits {logits.dtype} {logits.shape}, expected float32 {expected}")
        return logits

    def prepare(self, batch: Images) -> None:
        """Bring a batch to where the model reads it. Raises UsageError also for a size that it does not take."""
        self._require_open()
        taken = self.taken(batch)
        if self.batch is not None and not self.batch.min <= len(batch) <= self.batch.max:
            raise UsageError(
                f"{self.name} takes {self.batch.min} to {self.batch.max} images at once, got {len(batch)}",
                fix="export with another --batch",
            )
        self._prepare(taken)
        self._prepared = True

    def step(self) -> None:
        """Run the prepared batch once; on a GPU this returns before it is done."""
        if not self._prepared:
            raise UsageError(f"{self.name}: step() before prepare(batch)", fix="call prepare(batch) first")
        self._step()

    def synchronize(self) -> None:
        """Wait until all steps are done."""
        self._require_open()
        self._synchronize()

    def upload(self, batch: Images) -> None:
        """Replace the prepared images by others in the same number."""
        if not self._prepared:
            raise UsageError(f"{self.name}: upload() before prepare(batch)", fix="call prepare(batch) first")
        self._upload(self.taken(batch))

    def fetch(self) -> Logits:
        """The logits of the last step, float32 N x K, on the host; waits for it."""
        if not self._prepared:
            raise UsageError(f"{self.name}: fetch() before prepare(batch)", fix="call prepare(batch) and step() first")
        return self._fetch_last()

    def time_steps(self, runs: int) -> list[float]:
        """Milliseconds of each of so many runs of the prepared batch, without transfers.

        By the device's own events where it has them, so that the host does not wait between runs; else by the host's
        clock, synchronised after each.
        """
        if not self._prepared:
            raise UsageError(f"{self.name}: time_steps() before prepare(batch)", fix="call prepare(batch) first")
        return self._time_steps(runs)

    def receipt(self) -> Receipt:
        """What really runs, read from the runtime.

        Raises:
            UsageError: the runner is not open.
            IntegrityError: the runtime fails on an image, which some receipts need.
        """
        self._require_open()
        with self._in_words("an image"):
            return self._receipt()

    def operators(self, runs: int) -> tuple[Operator, ...]:
        """The time of each operator of the prepared batch, the slowest first; empty where the runtime does not tell.

        Args:
            runs: that are profiled, after a warm-up.
        """
        if not self._prepared:
            raise UsageError(f"{self.name}: operators() before prepare(batch)", fix="call prepare(batch) first")
        return self._operators(runs)

    def _require_open(self) -> None:
        if not self._open:
            raise UsageError(f"{self.name} is not open", fix="use it in a `with` block")

    def _try(self, batch: Images) -> Logits:
        with self._in_words("an image" if len(batch) == 1 else f"a batch of {len(batch)} images"):
            return self._run(batch)

    @contextmanager
    def _in_words(self, what: str) -> Iterator[None]:
        """Put what a runtime raises into words: each has its own classes of errors."""
        try:
            yield
        except ZooError:
            raise
        except Exception as error:
            raise IntegrityError(f"{self.name} fails on {what}: {one_line(error)}", fix="export again") from error

    def _time_steps(self, runs: int) -> list[float]:
        times: list[float] = []
        for _ in range(runs):
            begun = time.perf_counter()
            self._step()
            self._synchronize()
            times.append(1e3 * (time.perf_counter() - begun))
        return times

    def _operators(self, runs: int) -> tuple[Operator, ...]:
        del runs
        return ()

    def _check(self, batch: Images) -> None:
        expected = f"images: float32 or uint8 N x {' x '.join(map(str, self.spec.input))}"
        if not isinstance(batch, np.ndarray):
            raise UsageError(f"{self.name} takes {expected}, got {type(batch).__name__}")
        if batch.dtype not in (np.float32, np.uint8):
            raise UsageError(f"{self.name} takes {expected}, got {batch.dtype}", fix="normalise it, as float32")
        own = batch.dtype == self.dtype and batch.shape[1:] == self.shape
        if batch.ndim != 4 or not (own or batch.shape[1:] == self.spec.input) or len(batch) == 0:
            raise UsageError(f"{self.name} takes {expected}, got shape {batch.shape}")

    @abc.abstractmethod
    def _start(self) -> None: ...
    @abc.abstractmethod
    def _stop(self) -> None: ...
    @abc.abstractmethod
    def _run(self, batch: Images) -> Logits: ...
    @abc.abstractmethod
    def _prepare(self, batch: Images) -> None: ...
    @abc.abstractmethod
    def _step(self) -> None: ...
    @abc.abstractmethod
    def _synchronize(self) -> None: ...
    @abc.abstractmethod
    def _upload(self, batch: Images) -> None: ...
    @abc.abstractmethod
    def _fetch_last(self) -> Logits: ...
    @abc.abstractmethod
    def _receipt(self) -> Receipt: ...


def split(batch: Images, sizes: Batch | None) -> list[Images]:
    """A batch in parts that an artifact takes, all together at least the batch; the last one filled up if too small."""
    if sizes is None:
        return [batch]
    parts = [batch[first : first + sizes.max] for first in range(0, len(batch), sizes.max)]
    missing = sizes.min - len(parts[-1])
    if missing > 0:
        parts[-1] = np.concatenate([parts[-1], np.repeat(parts[-1][-1:], missing, axis=0)])
    return parts
