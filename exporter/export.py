"""`zoo export`: one model to several backends, each artifact tried on its golden images before it takes its place."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DONE, GateError, UnavailableError, ZooError
from ..models.data.dataset import Dataset
from ..models.sources import Model
from .artifact import ARTIFACT, Artifact, Receipt
from .backends import get_backend
from .backends.base import ExportOptions
from .checks.check import check_golden
from .checks.gate import Gate
from .golden import make_golden


@dataclass(frozen=True)
class Exported:
    """One backend's row: the artifact and how its golden images did, or the error that prevented it."""

    backend: str
    precision: str
    folder: Path
    replaced: bool = False
    artifact: Artifact | None = None
    golden: Gate | None = None
    error: ZooError | None = None
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """Of this row alone."""
        return self.error.exit_code if self.error is not None else DONE

    @property
    def bytes(self) -> int:
        """Size of the model's file."""
        return self.artifact.manifest.files[self.artifact.manifest.model].bytes if self.artifact else 0


def export(
    model: Model,
    backends: Sequence[str] | str,
    options: ExportOptions | None = None,
    *,
    out: str | Path = Path("exports"),
    data: Dataset | None = None,
    device: str = "cpu",
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Exported]:
    """Export a model to each backend; one that cannot be had does not stop the others.

    Each artifact goes to `out/<model>/<backend>-<precision>/`. Its golden images are run through the exported file
    first: one that disagrees with the source is refused, and nothing is written or replaced.

    Args:
        model: from `sources.resolve`.
        backends: names.
        options: precision and batch.
        out: the folder above all models' folders.
        data: where golden images are taken from; without it they are made.
        device: where the exported file is tried.
        seed: of the choice of golden images.
        progress: is told (what, backends done, backends in all).

    Raises:
        UsageError: an unknown backend, before anything is written.
    """
    options = options or ExportOptions()
    progress = progress or (lambda _what, _done, _all: None)
    names = [backends] if isinstance(backends, str) else backends
    found = [get_backend(name) for name in dict.fromkeys(names)]
    golden = make_golden(model, data, seed)
    rows: list[Exported] = []
    for index, backend in enumerate(found):
        progress(f"{backend.name} {options.precision}", index, len(found))
        folder = Path(out) / model.spec.name / f"{backend.name}-{options.precision}"
        replaced = (folder / ARTIFACT).exists()
        begun = time.perf_counter()
        tried: list[Gate] = []

        def accept(artifact: Artifact, tried: list[Gate] = tried, name: str = backend.name) -> Receipt | None:
            try:
                with get_backend(name).load(artifact, device) as runner:
                    tried.append(check_golden(artifact, runner))
                    receipt = runner.receipt()
            except UnavailableError as error:
                tried.append(Gate("numerics", "skipped", f"not run here: {error}"))
                return None
            if tried[-1].verdict == "fail":
                raise GateError(
                    f"{name}: golden images disagree with the source: {tried[-1].reason}", fix="nothing was written"
                )
            return receipt

        try:
            artifact = backend.export(model, golden, options, folder, accept)
            seconds = time.perf_counter() - begun
            rows.append(Exported(backend.name, options.precision, folder, replaced, artifact, tried[-1], None, seconds))
        except ZooError as error:
            rows.append(Exported(backend.name, options.precision, folder, error=error))
    progress("done", len(found), len(found))
    return rows
