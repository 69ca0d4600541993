"""What a command is given -> a model: its spec, its module, and which weights were taken.

A source is a name of our registry, a run folder, `torchvision:NAME`, `timm:NAME`, or `package.module:factory`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..config import near
from ..errors import IntegrityError, UnavailableError, UsageError, quoted
from . import weights as weights_io
from .checkpoints import read_for
from .data.dataset import Dataset
from .data.labels import named_by_data
from .factory import call_factory, refuse_foreign
from .hints import no_source
from .logits import check_logits, count_logits, logits_of
from .preprocess import Batch, prepare
from .pretrained import Pretrained, from_timm, from_torchvision, imagenet_weights
from .registry import MODELS, create_model, native_size
from .runs import WEIGHTS, Learned, Origin, Reached, Run, is_run, newest_run, read_run
from .source_options import (
    SourceOptions,
    asked_spec,
    count_of_classes,
    labelled,
    read_spec,
    remembered_spec,
    resize_for,
    shown_shape,
    three_channels,
)
from .spec import ModelSpec, Preprocess, imagenet_preprocess, name_for, numbered_labels
from .widths import resize

__all__ = ["Model", "SourceOptions", "build", "check_logits", "logits_of", "named_by", "rebuild", "resolve", "through"]

Transform = Callable[[Image.Image], Batch]


@dataclass(frozen=True)
class Model:
    """A resolved source.

    Attributes:
        spec: name, input, preprocessing, labels.
        module: in eval mode, float32, on the CPU.
        origin: enough to build the module again.
        weights: which weights were taken, in words.
        transform: the source's own path from an image to a 1 x C x H x W batch; golden logits come through it.
        meaningful: False for random weights, of which no accuracy is judged.
        reached: the accuracy that training measured, where there was one.
        notes: what was assumed or done on the way.
        learned: what training with fake quantisation found.
        fresh: of a model to be trained from weights, the parameters that did not come with them; else None.
    """

    spec: ModelSpec
    module: nn.Module
    origin: Origin
    weights: str
    transform: Transform
    meaningful: bool = True
    reached: Reached | None = None
    notes: tuple[str, ...] = ()
    learned: Learned | None = None
    fresh: frozenset[str] | None = None

    def prepared(self, images: Sequence[Image.Image]) -> Batch:
        """Images as the source's own transforms prepare them: float32 N x C x H x W."""
        return np.concatenate([self.transform(image) for image in images])


def resolve(source: str, options: SourceOptions | None = None) -> Model:
    """Resolve a model source.

    Raises:
        UsageError: an unknown name, a factory that does not give a classifier, weights that do not fit.
        UnavailableError: weights or a library that cannot be had here; the message has the choices.
        IntegrityError: a corrupt weights file.
    """
    options = options or SourceOptions()
    if source.startswith("torchvision:"):
        return _published(source, options, from_torchvision)
    if source.startswith("timm:"):
        return _published(source, options, from_timm)
    if source in MODELS:
        return _own(source, options)
    if is_run(Path(source)):
        return _run(Path(source), options)
    if Path(source).exists():
        raise no_source(Path(source))
    if ":" in source:
        return _factory(source, options)
    if "/" in source:
        raise UsageError(f"{source}: no such run folder", fix="`zoo train` makes one; `zoo list models` has the names")
    raise UsageError(
        f'unknown model source "{source}"{near(source, MODELS)}',
        fix="give a name of `zoo list models`, a run folder, torchvision:NAME, timm:NAME or package.module:factory",
    )


def named_by(model: Model, data: Dataset | None) -> Model:
    """Return the model with the data's class names where it brings none, and a note that says so."""
    if data is None:
        return model
    spec, notes = named_by_data(model.spec, data)
    return replace(model, spec=spec, notes=(*model.notes, *notes))


