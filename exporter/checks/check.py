"""`zoo check`: artifacts beside their reference, on golden images and on labelled data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...config import to_json
from ...errors import GATE, UnavailableError, UsageError, ZooError, worst
from ...models.data.dataset import Dataset, batches
from ...models.data.labels import Unmatched, match_labels
from ...models.preprocess import Pixels, normalise, prepare
from ...models.runs import Reached
from ..artifact import ARTIFACT, GOLDEN, WEIGHTS, Artifact, Golden, Receipt, load_artifact
from ..backends import backend_names, get_backend
from ..backends.base import Runner, Unavailable
from .accuracy import judge_accuracy, measure_accuracy
from .gate import Gate, hardest
from .numerics import TOLERANCES, judge_numerics, measure_numerics
from .precision import judge_precision

if TYPE_CHECKING:
    from torch import nn

Logits = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]
BATCH = 100
CACHE_BYTES = 1 << 30  # pixels that are kept between one artifact and the next


@dataclass(frozen=True)
class Checked:
    """One artifact's row: its gates, or the error that kept it from being checked."""

    artifact: str
    backend: str
    precision: str
    gates: tuple[Gate, ...] = ()
    receipt: Receipt | None = None
    error: ZooError | None = None

    @property
    def exit_code(self) -> int:
        """Of this row alone."""
        if self.error is not None:
            return self.error.exit_code
        return worst(gate.exit_code for gate in self.gates) if self.gates else GATE


@dataclass(frozen=True)
class Judged:
    """Labelled data made ready for one preprocessing: pixels by batch, labels as the model's outputs."""

    batches: Callable[[], Any]
    images: int
    labels: npt.NDArray[np.int64] | None
    skip: str
    name: str


def check(
    folders: Sequence[str | Path] | str | Path,
    data: Dataset | None = None,
    *,
    reference: nn.Module | None = None,
    device: str = "cpu",
    limit: int | None = None,
    progress: Progress | None = None,
) -> list[Checked]:
    """Check artifacts; each gets a row, and one that cannot be checked does not stop the others.

    Args:
        folders: artifacts.
        data: its validation images; without it only the golden images are compared.
        reference: compare with this module instead of the artifact's own reference.
        device: where artifacts and reference run.
        limit: use the first so many images.
        progress: is told (what, images done, images in all).
    """
    progress = progress or (lambda _what, _done, _all: None)
    if isinstance(folders, (str, Path)):
        folders = [Path(folders)]
    shared = _Shared(data, reference, device, limit, progress)
    return [_row(Path(folder), shared) for folder in folders]


def check_golden(artifact: Artifact, runner: Runner) -> Gate:
    """Golden images from the raw file on, through artifact.json's preprocessing, against the source's own logits."""
    golden = artifact.golden()
    measured = measure_numerics(golden.logits, _golden_logits(golden, artifact, runner.run))
    trained = artifact.manifest.meaningful
    return judge_numerics(measured, artifact.manifest.precision, "golden images", trained=trained)


class _Shared:
    """What rows have in common: pixels, and the logits of a reference that several artifacts share."""

    def __init__(
        self, data: Dataset | None, reference: nn.Module | None, device: str, limit: int | None, progress: Progress
    ) -> None:
        self.data, self.reference, self.device, self.limit, self.progress = data, reference, device, limit, progress
        self._judged: dict[Any, Judged] = {}
        self._logits: dict[Any, tuple[Logits, Logits]] = {}

    def judged(self, artifact: Artifact) -> Judged | None:
        if self.data is None:
            return None
        key = artifact.manifest.spec
        if key not in self._judged:
            self._judged = {key: _ready(self.data, artifact, self.limit)}
        return self._judged[key]

    def reference_logits(self, artifact: Artifact, golden: Golden, judged: Judged | None) -> tuple[Logits, Logits]:
        """The reference's logits of the golden images and of the data, computed once per reference."""
        from ...models.sources import logits_of, rebuild
        from ..backends.torch_common import TorchRunner

        manifest = artifact.manifest
        files = manifest.files  # the hashes that were verified, not what the manifest says of its weights
        golden_files = tuple(files[name].sha256 for name in sorted(files) if name.startswith(f"{GOLDEN}/"))
        key = (files[WEIGHTS].sha256, to_json(manifest.origin), manifest.spec, golden_files)
        if key not in self._logits:
            module = self.reference or rebuild(manifest.origin, artifact.weights_path)
            if self.reference is not None:
                made = logits_of(module, np.zeros((1, *manifest.spec.input), np.float32)).shape[1]
                if made != len(manifest.spec.labels):
                    raise UsageError(
                        f"the reference gives {made} logits, {artifact.folder} {len(manifest.spec.labels)}"
                    )
            with TorchRunner("the reference", manifest.spec, module, self.device) as runner:
                of_golden = _golden_logits(golden, artifact, runner.run)
                self._logits = {key: (of_golden, self.run_all(runner, judged, "eager reference"))}
        return self._logits[key]

    def run_all(self, runner: Runner, judged: Judged | None, what: str) -> Logits:
        classes = len(runner.spec.labels)
        if judged is None:
            return np.empty((0, classes), np.float32)
        found: list[Logits] = []
        done = 0
        for pixels in judged.batches():
            found.append(runner.run(normalise(pixels, runner.spec.preprocess)))
            done += len(pixels)
            self.progress(what, done, judged.images)
        return np.concatenate(found) if found else np.empty((0, classes), np.float32)


