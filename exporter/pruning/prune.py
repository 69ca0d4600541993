"""`zoo prune`: channels removed, accuracy recovered, and what that brought on this machine; the result is a run."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ...calibration.images import choose_images
from ...calibration.pruning.budget import Budget, Spread
from ...calibration.pruning.criteria import CRITERIA, Criterion
from ...calibration.pruning.recovery import reestimate_norms
from ...calibration.pruning.structured import Pruned, prune_channels
from ...config import near
from ...errors import UsageError
from ...models.data.dataset import Dataset, Split, batches
from ...models.data.labels import Unmatched, match_labels
from ...models.preprocess import normalise
from ...models.runs import Run, claim
from ...models.sources import Model
from ...models.training.epoch import Watcher
from ...models.training.evaluate import accuracy, confusion
from ...models.training.loop import train
from ...models.training.recipe import Recipe, default_recipe, load_recipe
from ...models.training.step import Arithmetic
from ..artifact import Batch
from ..backends.graph import export_graph
from ..faster import measure
from .baseline import from_scratch, narrow_like

IMAGES, BATCH = 1024, 64  # that gradients and statistics of norms are taken from
FP32 = Arithmetic("fp32", None, "")


@dataclass(frozen=True)
class PruneOptions:
    """How a model is pruned.

    Attributes:
        macs: share of the MACs that is to be left.
        criterion: which channels go; see `calibration/pruning/criteria.py`.
        spread: global ranks all channels together, uniform takes the same share everywhere.
        round_to: channels that stay are a multiple of it: runtimes' kernels come in blocks of 8, 16 or 32.
        keep: modules whose outputs stay as they are.
        steps: parts in which the way is gone, with the norms' statistics taken anew between.
        timed: whether the latency is measured, before and after.
        beside: whether the same architecture at a smaller width is trained for as many steps, to compare with.
    """

    macs: float
    criterion: Criterion = "magnitude"
    spread: Spread = "global"
    round_to: int = 8
    keep: tuple[str, ...] = ()
    steps: int = 1
    timed: bool = True
    beside: bool = True

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise UsageError(
                f'no criterion "{self.criterion}"{near(self.criterion, CRITERIA)}', fix=f"one of {', '.join(CRITERIA)}"
            )
        self.budget  # noqa: B018 - refuses what cannot be

    @property
    def budget(self) -> Budget:
        """What is asked for."""
        return Budget(self.macs, self.spread, self.round_to)


@dataclass(frozen=True)
class Beside:
    """The same architecture at a smaller width, trained from scratch for as many steps.

    Attributes:
        run: its folder.
        width: of its channels.
        macs: of one image.
        top1: what it reached.
        ratios: time of the unpruned model over its own, one a round.
    """

    run: str
    width: float
    macs: float
    top1: float
    ratios: tuple[float, ...] = ()


@dataclass(frozen=True)
class Report:
    """What came of it.

    Attributes:
        run: as written.
        pruned: what was removed.
        before: top-1 of the model as it was.
        without: top-1 after pruning, before the recovery.
        ratios: time before over time after, one a round; empty where it was not measured.
        beside: the smaller width, or why there is none.
    """

    run: Run
    pruned: Pruned
    before: float
    without: float
    ratios: tuple[float, ...] = field(default=())
    beside: Beside | str = ""

    @property
    def latency(self) -> float | None:
        """The share of the time that is left."""
        return 1 / statistics.median(self.ratios) if self.ratios else None


def prune(
    model: Model,
    data: Dataset,
    options: PruneOptions,
    recipe: Recipe,
    out: Path,
    *,
    device: str = "cpu",
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    parent: str = "",
    watcher: Watcher | None = None,
    tell: Callable[[str], None] = lambda _line: None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Prune a trained model, recover it by training, and write the run.

    Args:
        model: with weights; it is not changed.
        data: of its classes.
        options: what is asked for.
        recipe: of the recovery.
        out: the run folder.
        device: where it is trained.
        seed: of what is drawn.
        resume: go on with the recovery in `out`; the pruning is done again, to the same widths.
        overwrite: replace the run in `out`.
        parent: the run that the weights came from.
        watcher: is told of the training.
        tell: is told a line for each thing that was found.
        progress: is told (what, done, all) of measuring the latency.

    Raises:
        UsageError: random weights, data of other classes, a model that cannot be pruned so far, a folder that is taken.
        UnavailableError: torch-pruning is missing.
    """
    refuse_unsuitable(model, data)
    if options.beside:  # before hours of work, and never a run that somebody did not ask to have replaced
        claim(beside_folder(out), resume=False, overwrite=overwrite, dry=True)
    where = torch.device(device)
    before = measured_accuracy(model, model.module, data, where)
    tell(f"before: top-1 {before:.2%} of {len(data.val):,} images")
    # only what training needs of it: the original is the teacher, and what latency is compared with
    module = copy.deepcopy(model.module).to("cpu").eval()
    some = data.train.take(choose_images(data.train.labels, min(IMAGES, len(data.train)), seed)[0])
    pruned = prune_channels(
        module, model.spec.input, options.budget, options.criterion, keep=options.keep, steps=options.steps, seed=seed,
        batches=lambda: prepared(some, model), between=lambda _step: _settle(module, some, model),
    )  # fmt: skip
    _settle(module, some, model)
    narrow = replace(
        model,
        module=module,
        origin=replace(model.origin, widths={**model.origin.widths, **pruned.widths}),
        weights=f"pruned from {parent or model.weights}",
        fresh=frozenset(),
        learned=None,
    )
    without = measured_accuracy(narrow, module, data, where)
    share, size = pruned.macs / pruned.macs_before, pruned.parameters / pruned.parameters_before
    tell(
        f"pruned: {share:.1%} of the MACs and {size:.1%} of the parameters left; top-1 {without:.2%}, not recovered yet"
    )
    ratios = _latency(model, narrow, progress) if options.timed else ()
    record = {
        **asdict(options), "parent": parent, "macs_before": pruned.macs_before, "macs_after": pruned.macs,
        "parameters_before": pruned.parameters_before, "parameters_after": pruned.parameters, "top1_before": before,
        "top1_without_recovery": without, "latency_ratios": list(ratios), "groups": list(map(vars, pruned.groups)),
    }  # fmt: skip
    run = train(
        narrow, data, recipe, out, device=device, seed=seed, resume=resume, overwrite=overwrite, parent=parent,
        watcher=watcher, teacher=copy.deepcopy(model.module), pruned=record,
    )  # fmt: skip
    beside: Beside | str = "no smaller width was trained beside it"
    if options.beside:
        beside = _smaller_width(
            model, data, recipe, pruned.macs, beside_folder(out), device=device, seed=seed, overwrite=overwrite,
            timed=options.timed, watcher=watcher, tell=tell, progress=progress,
        )  # fmt: skip
    return Report(run, pruned, before, without, ratios, beside)


