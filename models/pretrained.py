"""Published weights with their own transforms: torchvision's and timm's."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..config import near
from ..errors import UnavailableError, UsageError, one_line
from .preprocess import Batch, in_mode
from .spec import ModelSpec, Preprocess, numbered_labels
from .user_code import users_code
from .weights import fit

REACHED_WITHIN = 5  # seconds


@dataclass(frozen=True)
class Pretrained:
    """A published model: how to build it, what it takes, and its own path from image to input."""

    spec: ModelSpec
    weights: str
    transform: Callable[[Image.Image], Batch]
    arguments: dict[str, Any]
    state: dict[str, Tensor] = field(default_factory=dict)
    built: nn.Module | None = None

    @property
    def module(self) -> nn.Module:
        """The module, where the library built it."""
        assert self.built is not None
        return self.built


def imagenet_weights(name: str) -> Pretrained:
    """Torchvision's best ImageNet weights of one of our models; the state dict fits our module.

    Raises:
        UnavailableError: torchvision has none for this model, or they cannot be downloaded.
    """
    torchvision = _import("torchvision")
    try:
        enum = torchvision.models.get_model_weights(name)
    except ValueError as error:
        raise UnavailableError(f"torchvision has no ImageNet weights of {name}") from error
    weights = enum.DEFAULT
    arguments: dict[str, Any] = {"num_classes": len(weights.meta["categories"])}
    if name == "googlenet":
        arguments["transform_input"] = True  # they were ported from weights that want (x - 0.5) / 0.5
    spec = ModelSpec(name, *_input_of(weights.transforms()), tuple(weights.meta["categories"]))
    return Pretrained(
        spec, _enum_name(weights), _torch_transform(weights.transforms(), name), arguments, _download(weights)
    )


def from_torchvision(name: str, which: str, arguments: dict[str, Any], seed: int = 0) -> Pretrained:
    """A torchvision model, with its own best weights (`which` "own") or freshly initialised ("random")."""
    torchvision = _import("torchvision")
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UsageError(f'torchvision has no classifier "{name}"{near(name, known)}', fix="see torchvision.models")
    weights = torchvision.models.get_model_weights(name).DEFAULT
    if name == "googlenet":
        arguments = {"aux_logits": False, "init_weights": True, "transform_input": True, **arguments}
    if name == "inception_v3":
        arguments = {"aux_logits": False, "init_weights": True, "transform_input": True, **arguments}
    module = _seeded(lambda: torchvision.models.get_model(name, weights=None, **arguments), seed, name, arguments)
    shape, preprocess = _input_of(weights.transforms())
    labels = tuple(weights.meta["categories"])
    taken = f"fresh initialisation, seed {seed}"
    if which == "own":
        state = _download(weights)
        if arguments.get("aux_logits") is False:
            state = {key: value for key, value in state.items() if not key.startswith(("aux", "AuxLogits"))}
        taken = _enum_name(weights)
        fit(module, state, taken)
    else:
        labels = numbered_labels(arguments.get("num_classes", len(labels)))
    spec = ModelSpec(f"torchvision-{name}", shape, preprocess, labels, has_class_names=which == "own")
    return Pretrained(spec, taken, _torch_transform(weights.transforms(), name), arguments, built=module.eval())


def from_timm(name: str, which: str, arguments: dict[str, Any], seed: int = 0) -> Pretrained:
    """A timm model, with its own weights (`which` "own") or freshly initialised ("random")."""
    timm = _import("timm")
    _import("timm.data")

    if not timm.is_model(name):
        raise UsageError(f'timm has no model "{name}"{near(name, timm.list_models())}', fix="see timm.list_models()")

    def make() -> nn.Module:
        if which != "own":
            return timm.create_model(name, pretrained=False, **arguments)
        with _hub_once() as unreachable:
            try:
                return timm.create_model(name, pretrained=True, **arguments)
            except Exception as error:
                if _is_of_the_network(error):
                    raise UnavailableError(
                        f"timm's weights of {name} cannot be had ({unreachable or one_line(error)[:100]})",
                        fix="give --weights random, or --weights FILE with weights from a machine with a network",
                    ) from error
                raise

    module: Any = _seeded(make, seed, name, arguments)
    data = timm.data.resolve_data_config({}, model=module)
    if data["crop_mode"] != "center":
        raise UsageError(f'timm:{name} wants crop_mode "{data["crop_mode"]}", zoo has centre crops only')
    _, height, width = data["input_size"]
    preprocess = Preprocess(
        crop=(height, width),
        resize=math.floor(height / data["crop_pct"]),
        interpolation=data["interpolation"],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
    )
    named = _timm_classes(timm, module) if which == "own" else ()
    labels = named or numbered_labels(module.num_classes)
    spec = ModelSpec(f"timm-{name}", tuple(data["input_size"]), preprocess, labels, has_class_names=bool(named))
    transform: Any = timm.data.create_transform(**data, is_training=False)
    taken = f"timm's weights of {name}" if which == "own" else f"fresh initialisation, seed {seed}"
    return Pretrained(spec, taken, _torch_transform(transform, name), arguments, built=module.eval())


def _timm_classes(timm: Any, module: nn.Module) -> tuple[str, ...]:
    """The classes of timm's weights by the first of their names, where they are ImageNet's; else none."""
    subset = timm.data.infer_imagenet_subset(module)
    described = timm.data.ImageNetInfo(subset).label_descriptions() if subset else []
    names = tuple(text.partition(",")[0] for text in described)
    return names if len(names) == module.num_classes else ()


def _import(library: str) -> Any:
    import importlib

    try:
        return importlib.import_module(library)
    except ImportError as error:
        extra = "timm" if library == "timm" else "full"
        raise UnavailableError(f"{library} is not installed", fix=f'pip install "zoo-export[{extra}]"') from error


def _seeded(make: Callable[[], nn.Module], seed: int, name: str, arguments: dict[str, Any]) -> nn.Module:
    torch.manual_seed(seed)
    with users_code(f"{name} cannot be built with {arguments}"):
        return make()


@contextlib.contextmanager
def _hub_once() -> Iterator[str]:
    """The block in which a hub that cannot be reached is asked once, not for a minute, and logs nothing.

    Weights that are in its cache are found all the same. Yields why it cannot be reached, "" where it can.
    """
    hub = _import("huggingface_hub")
    constants, logger = _import("huggingface_hub.constants"), logging.getLogger("huggingface_hub")
    level, offline, why = logger.level, constants.HF_HUB_OFFLINE, ""
    logger.setLevel(logging.ERROR)  # its retries are not for users
    try:
        hub.get_session().head(constants.ENDPOINT, timeout=REACHED_WITHIN)
    except Exception as error:  # noqa: BLE001 - of requests or httpx, whichever the hub's client uses
        why = f"{constants.ENDPOINT} cannot be reached: {one_line(error)[:100]}"
        constants.HF_HUB_OFFLINE = True
    try:
        yield why
    finally:
        constants.HF_HUB_OFFLINE = offline
        logger.setLevel(level)


def _is_of_the_network(error: Exception) -> bool:
    """Whether weights could not be fetched; the hub's client raises errors of the libraries that it fetches with."""
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError | RuntimeError) or library in ("huggingface_hub", "requests", "httpx", "urllib3")


