"""`zoo sensitivity`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import quoted
from .main import DataRoot, Debug, Device, Json, Outcome, Seed, choose_device, need_torch
from .source_options import Input, Labels, Spec, Weights, source_options

if TYPE_CHECKING:
    from ...models.sources import SourceOptions


def sensitivity(
    source: Annotated[str, typer.Argument(help="A name of `zoo list models`, a run, torchvision:NAME, timm:NAME, "
                                               "or module:factory.")],
    data: Annotated[str, typer.Option(help="Training images calibrate, validation images are compared.")],
    target: Annotated[str, typer.Option("--for", help="Whose rules quantise: a backend that has int8.")] = "onnx",
    images: Annotated[int, typer.Option(min=1, help="How many images calibrate.")] = 512,
    compared: Annotated[int, typer.Option(min=1, help="How many images each layer is judged with.")] = 64,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Instead of int8: the accuracy when one stage at a time loses channels."),
    ] = False,
    criterion: Annotated[str, typer.Option(help="With --prune: which channels go, as in zoo prune.")] = "magnitude",
    out: Annotated[Path | None, typer.Option(help="Folder for the table as JSON and the picture.")] = None,
    weights: Weights = None,
    input_: Input = None,
    spec: Spec = None,
    labels: Labels = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    seed: Seed = 0,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:  # fmt: skip
    """Rank layers by what int8 costs them, and show what it saves on each; or stages by what pruning costs them."""
    del debug, json
    from ..backends.registry import get_backend

    get_backend(target)
    need_torch("zoo sensitivity")
    from ..report.console import notes, progress, say, table, waiting

    with waiting("loading torch"):
        given = source_options(weights=weights, input_=input_, spec=spec, labels=labels, seed=seed)
    if prune:
        return _stages(source, given, data, data_root, criterion, choose_device(device), seed, out)
    with waiting("loading the model and the data"):
        from ...models.data.catalog import open_data
        from ...models.sources import resolve
        from ..quantize.sensitivity import FILES, as_mapping, claim_place, save
        from ..quantize.sensitivity import sensitivity as measure

        if out is not None:
            claim_place(out)
        where = choose_device(device)
        dataset = open_data(data, data_root)
        model = resolve(source, given)
    say(f"{model.spec.name}: weights: {model.weights}; input {'x'.join(map(str, model.spec.input))}")
    notes(model.notes)
    with progress("steps") as bar:
        costs, told = measure(
            model, dataset, target, images=images, compared=compared, seed=seed, device=where, progress=bar
        )
    if out is not None:
        save(costs, model.spec.name, target, out)

    def named(name: str) -> str:
        """The module in the model, as the picture has it, and the node that a plan names."""
        module = costs.modules.get(name, "")
        return f"{module} ({name})" if module else name

    def show() -> None:
        rows = [
            [
                named(one.name), f"{one.macs / 1e6:.1f}", f"{one.alone.sqnr:.1f}", f"{one.alone.kl:.2g}",
                f"{one.without.sqnr:.1f}", f"{one.brought:+.2g}", "" if one.saved is None else f"{one.saved:+.0f}",
            ]
            for one in costs.layers
        ]  # fmt: skip
        columns = [
            "layer",
            "million MACs",
            "only it in int8: SQNR dB",
            "KL",
            "only it in float: SQNR dB",
            "KL it removes",
        ]
        table(f"{model.spec.name} for {target}", [*columns, "int8 saves, µs"], rows)
        say(f"all in int8: SQNR {costs.whole.sqnr:.1f} dB, KL {costs.whole.kl:.2g}, {costs.images} images")
        notes(told)
        if out is not None:
            say(f"written: {', '.join(str(out / name) for name in FILES)}")

    payload = {**as_mapping(costs, model.spec.name, target), "notes": [*model.notes, *told]}
    after = f"zoo export {quoted(source)} --to {target} --int8 --data {quoted(data)} --max-drop 0.5"
    return Outcome(payload, show=show, next=after)


def _stages(
    source: str,
    given: SourceOptions,
    data: str,
    data_root: Path | None,
    criterion: str,
    device: str,
    seed: int,
    out: Path | None,
) -> Outcome:
    from ..report.console import notes, progress, say, table, waiting

    with waiting("loading the model and the data"):
        from ...models.data.catalog import open_data
        from ...models.sources import resolve
        from ..prune.options import known_criterion
        from ..prune.sensitivity import FILES, as_mapping, claim_place, judged_images, save, stage_curves

        known = known_criterion(criterion)
        if out is not None:
            claim_place(out)
        dataset = open_data(data, data_root)
        model = resolve(source, given)
    notes((*dataset.notes, *model.notes))
    with progress("steps") as bar:
        curves = stage_curves(
            model, dataset, criterion=known, seed=seed, device=device,
            progress=lambda done, total: bar("pruning stages", done, total),
        )  # fmt: skip
    images = judged_images(dataset, seed)
    if out is not None:
        save(curves, model.spec.name, criterion, out, images)

    def show() -> None:
        removed = [f"-{share:.0%}" for share in curves[0].removed[1:]]
        rows = [
            [one.stage, str(len(one.layers)), *(f"{reached:.2%}" for reached in one.accuracy[1:])] for one in curves
        ]
        table(f"{model.spec.name}: fewer channels, not trained", ["stage", "groups", *removed], rows)
        say(f"not pruned: {curves[0].accuracy[0]:.2%} of {images:,} training images, which were set aside for this")
        if out is not None:
            say(f"written: {', '.join(str(out / name) for name in FILES)}")

    after = f"zoo prune {quoted(source)} --data {quoted(data)} --macs 0.5 --spread sensitivity"
    return Outcome(as_mapping(curves, model.spec.name, criterion, images), show=show, next=after)
