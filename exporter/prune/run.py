"""`zoo prune`: channels or single weights removed, accuracy recovered, and what that brought; the result is a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...calibration.images import choose_images
from ...calibration.pruning.budget import Budget
from ...calibration.pruning.groups import Price, costs_of, macs_of
from ...calibration.pruning.removable import structure_of
from ...calibration.pruning.sparsity import Sparsity, sparsify
from ...calibration.pruning.stages import Curve
from ...calibration.pruning.structured import Pruned, outputs_that_stay, prune_channels
from ...errors import UsageError
from ...models.copies import copy_of
from ...models.data.dataset import Dataset, Split
from ...models.runs import CHECKPOINT, METRICS, Narrowed, Origin, Width, claim, pruned_name, write_run
from ...models.sources import Model, build, named_by
from ...models.training.checkpoint import PRUNED, read_facts
from ...models.training.epoch import Watcher
from ...models.training.loop import train
from ...models.training.recipe import Recipe, default_recipe, load_recipe
from ...models.training.start import Recovery
from ...models.widths import narrowed, widths_of
from .accuracy import DropGate, measured_accuracy, prepared, settle, suitable_data
from .latency_target import aim, left, share_of_time, timed_shape
from .options import PruneOptions
from .rebuilt import refuse_unopenable, refuse_unwritten
from .sensitivity import stage_curves
from .summary import Report, speed_of, told_stays
from .width_baseline import Beside, from_scratch, narrow_like

IMAGES = 1024  # that gradients and statistics of norms are taken from


@dataclass(frozen=True)
class Told:
    """Who is told while it goes on; the defaults tell nobody.

    Attributes:
        line: of what was found.
        progress: (what, done, in all) of what takes long.
        training: of the recovery.
    """

    line: Callable[[str], None] = lambda _line: None
    progress: Callable[[str, int, int], None] = lambda _what, _done, _all: None
    training: Watcher = field(default_factory=Watcher)


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
    told: Told | None = None,
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
        resume: go on with the recovery in `out`; the pruning is done again, to the widths of the record.
        overwrite: replace the run in `out`.
        parent: the run that the weights came from.
        told: who is told of it.

    Raises:
        UsageError: random weights, data of other classes, a model that cannot be pruned so far, a folder that is taken.
        UnavailableError: torch-pruning, or the target that is timed, is missing.
    """
    told = told or Told()
    model = named_by(model, data)
    data = suitable_data(model, data)
    claim(out, resume=resume, overwrite=overwrite, dry=True)
    shape = timed_shape(model, options.timed_at)
    kept = _kept(out, options) if resume and (out / CHECKPOINT).is_file() else {}
    beside = options.beside and options.structured
    if beside:  # before hours of work, and never a run that somebody did not ask to have replaced
        claim(beside_folder(out), resume=False, overwrite=overwrite, dry=True)
    where = torch.device(device)
    before = measured_accuracy(model, model.module, data.val, where)
    told.line(f"before: top-1 {before:.2%} of {len(data.val):,} images")
    some = data.train.take(choose_images(data.train.labels, min(IMAGES, len(data.train)), seed)[0])
    # only what training needs of it: the original is the teacher, and what latency is compared with
    module = copy_of(model.module).to("cpu").eval()
    curves: tuple[Curve, ...] = ()
    if options.spread == "sensitivity" and not kept:
        curves = stage_curves(
            model, data, criterion=options.criterion, round_to=options.round_to, keep=options.keep, seed=seed,
            device=device, progress=lambda done, total: told.progress("pruning stages", done, total),
        )  # fmt: skip
    pruned = _channels(model, module, some, options, curves, kept, seed, told)
    sparsity = _zeros(module, options)
    settle(module, some, model)
    narrow = replace(
        model,
        spec=model.spec.renamed(pruned_name(model.spec.name)),
        module=module,
        origin=replace(model.origin, widths=_widths(model.origin, module)),
        weights=f"pruned from {parent or model.weights}",
        fresh=frozenset(),
        learned=None,
    )
    refuse_unopenable(narrow, data.val)
    for line in told_stays(pruned.stays):
        told.line(line)
    without = measured_accuracy(narrow, module, data.val, where)
    told.line(f"pruned: {_what_is_left(pruned)}; top-1 {without:.2%}, not recovered yet")
    ratios: tuple[float, ...] = ()
    if options.timed and options.structured:
        ratios = share_of_time(model, module, options.target, shape, told.progress)
        told.line(f"{speed_of(ratios, options.target)} at {'x'.join(map(str, shape))}")
    gate = None if options.max_drop is None else DropGate(model, data, options.max_drop, where)
    record = _record(options, parent, pruned, sparsity, before, without, ratios, curves)
    recovery = Recovery(
        teacher=copy_of(model.module), record=record,
        sparse=tuple(f"{one.layer}.weight" for one in sparsity if not one.dense),
        enough=None if gate is None else lambda now: _enough(gate, now, told.line),
        written=lambda recovered, path: refuse_unwritten(narrow, recovered, path, data.val),
    )  # fmt: skip
    run = train(
        narrow, data, recipe, out, device=device, seed=seed, resume=resume, overwrite=overwrite, parent=parent,
        watcher=told.training, recovery=recovery,
    )  # fmt: skip
    other: Beside | str = "no smaller width was trained beside it"
    if beside:
        epochs = len((out / METRICS).read_text(encoding="utf-8").splitlines())
        other = _smaller_width(
            model, data, replace(recipe, epochs=epochs), options, pruned.macs, beside_folder(out), device, seed,
            overwrite, told,
        )  # fmt: skip
    judged = None if gate is None else gate.judge(module.to(where))
    module.to("cpu")
    record = {
        **record, "beside": other if isinstance(other, str) else vars(other),
        "gate": None if judged is None else judged.as_mapping(),
    }  # fmt: skip
    run = replace(run, pruned=record)
    write_run(out, run)
    return Report(run, pruned, before, without, ratios, other, sparsity, judged)


