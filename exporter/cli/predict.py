"""`zoo predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...errors import GateError
from .shell import Debug, Device, Json, Outcome, Seed, choose_device, need_torch


def predict(
    what: Annotated[
        str, typer.Argument(metavar="SOURCE|ARTIFACT", help="A run, an artifact, or another model source.")
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    top: Annotated[int, typer.Option(min=1, help="How many answers per image.")] = 5,
    weights: Annotated[str | None, typer.Option(help="As for zoo export.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:
    """Show the top answers for image files, with their probability."""
    del debug, json
    import numpy as np

    from ...models.preprocess import batch_to_pixels, decode
    from ..opened import is_artifact, open_any
    from ..report.console import notes, table

    decoded = [decode(path) for path in images]  # all of them before the model: a bad file should not cost a minute
    options, where = None, str(device)
    if not is_artifact(what):  # an artifact runs where there is no torch too
        need_torch("zoo predict of a model source")
        from ...models.sources import SourceOptions

        options, where = SourceOptions(weights=weights, seed=seed), choose_device(device)
    with open_any(what, options, where) as opened:
        before = opened.spec.preprocess
        logits = np.concatenate([opened.runner.run(batch_to_pixels([image], before)) for image in decoded])
        labels, name = opened.spec.labels, opened.what
        remarks = [*(opened.model.notes if opened.model else ())]
        remarks += [] if opened.meaningful else ["the weights are random: these answers mean nothing"]
    if not np.isfinite(logits).all():
        raise GateError(f"{name} gives NaN or infinity", fix="train it again, or check its weights")
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = shifted / shifted.sum(1, keepdims=True)
    answers = [
        {
            "image": str(path),
            "top": [
                {"label": labels[i], "index": int(i), "probability": float(row[i])}
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
