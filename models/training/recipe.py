"""A recipe: every number that training needs, as a TOML file or `--set key=value`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...config import from_mapping, near, parse_setting, read_toml, to_json
from ...errors import UsageError
from ..registry import SMALL_INPUT

RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        epochs: passes over the training images.
        batch_size: images in a step.
        lr: the highest learning rate.
        warmup: share of all steps during which the rate rises linearly from 0.
        momentum: of SGD with Nesterov's correction.
        weight_decay: of weights; norms and biases have none.
        label_smoothing: share of the target spread over all classes (https://arxiv.org/abs/1512.00567).
        shift: pixels by which small images are moved at random, padded with zeros.
        mirror: flip left to right at random, where the data allows it.
        area: smallest and largest share of a photograph that a random resized crop takes.
        precision: of the arithmetic; auto is bf16 or fp16 where the device has it in hardware, else fp32.
    """

    epochs: int = 5
    batch_size: int = 128
    lr: float = 0.1
    warmup: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    shift: int = 2
    mirror: bool = True
    area: tuple[float, float] = (0.08, 1.0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.lr, self.warmup, self.momentum, self.weight_decay, *self.area))):
            raise ValueError("lr, warmup, momentum, weight_decay and area must be finite numbers")
        if self.shift > 64:
            raise ValueError(f"shift is in pixels of small images, at most 64, got {self.shift}")
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(f"epochs must be >= 1 and batch_size >= 2, got {self.epochs} and {self.batch_size}")
        if self.lr <= 0 or self.weight_decay < 0 or self.shift < 0:
            raise ValueError("lr must be positive, weight_decay and shift not negative")
        if not (0 <= self.warmup < 1 and 0 <= self.momentum < 1 and 0 <= self.label_smoothing < 1):
            raise ValueError("warmup, momentum and label_smoothing must be in [0, 1)")
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"area must be 0 < smallest <= largest <= 1, got {self.area}")


FEW_IMAGES = 10_000


def default_recipe(size: int, images: int) -> str:
    """The recipe's name for an input of this many pixels and a data set of this many images."""
    if images < FEW_IMAGES:
        return "tiny"
    return "imagenet" if size > SMALL_INPUT else "small"


def recipe_names() -> list[str]:
    """The recipes that come with zoo."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_recipe(name: str | Path, overrides: Iterable[str] = (), **values: Any) -> Recipe:
    """A recipe by name or file, changed by `key=value` overrides and then by `values` that are not None.

    Raises:
        UsageError: no such recipe, an unknown key (with the near ones), a wrong type or a contradiction.
    """
    path = RECIPES / f"{name}.toml" if str(name) in recipe_names() else Path(name)
    if not path.is_file():
        raise UsageError(
            f'no recipe "{name}"{near(str(name), recipe_names())}', fix="give a .toml file, or one of zoo's"
        )
    data = read_toml(path)
    where = path.name
    for text in overrides:
        key, value = parse_setting(text, "lr=0.05")
        if values.get(key) is not None:
            raise UsageError(f"--set {text} and --{key} {values[key]} say it twice", fix="give one of them")
        data[key] = value
        where = f"{path.name} with --set"
    data |= {key: value for key, value in values.items() if value is not None}
    return from_mapping(Recipe, data, where)


def as_mapping(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain JSON values, for run.json."""
    return json.loads(to_json(recipe))
