"""How `zoo train` and `zoo.train` set a training up: what is trained, by which recipe, in which folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..calibration.pruning.sparsity import layers_2_4
from ..calibration.qat import QatOptions
from ..config import from_mapping, from_toml, parse_setting
from ..errors import UsageError
from ..models.fresh import new_model
from ..models.registry import MODELS
from ..models.runs import is_run, read_run
from ..models.sources import Model, SourceOptions
from ..models.spec import ModelSpec
from ..models.training.picture_size import small_input
from ..models.training.recipe import Recipe, default_recipe, load_recipe
from ..models.training.setup import data_in_order, spec_for_training, stem_arguments
from ..models.training.start import Recovery
from .quantize.initial import suitable_bits
from .quantize.qat import QatStandin, qat_recipe
from .timing.machine import cpu_flags

if TYPE_CHECKING:
    from ..models.data.dataset import Dataset

QAT_RECIPE = "qat"


@dataclass(frozen=True)
class Asked:
    """What a training is asked for.

    Attributes:
        source: a model source.
        weights: a run, a file or imagenet to start from.
        recipe: a name or a TOML file; None for what suits the data.
        overrides: key=value, of the recipe; qat.key=value of `QatOptions`.
        values: of the recipe, where they are not None.
        shape: C, H, W; None for what suits the data.
        spec: a spec.toml with input and preprocessing of a user's own model.
        labels: class names in the order that the model's outputs are to have; None for the data's.
        stem: "paper" or "small"; None for what suits the input.
        seed: of initialisation.
        qat: the target to train with fake quantisation for; None for training in float.
    """

    source: str
    weights: str | None = None
    recipe: str | None = None
    overrides: Iterable[str] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, int, int] | None = None
    spec: Path | None = None
    labels: tuple[str, ...] | None = None
    stem: str | None = None
    seed: int = 0
    qat: str | None = None


@dataclass(frozen=True)
class Training:
    """A training, set up.

    Attributes:
        model: with the weights it starts from.
        data: with the classes in the order of the model's outputs.
        recipe: in numbers.
        named: the recipe's name.
        parent: the run that the weights came from, "" where there is none.
        standin: what is trained in the module's place.
        folder: where it goes when nobody says.
        sparse: weights that came 2:4 sparse, and stay so.
    """

    model: Model
    data: Dataset
    recipe: Recipe
    named: str
    parent: str
    standin: QatStandin | None
    folder: Path
    sparse: tuple[str, ...] = ()

    @property
    def recovery(self) -> Recovery:
        """What the loop is told of the weights that stay zero."""
        return Recovery(sparse=self.sparse)


def set_up(asked: Asked, data: Dataset) -> Training:
    """Resolve what was asked for; nothing is written.

    Weights of a run of the same model bring its stem, its input and its preprocessing.

    Raises:
        UsageError: an unknown source, recipe or setting; fake quantisation from scratch.
        UnavailableError, IntegrityError: weights that cannot be had, or that are corrupt.
    """
    source, overrides, own = asked.source, [], {}
    for text in asked.overrides:
        key, value = parse_setting(text, "lr=0.05")
        if key.startswith("qat.") and asked.qat is not None:
            own[key.removeprefix("qat.")] = value
        else:
            overrides.append(text)
    run = Path(asked.weights) if asked.weights and is_run(Path(asked.weights)) else None
    if run is not None and asked.stem is None and read_run(run).origin.source == source:
        source = str(run)
    parent = str(run) if run is not None else source if is_run(Path(source)) else ""
    if "target" in own:
        raise UsageError("--set qat.target is said with --for", fix=f"--for {own['target']}")
    if asked.qat is not None and asked.weights in (None, "random") and not parent:
        raise UsageError(f"--qat fine-tunes, {source} would start fresh", fix="give --weights RUN, FILE or imagenet")
    given = from_toml(ModelSpec, asked.spec) if asked.spec is not None else None
    names = given.labels if given is not None and given.has_class_names else None
    if names is None and parent and {*(kept := read_run(Path(parent)).spec.labels)} == {*data.classes}:
        names = kept  # the head that is trained on has its outputs in this order
    data = data_in_order(data, asked.labels or names)
    spec, sized = _spec_of(source, asked, data, given)
    named = asked.recipe or (QAT_RECIPE if asked.qat else default_recipe(spec.input[1], len(data.train), source))
    recipe = load_recipe(named, overrides, **asked.values)
    standin = None
    if asked.qat is not None:
        recipe = qat_recipe(recipe)
        own = {"bits": suitable_bits(asked.qat, cpu_flags()), **own, "target": asked.qat}
        standin = QatStandin(from_mapping(QatOptions, own, "--set qat"), spec, data)
    options = SourceOptions(weights=asked.weights, arguments=stem_arguments(source, asked.stem, spec), seed=asked.seed)
    model = new_model(source, spec, options)
    if sized:
        model = replace(model, notes=(sized, *model.notes))
    sparse = tuple(f"{name}.weight" for name in layers_2_4(model.module)) if model.fresh is not None else ()
    if sparse:
        kept = "fake quantisation does not keep that" if standin is not None else "these zeros stay"
        model = replace(model, notes=(*model.notes, f"{len(sparse)} layers came 2:4 sparse: {kept}"))
    folder = Path("runs") / f"{spec.name}-{Path(data.name).name}{'-qat' if asked.qat else ''}"
    return Training(model, data, recipe, named, parent, standin, folder, () if standin is not None else sparse)


def _spec_of(source: str, asked: Asked, data: Dataset, given: ModelSpec | None) -> tuple[ModelSpec, str]:
    """Return the spec to train with, and a note where the pictures made the input smaller than the network's own.

    What a person, a run or weights say is never changed; and of networks that are not zoo's own some take one size
    only, which is tried.
    """
    spec = spec_for_training(source, data, asked.shape, given)
    fixed = asked.shape is not None or given is not None or asked.weights not in (None, "random")
    small = None if fixed or is_run(Path(source)) else small_input(source, data)
    if small is None:
        return spec, ""
    smaller = spec_for_training(source, data, small.shape)
    if source not in MODELS:
        try:
            new_model(source, smaller, SourceOptions(seed=asked.seed))
        except UsageError:
            return spec, ""
    return smaller, small.note


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
