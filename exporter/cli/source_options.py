"""The options of every command that takes a model source: declared once, made into SourceOptions by one function."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .main import parse_input

if TYPE_CHECKING:
    from ...models.source_options import SourceOptions

Weights = Annotated[
    str | None, typer.Option("--weights", help="A run, a .safetensors or .pth file, imagenet, or random.")
]
Input = Annotated[str | None, typer.Option("--input", help="CxHxW of a model that does not bring it.")]
Spec = Annotated[
    Path | None,
    typer.Option("--spec", help="spec.toml of your own model: its input, its preprocessing and its class names."),
]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels", help="Class names in the order of the outputs: a text file with one on each line, or a,b,c."
    ),
]


def source_options(
    *,
    weights: str | None = None,
    input_: str | None = None,
    spec: Path | None = None,
    labels: str | None = None,
    seed: int = 0,
) -> SourceOptions:
    """Return the SourceOptions that a command's values ask for; it needs no torch.

    Raises:
        UsageError: a value that cannot be read.
    """
    from ...models.data.labels import read_labels
    from ...models.source_options import SourceOptions

    names = read_labels(labels) if labels is not None else None
    return SourceOptions(weights=weights, input=parse_input(input_), spec=spec, labels=names, seed=seed)
