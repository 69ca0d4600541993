"""`zoo check`: artifacts beside their reference, on golden images and on labelled data, judged gate by gate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...config import to_mapping
from ...errors import GATE, IntegrityError, UnavailableError, UsageError, ZooError, worst
from ...models.data.dataset import Dataset
from ...models.preprocess import Images
from ...models.runs import Reached
from ..artifact.folder import ARTIFACT, Artifact, Golden, golden_batch, load_artifact
from ..artifact.manifest import WITHOUT_TRUTH, Manifest, Receipt
from ..artifact.probes import Probes
from ..backends.base import PrecisionClaimError
from ..backends.infos import backend_names
from ..backends.options import Unavailable
from ..backends.registry import get_backend
from ..backends.runner import Runner
from .accuracy import judge_accuracy, judge_agreement, paired_answers, unbelievable, without_ties
from .answer_statistics import compare_answers
from .batch_sizes import draw_sizes
from .bisect import bisect_artifact
from .budget import Budget, Limits
from .consistency import allowed_difference, allowed_shift, judge_consistency, measure_consistency
from .faithful import RULES as FAITHFUL
from .faithful import judge_faithful, other_plan, relative_distance
from .gate import Gate, hardest
from .labels import WITHOUT_DATA, judge_labels
from .measure_latency import LatencyOptions, Timed, check_latency
from .mistakes import mistakes, prepared
from .numerics import judge_asked, judge_numerics, measure_numerics
from .precision import judge_precision
from .preprocessing import NO_PROBES, judge_preprocessing
from .private import private_folder
from .reference import Judged, Progress, Shared

if TYPE_CHECKING:
    from torch import nn

Logits = npt.NDArray[np.float32]
Run = Callable[[Logits], Logits]
OTHERWISE = 10  # times the reference error: of the same module, on another machine and through our preprocessing
WORST = 2  # images of the data that a bisection looks at, before the golden ones


@dataclass(frozen=True)
class Checked:
    """One artifact's row: its gates, or the error that kept it from being checked.

    Attributes:
        seal: SHA-256 of the artifact.json that was judged, which holds the hashes of all files that were.
        copy: where these were read while the check ran.
        subject: what it was judged against and on: hashes of the reference's weights, and of the data's pixels.
    """

    artifact: str
    backend: str
    precision: str
    gates: tuple[Gate, ...] = ()
    receipt: Receipt | None = None
    error: ZooError | None = None
    manifest: Manifest | None = None
    seal: str = ""
    copy: str = ""
    subject: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """Of this row alone."""
        if self.error is not None:
            return self.error.exit_code
        return worst(gate.exit_code for gate in self.gates) if self.gates else GATE

    def gate(self, name: str) -> Gate | None:
        """A gate by its name."""
        return next((gate for gate in self.gates if gate.name == name), None)


def check(
    folders: Sequence[str | Path] | str | Path,
    data: Dataset | None = None,
    *,
    reference: nn.Module | None = None,
    device: str = "cpu",
    limit: int | None = None,
    budget: Budget | None = None,
    latency: LatencyOptions | None = None,
    progress: Progress | None = None,
) -> list[Checked]:
    """Check artifacts; each gets a row, and one that cannot be checked does not stop the others.

    Args:
        folders: artifacts.
        data: its validation images; without it only the golden images are compared.
        reference: compare with this module instead of the artifact's own reference.
        device: where artifacts and reference run.
        limit: use the first so many images.
        budget: limits other than the defaults.
        latency: judge the gate latency too, measured like this; also where the budget asks for it.
        progress: is told (what, steps done, steps in all).
    """
    progress = progress or (lambda _what, _done, _all: None)
    budget = budget or Budget()
    if isinstance(folders, (str, Path)):
        folders = [Path(folders)]
    shared = Shared(data, reference, device, limit, progress)
    if latency is None and budget.latency:
        latency = LatencyOptions()
    with private_folder() as private:
        rows = [_row(Path(folder), private / str(index), shared, budget) for index, folder in enumerate(folders)]
        if latency is None:
            return rows
        # when all runners are closed: what is timed must not share the machine with them
        of_row = check_latency(
            [Timed(row.artifact, row.manifest, row.copy) for row in rows], latency, device, budget, progress
        )
        return [_with(row, of_row.get(row.artifact)) for row in rows]


def check_golden(artifact: Artifact, runner: Runner) -> Gate:
    """Golden images from the raw file on, through artifact.json's preprocessing, against what they are judged by."""
    golden = artifact.golden()
    return judge_golden(golden, runner.run(golden_batch(golden, artifact)), artifact.manifest)


