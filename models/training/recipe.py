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
from ..registry import MODELS, SMALL_INPUT

RECIPES = Path(__file__).parents[1] / "recipes"
WHOLE = (1.0, 1.0)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        epochs: passes over the training images.
        batch_size: images in a step.
        lr: the highest learning rate.
        schedule: how the rate falls after the warm-up (`schedules.py`).
        warmup: share of all steps during which the rate rises linearly from 0.
        decay: factor of the schedules step and exponential.
        decay_epochs: how often it is applied.
        optimiser: sgd, rmsprop as MobileNet V3 and EfficientNet use it, or adamw.
        momentum: of SGD and RMSprop; the first beta of AdamW.
        nesterov: whether SGD has Nesterov's correction.
        weight_decay: of weights; norms and biases have none.
        accumulate: parts that a batch is computed in, one after the other, to need less memory.
        clip: the largest norm of all gradients together; 0 for any.
        average: decay of the moving average of the weights, such as 0.999, which is then what is evaluated and kept; 0
            for none.
        label_smoothing: share of the target spread over all classes (https://arxiv.org/abs/1512.00567).
        shift: pixels by which small images are moved at random, padded with zeros.
        mirror: flip left to right where the data allows it: at random, alternating between epochs, or never.
        cutout: side in pixels of a square of each image that is left out; 0 for none.
        mixup: alpha of the beta distribution by which two images are added up; 0 for none.
        cutmix: alpha of that by which a part of one image is put into another; 0 for none.
        area: smallest and largest share of an image that a random resized crop takes; both 1 for the image as it is.
        balance: what rare classes get: nothing, more weight in the loss, or more of the draws (`order.py`).
        zero_init: whether the last norm of each residual branch starts at zero (Goyal et al. 2017, section 5.1), where
            training starts from scratch.
        old_lr: factor of the rate of layers that came with weights, where others start fresh.
        distil: share of the loss that a teacher's answers have, where there is a teacher: the model before pruning.
        temperature: of these answers.
        sync_norms: whether batch norms see the images of all processes.
        compile: whether torch.compile makes kernels for the step.
        precision: of the arithmetic; auto is what a GPU has in hardware, bf16 or fp16, and on a CPU the faster one of
            fp32 and bf16, by a few timed steps (`precision.py`).
        claim: the accuracy that was published for it, or measured here; nothing is judged by it.
        source: of the claim.
    """

    epochs: int = 5
    batch_size: int = 128
    lr: float = 0.1
    schedule: Literal["cosine", "step", "exponential", "one-cycle", "constant"] = "cosine"
    warmup: float = 0.2
    decay: float = 0.1
    decay_epochs: float = 30.0
    optimiser: Literal["sgd", "rmsprop", "adamw"] = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    accumulate: int = 1
    clip: float = 0.0
    average: float = 0.0
    label_smoothing: float = 0.1
    shift: int = 2
    mirror: Literal["random", "alternating", "never"] = "random"
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    area: tuple[float, float] = WHOLE
    balance: Literal["none", "loss", "sampling"] = "none"
    zero_init: bool = False
    old_lr: float = 1.0
    distil: float = 0.0
    temperature: float = 4.0
    sync_norms: bool = False
    compile: bool = False
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    claim: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        numbers = (self.lr, self.warmup, self.momentum, self.weight_decay, self.decay, self.decay_epochs, self.clip)
        numbers += (self.mixup, self.cutmix)
        if not all(map(math.isfinite, (*numbers, *self.area))):
            raise ValueError("lr, warmup, decay, momentum, weight_decay, clip and area must be finite numbers")
        if self.shift > 64:
            raise ValueError(f"shift is in pixels of small images, at most 64, got {self.shift}")
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(f"epochs must be >= 1 and batch_size >= 2, got {self.epochs} and {self.batch_size}")
        if self.lr <= 0 or self.weight_decay < 0 or self.shift < 0:
            raise ValueError("lr must be positive, weight_decay and shift not negative")
        if not (0 <= self.warmup < 1 and 0 <= self.momentum < 1 and 0 <= self.label_smoothing < 1):
            raise ValueError("warmup, momentum and label_smoothing must be in [0, 1)")
        if not 0 < self.decay <= 1 or self.decay_epochs <= 0:
            raise ValueError(
                f"decay must be in (0, 1] and decay_epochs positive, got {self.decay}, {self.decay_epochs}"
            )
        if self.clip < 0:
            raise ValueError(f"clip is a norm, 0 for none, got {self.clip}")
        if not 1 <= self.accumulate <= self.batch_size // 2:
            raise ValueError(f"accumulate must leave at least 2 images a part, got {self.accumulate}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is a decay below 1, 0 for none, got {self.average}")
        if min(self.cutout, self.mixup, self.cutmix) < 0:
            raise ValueError("cutout, mixup and cutmix must not be negative, 0 is for none")
        if self.nesterov and self.optimiser == "sgd" and self.momentum == 0:
            raise ValueError("Nesterov's correction is of a momentum, which is 0: set nesterov=false")
        if not (0 <= self.distil <= 1 and 0 < self.temperature < math.inf):
            raise ValueError(f"distil is a share and temperature positive, got {self.distil} and {self.temperature}")
        if not 0 < self.old_lr <= 1:
            raise ValueError(f"old_lr is a factor in (0, 1], got {self.old_lr}; --freeze keeps layers as they are")
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"area must be 0 < smallest <= largest <= 1, got {self.area}")


FEW_IMAGES = 10_000
# By the file of the family; the recipe that its paper or torchvision's reference gives.
FAMILY_RECIPES = {
    "alexnet": "alexnet",
    "vgg": "vgg",
    "googlenet": "googlenet",
    "resnet": "resnet",
    "mobilenet_v1": "mobilenet",
    "mobilenet_v2": "mobilenet",
    "mobilenet_v3": "mobilenet",
    "efficientnet": "efficientnet",
}


def default_recipe(size: int, images: int, source: str = "") -> str:
    """The recipe's name for an input of this many pixels, a data set of this many images and a model source.

    Photographs have a recipe a family; a source that is not written here has the general one.
    """
    if images < FEW_IMAGES:
        return "tiny"
    if size <= SMALL_INPUT:
        return "small"
    return FAMILY_RECIPES.get(MODELS[source].module, "imagenet") if source in MODELS else "imagenet"


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
