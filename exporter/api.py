"""The two calls of the Python API that join what the commands do in several: train and load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .artifact import read_manifest
from .backends import get_backend
from .backends.runner import Runner


def load(folder: str | Path, device: str = "cpu") -> Runner:
    """A runner for an artifact folder; hashes are verified, and `with` opens it.

    Raises:
        UsageError: no artifact there.
        IntegrityError: a file of it was changed.
        UnavailableError: its backend or the device is not available here.
    """
    return get_backend(read_manifest(Path(folder)).backend).load(Path(folder), device)


def train(
    source: str,
    data: str,
    out: str | Path,
    *,
    recipe: str | None = None,
    input: tuple[int, int, int] | None = None,  # noqa: A002 - the name of the command's option
    spec: str | Path | None = None,
    labels: Sequence[str] | None = None,
    stem: str | None = None,
    weights: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    freeze: str = "",
    qat: str | None = None,
    **values: Any,
) -> Any:
    """Train a classifier as `zoo train` does, and return what run.json holds.

    Args:
        source: a name of `zoo list models`, a run folder, torchvision:NAME or module:factory.
        data: a name of `zoo list data`, or a folder.
        out: the run folder.
        recipe: a name or a TOML file; else the one that suits the data.
        input: channels, height, width; else what suits the data.
        spec: a spec.toml with input and preprocessing of your own model.
        labels: class names in the order that the outputs are to have; else the data's.
        stem: "paper" or "small"; else what suits the input.
        weights: a run, a file or "imagenet" to start from.
        device: "cpu" or "cuda".
        seed: of initialisation, order and augmentation.
        resume: go on from the checkpoint in `out`; without one yet, start.
        overwrite: replace the run in `out`.
        freeze: the last module that stays as `weights` have it.
        qat: a target (onnx, torchscript, trt) to train with fake quantisation for, from `weights`.
        **values: of the recipe, such as epochs=3 or lr=0.05.

    Raises:
        UsageError, UnavailableError, IntegrityError: as the command.
    """
    from ..models.data.catalog import open_data
    from ..models.training.loop import train as train_model
    from .training import Asked, set_up

    dataset = open_data(data)
    asked = Asked(
        source, weights, recipe, values=values, shape=input, spec=None if spec is None else Path(spec),
        labels=None if labels is None else tuple(labels), stem=stem, seed=seed, qat=qat,
    )  # fmt: skip
    made = set_up(asked, dataset)
    return train_model(
        made.model, made.data, made.recipe, Path(out), device=device, seed=seed, resume=resume, overwrite=overwrite,
        parent=made.parent, freeze=freeze, standin=made.standin, recovery=made.recovery,
    )  # fmt: skip
