"""`zoo export`: one model to several backends, each artifact tried on its golden images before it takes its place."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import failed_place
from ..errors import DONE, OF_THE_PLACE, GateError, UnavailableError, UsageError, ZooError, quoted, unwritable
from ..models.data.dataset import Dataset
from ..models.user_code import described
from .artifact.folder import ARTIFACT, Artifact, Golden, load_artifact, may_replace, read_manifest
from .artifact.manifest import Receipt, form_of
from .backends.base import Backend
from .backends.options import ExportOptions, Progress, Unavailable
from .backends.registry import get_backend
from .checks.evidence import write_failed
from .checks.gate import Gate
from .checks.precision import judge_precision
from .checks.run import check_golden
from .checks.yardstick import with_yardstick

if TYPE_CHECKING:
    from ..models.sources import Model
    from .quantize.options import Int8Options


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
        found = self.artifact.manifest.files.get(self.artifact.manifest.model) if self.artifact else None
        return found.bytes if found else 0


def export(
    model: Model,
    backends: Sequence[str] | str,
    options: ExportOptions | None = None,
    *,
    out: str | Path = Path("exports"),
    data: Dataset | None = None,
    device: str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
    int8: Int8Options | None = None,
    tell: Callable[[str], None] | None = None,
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
        progress: is told (what, steps done, steps in all): backends, and the phases of one that takes long.
        int8: how an int8 export is calibrated and chosen; it needs `data`.
        tell: is told a line for each way to quantise that was tried.

    Raises:
        UsageError: an unknown backend, or options that none of them has, before anything is written.
    """
    options = options or ExportOptions()
    progress = progress or (lambda _what, _done, _all: None)
    tell = tell or (lambda _line: None)
    names = [backends] if isinstance(backends, str) else backends
    found = refuse_options(names, options)
    from ..models.sources import named_by  # needs torch, which a board that only builds has not
    from .artifact.golden import make_golden

    model = named_by(model, data)
    progress("golden images, in float32 and float64", 0, 0)
    golden = make_golden(model, data, seed)
    from .quantize.calibrate import calibrate
    from .quantize.options import Int8Options
    from .quantize.plan import parse_plan
    from .quantize.search import decide, require_enough  # reads images only where it is asked for

    absent = {} if options.build_later or options.graph else _absent(found)
    calibrated = None
    if len(absent) == len(found):
        data = None  # nothing can be made here: that is said without calibrating first
    if options.precision == "int8" and options.graph is None and data is not None:
        int8 = int8 or Int8Options()
        if int8.plan is not None:
            parse_plan(int8.plan)  # before the minutes of calibrating
        if int8.max_drop is not None:
            require_enough(model, data, int8.max_drop)
        _require_a_place([place_of(out, model, backend, options) for backend in found])
        calibrated = calibrate(model, data, images=int8.images, seed=seed, device=device, progress=progress)
        for note in calibrated.notes:
            tell(f"note: {note}")
    rows: list[Exported] = []
    for index, backend in enumerate(found):
        progress("exporting", index, len(found))
        folder = place_of(out, model, backend, options)
        replaced = (folder / ARTIFACT).exists()
        begun = time.perf_counter()
        tried: list[Gate] = []

        def accept(artifact: Artifact, backend: Backend = backend, tried: list[Gate] = tried) -> Receipt | None:
            return try_golden(backend, artifact, device, tried)

        # one --build-later for several backends: those that have nothing to build do as always
        own = replace(options, build_later=options.build_later and backend.builds)
        judged: Golden | None = None
        try:
            if backend.name in absent:
                raise absent[backend.name]
            if calibrated is not None and int8 is not None and data is not None and "int8" in backend.precisions:
                decided = decide(
                    backend, model, data, calibrated, int8, _named(tell, backend), progress, options, golden
                )
                record = {**decided.record, "notes": list(decided.notes)}
                own = replace(own, calibrated=decided.calibrated, choice=decided.choice, record=record)
                judged = decided.judged
            if judged is None:
                progress(f"{backend.name}: the yardstick of {own.precision}", 0, 0)
                judged = _judged(golden, backend, model, own)
            artifact = backend.export(model, judged, own, folder, accept, progress)
            seconds = time.perf_counter() - begun
            rows.append(Exported(backend.name, options.precision, folder, replaced, artifact, tried[-1], None, seconds))
        except GateError as error:
            rows.append(
                Exported(backend.name, options.precision, folder, error=kept_aside(error, folder, tried, model, own))
            )
        except ZooError as error:
            rows.append(Exported(backend.name, options.precision, folder, error=error))
        except OSError as error:
            told = _unwritten(backend.name, folder, error)
            rows.append(Exported(backend.name, options.precision, folder, error=told))
        except Exception as error:  # noqa: BLE001 - what a backend did not foresee must not stop the others
            rows.append(Exported(backend.name, options.precision, folder, error=unforeseen(backend.name, error)))
    progress("exporting", len(found), len(found))
    return rows