def beside_folder(out: Path) -> Path:
    """Where the run of the smaller width lies."""
    return out.with_name(f"{out.name}-width")


def _smaller_width(
    model: Model,
    data: Dataset,
    recipe: Recipe,
    macs: float,
    folder: Path,
    *,
    device: str,
    seed: int,
    overwrite: bool,
    timed: bool,
    watcher: Watcher | None,
    tell: Callable[[str], None],
    progress: Callable[[str, int, int], None] | None,
) -> Beside | str:
    """Pruning's honest rival, trained and timed as the pruned model was."""
    narrow = narrow_like(model, macs, seed)
    if isinstance(narrow, str):
        return narrow
    tell(f"beside it: {model.origin.source} at width {narrow.width:g}, from scratch, for as many steps")
    suits = load_recipe(default_recipe(model.spec.input[1], len(data.train), model.origin.source))
    run = train(
        narrow.model, data, from_scratch(recipe, suits), folder, device=device, seed=seed, overwrite=overwrite,
        watcher=watcher,
    )  # fmt: skip
    ratios = _latency(model, narrow.model, progress) if timed else ()
    return Beside(str(folder), narrow.width, narrow.macs, run.reached.accuracy, ratios)


def refuse_unsuitable(model: Model, data: Dataset) -> None:
    """Raise UsageError for weights or data by which nothing could be judged."""
    if not model.meaningful:
        raise UsageError("the weights are random: there is nothing to keep of them", fix="give a run, or --weights")
    matched = match_labels(model.spec.labels, data.classes)
    if isinstance(matched, Unmatched) or tuple(model.spec.labels) != tuple(data.classes):
        raise UsageError(
            f"{data.name} does not have the classes of {model.spec.name}: "
            f"{matched.reason if isinstance(matched, Unmatched) else 'only some of them, or in another order'}",
            fix="give the data it was trained on",
        )
    if len(data.train) < 2 or not len(data.val):
        raise UsageError(
            f"{data.name} has {len(data.train)} images to recover with and {len(data.val)} to judge by",
            fix="give train/ and val/ folders",
        )


