"""The contract of a backend: what it exports, what it loads, and what is checked for every one of them.

The public methods check and then call the methods with a leading underscore, which is all that a backend writes.
`tests/exporter/backends/test_contract.py` runs every backend that is available through the same test.
"""

from __future__ import annotations

import abc
import datetime
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from ... import atomic
from ...errors import IntegrityError, UnavailableError, UsageError
from ...models.spec import ModelSpec
from ..artifact import (
    WEIGHTS,
    Artifact,
    Golden,
    Manifest,
    Precision,
    Receipt,
    load_artifact,
    may_replace,
    seal,
    write_golden,
)

if TYPE_CHECKING:
    from torch import nn

    from ...models.sources import Model

Logits = npt.NDArray[np.float32]
MAX_BATCH = 65_536


@dataclass(frozen=True)
class Available:
    """The backend works here, in this version, on these devices."""

    version: str
    devices: tuple[str, ...]


@dataclass(frozen=True)
class Unavailable:
    """The backend does not work here; why, and how to get it."""

    reason: str
    remedy: str


@dataclass(frozen=True)
class ExportOptions:
    """What an export is asked for.

    Attributes:
        precision: of the graph.
        max_batch: a dynamic batch is built and checked for 1 up to this many images.
    """

    precision: Precision = "fp32"
    max_batch: int = 1024

    def __post_init__(self) -> None:
        if not 2 <= self.max_batch <= MAX_BATCH:
            raise UsageError(f"the largest batch must be 2 to {MAX_BATCH} for it to be dynamic, got {self.max_batch}")


@dataclass(frozen=True)
class Written:
    """What a backend's `_export` made: its file in the folder, and what a person should know."""

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Runner(abc.ABC):
    """A loaded artifact that can run; a context manager.

        with backend.load(artifact, "cpu") as runner:
            logits = runner.run(batch)

    For timing without copies: `prepare(batch)` once, then `step()` many times and `synchronize()`.
    """

    def __init__(self, name: str, spec: ModelSpec) -> None:
        self.name = name
        self.spec = spec
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

    def run(self, batch: npt.NDArray[np.float32]) -> Logits:
        """Float32 N x C x H x W (normalised) -> logits, float32 N x K.

        Raises:
            UsageError: the runner is not open, or the batch has another type or shape than the model's input.
        IntegrityError: the model gives something else than logits for the classes of its spec.
        """
        self._check(batch)
        logits = self._run(np.ascontiguousarray(batch))
        expected = (len(batch), len(self.spec.labels))
        if logits.shape != expected or logits.dtype != np.float32:
            raise IntegrityError(f"{self.name} gave logits {logits.dtype} {logits.shape}, expected float32 {expected}")
        return logits

    def prepare(self, batch: npt.NDArray[np.float32]) -> None:
        """Bring a batch to where the model reads it."""
        self._check(batch)
        self._prepare(np.ascontiguousarray(batch))
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

    def receipt(self) -> Receipt:
        """What really runs, read from the runtime."""
        self._require_open()
        return self._receipt()

    def _require_open(self) -> None:
        if not self._open:
            raise UsageError(f"{self.name} is not open", fix="use it in a `with` block")

    def _check(self, batch: npt.NDArray[np.float32]) -> None:
        self._require_open()
        expected = f"images: float32 N x {' x '.join(map(str, self.spec.input))}"
        if not isinstance(batch, np.ndarray):
            raise UsageError(f"{self.name} takes {expected}, got {type(batch).__name__}")
        if batch.dtype != np.float32:
            raise UsageError(f"{self.name} takes {expected}, got {batch.dtype}", fix="normalise it, as float32")
        if batch.ndim != 4 or batch.shape[1:] != self.spec.input or len(batch) == 0:
            raise UsageError(f"{self.name} takes {expected}, got shape {batch.shape}")

    @abc.abstractmethod
    def _start(self) -> None: ...
    @abc.abstractmethod
    def _stop(self) -> None: ...
    @abc.abstractmethod
    def _run(self, batch: npt.NDArray[np.float32]) -> Logits: ...
    @abc.abstractmethod
    def _prepare(self, batch: npt.NDArray[np.float32]) -> None: ...
    @abc.abstractmethod
    def _step(self) -> None: ...
    @abc.abstractmethod
    def _synchronize(self) -> None: ...
    @abc.abstractmethod
    def _receipt(self) -> Receipt: ...