def _judged(golden: Golden, backend: Backend, model: Model, own: ExportOptions) -> Golden:
    """The golden answers with the yardstick of what is exported."""
    if own.calibrated is not None:
        from .quantize.search import int8_yardstick

        return int8_yardstick(golden, backend, model, own.calibrated, own.choice)
    return with_yardstick(golden, model, own.precision)


def _absent(backends: Sequence[Backend]) -> dict[str, UnavailableError]:
    """The backends that cannot make anything here, with the reason."""
    found = {backend.name: backend.available() for backend in backends}
    return {
        name: UnavailableError(f"{name}: {here.reason}", fix=here.remedy)
        for name, here in found.items()
        if isinstance(here, Unavailable)
    }


def _named(tell: Callable[[str], None], backend: Backend) -> Callable[[str], None]:
    return lambda line: tell(f"{backend.name}: {line}")


def _require_a_place(folders: Sequence[Path]) -> None:
    """Raise the first UsageError unless one of the folders may be written; what else is in the way is its row's."""
    refused: list[UsageError] = []
    for folder in folders:
        try:
            may_replace(folder)
        except UsageError as error:
            refused.append(error)
    if len(refused) == len(folders):
        raise refused[0]


def place_of(out: str | Path, model: Model, backend: Backend, options: ExportOptions) -> Path:
    """The folder of an artifact."""
    return Path(out) / model.spec.name / form_of(backend.name, options.precision, options.with_preprocess)


def build(
    folder: str | Path, *, rebuild: bool = False, device: str = "cuda", progress: Progress | None = None
) -> Exported:
    """Finish on this machine what `export(..., build_later=True)` left, or with `rebuild` do it again; then try it.

    The artifact is replaced in one step, and only by one whose golden images agree with the source.

    Args:
        folder: the artifact.
        rebuild: also when it is built already, for another TensorRT or GPU.
        device: where it is tried.
        progress: is told (what, steps done, steps in all).

    Raises:
        ZooError: as `Backend.build`; GateError when the golden images disagree.
    """
    folder = Path(folder)
    backend = get_backend(read_manifest(folder).backend)
    begun = time.perf_counter()
    tried: list[Gate] = []
    artifact = backend.build(
        folder,
        lambda artifact: try_golden(backend, artifact, device, tried),
        rebuild=rebuild,
        progress=progress or (lambda _what, _done, _all: None),
    )
    seconds = time.perf_counter() - begun
    return Exported(backend.name, artifact.manifest.precision, folder, True, artifact, tried[-1], None, seconds)


def try_golden(backend: Backend, artifact: Artifact, device: str, tried: list[Gate]) -> Receipt | None:
    """Run the golden images through an artifact that has not taken its place yet; the gate is added to `tried`.

    One that is not built yet is rehearsed on this machine's CPU as far as that goes, and has no receipt.

    Raises:
        GateError: the images are answered differently than by the source, or a device runs it in other precisions.
    """
    name, manifest = backend.name, artifact.manifest
    receipt = None
    try:
        if manifest.built:
            with backend.load(artifact, device) as runner:
                gate = check_golden(artifact, runner)
                receipt = runner.receipt()
        else:
            rehearsal = backend.rehearse(artifact)
            if rehearsal is None:
                raise UnavailableError(f"nothing on this machine runs a {manifest.precision} graph of {name}")
            with rehearsal as runner:
                gate = check_golden(artifact, runner)
            how = "; ".join(["the graph on this machine's CPU", *rehearsal.notes, "still to be built"])
            gate = replace(gate, reason=f"{gate.reason}; {how}")
    except UnavailableError as error:
        tried.append(Gate("numerics", "skipped", f"not run here: {error}"))
        return None
    tried.append(gate)
    if gate.verdict == "fail":
        raise GateError(f"{name} {manifest.precision} was refused: {gate.reason}")
    if receipt is not None and backend.builds:
        ran = judge_precision(name, manifest.precision, receipt, manifest.plan)
        if ran.verdict == "fail":
            tried.append(ran)
            raise GateError(f"{name} {manifest.precision} was refused: {ran.reason}")
    return receipt


