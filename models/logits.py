"""What a module answers, checked: one tensor of logits N x K, with K of at least two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import UsageError
from .preprocess import Batch
from .spec import ModelSpec
from .user_code import users_code

Shape = tuple[int, int, int]


def logits_of(module: nn.Module, batch: Batch) -> Batch:
    """Float32 N x C x H x W -> logits N x K, in numpy, without gradients.

    Raises:
        UsageError: the forward fails, or gives something else.
    """
    with (
        users_code(
            f"the model cannot take a batch of {batch.shape}", fix="give the right --input, or a --spec that fits it"
        ),
        torch.inference_mode(),
    ):
        logits = module(torch.from_numpy(np.array(batch)))  # a copy: some modules work in place on what they are given
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(batch):
        raise UsageError(
            f"the model gives {_described(logits)} for a batch of {batch.shape}, not logits N x K",
            fix=f"wrap it in a module whose forward returns one tensor of logits{_for_example(logits)}",
        )
    if logits.shape[1] == 0 or logits.is_meta or not logits.is_floating_point():
        raise UsageError(
            f"the model gives {logits.dtype} {tuple(logits.shape)} on {logits.device}, not logits N x K",
            fix="let its forward return one floating-point number for each class",
        )
    return logits.float().numpy()


def count_logits(module: nn.Module, shape: Shape, source: str) -> int:
    """Return how many classes a module answers for; its mode stays as it is.

    Raises:
        UsageError: the forward fails, gives no logits, or a single one.
    """
    was_training = module.training
    module.eval()
    count = logits_of(module, np.zeros((2, *shape), np.float32)).shape[1]
    module.train(was_training)
    if count == 1:
        raise UsageError(
            f"{source} gives a single logit for each image: that would be one class, which is every image's answer",
            fix="for a yes-no model return two, no and yes: torch.cat([torch.zeros_like(x), x], 1), "
            "whose softmax is the sigmoid of x",
        )
    return count


def check_logits(module: nn.Module, spec: ModelSpec, source: str) -> None:
    """Refuse a module that gives other than one logit for each label of `spec`; raises UsageError."""
    if len(spec.labels) == 1:
        raise UsageError(
            f"{source}: there is a single class, {spec.labels[0]}, and nothing to tell it from",
            fix="give at least two classes; for a yes-no question: no and yes",
        )
    count = count_logits(module, spec.input, source)
    if count != len(spec.labels):
        raise UsageError(
            f"{source} gives {count} logits, but there are {len(spec.labels)} classes",
            fix="give the factory the number of classes, or --labels or a --spec with as many names",
        )


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with {', '.join(map(str, list(value)[:5]))}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__


def _for_example(value: Any) -> str:
    """How a forward would return the logits out of the mapping or the tuple that it returns."""
    if isinstance(value, Mapping) and value:
        key = next((key for key in value if key in ("logits", "out", "output")), next(iter(value)))
        return f', such as return self.model(x)["{key}"]'
    if isinstance(value, tuple | list) and value:
        return ", such as return self.model(x)[0]"
    if isinstance(value, torch.Tensor) and value.ndim == 1:
        return "; for a yes-no model two: return torch.stack([torch.zeros_like(x), x], 1)"
    return ""