def _widths(origin: Origin, module: nn.Module) -> dict[str, Width | Narrowed]:
    """Return what the module has less than the architecture of its origin, whoever pruned it."""
    return dict(narrowed(widths_of(build(replace(origin, widths={}))), widths_of(module)))


def beside_folder(out: Path) -> Path:
    """Where the run of the smaller width lies."""
    return out.with_name(f"{out.name}-width")


def _channels(
    model: Model,
    module: nn.Module,
    some: Split,
    options: PruneOptions,
    curves: tuple[Curve, ...],
    kept: dict[str, float],
    seed: int,
    told: Told,
) -> Pruned:
    """Take channels out of the module, as many as is asked for; none where only weights are to go.

    A pruning that goes on (`kept`) takes the widths that it had; which channels they are, its checkpoint says.
    """
    shape = timed_shape(model, options.timed_at)
    if not options.structured:
        count = sum(one.numel() for one in module.parameters())
        costs = costs_of(module, torch.zeros(2, *shape)).values()
        macs = float(sum(cost.macs(cost.inputs, cost.outputs) for cost in costs))
        return Pruned({}, (), {}, macs, macs, count, count)
    budget, price = replace(options.budget, curves=curves), macs_of

    def prune_into(own: Budget, prices: Price, into: nn.Module, steps: int) -> Pruned:
        return prune_channels(
            into, shape, own, options.criterion, keep=options.keep, steps=steps, seed=seed,
            batches=lambda: prepared(some, model), between=lambda _step: settle(into, some, model), price=prices,
        )  # fmt: skip

    if kept:
        return prune_into(Budget(None, round_to=options.round_to, stages=kept), macs_of, module, 1)
    if options.latency is not None:

        def trial(own: Budget, prices: Price) -> nn.Module:
            tried = copy_of(model.module)
            prune_into(own, prices, tried, 1)
            return tried

        whole = copy_of(model.module)
        aimed = aim(
            structure_of(whole, shape, outputs_that_stay(whole, options.keep)), options.target, budget, trial,
            lambda tried: left(share_of_time(model, tried, options.target, shape, told.progress)),
            told.line, told.progress,
        )  # fmt: skip
        budget, price = aimed.budget, aimed.price
    return prune_into(budget, price, module, options.steps)


