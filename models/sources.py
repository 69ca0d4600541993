"""What a command is given -> a model: its spec, its module, and which weights were taken.

A source is a name of our registry, a run folder, `torchvision:NAME`, `timm:NAME`, or `package.module:factory`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..config import from_toml, near
from ..errors import IntegrityError, UnavailableError, UsageError, one_line
from . import weights as weights_io
from .factory import call_factory, refuse_foreign
from .preprocess import Batch, prepare
from .pretrained import Pretrained, from_timm, from_torchvision, imagenet_weights
from .registry import MODELS, create_model, native_size
from .runs import WEIGHTS, Learned, Origin, Reached, Run, is_run, newest_run, read_run
from .spec import ModelSpec, imagenet_preprocess, numbered_labels
from .widths import resize

Transform = Callable[[Image.Image], Batch]


@dataclass(frozen=True)
class SourceOptions:
    """How to resolve a source.

    Attributes:
        weights: a run folder, a file, "imagenet", "random", or None for the source's own default.
        input: channels, height, width of a model that does not bring them.
        spec: a spec.toml for a user's own model.
        labels: class names in the order of the model's outputs, instead of those that it brings.
        arguments: for the factory: num_classes, stem, width, ...
        seed: of random weights.
        runs: where runs are looked for when no weights are named.
    """

    weights: str | None = None
    input: tuple[int, int, int] | None = None
    spec: Path | None = None
    labels: tuple[str, ...] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    runs: Path = Path("runs")


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
    if Path(source).is_file() and source.endswith(".zoo"):
        raise UsageError(f"{source} is a package, which runs by itself", fix=f"python {source} predict IMAGE")
    if Path(source).exists():
        raise UsageError(f"{source} is no run folder (it has no run.json)", fix="give a run, or a name of `zoo list`")
    if ":" in source:
        return _factory(source, options)
    if "/" in source:
        raise UsageError(f"{source}: no such run folder", fix="`zoo train` makes one; `zoo list models` has the names")
    raise UsageError(
        f'unknown model source "{source}"{near(source, MODELS)}',
        fix="give a name of `zoo list models`, a run folder, torchvision:NAME, timm:NAME or package.module:factory",
    )


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
        weights_io.fit(module, weights_io.read(weights).state, str(weights))
    except UsageError as error:
        raise IntegrityError(str(error)) from error
    return module


def logits_of(module: nn.Module, batch: Batch) -> Batch:
    """Float32 N x C x H x W -> logits N x K, in numpy, without gradients."""
    try:
        with torch.inference_mode():
            logits = module(torch.from_numpy(batch))
    except Exception as error:  # whatever a forward raises
        raise UsageError(
            f"the model cannot take a batch of {batch.shape}: {type(error).__name__}: {one_line(error)}",
            fix="give --input, or a --spec that fits it",
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(batch):
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UsageError(
            f"the model gives {got} for a batch of {batch.shape}, not logits N x K",
            fix="wrap it in a module whose forward returns one tensor of logits",
        )
    if logits.shape[1] == 0 or logits.is_meta or not logits.is_floating_point():
        raise UsageError(f"the model gives {logits.dtype} {tuple(logits.shape)} on {logits.device}, not logits N x K")
    return logits.float().numpy()


def _own_shape(what: object, spec: ModelSpec, options: SourceOptions) -> None:
    if options.spec is not None:
        raise UsageError(f"{what} brings its own spec", fix=f"leave --spec {options.spec} out")
    if options.input is not None and options.input != spec.input:
        raise UsageError(f"--input {options.input} contradicts {what}, which takes {spec.input}", fix="leave it out")


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
            raise UsageError(f"{wanted} is a run of {run_origin.source}, not of {name}", fix=f"zoo export {wanted}")
        return _run(Path(wanted), options)
    if wanted == "imagenet":
        published = _or_choices(lambda: imagenet_weights(name), name, options)
        _own_shape(published.weights, published.spec, options)
        origin = Origin(name, {**published.arguments, **options.arguments})
        module = build(origin)
        weights_io.fit(module, published.state, published.weights)
        return Model(published.spec.renamed(name), module, origin, published.weights, published.transform)
    size = native_size(name)
    channels, height, width = options.input or (3, size, size)
    _three_channels(name, channels)
    spec = _spec_from(options) or ModelSpec(
        name,
        (channels, height, width),
        replace(imagenet_preprocess(size), crop=(height, width), resize=_resize_for(height, width)),
        numbered_labels(options.arguments.get("num_classes", 1000)),
    )
    origin = Origin(name, {"num_classes": len(spec.labels), **options.arguments})
    return _with_weights(spec, origin, wanted, options)


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
    _own_shape(folder, run.spec, options)
    module = build(run.origin, trusted=False)
    wanted = options.weights
    if wanted in (None, str(folder)):
        path, taken, reached, notes = folder / WEIGHTS, f"run {folder}", run.reached, ()
        learned = run.learned
        loaded = weights_io.read(path)
    elif wanted in ("imagenet", "random"):
        raise UsageError(f"{folder} is a run and has its own weights", fix=f"leave --weights {wanted} out")
    else:
        path, reached, learned = Path(str(wanted)), None, None
        path = path / WEIGHTS if is_run(path) else path
        loaded = weights_io.read(path)
        taken, notes = f"file {path}", loaded.notes
    weights_io.fit(module, loaded.state, str(path))
    spec = run.spec
    return Model(spec, module, run.origin, taken, through(spec), reached=reached, notes=notes, learned=learned)


def _published(source: str, options: SourceOptions, load: Callable[..., Pretrained]) -> Model:
    library, _, name = source.partition(":")
    wanted = options.weights
    published = load(name, "random" if wanted not in (None, "imagenet") else "own", options.arguments, options.seed)
    spec = _spec_from(options) or published.spec
    if options.input is not None and options.input != spec.input:
        spec = _reshaped(spec, options.input)
    origin = Origin(source, {**published.arguments, **options.arguments})
    if wanted in (None, "imagenet"):
        transform = published.transform if spec == published.spec else through(spec)
        return Model(spec, published.module.eval(), origin, published.weights, transform)
    del library
    return _with_weights(spec, origin, str(wanted), options, module=published.module)


def _factory(source: str, options: SourceOptions) -> Model:
    if options.weights == "imagenet":
        raise UsageError(f"{source} has no published ImageNet weights", fix="leave --weights out or give a file")
    module = call_factory(source, options.arguments).eval()
    notes: tuple[str, ...] = ()
    spec = _spec_from(options)
    if spec is None:
        channels, height, width = options.input or (3, 224, 224)
        _three_channels(source, channels)
        probe = logits_of(module, np.zeros((2, channels, height, width), np.float32))
        spec = ModelSpec(
            source.replace(":", "-").replace(".", "-"),
            (channels, height, width),
            replace(imagenet_preprocess(), crop=(height, width), resize=_resize_for(height, width)),
            numbered_labels(probe.shape[1]),
        )
        notes = (
            f"no --spec given: assumed input {channels}x{height}x{width}, ImageNet's mean and std, "
            f"and {probe.shape[1]} numbered classes",
        )
    check_logits(module, spec, source)
    origin = Origin(source, dict(options.arguments))
    if options.weights is None:
        return Model(spec, module, origin, "what the factory returned", through(spec), notes=notes)
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
    path = Path(wanted)
    path = path / WEIGHTS if is_run(path) else path
    loaded = weights_io.read(path)
    weights_io.fit(module, loaded.state, str(path))
    return Model(spec, module.eval(), origin, f"file {path}", through(spec), notes=loaded.notes)


def _spec_from(options: SourceOptions) -> ModelSpec | None:
    if options.spec is None:
        return None
    spec = from_toml(ModelSpec, options.spec)
    if options.input is not None and options.input != spec.input:
        raise UsageError(f"--input {options.input} contradicts {options.spec}, which has {spec.input}")
    return spec


def check_logits(module: nn.Module, spec: ModelSpec, source: str) -> None:
    """Refuse a module that gives other than one logit for each label of `spec`; raises UsageError."""
    was_training = module.training
    module.eval()
    logits = logits_of(module, np.zeros((2, *spec.input), np.float32))
    module.train(was_training)
    if logits.shape[1] != len(spec.labels):
        raise UsageError(
            f"{source} gives {logits.shape[1]} logits, but there are {len(spec.labels)} classes",
            fix="give the factory the number of classes, or a --spec with as many labels",
        )


def _three_channels(source: str, channels: int) -> None:
    if channels != 3:
        raise UsageError(f"{source}: {channels} input channels need a --spec with mean and std per channel")


def _resize_for(height: int, width: int) -> int | tuple[int, int]:
    return round(height * 256 / 224) if height == width else (height, width)


def _reshaped(spec: ModelSpec, shape: tuple[int, int, int]) -> ModelSpec:
    if shape[0] != spec.input[0]:
        raise UsageError(f"{spec.name} takes {spec.input[0]} channels, --input has {shape[0]}")
    preprocess = replace(spec.preprocess, crop=shape[1:], resize=_resize_for(*shape[1:]))
    return replace(spec, input=shape, preprocess=preprocess)
