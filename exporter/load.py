"""Artifacts and model sources, opened to answer images: `zoo.load`, and what `zoo evaluate` and `zoo predict` run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..models.source_options import SourceOptions, remembered_spec
from ..models.spec import ModelSpec
from .artifact.folder import ARTIFACT, load_artifact, read_manifest
from .backends.registry import get_backend
from .backends.runner import Runner

if TYPE_CHECKING:
    from ..models.sources import Model


def load(folder: str | Path, device: str = "cpu") -> Runner:
    """A runner for an artifact folder; hashes are verified, and `with` opens it.

    Raises:
        UsageError: no artifact there.
        IntegrityError: a file of it was changed.
        UnavailableError: its backend or the device is not available here.
    """
    return get_backend(read_manifest(Path(folder)).backend).load(Path(folder), device)


def is_artifact(what: str) -> bool:
    """Whether it names an artifact folder, not a source."""
    return (Path(what) / ARTIFACT).is_file()


@dataclass(frozen=True)
class Opened:
    """A runner with its spec, and in words what it is; `model` where it came from a source, not from an artifact."""

    runner: Runner
    spec: ModelSpec
    what: str
    meaningful: bool
    model: Model | None = None


@contextmanager
def open_any(what: str, options: SourceOptions | None = None, device: str = "cpu") -> Iterator[Opened]:
    """Open an artifact folder by its backend, or a model source in eager mode, which takes torch.

    Args:
        what: the folder or the source.
        options: of the source. An artifact remembers its own spec and weights; it takes `labels` where it has no names.
        device: "cpu" or "cuda"; for an artifact also "auto", the best that its backend has here.

    Raises:
        UsageError, UnavailableError, IntegrityError: as `sources.resolve` and `Backend.load`.
    """
    if is_artifact(what):
        artifact = load_artifact(Path(what))
        manifest = artifact.manifest
        options = options or SourceOptions()
        if options.weights is not None:
            raise UsageError(f"{what} is an artifact and has its own weights", fix="leave --weights out")
        spec = remembered_spec(what, manifest.spec, options)
        with get_backend(manifest.backend).load(artifact, device) as runner:
            name = f"{manifest.spec.name}, {manifest.backend} {manifest.precision}"
            yield Opened(runner, spec, name, manifest.meaningful)
        return
    from ..models.sources import resolve
    from .backends.eager.runner import TorchRunner

    model = resolve(what, options or SourceOptions())
    with TorchRunner(model.spec.name, model.spec, model.module, device) as runner:
        yield Opened(runner, model.spec, f"{model.spec.name}, eager, {model.weights}", model.meaningful, model)
