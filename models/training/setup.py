"""What a training from scratch starts with when nobody says: input, preprocessing and stem that suit the data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ..data.dataset import ArraySplit, Dataset, FileSplit, Split
from ..data.labels import Unmatched, match_labels
from ..registry import MODELS, SMALL_INPUT, native_size, stem_for
from ..runs import is_run, read_run
from ..spec import ModelSpec, imagenet_preprocess, name_for

if TYPE_CHECKING:
    from ..sources import Model


def spec_for_training(
    source: str, data: Dataset, shape: tuple[int, int, int] | None, given: ModelSpec | None = None
) -> ModelSpec:
    """Return the spec of a model that is to be trained on `data`.

    A run keeps its own input and preprocessing, and a spec that is given is taken as it is; otherwise small data sets
    bring theirs, and photographs are shown at the size the model was published for.

    Args:
        source: of the model.
        data: whose classes, in their order, are the model's.
        shape: C, H, W that was asked for.
        given: of a user's own spec.toml.

    Raises:
        UsageError: two of these contradict each other.
    """
    if given is not None:
        if is_run(Path(source)):
            raise UsageError(f"{source} is a run and brings its own spec", fix="leave --spec out")
        if shape is not None and shape != given.input:
            raise UsageError(f"--input {_told(shape)} contradicts --spec, which has {_told(given.input)}")
        if len(data.classes) != len(given.labels):
            raise UsageError(
                f"--spec has {len(given.labels)} outputs, but there are {len(data.classes)} classes to learn",
                fix="give the spec a label for each class",
            )
        return given.with_labels(data.classes)
    if is_run(Path(source)):
        spec = read_run(Path(source)).spec
        if shape is not None and shape != spec.input:
            raise UsageError(f"--input {_told(shape)} contradicts {source}, which takes {_told(spec.input)}")
        return replace(spec, labels=data.classes, has_class_names=True)
    name = name_for(source)
    preprocess = data.preprocess
    if preprocess.crop == (224, 224) and source in MODELS:
        preprocess = imagenet_preprocess(native_size(source))
    if shape is not None:
        if shape[0] != 3:
            raise UsageError(f"--input {_told(shape)}: images are shown in 3 channels", fix="give a --spec")
        resize = min(shape[1:]) if preprocess.crop != shape[1:] else preprocess.resize
        if min(preprocess.crop[0], *shape[1:]) > SMALL_INPUT:  # of photographs a margin is cut off
            resize = round(min(shape[1:]) * 256 / 224)
        preprocess = replace(preprocess, crop=shape[1:], resize=resize)
    return ModelSpec(name, (preprocess.depth, *preprocess.crop), preprocess, data.classes)


def data_in_order(data: Dataset, labels: tuple[str, ...] | None) -> Dataset:
    """Return the data with its classes in the order of `labels`, as outputs of a model will have it.

    Args:
        data: any.
        labels: names that the data's classes are among, by name; None for the data's own order.

    Raises:
        UsageError: classes of the data that are not among them.
    """
    if labels is None or labels == data.classes:
        return data
    if len(set(labels)) < len(labels):
        twice = next(name for name in labels if labels.count(name) > 1)
        raise UsageError(f'the labels name "{twice}" more than once', fix="give each output a name of its own")
    matched = match_labels(labels, data.classes)
    if isinstance(matched, Unmatched):
        raise UsageError(
            f"the labels do not belong to {data.name}: {matched.reason}", fix="name them as the data's classes"
        )

    def in_order(split: Split) -> Split:
        assert isinstance(split, ArraySplit | FileSplit)
        return replace(split, labels=matched.index[split.labels])

    return replace(data, classes=labels, train=in_order(data.train), val=in_order(data.val))


def _told(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))


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
