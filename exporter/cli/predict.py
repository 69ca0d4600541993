"""`zoo predict`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ...errors import GateError, UsageError
from .main import Debug, Device, Json, Outcome, Seed, choose_device, need_torch
from .source_options import Input, Labels, Spec, Weights, source_options


def predict(
    what: Annotated[
        str, typer.Argument(metavar="SOURCE|ARTIFACT", help="A run, an artifact, or another model source.")
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    top: Annotated[int, typer.Option(min=1, help="How many answers per image.")] = 5,
    weights: Weights = None,
    input_: Input = None,
    spec: Spec = None,
    labels: Labels = None,
    device: Device = "auto",
    seed: Seed = 0,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:
    """Show the top answers for image files, with their probability."""
    del debug, json
    import numpy as np

    from ...models.preprocess import batch_to_pixels, decode, orientation
    from ..load import is_artifact, open_any
    from ..report.console import notes, table, waiting

    _refuse_swapped(what, images)
    decoded = [decode(path) for path in images]  # all of them before the model: a bad file should not cost a minute
    options = source_options(weights=weights, input_=input_, spec=spec, labels=labels, seed=seed)
    where = str(device)
    if not is_artifact(what):  # an artifact runs where there is no torch too
        need_torch("zoo predict of a model source")
        where = choose_device(device)
    with waiting("predicting"), open_any(what, options, where) as opened:
        before = opened.spec.preprocess
        logits = np.concatenate([opened.runner.run(batch_to_pixels([image], before)) for image in decoded])
        names, name = opened.spec.labels, opened.what
        remarks = [*(opened.model.notes if opened.model else ())]
        remarks += [] if opened.meaningful else ["the weights are random: these answers mean nothing"]
        unnamed = f"{opened.spec.name} brings no class names: answers are numbers of outputs; --labels names them"
        remarks += [] if opened.spec.has_class_names else [unnamed]
    turned = [str(path) for path, image in zip(images, decoded, strict=True) if orientation(image) != 1]
    if turned:
        more = f" and {len(turned) - 1} more" if turned[1:] else ""
        remarks.append(f"{turned[0]}{more}: read as stored, the EXIF orientation is not applied, as in training")
    if not np.isfinite(logits).all():
        raise GateError(f"{name} gives NaN or infinity", fix="train it again, or check its weights")
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = shifted / shifted.sum(1, keepdims=True)
    answers = [
        {
            "image": str(path),
            "top": [
                {"label": names[i], "index": int(i), "probability": float(row[i])}
                for i in np.argsort(-row, kind="stable")[:top]
            ],
        }
        for path, row in zip(images, probabilities, strict=True)
    ]

    def show() -> None:
        rows = [
            [answer["image"] if place == 0 else "", str(one["label"]), f"{one['probability']:.2%}"]
            for answer in answers
            for place, one in enumerate(answer["top"])
        ]
        table(name, ["image", "answer", "probability"], rows)
        notes(remarks)

    return Outcome({"model": name, "notes": remarks, "predictions": answers}, show=show)


def _refuse_swapped(what: str, images: list[Path]) -> None:
    """Raise UsageError where an image was given for the model, and the model among the images."""
    from ...models.data.layout import is_image

    others = [path for path in images if not is_image(path)]
    if is_image(Path(what)) and others:
        rest = [what, *(str(path) for path in images if path != others[0])]
        raise UsageError(
            f"{what} is an image, and {others[0]} is none: the model comes first",
            fix=f"zoo predict {shlex.join([str(others[0]), *rest])}",
        )