def prepared(split: Split, model: Model) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised images and labels, in batches."""
    for pixels, labels in batches(split, model.spec.preprocess, BATCH):
        yield torch.from_numpy(normalise(pixels, model.spec.preprocess)), torch.from_numpy(labels)


def measured_accuracy(model: Model, module: nn.Module, data: Dataset, device: torch.device) -> float:
    """Top-1 on the validation images, in fp32."""
    module = module.to(device)
    counted = confusion(module, data.val, model.spec.preprocess, device, FP32, len(model.spec.labels))
    module.to("cpu")
    return accuracy(counted)


def _settle(module: nn.Module, split: Split, model: Model) -> None:
    images: Iterable[Tensor] = (inputs for inputs, _ in prepared(split, model))
    reestimate_norms(module, images)


def _latency(before: Model, after: Model, progress: Callable[[str, int, int], None] | None) -> tuple[float, ...]:
    """Time before over time after on ONNX Runtime's CPU in fp32, batch 1, in processes of their own."""
    graphs = [
        export_graph(one.module, one.spec, "fp32", Batch(1, 8, 1024)).SerializeToString() for one in (before, after)
    ]
    told = None if progress is None else lambda done, total: progress("timing", done, total)
    return tuple(measure(graphs[0], {"pruned": graphs[1]}, (1, *before.spec.input), told)["pruned"])


def told_of(report: Report, options: PruneOptions) -> str:
    """The first line: what it brought, and first of all if it is slower."""
    accuracy_after = report.run.reached.accuracy
    share = report.pruned.macs / report.pruned.macs_before
    drop = 100 * (report.before - accuracy_after)
    gained = f"top-1 {accuracy_after:.2%}, {abs(drop):.2f} points {'less' if drop > 0 else 'more'} than before"
    if report.latency is None:
        return f"{share:.1%} of the MACs left; {gained}; latency was not measured"
    slower = "slower than before: " if report.latency > 1 else ""
    rounding = " (channels that are no multiple of 8 are slow: --round-to 8)" if slower and options.round_to % 8 else ""
    return f"{slower}{_speed(report.ratios)} and {share:.1%} of the MACs left{rounding}; {gained}"


def told_beside(report: Report) -> str:
    """The second line: the smaller width, and which of the two is better."""
    other = report.beside
    if isinstance(other, str):
        return other
    speed = f", {_speed(other.ratios)}" if other.ratios else ""
    share = other.macs / report.pruned.macs_before
    own = report.run.reached.accuracy
    better = "the smaller width is better" if other.top1 > own else "the pruned one is better"
    if other.top1 == own:
        better = "both are alike"
    made = f"beside it, width {other.width:g} from scratch: top-1 {other.top1:.2%}"
    return f"{made}{speed}, {share:.1%} of the MACs; {better}"


def _speed(ratios: tuple[float, ...]) -> str:
    low, middle, high = 1 / max(ratios), 1 / statistics.median(ratios), 1 / min(ratios)
    return f"{middle:.2f} of the latency ({low:.2f} to {high:.2f}; ONNX Runtime fp32, batch 1)"
