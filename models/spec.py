"""What travels with a model everywhere: its name, its input, its preprocessing and its classes."""

from __future__ import annotations

import dataclasses
import math
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Literal, get_args

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

LARGEST = 8192  # pixels on a side; beyond is a mistake or an attack
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """From a decoded 8-bit image to the model's input; `preprocess.py` applies it.

    In this order: decode, `resize`, `crop`, to float by `scale`, minus `mean`, over `std`, channels in order.

    Attributes:
        crop: height and width of the centre crop; an image that is smaller is padded with zeros.
        resize: an int is the new length of the shorter side, a pair is height and width, None leaves the size.
        interpolation: Pillow's filter of that name.
        antialias: Pillow's filters always antialias when they shrink; False is refused, not ignored.
        scale: what a pixel of 0..255 is multiplied with.
        mean: one value per channel, subtracted after scaling.
        std: one value per channel, divided by last.
        channels: RGB, BGR, or L for one grey channel.
    """

    crop: tuple[int, int]
    resize: int | tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    scale: float = 1 / 255
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channels: Literal["RGB", "BGR", "L"] = "RGB"

    def __post_init__(self) -> None:
        known = get_args(Interpolation)
        if self.interpolation not in known:
            raise ValueError(f"interpolation is one of {', '.join(known)}, got {self.interpolation!r}")
        resized = self.resize if isinstance(self.resize, tuple) else () if self.resize is None else (self.resize,)
        sizes = [*self.crop, *resized]
        if min(sizes) < 1 or max(sizes) > LARGEST:
            raise ValueError(f"crop and resize must be 1 to {LARGEST}, got crop={self.crop} and resize={self.resize}")
        if not all(map(math.isfinite, (*self.mean, *self.std, self.scale))):
            raise ValueError(f"mean, std and scale must be finite, got {self.mean}, {self.std} and {self.scale}")
        if not self.antialias:
            raise ValueError("antialias=false cannot be done: Pillow's filters always antialias")
        if not len(self.mean) == len(self.std) == self.depth:
            raise ValueError(
                f"channels={self.channels} needs {self.depth} values of mean and std, "
                f"got {len(self.mean)} and {len(self.std)}"
            )
        if min(self.std) <= 0 or self.scale <= 0:
            raise ValueError(f"std and scale must be positive, got std={self.std} and scale={self.scale}")

    @property
    def depth(self) -> int:
        """How many channels come out."""
        return len(self.channels)


@dataclass(frozen=True)
class ModelSpec:
    """What a model takes and what its outputs mean.

    Attributes:
        name: what messages and folders call it.
        input: channels, height and width of one image.
        preprocess: how an image file becomes that input.
        labels: one name per output, in order.
        has_class_names: False where the model brings no names: then `labels` are stand-ins ("class 0", "class 1", ...)
            which say nothing about any data.
    """

    name: str
    input: tuple[int, int, int]
    preprocess: Preprocess
    labels: tuple[str, ...] = field(default=())
    has_class_names: bool = True

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.+-]*", self.name):
            raise ValueError(f"name must be letters, digits and _ . + -, since folders get it; got {self.name!r}")
        if not self.labels:
            raise ValueError("a model needs at least one class label")
        odd = [label for label in self.labels if not is_printable(label)]
        if odd:
            raise ValueError(f"labels are printed, and {odd[0]!r} holds control characters")
        if not self.has_class_names and self.labels != numbered_labels(len(self.labels)):
            raise ValueError(
                "has_class_names is false, so labels must be class 0, class 1, ...; with_labels() gives names"
            )
        made = (self.preprocess.depth, *self.preprocess.crop)
        if made != self.input:
            raise ValueError(f"preprocess makes {made}, but the model's input is {self.input}")

    def renamed(self, name: str) -> ModelSpec:
        """The same spec under another name."""
        return dataclasses.replace(self, name=name)

    def with_labels(self, labels: tuple[str, ...]) -> ModelSpec:
        """The same spec with these class names; raises ValueError where there is not one for each output."""
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has {len(self.labels)} outputs, and {len(labels)} labels are given")
        return dataclasses.replace(self, labels=labels, has_class_names=True)

    def sized(self, height: int, width: int) -> ModelSpec:
        """The same spec for images that are brought to another size."""
        size = (height, width)
        preprocess = dataclasses.replace(self.preprocess, resize=size, crop=size)
        return dataclasses.replace(self, input=(self.input[0], *size), preprocess=preprocess)


def imagenet_preprocess(size: int = 224, resize: int | None = None) -> Preprocess:
    """The standard evaluation transform: the shorter side to 256 (or size x 256/224), centre crop, normalise.

    Source: Krizhevsky et al. 2012; torchvision's ImageClassification preset.
    """
    return Preprocess(crop=(size, size), resize=resize or round(size * 256 / 224))


def numbered_labels(count: int) -> tuple[str, ...]:
    """Stand-ins where a model brings no class names: "class 0", "class 1", ...; see `ModelSpec.has_class_names`."""
    return tuple(f"class {index}" for index in range(count))


def name_for(source: str) -> str:
    """Return a source of a model, such as `package.module:factory`, as a name that files can have."""
    return source.replace(":", "-").replace(".", "-").replace("/", "-")


def is_printable(label: str) -> bool:
    """Whether a class name can be printed and stored: no control characters, no bytes that are not UTF-8."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in label)
