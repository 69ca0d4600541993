"""The contract of a backend: what it exports, what it loads, and what is checked for every one of them.

The public methods check and then call the methods with a leading underscore, which is all that a backend writes.
`tests/exporter/backends/test_contract.py` runs every backend that is available through the same test.
"""

from __future__ import annotations

import abc
import datetime
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from ... import atomic
from ...calibration.choice import Choice
from ...config import from_mapping, read_json
from ...errors import GateError, IntegrityError, UnavailableError, UsageError, quoted
from ...models.spec import ModelSpec
from ..artifact.folder import (
    ARTIFACT,
    WEIGHTS,
    Artifact,
    Golden,
    attestation_path,
    evidence_path,
    load_artifact,
    may_replace,
    seal,
    write_golden,
)
from ..artifact.manifest import Manifest, Precision, Receipt
from .info import BackendInfo
from .options import Available, ExportOptions, Progress, Unavailable, Written
from .runner import Runner

if TYPE_CHECKING:
    from torch import nn

    from ...calibration.choice import Calibrated
    from ...models.sources import Model


def _silent(_what: str, _done: int, _total: int) -> None:
    pass


class PrecisionClaimError(IntegrityError):
    """The file's layers are not in the precision that the manifest says; `zoo check` makes a failed gate of it."""