def check_probes(probes: Probes | None, run: Callable[[Images], Logits], manifest: Manifest) -> Gate:
    """Gate `preprocessing`: the probes through artifact.json's preprocessing, and with each usual mistake in it."""
    if probes is None:
        return Gate("preprocessing", "skipped", NO_PROBES)
    images, preprocess = list(probes.images), manifest.spec.preprocess
    right = prepared(images, preprocess, manifest.pixels)
    wrong = mistakes(images, preprocess, manifest.pixels)
    others = {name: run(made) for name, made in wrong.items() if not np.array_equal(made, right)}
    return judge_preprocessing(probes.truth, run(right), others, manifest.precision)


def judge_golden(golden: Golden, got: Logits, manifest: Manifest) -> Gate:
    """Gate `numerics` over the golden images: by truth and yardstick where there are both, else by the tolerances."""
    why = no_yardstick(golden, manifest)
    if not why:
        assert golden.truth is not None and golden.yardstick is not None
        gate = judge_faithful(golden.truth, golden.yardstick, got, manifest.precision, jitter=golden.jitter)
        return replace(gate, numbers={**gate.numbers, "yardstick": golden.computed})
    measured = measure_numerics(golden.logits, got)
    gate = judge_numerics(
        measured, manifest.precision, "golden images", trained=manifest.meaningful, backend=manifest.backend
    )
    told = f"{gate.reason}; by tolerances: {why}"
    return replace(gate, reason=told, numbers={**gate.numbers, "yardstick": golden.computed})


def no_yardstick(golden: Golden, manifest: Manifest) -> str:
    """Why an artifact is judged by tolerances and not by truth and yardstick; "" where it has both."""
    if manifest.format <= WITHOUT_TRUTH:
        return f"artifacts of format {manifest.format} have no yardstick"
    if golden.truth is None or golden.yardstick is None:
        return golden.computed or "it has no yardstick"
    planned = sum(layer.precision == "int8" for layer in manifest.plan)
    return other_plan(manifest.precision, planned, golden.rounded)


def _row(folder: Path, copy: Path, shared: Shared, budget: Budget) -> Checked:
    backend, precision = _named(folder)
    try:
        absent = _absent(folder, backend)
        if absent is not None:
            raise absent
        shared.progress(f"opening {folder.name}", 0, 0)
        artifact = load_artifact(folder, copy)
        backend, precision = artifact.manifest.backend, artifact.manifest.precision
        limits = budget.limits(backend, precision)
        gates, receipt = _judge(artifact, shared, limits)
        subject = {**shared.subject(artifact), "limits": _given(limits)}
        return Checked(
            str(folder),
            backend,
            precision,
            gates,
            receipt,
            manifest=artifact.manifest,
            seal=artifact.seal,
            copy=str(artifact.place),
            subject=subject,
        )
    except ZooError as error:
        return Checked(str(folder), backend, precision, error=error)
    except OSError as error:  # a name that is too long, a place that may not be read
        why = UsageError(f"{folder.name[:80]}: {error.strerror or error}", fix="give the folder of an artifact")
        return Checked(str(folder)[:400], backend, precision, error=why)


def _judge(artifact: Artifact, shared: Shared, limits: Limits) -> tuple[tuple[Gate, ...], Receipt | None]:
    manifest = artifact.manifest
    try:
        with get_backend(manifest.backend).load(artifact, shared.device) as runner:
            receipt = runner.receipt()
            precision = judge_precision(manifest.backend, manifest.precision, receipt, manifest.plan, limits.precision)
            return (*_gates(artifact, runner, shared, limits), precision), receipt
    except PrecisionClaimError as error:  # nothing else is judged: the precision says by which tolerance
        why = "its precision is not what it says"
        skipped = [
            Gate(name, "skipped", why) for name in ("numerics", "accuracy", "consistency", "preprocessing", "labels")
        ]
        return (*skipped, Gate("precision", "fail", error.what)), None


def _with(row: Checked, latency: Gate | None) -> Checked:
    """The row with its latency, before its precision."""
    return replace(row, gates=(*row.gates[:-1], latency, *row.gates[-1:])) if latency is not None else row


