"""`zoo profile`: a package measured on this machine and on devices, side by side."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UsageError, ZooError
from ..artifact.folder import ARTIFACT, read_manifest
from ..package.code import refuse_code
from ..package.layer_names import with_layers
from ..runtime.container import Package
from ..runtime.predictor import refuse_odd
from ..timing.engine import run_alone
from . import remote_build as built
from .ssh import run_there, understood
from .target import LOCAL, Place

if TYPE_CHECKING:
    from ...models.data.dataset import Dataset
    from ...models.spec import ModelSpec

PACKAGE, PIXELS, LABELS = "package.zoo", "pixels.npy", "labels.npy"
AT_ONCE = 8  # devices

Told = Callable[[str, int, int], None]
Run = Callable[[Place], dict[str, Any]]


@dataclass(frozen=True)
class ProfileOptions:
    """What is measured.

    Attributes:
        batches: images at once, each in turn.
        threads: of the runtime; None for what it chooses.
        artifact: which one of a package; None for the first that runs there.
        per_layer: the time of each operator too.
        allow_code: whether a package's artifacts that are programs (TorchScript) may be opened; an artifact's folder is
            the user's own.
    """

    batches: tuple[int, ...] = (1,)
    threads: int | None = None
    artifact: str | None = None
    per_layer: bool = False
    allow_code: bool = False

    def __post_init__(self) -> None:
        if not self.batches or not all(1 <= one <= 4096 for one in self.batches):
            raise UsageError(f"batch sizes are 1 to 4096, got {self.batches}", fix="--batch-sizes 1,8")
        if self.threads is not None and not 1 <= self.threads <= 4096:
            raise UsageError(f"--threads must be 1 to 4096, got {self.threads}", fix="such as --threads 2")

    def arguments(self, samples: bool) -> list[str]:
        """As the package takes them."""
        found = ["profile", "--json", *(part for one in self.batches for part in ("--batch", str(one)))]
        found += ["--threads", str(self.threads)] if self.threads is not None else []
        found += ["--artifact", self.artifact] if self.artifact is not None else []
        found += ["--per-layer"] if self.per_layer else []
        found += ["--allow-code"] if self.allow_code else []
        return found + (["--samples", "."] if samples else [])


@dataclass(frozen=True)
class Measured:
    """One device's row: what it measured, or the error that prevented it."""

    place: Place
    found: dict[str, Any] | None = None
    error: ZooError | None = None