def _download(weights: Any) -> dict[str, Tensor]:
    """By torchvision, into torch's own cache, checked against the hash in the file's name."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # torch prints where from and where to
            return weights.get_state_dict(progress=sys.stderr.isatty(), check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        raise UnavailableError(
            f"{_enum_name(weights)} cannot be downloaded ({one_line(error)[:100]})",
            fix=f"give --weights random, or put {weights.url} into {cache}",
        ) from error


def _enum_name(weights: Any) -> str:
    return f"torchvision's {type(weights).__name__}.{weights.name}"


def _input_of(transforms: Any) -> tuple[tuple[int, int, int], Preprocess]:
    """Torchvision's ImageClassification preset as our Preprocess; exported golden images check the translation."""
    size, resize = transforms.crop_size[0], transforms.resize_size[0]
    preprocess = Preprocess(
        crop=(size, size),
        resize=resize,
        interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )
    return (3, size, size), preprocess


def _torch_transform(transform: Callable[[Image.Image], Tensor], owner: str) -> Callable[[Image.Image], Batch]:
    def apply(image: Image.Image) -> Batch:
        with users_code(f"{owner}'s own transform fails on an image of {image.width} x {image.height}"):
            return np.asarray(transform(in_mode(image, "RGB"))[None].numpy(), np.float32)

    return apply