def _gates(artifact: Artifact, runner: Runner, shared: Shared, limits: Limits) -> tuple[Gate, ...]:
    manifest = artifact.manifest
    golden, judged = artifact.golden(), shared.judged(artifact)
    images = golden_batch(golden, artifact)
    shared.progress(f"{manifest.form}: golden images, alone and in batches", 0, 0)
    consistency = _consistency(artifact, runner, golden, images, shared.device, limits)
    run = runner.run
    try:
        got_golden = run(images)
    except IntegrityError:  # it takes no batches; the gate consistency has said so
        run = _one_by_one(runner.run)
        got_golden = run(images)
    shared.progress("loading the reference", 0, 0)
    reference_golden, reference = shared.logits(artifact, golden, judged)
    got = shared.run_all(run, artifact, judged, f"{manifest.backend} {manifest.precision}")
    looks = [judge_golden(golden, got_golden, manifest)]
    if shared.reference is None:
        looks += _reference_itself(golden, reference_golden, shared.exact())
    if judged is not None:
        looks += _over_data(
            manifest,
            reference,
            got,
            limits,
            by_yardstick=shared.reference is None and not no_yardstick(golden, manifest),
        )
    measured = measure_numerics(golden.logits, got_golden)
    looks += filter(None, [judge_asked(measured, limits.numerics, "golden images")])
    numerics = hardest(looks)
    if judged is not None and judged.images:
        measured = measure_numerics(reference, got)
    shown = {key: value for key, value in vars(measured).items() if key != "finite"}
    numerics = replace(numerics, numbers={**shown, **numerics.numbers})
    if numerics.verdict == "fail":
        same = judge_numerics(
            measure_numerics(reference_golden, got_golden), manifest.precision, "golden images",
            trained=manifest.meaningful, backend=manifest.backend,
        ).verdict != "fail"  # fmt: skip
        if judged is not None and judged.images:  # those that differ most first
            worst = np.argsort(-np.abs(np.nan_to_num(reference - got, nan=np.inf)).max(1))[:WORST]
            images = np.concatenate([shared.pick(artifact, judged, worst), images])
        numerics = _explained(numerics, artifact, shared, images, same=same and looks[0].verdict == "fail")
    accuracy = _accuracy(artifact, judged, reference, got, golden.reference_error, numerics, shared, limits)
    shared.progress(f"{manifest.form}: probes, with the usual mistakes in preprocessing", 0, 0)
    probes = check_probes(golden.probes, run, manifest)
    return numerics, accuracy, consistency, probes, _labels(manifest, judged, reference)


def _reference_itself(golden: Golden, rebuilt: Logits, exact: npt.NDArray[np.float64] | None) -> list[Gate]:
    """A failure where the reference that was built again does not give the golden answers, for every single image."""
    if golden.truth is None or exact is None or not np.isfinite(rebuilt).all():
        own = judge_numerics(measure_numerics(golden.logits, rebuilt), "fp32", "golden images")
        failed, reason = own.verdict == "fail", own.reason
    else:
        allowed = OTHERWISE * max(float(relative_distance(rebuilt, exact).max()), FAITHFUL["fp32"].floor)
        found = {"logits": golden.logits, "truth": golden.truth}
        worst = {name: float(relative_distance(kept, exact).max()) for name, kept in found.items()}
        failed = not max(worst.values()) <= allowed
        reason = ", ".join(f"the {name} are {far:.1e} away" for name, far in worst.items() if not far <= allowed)
        reason = f"{reason}, rounding explains {allowed:.1e}"
    if not failed:
        return []
    return [Gate("numerics", "fail", f"the reference itself does not give the golden answers: {reason}")]


def _over_data(manifest: Manifest, reference: Logits, got: Logits, limits: Limits, *, by_yardstick: bool) -> list[Gate]:
    """What is judged over the data: NaN, and what a budget asks for; by tolerances where nothing else judges.

    That is so for artifacts without truth and yardstick, and for another reference than the artifact's own.
    """
    measured = measure_numerics(reference, got)
    if not measured.finite or not measured.images or not by_yardstick:
        return [
            judge_numerics(
                measured, manifest.precision, trained=manifest.meaningful, backend=manifest.backend,
                limits=limits.numerics,
            )
        ]  # fmt: skip
    return [*filter(None, [judge_asked(measured, limits.numerics, "images")])]


def _explained(numerics: Gate, artifact: Artifact, shared: Shared, images: Logits, *, same: bool) -> Gate:
    """A failure with its cause: the preprocessing, where the graph is right on the same pixels, else the layer."""
    if same:
        why = (
            "on the same pixels the graph gives what its reference gives: look at the preprocessing in artifact.json, "
            "or at the golden images"
        )
        return replace(numerics, reason=f"{numerics.reason}; {why}")
    shared.progress("looking for the layer", 0, 1)
    found = bisect_artifact(artifact, shared.module(artifact), images)
    shared.progress("looking for the layer", 1, 1)
    numbers = {**numerics.numbers, "bisect": None if isinstance(found, str) else vars(found)}
    return replace(numerics, reason=f"{numerics.reason}; {found}", numbers=numbers)