def build(origin: Origin, *, trusted: bool = True) -> nn.Module:
    """The module of an origin, in eval mode, with whatever weights its factory gives it.

    An origin that was read from a folder is not `trusted`: its factory is imported only from the current folder, so
    that a run or an artifact from elsewhere cannot name any function on this machine and have it called.
    """
    source, arguments = origin.source, dict(origin.arguments)
    if source in MODELS:
        module = create_model(source, **arguments)
    elif source.startswith("torchvision:"):
        module = from_torchvision(source.partition(":")[2], "random", arguments).module
    elif source.startswith("timm:"):
        module = from_timm(source.partition(":")[2], "random", arguments).module
    else:
        if not trusted:
            refuse_foreign(source)
        module = call_factory(source, arguments)
    resize(module, origin.widths)
    return module.eval()


def rebuild(origin: Origin, weights: Path) -> nn.Module:
    """The module of an origin with the weights of a safetensors file, as an artifact keeps them."""
    module = build(origin, trusted=False)
    try:
        weights_io.fit(module, weights_io.read(weights), str(weights))
    except UsageError as error:
        raise IntegrityError(str(error)) from error
    return module


def through(spec: ModelSpec) -> Transform:
    """The path from an image to a batch that a spec tells."""
    return lambda image: prepare([image], spec.preprocess)


def _own(name: str, options: SourceOptions) -> Model:
    wanted = options.weights
    if wanted is None:
        run = newest_run(options.runs, name)
        if run is not None:
            chosen = _run(run, options)
            return replace(chosen, notes=(f"no --weights given: took the newest run of {name}, {run}", *chosen.notes))
        wanted = "imagenet"
    if wanted != "random" and is_run(Path(wanted)):
        run_origin = read_run(Path(wanted)).origin
        if run_origin.source != name:
            raise UsageError(
                f"{wanted} is a run of {run_origin.source}, not of {name}", fix=f"zoo export {quoted(wanted)}"
            )
        return _run(Path(wanted), options)
    if wanted == "imagenet":
        published = _or_choices(lambda: imagenet_weights(name), name, options)
        spec = asked_spec(published.spec.renamed(name), options)
        origin = Origin(name, {**published.arguments, **options.arguments})
        module = build(origin)
        weights_io.fit(module, published.state, published.weights)
        transform = published.transform if spec.preprocess == published.spec.preprocess else through(spec)
        return _checked(Model(spec, module, origin, published.weights, transform), name, options)
    size = native_size(name)
    channels, height, width = options.input or (3, size, size)
    spec = read_spec(options)
    if spec is None:
        three_channels(name, channels)
        preprocess = replace(imagenet_preprocess(size), crop=(height, width), resize=resize_for(height, width))
        outputs = options.arguments.get("num_classes", count_of_classes(options) or 1000)
        spec = labelled(_unnamed(name, (channels, height, width), preprocess, outputs), options)
    origin = Origin(name, {"num_classes": len(spec.labels), **options.arguments})
    return _checked(_with_weights(spec, origin, wanted, options), name, options)


def _unnamed(name: str, shape: tuple[int, int, int], preprocess: Preprocess, outputs: int) -> ModelSpec:
    return ModelSpec(name, shape, preprocess, numbered_labels(outputs), has_class_names=False)


def _checked(model: Model, source: str, options: SourceOptions) -> Model:
    """The model, once it is known to take the input and to have the classes that were asked for."""
    if options.spec is not None or options.labels is not None or options.input is not None:
        check_logits(model.module, model.spec, source)
    return model


def _or_choices(take: Callable[[], Pretrained], name: str, options: SourceOptions) -> Pretrained:
    try:
        return take()
    except UnavailableError as error:
        raise UnavailableError(
            f"no run of {name} under {options.runs}/ and its ImageNet weights cannot be had: {error.what}"
            if options.weights is None
            else error.what,
            fix=f"give --weights RUN, FILE or random, or train it: zoo train {name} --data digits",
        ) from error