def profile(
    what: Path,
    places: Sequence[Place],
    options: ProfileOptions,
    data: Dataset | None = None,
    images: int = 500,
    told: Told = lambda _what, _done, _all: None,
) -> list[Measured]:
    """Measure a package, or an artifact, on each place; one that fails does not stop the others.

    Devices run at the same time; this machine is measured alone, after them.

    Args:
        what: a package, or an artifact folder, of which a package is made for it.
        places: where.
        options: what is measured.
        data: validation images are answered on each device's own runtime too.
        images: how many of them at most.
        told: (what, devices done, in all).

    Raises:
        UsageError, IntegrityError: what is to be measured is neither, or is not whole.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = _engine(what, options, data, images, Path(folder)) or _package(what, options, data, images, Path(folder))
        done: list[Measured] = []

        def one(place: Place) -> Measured:
            try:
                return Measured(place, run(place))
            except ZooError as error:
                return Measured(place, error=error)

        far = [place for place in places if place.on != LOCAL]
        told("measuring", 0, len(places))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for row in pool.map(one, far):
                done.append(row)
                told("measuring", len(done), len(places))
        for place in places:
            if place.on == LOCAL:
                done.append(one(place))
                told("measuring", len(done), len(places))
    order = {id(place): index for index, place in enumerate(places)}
    return sorted(done, key=lambda row: order[id(row.place)])


def _package(what: Path, options: ProfileOptions, data: Dataset | None, images: int, folder: Path) -> Run:
    """Measures a package, or one that is made of an artifact, with the modules that it brings."""
    from ..runtime.predictor import spec_of

    files = {PACKAGE: _packed(what, folder)}
    if data is not None:
        with Package(files[PACKAGE]) as opened:
            spec = spec_of(opened.manifest)
        files |= write_samples(spec, data, images, folder)
    trusted = options.allow_code or what.is_dir()
    arguments = replace(options, allow_code=trusted).arguments(data is not None)
    if not trusted:
        with Package(what) as opened:
            refuse_odd(opened.manifest)
            refuse_code(opened)

    def run(place: Place) -> dict[str, Any]:
        if not trusted and place.on == LOCAL:
            return _foreign_here(what, options, folder if data is not None else None)
        found = (run_here if place.on == LOCAL else run_there)(place, files, arguments)
        if not trusted:  # its graph is not read here
            return found
        with Package(files[PACKAGE]) as opened:
            return with_layers(found, opened)

    return run


def _engine(what: Path, options: ProfileOptions, data: Dataset | None, images: int, folder: Path) -> Run | None:
    """Measures an artifact that devices build themselves, with the zoo that is there; None for anything else."""
    artifact = built.opened(what)
    if artifact is None:
        return None
    built.refuse(artifact, options.batches, options.threads, options.artifact)
    samples = {} if data is None else write_samples(artifact.manifest.spec, data, images, folder)

    def run(place: Place) -> dict[str, Any]:
        if place.on == LOCAL:
            return built.measure_here(place, artifact, options.batches, folder if samples else None)
        return built.measure_there(place, artifact, options.batches, samples)

    return run


def meaningful(what: Path) -> bool:
    """Whether the answers of a package or an artifact mean anything: not those of random weights.

    Raises:
        UsageError, IntegrityError: it is neither, or is not whole.
    """
    if what.is_dir():
        return read_manifest(what).meaningful
    with Package(what) as opened:
        return bool(opened.manifest["meaningful"])


def _foreign_here(what: Path, options: ProfileOptions, samples: Path | None) -> dict[str, Any]:
    """On this machine, a stranger's package: in a process that reaches nothing but it."""
    from ..package.foreign import profile_foreign

    given = {"artifact": options.artifact, "batches": list(options.batches), "threads": options.threads,
             "per_layer": options.per_layer, "allow_code": False}  # fmt: skip
    with Package(what) as opened:
        return profile_foreign(opened, samples, given)


def run_here(place: Place, files: dict[str, Path], arguments: Sequence[str]) -> dict[str, Any]:
    """On this machine, in a process of its own, as on a device.

    Raises:
        UnavailableError, UsageError, IntegrityError: what the package says.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, path in files.items():
            (Path(folder) / name).symlink_to(path.absolute())
        done = run_alone([sys.executable, PACKAGE, *arguments], folder)
    return understood(place, {"code": done.returncode, "out": done.stdout, "err": done.stderr})


def write_samples(spec: ModelSpec, data: Dataset, images: int, folder: Path) -> dict[str, Path]:
    """pixels.npy and labels.npy of validation images that a device is to answer.

    Raises:
        UsageError: data of other classes than the model's, or no images.
    """
    from ...models.data.dataset import batches
    from ...models.data.labels import Unmatched, match_classes

    matched = match_classes(spec, data.classes)
    if isinstance(matched, Unmatched):
        raise UsageError(f"{data.name} does not have the classes of {spec.name}: {matched.reason}", fix="give its own")
    split = data.val.take(np.random.default_rng(0).permutation(len(data.val))[:images])
    if not len(split):
        raise UsageError(f"{data.name} has no validation images", fix="give other --data")
    pairs = list(batches(split, spec.preprocess, 64))
    np.save(folder / PIXELS, np.concatenate([pixels for pixels, _ in pairs]))
    np.save(folder / LABELS, matched.index[np.concatenate([labels for _, labels in pairs])])
    return {PIXELS: folder / PIXELS, LABELS: folder / LABELS}


def _packed(what: Path, folder: Path) -> Path:
    """The package itself, or one made of an artifact."""
    if (what / ARTIFACT).is_file():
        from ..package.pack import pack

        return pack([what], folder / "made.zoo").path
    if what.is_dir():
        raise UsageError(f"{what} is no artifact", fix="give the folder that zoo export printed, or a package")
    with Package(what):  # its structure is whole
        return what


def worst_of(rows: Sequence[Measured]) -> list[int]:
    """Exit codes of the rows."""
    return [row.error.exit_code if row.error is not None else 0 for row in rows]
