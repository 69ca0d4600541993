"""What the rows of a check share: the data's pixels, and the logits of a reference that several artifacts have."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...config import to_json
from ...errors import IntegrityError, UsageError
from ...models.data.dataset import Dataset, batches
from ...models.data.labels import Unmatched, match_classes
from ...models.preprocess import Pixels, normalise
from ..artifact.folder import GOLDEN, WEIGHTS, Artifact, Golden, golden_batch

if TYPE_CHECKING:
    from torch import nn

Logits = npt.NDArray[np.float32]
Run = Callable[[Logits], Logits]
Progress = Callable[[str, int, int], None]
BATCH = 100
CACHE_BYTES = 1 << 30  # pixels that are kept between one artifact and the next


@dataclass(frozen=True)
class Judged:
    """Labelled data made ready for one preprocessing: pixels by batch, labels as the model's outputs.

    Attributes:
        digest: SHA-256 over all pixels and labels, once they have been gone through.
    """

    batches: Callable[[], Any]
    images: int
    labels: npt.NDArray[np.int64] | None
    skip: str
    name: str
    digest: Callable[[], str | None] = lambda: None


class Shared:
    """Pixels and reference logits, each made once for the rows that need the same.

    Args:
        data: its validation images are judged by.
        reference: compare with this module instead of an artifact's own reference.
        device: where the reference runs.
        limit: use the first so many images.
        progress: is told (what, images done, images in all).
    """

    def __init__(
        self, data: Dataset | None, reference: nn.Module | None, device: str, limit: int | None, progress: Progress
    ) -> None:
        self.data, self.reference, self.device, self.limit, self.progress = data, reference, device, limit, progress
        self._judged: dict[Any, Judged] = {}
        self._logits: dict[Any, tuple[Logits, Logits]] = {}
        self._exact: npt.NDArray[np.float64] | None = None

    def judged(self, artifact: Artifact) -> Judged | None:
        """The data in the artifact's preprocessing; None without data."""
        if self.data is None:
            return None
        key = artifact.manifest.spec
        if key not in self._judged:
            self._judged = {key: _ready(self.data, artifact, self.limit)}
        return self._judged[key]

    def module(self, artifact: Artifact) -> nn.Module:
        """The reference: the one given, else the artifact's own built again from its weights."""
        from ...models.sources import rebuild
        from ...models.weights import digest

        if self.reference is not None:
            return self.reference
        module = rebuild(artifact.manifest.origin, artifact.weights_path)
        if digest(module) != artifact.manifest.weights_sha256:
            raise IntegrityError(
                f"{artifact.folder}: its weights are not those that artifact.json names by weights_sha256",
                fix="export it again",
            )
        return module

    def logits(self, artifact: Artifact, golden: Golden, judged: Judged | None) -> tuple[Logits, Logits]:
        """The reference's logits of the golden images and of the data, computed once per reference.

        Raises:
            UsageError: the reference has other classes than the artifact.
        """
        from ...models.sources import logits_of
        from ..backends.eager.runner import TorchRunner

        manifest = artifact.manifest
        files = manifest.files  # the hashes that were verified, not what the manifest says of its weights
        golden_files = tuple(files[name].sha256 for name in sorted(files) if name.startswith(f"{GOLDEN}/"))
        key = (files[WEIGHTS].sha256, to_json(manifest.origin), manifest.spec, golden_files)
        if key not in self._logits:
            module = self.module(artifact)
            if self.reference is not None:
                made = logits_of(module, np.zeros((1, *manifest.spec.input), np.float32)).shape[1]
                if made != len(manifest.spec.labels):
                    raise UsageError(
                        f"the reference gives {made} logits, {artifact.folder} {len(manifest.spec.labels)}"
                    )
            self._exact = _exactly(module, golden_batch(golden, artifact))
            with TorchRunner("the reference", manifest.spec, module, self.device) as runner:
                of_golden = runner.run(golden_batch(golden, artifact))
                self._logits = {key: (of_golden, self.run_all(runner.run, artifact, judged, "eager reference"))}
        return self._logits[key]

    def exact(self) -> npt.NDArray[np.float64] | None:
        """The golden answers of the reference in float64 that `logits` was asked for last; None where it has none."""
        return self._exact

    def subject(self, artifact: Artifact) -> dict[str, Any]:
        """What an artifact was judged against and on, by hashes: the reference's weights, and the pixels as judged."""
        from ...models.weights import digest

        weights = artifact.manifest.weights_sha256 if self.reference is None else digest(self.reference)
        judged = self._judged.get(artifact.manifest.spec)
        pixels = judged.digest() if judged is not None else None
        return {"reference_sha256": weights, "pixels_sha256": pixels}

    def run_all(self, run: Run, artifact: Artifact, judged: Judged | None, what: str) -> Logits:
        """Logits of all the data, N x K; N is 0 without data."""
        spec = artifact.manifest.spec
        found: list[Logits] = [np.empty((0, len(spec.labels)), np.float32)]
        done = 0
        for pixels in judged.batches() if judged is not None else ():
            found.append(run(pixels))
            done += len(pixels)
            self.progress(what, done, judged.images if judged is not None else 0)
        return np.concatenate(found)

    def pick(self, artifact: Artifact, judged: Judged, places: npt.NDArray[np.int64]) -> Logits:
        """Some of the data's images as the model takes them, in this order."""
        found: dict[int, Logits] = {}
        first = 0
        for pixels in judged.batches():
            for place in places[(places >= first) & (places < first + len(pixels))]:
                one = pixels[place - first : place - first + 1]
                found[int(place)] = normalise(one, artifact.manifest.spec.preprocess)
            first += len(pixels)
        return np.concatenate([found[int(place)] for place in places])


def _exactly(module: nn.Module, images: Logits) -> npt.NDArray[np.float64] | None:
    from ...models.arithmetic import logits_in

    try:
        return logits_in(module, images, "fp64")
    except UsageError:
        return None


def _ready(data: Dataset, artifact: Artifact, limit: int | None) -> Judged:
    spec = artifact.manifest.spec
    matched = match_classes(spec, data.classes) if artifact.manifest.meaningful else Unmatched("")
    count = len(data.val) if limit is None else min(limit, len(data.val))
    labels = None if isinstance(matched, Unmatched) else matched.index[data.val.labels[:count]]
    skip = matched.reason if isinstance(matched, Unmatched) else ""
    cache: list[Pixels] = []
    seen: list[str] = []

    def of_data() -> Any:
        if cache:
            yield from cache
            return
        keep = count * int(np.prod(spec.input)) <= CACHE_BYTES
        made: list[Pixels] = []
        hashed = hashlib.sha256(np.ascontiguousarray(data.val.labels[:count], np.int64).tobytes())
        for pixels, _ in batches(data.val, spec.preprocess, BATCH, count):
            hashed.update(np.ascontiguousarray(pixels).data)
            if keep:
                made.append(pixels)
            yield pixels
        cache.extend(made)
        seen[:] = [hashed.hexdigest()]

    return Judged(of_data, count, labels, skip, data.name, lambda: seen[0] if seen else None)
