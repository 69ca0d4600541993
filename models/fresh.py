"""A model to be trained: an architecture for the classes at hand, from nothing or from weights of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from . import weights as weights_io
from .checkpoints import Loaded, read_for
from .logits import check_logits
from .pretrained import imagenet_weights
from .registry import MODELS
from .runs import WEIGHTS, Narrowed, Origin, Run, Width, is_run, read_run
from .sources import Model, SourceOptions, build, resolve, through
from .spec import ModelSpec


def new_model(source: str, spec: ModelSpec, options: SourceOptions) -> Model:
    """A model to be trained: the source's architecture with the classes and the input of `spec`, freshly initialised.

    With `options.weights` it starts from those; a last layer for other classes is left out and named in a note.
    """
    torch.manual_seed(options.seed)
    classes = len(spec.labels)
    kind = source.partition(":")[0]
    takes_classes = source in MODELS or kind in ("torchvision", "timm")
    arguments = {**({"num_classes": classes} if takes_classes else {}), **options.arguments}
    origin = Origin(source, arguments)
    if is_run(Path(source)):
        run = read_run(Path(source))
        more = {"num_classes": classes} if ":" not in run.origin.source else {}
        arguments = {**run.origin.arguments, **more, **options.arguments}
        origin = replace(run.origin, arguments=arguments, widths=_for_classes(run, classes))
        options = replace(options, weights=options.weights or source)
    elif not takes_classes and ":" not in source:
        resolve(source, options)  # raises with the choices
    module = build(origin, trusted=origin.source == source)
    check_logits(module, spec, source)
    notes: tuple[str, ...] = ()
    fresh: frozenset[str] | None = None
    taken = f"fresh initialisation, seed {options.seed}"
    if options.weights not in (None, "random"):
        found = _start_weights(module, origin.source, str(options.weights))
        state, dropped = _without_other_classes(module, found.state)
        missing = {name: value for name, value in module.state_dict().items() if name in dropped}
        weights_io.fit(module, {**state, **missing}, str(options.weights))
        taken = f"started from {options.weights}"
        notes, fresh = found.notes, frozenset(dropped)
        if dropped:
            notes += (f"other classes: {', '.join(dropped)} start fresh",)
    named = spec.renamed(spec.name or source)
    return Model(named, module, origin, taken, through(named), notes=notes, fresh=fresh)


def _for_classes(run: Run, classes: int) -> dict[str, Width | Narrowed]:
    """Return a pruned run's widths for another number of classes.

    `Narrowed` says nothing of an axis that was not narrowed; the older form names the outputs of the last layer too.
    """
    before = len(run.spec.labels)
    heads = {name for name, part in build(replace(run.origin, widths={}), trusted=False).named_modules()
             if isinstance(part, nn.Linear) and part.out_features == before}  # fmt: skip
    return {
        name: width if isinstance(width, Narrowed) else (width[0], classes if name in heads else width[1], width[2])
        for name, width in run.origin.widths.items()
    }


def _start_weights(module: nn.Module, source: str, wanted: str) -> Loaded:
    if wanted == "imagenet":
        name = source.partition(":")[2] or source
        return Loaded(imagenet_weights(name).state, ())
    if is_run(Path(wanted)):
        return Loaded(weights_io.read(Path(wanted) / WEIGHTS), ())
    return read_for(module, Path(wanted))


def _without_other_classes(module: nn.Module, state: weights_io.State) -> tuple[weights_io.State, Sequence[str]]:
    """Drop the last linear layers of `state` whose number of classes is not the module's."""
    wanted = module.state_dict()
    heads = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    dropped = [
        name
        for name in state
        if name in wanted and name.rpartition(".")[0] in heads and state[name].shape[1:] == wanted[name].shape[1:]
        if state[name].shape[0] != wanted[name].shape[0]
    ]
    return {name: value for name, value in state.items() if name not in dropped}, dropped