def _run(folder: Path, options: SourceOptions) -> Model:
    run: Run = read_run(folder)
    spec = remembered_spec(folder, run.spec, options)
    module = build(run.origin, trusted=False)
    wanted = options.weights
    if wanted in ("imagenet", "random"):
        raise UsageError(f"{folder} is a run and has its own weights", fix=f"leave --weights {wanted} out")
    own = wanted in (None, str(folder))
    taken, notes = _load(module, str(folder if own else wanted))
    reached, learned = (run.reached, run.learned) if own else (None, None)
    taken = f"run {folder}" if own else taken
    return Model(spec, module, run.origin, taken, through(spec), reached=reached, notes=notes, learned=learned)


def _load(module: nn.Module, wanted: str) -> tuple[str, tuple[str, ...]]:
    """Load a run's weights or a user's file into the module; what was taken, in words, and notes of what was done."""
    if is_run(Path(wanted)):
        path, notes = Path(wanted) / WEIGHTS, ()
        state = weights_io.read(path)
    else:
        path = Path(wanted)
        loaded = read_for(module, path)
        state, notes = loaded.state, loaded.notes
    weights_io.fit(module, state, str(path))
    return f"file {path}", notes


def _published(source: str, options: SourceOptions, load: Callable[..., Pretrained]) -> Model:
    name, wanted = source.partition(":")[2], options.weights
    own = wanted in (None, "imagenet")
    classes = count_of_classes(options)
    more = {"num_classes": classes} if classes is not None and not own else {}
    published = load(name, "own" if own else "random", {**more, **options.arguments}, options.seed)
    spec = asked_spec(published.spec, options)
    origin = Origin(source, {**published.arguments, **more, **options.arguments})
    if own:
        transform = published.transform if spec.preprocess == published.spec.preprocess else through(spec)
        model = Model(spec, published.module.eval(), origin, published.weights, transform)
    else:
        model = _with_weights(spec, origin, str(wanted), options, module=published.module)
    return _checked(model, source, options)


def _factory(source: str, options: SourceOptions) -> Model:
    if options.weights == "imagenet":
        raise UsageError(f"{source} has no published ImageNet weights", fix="leave --weights out or give a file")
    module = call_factory(source, options.arguments).eval()
    notes: tuple[str, ...] = ()
    spec = read_spec(options)
    if spec is None:
        shape = options.input or (3, 224, 224)
        three_channels(source, shape[0])
        outputs = count_logits(module, shape, source)
        name = name_for(source)
        preprocess = replace(imagenet_preprocess(), crop=shape[1:], resize=resize_for(*shape[1:]))
        spec = labelled(_unnamed(name, shape, preprocess, outputs), options)
        assumed = [f"input {shown_shape(shape)}"] if options.input is None else []
        assumed += ["ImageNet's mean and std"]
        assumed += [f"{outputs} classes without names"] if options.labels is None else []
        notes = (f"no --spec given: assumed {', '.join(assumed[:-1])}{' and ' if assumed[1:] else ''}{assumed[-1]}",)
    check_logits(module, spec, source)
    origin = Origin(source, dict(options.arguments))
    if options.weights is None:
        return Model(spec, module, origin, "weights from your factory", through(spec), notes=notes)
    model = _with_weights(spec, origin, options.weights, options, module=module)
    return replace(model, notes=(*notes, *model.notes))


def _with_weights(
    spec: ModelSpec, origin: Origin, wanted: str, options: SourceOptions, module: nn.Module | None = None
) -> Model:
    if wanted == "random":
        if module is None or origin.source not in MODELS:
            torch.manual_seed(options.seed)
            module = build(origin)
        weights_io.random_statistics(module, spec.input, options.seed)
        taken = f"random, seed {options.seed}"
        return Model(spec, module, origin, taken, through(spec), meaningful=False)
    module = module if module is not None else build(origin)
    taken, notes = _load(module, wanted)
    return Model(spec, module.eval(), origin, taken, through(spec), notes=notes)
