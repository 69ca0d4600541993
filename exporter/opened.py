"""A model source or an artifact, opened to answer images: what `zoo evaluate` and `zoo predict` run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..models.sources import Model, SourceOptions, resolve
from ..models.spec import ModelSpec
from .artifact import ARTIFACT, load_artifact
from .backends import get_backend
from .backends.base import Runner


@dataclass(frozen=True)
class Opened:
    """A runner with its spec, and in words what it is; `model` where it came from a source, not from an artifact."""

    runner: Runner
    spec: ModelSpec
    what: str
    meaningful: bool
    model: Model | None = None


@contextmanager
def open_any(what: str, options: SourceOptions, device: str) -> Iterator[Opened]:
    """Open an artifact folder by its backend, or a model source in eager mode.

    Raises:
        UsageError, UnavailableError, IntegrityError: as `sources.resolve` and `Backend.load`.
    """
    if (Path(what) / ARTIFACT).is_file():
        artifact = load_artifact(Path(what))
        manifest = artifact.manifest
        with get_backend(manifest.backend).load(artifact, device) as runner:
            name = f"{manifest.spec.name}, {manifest.backend} {manifest.precision}"
            yield Opened(runner, manifest.spec, name, manifest.meaningful)
        return
    from .backends.torch_common import TorchRunner

    model = resolve(what, options)
    with TorchRunner(model.spec.name, model.spec, model.module, device) as runner:
        yield Opened(runner, model.spec, f"{model.spec.name}, eager, {model.weights}", model.meaningful, model)