class Backend(abc.ABC):
    """Exports to a format and runs the result.

    Class attributes:
        info: what the rest of zoo knows of it; `name`, `precisions` and `builds` are its.
        settings: a frozen dataclass of its own options (`--set name.key=value`), or None.
        takes_graph: whether it exports an ONNX graph that the user brings (`--graph`).
        takes_pixels: whether it can put the normalising into the graph (`--with-preprocess`).
    """

    info: ClassVar[BackendInfo]
    name: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    builds: ClassVar[bool]
    settings: ClassVar[type[Any] | None] = None
    takes_graph: ClassVar[bool] = False
    takes_pixels: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "info" in vars(cls):
            cls.name, cls.precisions, cls.builds = cls.info.name, cls.info.precisions, cls.info.builds

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
        progress: Progress = _silent,
    ) -> Artifact:
        """Write an artifact to `folder`, whole or not at all; an older artifact there is replaced in one step.

        Args:
            model: what is exported; its module is not changed.
            golden: raw images with the source's own logits.
            options: precision, batch, and the rest.
            folder: the artifact's place.
            accept: is given the finished artifact before it is put in its place, and may raise to refuse it; returns
                the receipt of what ran.
            progress: is told (what, steps done, steps in all) of steps that take long.

        Raises:
            UnavailableError: the backend is not available here.
            UsageError: a precision or an option it does not have, or something else than an artifact in the way.
            GateError: the exported graph is one that the backend would not take.
        """
        self._refuse(options)
        if not options.build_later:
            self.require_available()
        may_replace(folder)
        with atomic.staged(folder) as place:
            written = self._export(model.module, model.spec, options, place, progress)
            manifest = self._manifest(model, options, written)
            _save_weights(place / WEIGHTS, model.module)
            write_golden(place, golden)
            artifact = _accepted(seal(place, manifest), accept, folder)
            may_replace(folder)  # again: what came into the folder in the meantime would be lost
        forget_failed(folder)
        return Artifact(folder, artifact.manifest)

    def build(
        self,
        folder: Path,
        accept: Callable[[Artifact], Receipt | None] | None = None,
        *,
        rebuild: bool = False,
        progress: Progress = _silent,
    ) -> Artifact:
        """Do here what an export left for the device; with `rebuild` do it again. The artifact is replaced in one step.

        Raises:
            UnavailableError: the backend is not available here.
            UsageError: nothing is left to do, or not for this backend.
            IntegrityError: a file of the artifact was changed.
        """
        if not self.builds:
            raise UsageError(f"{folder}: nothing of an {self.name} artifact is built on the device")
        folder = folder.absolute()
        artifact = load_artifact(folder)
        may_replace(folder)
        if artifact.manifest.built and not rebuild:
            raise UsageError(f"{folder} is built already", fix=f"zoo build --rebuild {quoted(folder)}")
        self.require_available()
        with atomic.staged(folder) as place:
            for name in artifact.manifest.files:
                if name != artifact.manifest.model:
                    (place / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(folder / name, place / name)
            written = self._build(Artifact(place, artifact.manifest), progress)
            manifest = replace(
                artifact.manifest,
                built=True,
                receipt=None,
                platform=written.platform,
                plan=written.plan or artifact.manifest.plan,
                options={**artifact.manifest.options, **written.options},
                tools={**artifact.manifest.tools, **written.tools},
                notes=tuple(dict.fromkeys((*artifact.manifest.notes, *written.notes))),
            )
            made = _accepted(seal(place, manifest), accept, folder)
            may_replace(folder)  # again: what came into the folder in the meantime would be lost
        forget_failed(folder)
        return Artifact(folder, made.manifest)

    def load(self, artifact: Artifact | Path, device: str = "cpu") -> Runner:
        """A runner for an artifact of this backend; its hashes are verified.

        Args:
            artifact: or its folder.
            device: "cpu", "cuda", or "auto" for the best that the backend has here.

        Raises:
            UnavailableError: the backend or the device is not available here, or the artifact is not built yet.
            UsageError: the artifact is another backend's.
            IntegrityError: a file of the artifact was changed.
        """
        artifact = load_artifact(artifact) if isinstance(artifact, Path) else artifact
        if artifact.manifest.backend != self.name:
            raise UsageError(f"{artifact.folder} is a {artifact.manifest.backend} artifact, not {self.name}")
        if not artifact.manifest.built:
            raise UnavailableError(
                f"{artifact.folder} is not built yet: {artifact.manifest.model} is made on the device",
                fix=f"zoo build {quoted(artifact.folder)}, there",
            )
        here = self.require_available()
        device = here.devices[-1] if device == "auto" else device
        if device not in here.devices:
            others = f"use --device {here.devices[0]}" if here.devices else "use another machine"
            raise UnavailableError(
                f"{self.name} {here.version} has no device {device} here, only {', '.join(here.devices)}", fix=others
            )
        runner = self._load(artifact, device)
        runner.pixels = artifact.manifest.pixels
        return runner

    def rehearse(self, artifact: Artifact) -> Runner | None:
        """A runner for what an artifact that is not built yet holds, on this machine's CPU; None where nothing can."""
        del artifact
        return None

    def write_candidate(self, model: Model, calibrated: Calibrated, choice: Choice | None, folder: Path) -> None:
        """Write what is timed in a process of its own: an int8 export with a choice, or the fastest float one.

        The files are those of an export, without golden images and the reference's weights. A backend that can render
        its file alone, and faster, does that here and reads it in `open_candidate`.

        Args:
            model: the float model.
            calibrated: graph and ranges.
            choice: of the int8 export; None for the float one that it is held against.
            folder: empty.
        """
        rules = self.info.int8
        if rules is None:
            raise UsageError(f"{self.name} exports no int8")
        if choice is None:
            self.write_float(model, folder, cast("Precision", rules.fastest_float))
            return
        options = ExportOptions("int8", calibrated=calibrated, choice=choice)
        written = self._export(model.module, model.spec, options, folder, _silent)
        seal(folder, self._manifest(model, options, written))

    def write_float(self, model: Model, folder: Path, precision: Precision = "fp32") -> None:
        """Write a float export to be timed by `open_candidate`: without golden images and the reference's weights.

        Args:
            model: the float model.
            folder: empty.
            precision: of its layers.
        """
        options = ExportOptions(precision)
        written = self._export(model.module, model.spec, options, folder, _silent)
        seal(folder, self._manifest(model, options, written))

    def open_candidate(self, folder: Path, spec: ModelSpec, device: str) -> Runner:
        """A runner for what `write_candidate` or `write_float` wrote."""
        del spec
        manifest = from_mapping(Manifest, read_json(folder / ARTIFACT), str(folder))
        return self._load(Artifact(folder, manifest), device)

    def candidate(self, model: Model, calibrated: Calibrated, choice: Choice) -> Runner:
        """An int8 export that is not kept: what `choice` would give, on this machine's CPU.

        Raises:
            UsageError: the backend has no int8.
        """
        folder = tempfile.TemporaryDirectory()  # as long as the runner is, which holds it
        self.write_candidate(model, calibrated, choice, Path(folder.name))
        runner = self.open_candidate(Path(folder.name), model.spec, "cpu")
        runner.holds = folder
        return runner

    def block_layers(self, calibrated: Calibrated) -> frozenset[str]:
        """Names of the linear layers that the target can read in blocks, for one image at a time."""
        del calibrated
        return frozenset()

    def require_available(self) -> Available:
        """What is available; raises UnavailableError with reason and remedy when it is not."""
        here = self.available()
        if isinstance(here, Unavailable):
            raise UnavailableError(f"{self.name}: {here.reason}", fix=here.remedy)
        return here

    def start(self, choice: Choice, options: ExportOptions) -> Choice:
        """An int8 choice with what the export is asked for beside it; see `own_settings`."""
        del options
        return choice

    def float_layers(self, calibrated: Calibrated, choice: Choice) -> frozenset[str]:
        """Layers that an int8 file has in float though the choice does not keep them: no integer kernel takes them."""
        del calibrated, choice
        return frozenset()

    def own_settings(self, options: ExportOptions) -> Any:
        """The backend's own options, from `options.settings`. Raises UsageError for one it does not have."""
        given = dict(options.settings.get(self.name, {}))
        if self.settings is None:
            if given:
                raise UsageError(f"{self.name} has no settings, got {', '.join(given)}")
            return None
        return from_mapping(self.settings, given, f"--set {self.name}")

    @abc.abstractmethod
    def _export(
        self, module: nn.Module, spec: ModelSpec, options: ExportOptions, folder: Path, progress: Progress
    ) -> Written: ...
    @abc.abstractmethod
    def _load(self, artifact: Artifact, device: str) -> Runner: ...

    def _build(self, artifact: Artifact, progress: Progress) -> Written:
        raise NotImplementedError(f"{self.name} says that it builds, and does not")

    def _refuse(self, options: ExportOptions) -> None:
        if options.precision not in self.precisions:
            raise UsageError(f"{self.name} exports {', '.join(self.precisions)}, not {options.precision}")
        if options.build_later and not self.builds:
            raise UsageError(f"{self.name} has nothing to build later", fix="leave --build-later out")
        if options.graph is not None and not self.takes_graph:
            raise UsageError(f"{self.name} does not export an ONNX graph", fix="leave --graph out")
        if options.with_preprocess and not self.takes_pixels:
            raise UsageError(f"{self.name} cannot preprocess in the graph", fix="leave --with-preprocess out")
        if options.precision == "int8" and options.graph is None and options.calibrated is None:
            raise UsageError(
                "int8 needs images to calibrate with, or a graph that holds Q/DQ",
                fix="give --data, or --graph FILE.onnx",
            )
        self.own_settings(options)

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
            options={**written.options, **({"int8": dict(options.record)} if options.record else {})},
            batch=written.batch,
            pixels=options.with_preprocess,
            plan=tuple(
                replace(layer, reason=options.choice.keep.get(layer.name, layer.reason)) for layer in written.plan
            ),
            built=written.built,
            platform=written.platform,
            tools={"python": platform.python_version(), **written.tools},
            notes=(*model.notes, *written.notes, *(_outside(model.spec) if options.with_preprocess else ())),
        )


def _accepted(artifact: Artifact, accept: Callable[[Artifact], Receipt | None] | None, final: Path) -> Artifact:
    """Sealed again with the receipt of what `accept` saw run; one that it refuses is kept beside its place."""
    if accept is None:
        return artifact
    try:
        receipt = accept(artifact)
    except GateError:
        forget_failed(final)
        if not atomic.failed_place(final).exists():  # whatever else has that name is not ours to replace
            atomic.set_aside(artifact.folder, final)
        raise
    return seal(artifact.folder, replace(artifact.manifest, receipt=receipt))


def forget_failed(final: Path) -> None:
    """Remove what an earlier export to this place was refused for, with its evidence."""
    place = atomic.failed_place(final)
    if (place / ARTIFACT).is_file() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    for path in (evidence_path(place), attestation_path(place)):
        path.unlink(missing_ok=True)


def _outside(spec: ModelSpec) -> tuple[str, ...]:
    from ...models.preprocess import outside

    return outside(spec)


def _save_weights(path: Path, module: nn.Module) -> None:
    from ...models import weights

    weights.save(path, module)