def _row(folder: Path, shared: _Shared) -> Checked:
    backend, precision = _named(folder)
    try:
        absent = _absent(folder, backend)
        if absent is not None:
            raise absent
        artifact = load_artifact(folder)
        manifest = artifact.manifest
        backend, precision = manifest.backend, manifest.precision
        with get_backend(backend).load(artifact, shared.device) as runner:
            receipt = runner.receipt()
            gates = (*_gates(artifact, runner, shared), judge_precision(backend, precision, receipt, manifest.plan))
            return Checked(str(folder), backend, precision, gates, receipt)
    except ZooError as error:
        return Checked(str(folder), backend, precision, error=error)


def _gates(artifact: Artifact, runner: Runner, shared: _Shared) -> tuple[Gate, ...]:
    manifest, precision = artifact.manifest, artifact.manifest.precision
    golden, judged = artifact.golden(), shared.judged(artifact)
    reference_golden, reference = shared.reference_logits(artifact, golden, judged)
    got_golden = _golden_logits(golden, artifact, runner.run)
    got = shared.run_all(runner, judged, f"{manifest.backend} {precision}")

    trained = manifest.meaningful
    looks = [judge_numerics(measure_numerics(golden.logits, got_golden), precision, "golden images", trained=trained)]
    if shared.reference is None:
        own = judge_numerics(measure_numerics(golden.logits, reference_golden), "fp32", "golden images")
        if own.verdict == "fail":
            looks.append(replace(own, reason=f"the reference itself does not give the golden logits: {own.reason}"))
    if judged is not None:
        looks.append(judge_numerics(measure_numerics(reference, got), precision, trained=trained))
    numerics = hardest(reversed(looks))  # of equal verdicts the one over the data, which has more images
    return numerics, _accuracy(artifact, judged, reference, got, golden, got_golden, numerics, shared)


def _accuracy(
    artifact: Artifact,
    judged: Judged | None,
    reference: Logits,
    got: Logits,
    golden: Golden,
    got_golden: Logits,
    numerics: Gate,
    shared: _Shared,
) -> Gate:
    manifest = artifact.manifest
    if judged is None:
        return Gate("accuracy", "skipped", "no labelled data given (--data)")
    if not manifest.meaningful:
        return Gate("accuracy", "skipped", f"the weights are {manifest.weights}: their accuracy means nothing")
    if judged.labels is None:
        return Gate("accuracy", "skipped", judged.skip)
    if not np.isfinite(got).all():
        return Gate("accuracy", "fail", "NaN or infinity in the logits")
    of_golden = measure_numerics(golden.logits, got_golden)
    expected = TOLERANCES[manifest.precision].flips >= round((1 - of_golden.agreement) * of_golden.images)
    differ = 0.0 if expected else 1 - of_golden.agreement
    return judge_accuracy(
        measure_accuracy(reference, got, judged.labels),
        manifest.precision,
        numerics_passed=numerics.verdict == "pass",
        golden_differ=round(differ * len(golden.images)),
        reached=comparable(manifest.reached, judged.name, judged.images) if shared.reference is None else None,
    )


def comparable(reached: Reached | None, data: str, images: int) -> Reached | None:
    """What training reached, if it was on these very images."""
    if reached is None or reached.images != images:
        return None
    same_folder = Path(reached.data).is_dir() and Path(reached.data).resolve() == Path(data).resolve()
    return reached if reached.data == data or same_folder else None


def _ready(data: Dataset, artifact: Artifact, limit: int | None) -> Judged:
    spec = artifact.manifest.spec
    matched = match_labels(spec.labels, data.classes) if artifact.manifest.meaningful else Unmatched("")
    count = len(data.val) if limit is None else min(limit, len(data.val))
    labels = None if isinstance(matched, Unmatched) else matched.index[data.val.labels[:count]]
    skip = matched.reason if isinstance(matched, Unmatched) else ""
    cache: list[Pixels] = []

    def of_data() -> Any:
        if cache:
            yield from cache
            return
        keep = count * int(np.prod(spec.input)) <= CACHE_BYTES
        made: list[Pixels] = []
        for pixels, _ in batches(data.val, spec.preprocess, BATCH, count):
            if keep:
                made.append(pixels)
            yield pixels
        cache.extend(made)

    return Judged(of_data, count, labels, skip, data.name)


def _golden_logits(golden: Golden, artifact: Artifact, run: Callable[[Logits], Logits]) -> Logits:
    return run(prepare(list(golden.images), artifact.manifest.spec.preprocess))


def _named(folder: Path) -> tuple[str, str]:
    """Backend and precision as the folder's name says, for rows that cannot be opened."""
    backend, _, precision = folder.name.rpartition("-")
    return (backend, precision) if backend in backend_names() else ("", "")


def _absent(folder: Path, backend: str) -> ZooError | None:
    """An artifact that is not there because this machine cannot make it: that is the reason a person needs."""
    if (folder / ARTIFACT).exists() or folder.exists() or not backend:
        return None
    here = get_backend(backend).available()
    if isinstance(here, Unavailable):
        return UnavailableError(f"{folder} was not made: {here.reason}", fix=here.remedy)
    return None
