"""What a training from scratch starts with when nobody says: input, preprocessing and stem that suit the data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ..data.dataset import Dataset
from ..registry import MODELS, native_size, stem_for
from ..runs import is_run, read_run
from ..spec import ModelSpec, imagenet_preprocess

if TYPE_CHECKING:
    from ..sources import Model


def spec_for_training(source: str, data: Dataset, shape: tuple[int, int, int] | None) -> ModelSpec:
    """The spec of a model that is to be trained on `data`.

    A run keeps its own input and preprocessing; otherwise small data sets bring theirs, and photographs are shown at
    the size the model was published for.
    """
    if is_run(Path(source)):
        spec = read_run(Path(source)).spec
        if shape is not None and shape != spec.input:
            raise UsageError(f"--input {shape} contradicts {source}, which takes {spec.input}")
        return replace(spec, labels=data.classes)
    name = source.replace(":", "-").replace(".", "-").replace("/", "-")
    preprocess = data.preprocess
    if preprocess.crop == (224, 224) and source in MODELS:
        preprocess = imagenet_preprocess(native_size(source))
    if shape is not None:
        if shape[0] != 3:
            raise UsageError(f"--input {shape}: images are shown in 3 channels")
        resize = min(shape[1:]) if preprocess.crop != shape[1:] else preprocess.resize
        if preprocess.crop[0] > 64:
            resize = round(min(shape[1:]) * 256 / 224)
        preprocess = replace(preprocess, crop=shape[1:], resize=resize)
    return ModelSpec(name, (preprocess.depth, *preprocess.crop), preprocess, data.classes)


def refuse_untrainable(model: Model, data: Dataset) -> None:
    """Raise UsageError where there are no images to learn from, or nothing that could learn."""
    if len(data.train) < 2:
        raise UsageError(f"{data.name} has {len(data.train)} images to train on", fix="add a train/ folder")
    if not any(parameter.requires_grad for parameter in model.module.parameters()):
        raise UsageError(f"{model.spec.name} has no parameters to train", fix="unfreeze some of them")


def stem_arguments(source: str, stem: str | None, spec: ModelSpec) -> dict[str, Any]:
    """The argument `stem` of our own models; other sources have none."""
    if source not in MODELS:
        if stem is not None:
            raise UsageError(f"--stem is for zoo's own models, {source} has none")
        return {}
    return {"stem": stem or stem_for(min(spec.input[1:]))}