def _consistency(
    artifact: Artifact, runner: Runner, golden: Golden, images: Logits, device: str, limits: Limits
) -> Gate:
    manifest = artifact.manifest
    allowed = allowed_difference(
        manifest.backend, manifest.precision, trained=manifest.meaningful, asked=limits.consistency.relative,
        golden=golden,
    )  # fmt: skip
    values = int(np.prod(manifest.spec.input))
    shift = allowed_shift(manifest.precision, allowed, device=device, asked=limits.consistency.relative)
    # a seed of the weights: other models are tried at other sizes, the same one always at the same
    seed = int(manifest.weights_sha256[:8], 16)
    sizes = draw_sizes(manifest.batch, values, seed, _seconds_an_image(runner.run, images[:1]))
    with get_backend(manifest.backend).load(artifact, device) as again:
        looks = measure_consistency(
            runner.run, images, allowed=allowed, device=device, again=again.run, sizes=sizes, allowed_shift=shift
        )
    return judge_consistency(looks, sizes)


def _seconds_an_image(run: Run, image: Logits) -> float:
    """Of the second run, since the first one prepares; 0 where it cannot run, which the gate says."""
    try:
        run(image)
        begun = time.perf_counter()
        run(image)
    except ZooError:
        return 0.0
    return time.perf_counter() - begun


def _one_by_one(run: Callable[[Images], Logits]) -> Callable[[Images], Logits]:
    return lambda batch: np.concatenate([run(batch[index : index + 1]) for index in range(len(batch))])


def _accuracy(
    artifact: Artifact,
    judged: Judged | None,
    reference: Logits,
    got: Logits,
    reference_error: float,
    numerics: Gate,
    shared: Shared,
    limits: Limits,
) -> Gate:
    manifest = artifact.manifest
    if judged is None:
        return Gate("accuracy", "skipped", "no labelled data given (--data)")
    if not manifest.meaningful:
        return Gate("accuracy", "skipped", f"the weights are {manifest.weights}: their accuracy means nothing")
    if not np.isfinite(got).all():
        return Gate("accuracy", "fail", "NaN or infinity in the logits")
    settled = without_ties(reference, got, 2 * reference_error)
    if judged.labels is None:
        return judge_agreement(reference.argmax(1), settled, manifest.precision, judged.skip)
    details: dict[str, Any] = {}
    if np.isfinite(reference).all():
        details = compare_answers(reference, got, judged.labels, manifest.spec.labels)
    gate = judge_accuracy(
        paired_answers(reference.argmax(1), settled, judged.labels),
        manifest.precision,
        numerics_passed=numerics.verdict == "pass",
        reached=comparable(manifest.reached, judged.name, judged.images) if shared.reference is None else None,
        limits=limits.accuracy,
        classes=details.get("classes", ()),
    )
    gate = replace(gate, numbers={**gate.numbers, **details})
    reached = manifest.reached if shared.reference is None and _same_data(manifest.reached, judged.name) else None
    doubt = unbelievable(
        float((reference.argmax(1) == judged.labels).mean()) if len(judged.labels) else 1.0,
        judged.images,
        len(manifest.spec.labels),
        reached.accuracy if reached else None,
    )
    if doubt is not None and gate.verdict == "pass":
        return replace(gate, verdict="inconclusive", reason=f"{doubt}; {gate.reason}")
    return gate


def _labels(manifest: Manifest, judged: Judged | None, reference: Logits) -> Gate:
    if judged is None:
        return Gate("labels", "skipped", WITHOUT_DATA)
    if not manifest.meaningful:
        return Gate("labels", "skipped", f"the weights are {manifest.weights}: their answers mean nothing")
    if judged.labels is None:
        return Gate("labels", "skipped", f"untested: {judged.skip}")
    if not np.isfinite(reference).all():
        return Gate("labels", "skipped", "untested: NaN or infinity in the reference's logits")
    return judge_labels(reference.argmax(1), judged.labels, manifest.spec.labels)


def comparable(reached: Reached | None, data: str, images: int) -> Reached | None:
    """What training reached, if it was on these very images."""
    return reached if reached is not None and reached.images == images and _same_data(reached, data) else None


def _same_data(reached: Reached | None, data: str) -> bool:
    if reached is None:
        return False
    same_folder = Path(reached.data).is_dir() and Path(reached.data).resolve() == Path(data).resolve()
    return reached.data == data or same_folder


def _given(limits: Limits) -> dict[str, dict[str, Any]]:
    """Return what a budget asks for beyond the defaults, by gate."""
    asked = {
        gate: {key: value for key, value in table.items() if value is not None}
        for gate, table in to_mapping(limits).items()
    }
    return {gate: table for gate, table in asked.items() if table}


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