def _unwritten(backend: str, folder: Path, error: OSError) -> ZooError:
    """A full disk or a place that is not for writing in a line; what else the system refuses, nobody foresaw."""
    if error.errno not in OF_THE_PLACE:
        return unforeseen(backend, error)
    inside = error.filename is None or str(error.filename).startswith(str(folder.parent))
    # not the temporary name that the folder has while it is made
    plain = OSError(error.errno, error.strerror, str(folder)) if inside else error
    return unwritable(plain)


def unforeseen(backend: str, error: Exception) -> ZooError:
    """An exception that no backend should let through, in a line with the place that raised it."""
    return ZooError(
        f"{backend}: {described(error)}",
        fix="this is a fault of zoo or of the backend: please report it; the other backends went on",
    )


def kept_aside(
    error: GateError, folder: Path, tried: Sequence[Gate], model: Model, options: ExportOptions
) -> GateError:
    """A refusal with the layer that is wrong and what to try next; evidence is written beside what was made and kept.

    Args:
        error: the refusal.
        folder: the place that the artifact did not take.
        tried: the gates that judged it.
        model: what was exported.
        options: of this backend; for int8 with the calibration and the plan.
    """
    place = failed_place(folder)
    if not tried or not (place / ARTIFACT).is_file():
        return error
    gate = tried[-1]
    if gate.name == "numerics" and "NaN" not in gate.reason:
        found = _where(place, model, options)
        gate = replace(gate, reason=f"{gate.reason}; {found}")
        error = GateError(f"{error.what}; {found}")
    notes = write_failed(place, [*tried[:-1], gate])
    told = f"{error.what}; nothing was replaced, what was made is kept in {place}"
    return GateError("; ".join([told, *notes]), fix=_next_try(place, gate, options.precision))


def _where(place: Path, model: Model, options: ExportOptions) -> str:
    """The layer where a refused artifact goes wrong, or why it is not known."""
    from .checks.bisect import bisect_artifact

    try:
        artifact = load_artifact(place)
        images = model.prepared(artifact.golden().images)
        return str(bisect_artifact(artifact, model.module, images, options.calibrated, options.choice))
    except ZooError as error:
        return f"the layer cannot be looked for: {error.what}"


def _next_try(place: Path, gate: Gate, precision: str) -> str:
    if "NaN" in gate.reason and precision == "fp16":
        return "numbers went beyond fp16's largest, 65,504, or below its smallest, 6e-8: export with --bf16, or in fp32"
    again = f"zoo check {quoted(place)} shows it again"
    if precision == "int8":
        return f"{again}; --fp16, --bf16 or fp32 do without the integer kernels of this machine"
    return f"{again}; another version of the runtime may have other kernels"


def refuse_options(backends: Sequence[str], options: ExportOptions) -> list[Backend]:
    """The backends by name; raises UsageError for options that would pass silently because none of them has them."""
    found = [get_backend(name) for name in dict.fromkeys(backends)]
    names = [backend.name for backend in found]
    strangers = [name for name in options.settings if name not in names]
    if strangers:
        raise UsageError(f"settings of {', '.join(strangers)}, which is not exported to", fix=f"--to {','.join(names)}")
    if options.build_later and not any(backend.builds for backend in found):
        raise UsageError(f"{', '.join(names)}: nothing to build later", fix="leave --build-later out")
    for backend in found:
        backend.own_settings(options)
    return found