def _kept(out: Path, options: PruneOptions) -> dict[str, float]:
    """The share of each group's channels that a recovery's checkpoint has; nothing of one where none went.

    Raises:
        UsageError: it was pruned by other options.
    """
    record = read_facts(out / CHECKPOINT).get(PRUNED, {})
    asked = json.loads(json.dumps(options.as_mapping()))
    free = ("beside", "max_drop", "timed")  # what does not change the module
    differing = [f"{key} was {record.get(key)}, is {value}" for key, value in asked.items()
                 if key not in free and record.get(key) != value]  # fmt: skip
    if differing:
        raise UsageError(f"{out}: cannot resume: {'; '.join(differing)}", fix="use the same options, or --overwrite")
    groups = record.get("groups", [])
    return {one["root"]: one["kept"] / one["channels"] for one in groups}


def _zeros(module: nn.Module, options: PruneOptions) -> tuple[Sparsity, ...]:
    if options.pattern is None:
        return ()
    return sparsify(module, options.pattern, options.sparsity or 0.5, outputs_that_stay(module, options.keep))


def _what_is_left(pruned: Pruned) -> str:
    share, size = pruned.macs / pruned.macs_before, pruned.parameters / pruned.parameters_before
    return f"{share:.1%} of the MACs and {size:.1%} of the parameters left" if pruned.groups else "no channels"


def _enough(gate: DropGate, module: nn.Module, tell: Callable[[str], None]) -> str:
    judged = gate.judge(module)
    if judged.verdict == "pass":
        return f"the accuracy gate holds, the recovery is over: {judged.reason}"
    tell(f"not enough yet: {judged.verdict}: {judged.reason}")
    return ""


def _record(
    options: PruneOptions,
    parent: str,
    pruned: Pruned,
    sparsity: tuple[Sparsity, ...],
    before: float,
    without: float,
    ratios: tuple[float, ...],
    curves: tuple[Curve, ...],
) -> dict[str, Any]:
    """What run.json says of it."""
    return {
        **options.as_mapping(), "parent": parent, "macs_before": pruned.macs_before, "macs_after": pruned.macs,
        "parameters_before": pruned.parameters_before, "parameters_after": pruned.parameters, "top1_before": before,
        "top1_without_recovery": without, "latency_ratios": list(ratios), "groups": list(map(vars, pruned.groups)),
        "stays": dict(pruned.stays),
        "zeros": list(map(vars, sparsity)), "curves": list(map(vars, curves)),
    }  # fmt: skip


def _smaller_width(
    model: Model,
    data: Dataset,
    recipe: Recipe,
    options: PruneOptions,
    macs: float,
    folder: Path,
    device: str,
    seed: int,
    overwrite: bool,
    told: Told,
) -> Beside | str:
    """Pruning's honest rival, trained and timed as the pruned model was."""
    shape = timed_shape(model, options.timed_at)
    narrow = narrow_like(model, macs, shape, seed)
    if isinstance(narrow, str):
        return narrow
    told.line(f"beside it: {model.origin.source} at width {narrow.width:g}, from scratch, for as many steps")
    suits = load_recipe(default_recipe(model.spec.input[1], len(data.train), model.origin.source))
    run = train(
        narrow.model, data, from_scratch(recipe, suits), folder, device=device, seed=seed, overwrite=overwrite,
        watcher=told.training,
    )  # fmt: skip
    ratios: tuple[float, ...] = ()
    if options.timed:
        ratios = share_of_time(model, narrow.model.module, options.target, shape, told.progress)
    return Beside(str(folder), narrow.width, narrow.macs, run.reached.accuracy, ratios)
