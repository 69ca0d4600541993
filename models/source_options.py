"""What is asked of a model source beside its name, and what that makes of the spec that it brings; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..config import from_toml
from ..errors import UsageError
from .spec import ModelSpec

Shape = tuple[int, int, int]


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
    input: Shape | None = None
    spec: Path | None = None
    labels: tuple[str, ...] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    runs: Path = Path("runs")


def read_spec(options: SourceOptions) -> ModelSpec | None:
    """Return the spec of --spec with the names of --labels; None where no --spec is given.

    Raises:
        UsageError: a spec that cannot be, or that another option contradicts.
    """
    if options.spec is None:
        return None
    spec = from_toml(ModelSpec, options.spec)
    if options.input is not None and options.input != spec.input:
        raise UsageError(
            f"--input {shown_shape(options.input)} contradicts {options.spec}, which has {shown_shape(spec.input)}",
            fix="leave --input out",
        )
    return labelled(spec, options)


def count_of_classes(options: SourceOptions) -> int | None:
    """How many classes --labels or --spec ask for; None where neither is given."""
    if options.labels is not None:
        return len(options.labels)
    spec = read_spec(options)
    return len(spec.labels) if spec is not None else None


def asked_spec(brought: ModelSpec, options: SourceOptions) -> ModelSpec:
    """Return the spec that a source brings, as --spec, --input and --labels change it; raises UsageError."""
    given = read_spec(options)
    if given is not None:
        return given
    if options.input is not None and options.input != brought.input:
        if options.input[0] != brought.input[0]:
            raise UsageError(
                f"{brought.name} takes {brought.input[0]} channels, --input has {options.input[0]}",
                fix="give a --spec with mean and std per channel",
            )
        size = options.input[1:]
        preprocess = replace(brought.preprocess, crop=size, resize=resize_for(*size))
        brought = replace(brought, input=options.input, preprocess=preprocess)
    return labelled(brought, options)


def labelled(spec: ModelSpec, options: SourceOptions) -> ModelSpec:
    """Return the spec with the names of --labels, where they are given.

    Raises:
        UsageError: not one name for each output, or a name that cannot be printed.
    """
    if options.labels is None:
        return spec
    try:
        return spec.with_labels(options.labels)
    except ValueError as error:
        raise UsageError(f"--labels: {error}", fix="give one printable name for each output, in their order") from error


def remembered_spec(what: object, spec: ModelSpec, options: SourceOptions) -> ModelSpec:
    """Return the spec of a run or an artifact, which remembers it; --labels may name classes that have no names yet.

    Raises:
        UsageError: an option contradicts what the folder remembers.
    """
    if options.input is not None and options.input != spec.input:
        raise UsageError(
            f"--input {shown_shape(options.input)} contradicts {what}, which takes {shown_shape(spec.input)}",
            fix="leave it out",
        )
    given = read_spec(replace(options, input=None, labels=None))
    if given is not None and given.renamed(spec.name) != spec:
        differing = [
            name for name in ("input", "preprocess", "labels") if getattr(given, name) != getattr(spec, name)
        ] or ["has_class_names"]
        only_names = differing in (["labels"], ["has_class_names"])
        if not (only_names and not spec.has_class_names and len(given.labels) == len(spec.labels)):
            raise UsageError(
                f"--spec {options.spec} contradicts {what}, which remembers its own: "
                f"{' and '.join(differing)} {'differ' if len(differing) > 1 else 'differs'}",
                fix="leave --spec out",
            )
        spec = given.renamed(spec.name)
    if options.labels is not None and spec.has_class_names and options.labels != spec.labels:
        raise UsageError(
            f"--labels contradicts {what}, which remembers its own class names ({few(spec.labels)})",
            fix="leave --labels out",
        )
    return labelled(spec, options)


def three_channels(source: str, channels: int) -> None:
    """Raise UsageError for channels whose mean and std nobody gave."""
    if channels != 3:
        raise UsageError(f"{source}: {channels} input channels need a --spec with mean and std per channel")


def resize_for(height: int, width: int) -> int | tuple[int, int]:
    """The resize that goes with a crop of this size, in the proportion of ImageNet's 256 to 224."""
    return round(height * 256 / 224) if height == width else (height, width)


def shown_shape(shape: Shape) -> str:
    """An input as --input takes it: 3x224x224."""
    return "x".join(map(str, shape))


def few(names: tuple[str, ...], most: int = 5) -> str:
    """The first names, for a message."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