class Backend(abc.ABC):
    """Exports to a format and runs the result."""

    name: ClassVar[str]
    precisions: ClassVar[tuple[Precision, ...]]

    @abc.abstractmethod
    def available(self) -> Available | Unavailable:
        """Whether this machine has what the backend needs."""

    def export(
        self,
        model: Model,
        golden: Golden,
        options: ExportOptions,
        folder: Path,
        accept: Callable[[Artifact], Receipt | None] | None = None,
    ) -> Artifact:
        """Write an artifact to `folder`, whole or not at all; an older artifact there is replaced in one step.

        Args:
            model: what is exported; its module is not changed.
            golden: raw images with the source's own logits.
            options: precision and batch.
            folder: the artifact's place.
            accept: is given the finished artifact before it is put in its place, and may raise to refuse it; returns
                the receipt of what ran.

        Raises:
            UnavailableError: the backend is not available here.
            UsageError: a precision it does not have, or something else than an artifact in the way.
        """
        self.require_available()
        if options.precision not in self.precisions:
            raise UsageError(f"{self.name} exports {', '.join(self.precisions)}, not {options.precision}")
        may_replace(folder)
        with atomic.staged(folder) as place:
            written = self._export(model.module, model.spec, options, place)
            manifest = self._manifest(model, options, written)
            _save_weights(place / WEIGHTS, model.module)
            write_golden(place, golden)
            artifact = seal(place, manifest)
            if accept is not None:
                receipt = accept(artifact)
                artifact = seal(place, Manifest(**{**vars(manifest), "receipt": receipt}))
        return Artifact(folder, artifact.manifest)

    def load(self, artifact: Artifact | Path, device: str = "cpu") -> Runner:
        """A runner for an artifact of this backend; its hashes are verified.

        Raises:
            UnavailableError: the backend or the device is not available here.
            UsageError: the artifact is another backend's.
            IntegrityError: a file of the artifact was changed.
        """
        here = self.require_available()
        artifact = load_artifact(artifact) if isinstance(artifact, Path) else artifact
        if artifact.manifest.backend != self.name:
            raise UsageError(f"{artifact.folder} is a {artifact.manifest.backend} artifact, not {self.name}")
        if device not in here.devices:
            raise UnavailableError(
                f"{self.name} {here.version} has no device {device} here, only {', '.join(here.devices)}",
                fix="use --device cpu" if device == "cuda" else "use one of these",
            )
        return self._load(artifact, device)

    def require_available(self) -> Available:
        """What is available; raises UnavailableError with reason and remedy when it is not."""
        here = self.available()
        if isinstance(here, Unavailable):
            raise UnavailableError(f"{self.name}: {here.reason}", fix=here.remedy)
        return here

    @abc.abstractmethod
    def _export(self, module: nn.Module, spec: ModelSpec, options: ExportOptions, folder: Path) -> Written: ...
    @abc.abstractmethod
    def _load(self, artifact: Artifact, device: str) -> Runner: ...

    def _manifest(self, model: Model, options: ExportOptions, written: Written) -> Manifest:
        from ...models import weights

        return Manifest(
            backend=self.name,
            precision=options.precision,
            model=written.model,
            spec=model.spec,
            origin=model.origin,
            weights=model.weights,
            weights_sha256=weights.digest(model.module),
            meaningful=model.meaningful,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            reached=model.reached,
            options=written.options,
            tools={"python": platform.python_version(), **written.tools},
            notes=(*model.notes, *written.notes),
        )


def _save_weights(path: Path, module: nn.Module) -> None:
    from ...models import weights

    weights.save(path, module)
