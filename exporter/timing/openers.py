"""What a timing worker opens: an artifact, the eager reference of one, or a candidate that a backend wrote to be timed.

Each function imports what it needs, which is no part of loading a file, and returns a function that opens the subject.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...models.preprocess import Images
from ...models.spec import ModelSpec
from .setup import Subject, TimingSetup

if TYPE_CHECKING:
    from ..backends.runner import Runner

HERE = __name__
TRANSFERS = 20


class Opened:
    """A runner that is loaded and has its batch.

    Args:
        runner: opened, its batch prepared.
        batch: the batch.
        load_ms, first_ms: what loading and the first run took.
        device: cpu, or another one, to which transfers are told apart.
    """

    def __init__(self, runner: Runner, batch: Images, load_ms: float, first_ms: float, device: str) -> None:
        self._runner, self._batch, self._device = runner, batch, device
        self._took = {"load_ms": load_ms, "first_ms": first_ms}
        self.time_steps = runner.time_steps

    def operators(self, runs: int) -> list[tuple[str, str, float]]:
        """Name, kind and microseconds of each operator; empty where the runtime does not tell."""
        return [(one.name, one.kind, one.microseconds) for one in self._runner.operators(runs)]

    @property
    def facts(self) -> dict[str, Any]:
        """What loading took, and the transfers to a device that has its own memory."""
        return self._took | (transfers(self._runner, self._batch) if self._device != "cpu" else {})


def artifact_subject(name: str, folder: str | Path, batch: int = 1) -> Subject:
    """The artifact in a folder."""
    return Subject(name=name, opener=f"{HERE}:open_artifact", given={"folder": str(folder)}, batch=batch)


def reference_subject(folder: str | Path, batch: int = 1, name: str = "the eager reference") -> Subject:
    """The eager reference of the artifact in a folder."""
    return Subject(name=name, opener=f"{HERE}:open_reference", given={"folder": str(folder)}, batch=batch)


def candidate_subject(name: str, backend: str, folder: str | Path, spec: ModelSpec, batch: int = 1) -> Subject:
    """What `Backend.write_candidate` wrote to a folder."""
    from ...config import to_mapping
    from ..backends.infos import backend_info

    shares = backend if backend_info(backend).shares_threads else ""
    given = {"backend": backend, "folder": str(folder), "spec": to_mapping(spec)}
    return Subject(name=name, opener=f"{HERE}:open_candidate", given=given, batch=batch, shares=shares)


def open_artifact(
    given: Mapping[str, Any], setup: TimingSetup, batch: int
) -> Callable[[], AbstractContextManager[Opened]]:
    """The artifact in `given["folder"]`, by its own backend."""
    from ..artifact.folder import golden_batch, load_artifact
    from ..backends.registry import get_backend

    artifact = load_artifact(Path(given["folder"]))
    backend = get_backend(artifact.manifest.backend)
    backend.require_available()
    images = golden_batch(artifact.golden(), artifact) if setup.inputs == "golden" else None
    return lambda: _opened(lambda: backend.load(artifact, setup.device), artifact.manifest.spec, images, setup, batch)


def open_reference(
    given: Mapping[str, Any], setup: TimingSetup, batch: int
) -> Callable[[], AbstractContextManager[Opened]]:
    """The source of the artifact in `given["folder"]`, run eagerly in torch."""
    from ...models.sources import rebuild
    from ..artifact.folder import golden_batch, load_artifact
    from ..backends.eager.runner import TorchRunner

    artifact = load_artifact(Path(given["folder"]))
    spec = artifact.manifest.spec
    images = golden_batch(artifact.golden(), artifact) if setup.inputs == "golden" else None

    def make() -> Runner:
        module = rebuild(artifact.manifest.origin, artifact.weights_path).eval()
        return TorchRunner("the eager reference", spec, module, setup.device)

    return lambda: _opened(make, spec, images, setup, batch)


def open_candidate(
    given: Mapping[str, Any], setup: TimingSetup, batch: int
) -> Callable[[], AbstractContextManager[Opened]]:
    """What a backend wrote to `given["folder"]` to be timed."""
    from ...config import from_mapping
    from ..backends.registry import get_backend

    backend = get_backend(given["backend"])
    backend.require_available()
    spec = from_mapping(ModelSpec, given["spec"], "spec")
    folder = Path(given["folder"])
    return lambda: _opened(lambda: backend.open_candidate(folder, spec, setup.device), spec, None, setup, batch)


@contextmanager
def _opened(
    make: Callable[[], Runner], spec: ModelSpec, images: Images | None, setup: TimingSetup, batch: int
) -> Iterator[Opened]:
    """A runner that is loaded and has run once, and what that took."""
    if images is None:
        images = np.random.default_rng(0).standard_normal((batch, *spec.input), np.float32)
    given = images[np.arange(batch) % len(images)]
    begun = time.perf_counter()
    made = make()
    made.threads = setup.threads_here
    with made as runner:
        own = runner.taken(given)
        runner.prepare(own)
        loaded = time.perf_counter()
        runner.step()
        runner.synchronize()
        first = time.perf_counter()
        yield Opened(runner, own, 1e3 * (loaded - begun), 1e3 * (first - loaded), setup.device)


def transfers(runner: Runner, batch: Images) -> dict[str, float]:
    """Milliseconds to bring a batch to the device and logits back, medians, told apart from the runs."""
    there: list[float] = []
    back: list[float] = []
    for _ in range(TRANSFERS):
        begun = time.perf_counter()
        runner.upload(batch)
        runner.synchronize()
        there.append(1e3 * (time.perf_counter() - begun))
        runner.step()
        runner.synchronize()
        begun = time.perf_counter()
        runner.fetch()
        back.append(1e3 * (time.perf_counter() - begun))
    return {"upload_ms": statistics.median(there), "fetch_ms": statistics.median(back)}
