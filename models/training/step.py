"""One step of training, and what it needs to know about the device."""

from __future__ import annotations

from collections.abc import Container
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UnavailableError
from ..googlenet import AUXILIARY_WEIGHT, GoogLeNetOutputs
from .recipe import Recipe

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Arithmetic:
    """The number format of the forward pass.

    Attributes:
        name: fp32, bf16 or fp16.
        dtype: of autocast; None is plain float32.
        reason: why it was chosen.
        ratio: how many times as fast as in fp32 a step in bf16 was; None where nothing was timed.
    """

    name: str
    dtype: torch.dtype | None
    reason: str
    ratio: float | None = None

    def on(self, device: str) -> AbstractContextManager[object]:
        """The block in which a forward pass has this format."""
        return nullcontext() if self.dtype is None else torch.autocast(device, self.dtype)


def arithmetic_of(name: str, device: str, reason: str) -> Arithmetic:
    """Return the arithmetic of a name: what was asked for, which is never replaced by something else.

    Raises:
        UnavailableError: fp16 on a CPU, which has no kernels worth the name for it.
    """
    if name == "fp16" and device != "cuda":
        raise UnavailableError("training in fp16 needs a CUDA device", fix="use precision=bf16 or fp32")
    return Arithmetic(name, DTYPES[name], reason)


def gpu_arithmetic(bf16: bool) -> Arithmetic:
    """Return what suits a GPU.

    Args:
        bf16: whether it has it in hardware.
    """
    if bf16:
        return arithmetic_of("bf16", "cuda", "this GPU computes bf16 in hardware")
    return arithmetic_of("fp16", "cuda", "this GPU has no bf16")


def loss_of(outputs: Tensor | GoogLeNetOutputs, targets: Tensor, smoothing: float, weights: Tensor | None) -> Tensor:
    """Cross entropy with label smoothing, of labels or of probabilities; auxiliary heads count 0.3 each.

    The mean is over images, also where classes have weights, so that a batch in parts is the same batch.
    """
    heads = outputs if isinstance(outputs, tuple) else (outputs,)
    main, *auxiliary = [
        F.cross_entropy(head.float(), targets, weights, reduction="none", label_smoothing=smoothing).mean()
        for head in heads
    ]
    return main + AUXILIARY_WEIGHT * sum(auxiliary) if auxiliary else main


def parameter_groups(
    module: nn.Module, weight_decay: float, fresh: Container[str] = (), old_lr: float = 1.0
) -> list[dict[str, Any]]:
    """Weights decay; biases and the two vectors of a norm do not (they have one dimension).

    Args:
        module: whose parameters that require gradients are taken.
        weight_decay: of the weights.
        fresh: names of parameters that came with no weights.
        old_lr: `scale` of the groups of the others, which the learning rate is multiplied with.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            scale = 1.0 if name in fresh else old_lr
            groups.setdefault((scale, weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "scale": scale} for (scale, decay), parameters in groups.items()
    ]


def make_optimiser(
    module: nn.Module, recipe: Recipe, device: torch.device, fresh: Container[str] = ()
) -> torch.optim.Optimizer:
    """The recipe's optimiser over the module's parameters, fused on a GPU where torch has that."""
    groups = parameter_groups(module, recipe.weight_decay, fresh, recipe.old_lr)
    fused = device.type == "cuda"
    if recipe.optimiser == "rmsprop":  # TensorFlow's epsilon of 0.001 is inside the root: 0.0316 outside of it
        return torch.optim.RMSprop(groups, lr=recipe.lr, alpha=0.9, eps=0.0316, momentum=recipe.momentum)
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.momentum, 0.999), fused=fused)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=fused)


def settle_norms(module: nn.Module, steps: int) -> None:
    """Let running statistics of batch norms forget 95 % of their past within one epoch of so many steps, in place.

    MobileNet V3 and EfficientNet were published with a momentum of 0.01, for epochs of thousands of steps; after a few
    short ones their statistics would still be those of the initialisation, and evaluation would answer at random.
    """
    least = 1 - 0.05 ** (1 / max(steps, 1))
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.momentum is not None:
            part.momentum = max(part.momentum, least)


@dataclass(frozen=True)
class Teacher:
    """A model whose answers are learned from beside the labels (Hinton et al. 2015, arXiv 1503.02531).

    Attributes:
        module: in evaluation mode, on the same device.
        weight: of its part of the loss; the labels have the rest.
        temperature: that both sides' logits are divided by.
    """

    module: nn.Module
    weight: float
    temperature: float

    def loss(self, outputs: Tensor | GoogLeNetOutputs, taught: Tensor) -> Tensor:
        """The divergence of the answers, times the square of the temperature, so that gradients keep their size."""
        main = outputs[0] if isinstance(outputs, tuple) else outputs
        own, wanted = (F.log_softmax(one.float() / self.temperature, 1) for one in (main, taught))
        return F.kl_div(own, wanted, reduction="batchmean", log_target=True) * self.temperature**2


class Zeros:
    """Weights that were pruned one by one: what is zero in the beginning is zero after every step.

    Args:
        module: on its device.
        names: of the parameters that have them.
    """

    def __init__(self, module: nn.Module, names: Container[str]) -> None:
        found = [parameter for name, parameter in module.named_parameters() if name in names]
        self._weights = [parameter.detach() for parameter in found]
        self._masks: list[Tensor] = []
        self.look()

    def look(self) -> None:
        """Take as zeros what is zero now: after a checkpoint was loaded."""
        self._masks = [(weight != 0).to(weight.dtype) for weight in self._weights]

    def keep(self) -> None:
        """Set them to zero again, in place; nothing waits for the device."""
        if self._weights:
            torch._foreach_mul_(self._weights, self._masks)


class Stepped(NamedTuple):
    """What came of a step, on the device.

    Attributes:
        loss: of the batch.
        right: how many images were answered rightly, or as the larger part of a mixed image is.
        norm: of all gradients together, before clipping.
    """

    loss: Tensor
    right: Tensor
    norm: Tensor


def gradients(
    forward: nn.Module,
    scaler: torch.amp.GradScaler,
    arithmetic: Arithmetic,
    recipe: Recipe,
    inputs: Tensor,
    targets: Tensor,
    parts: int = 1,
    weights: Tensor | None = None,
    teacher: Teacher | None = None,
) -> tuple[Tensor, Tensor]:
    """Forward and backward of a batch, in parts; loss and right answers. Nothing here waits for the device.

    Args:
        forward: the module in training mode, as it is called.
        scaler: does nothing unless the arithmetic is fp16.
        arithmetic: of the forward pass.
        recipe: label smoothing.
        inputs: float32 N x C x H x W on the device, augmented and normalised.
        targets: int64 N, or float32 N x K of mixed images.
        parts: that the batch is computed in, one after the other.
        weights: of the classes, K.
        teacher: whose answers are learned from too.
    """
    total, right = torch.zeros((2,), device=inputs.device)
    # tensor_split, not chunk: whose last part may be a single image, of which a batch norm makes no statistics
    pieces = list(zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True))
    for number, (some, wanted) in enumerate(pieces, start=1):
        with alone(forward) if number < parts else nullcontext():
            some = some.to(memory_format=torch.channels_last)
            with arithmetic.on(inputs.device.type):
                outputs = forward(some)
            loss = loss_of(outputs, wanted, recipe.label_smoothing, weights)
            if teacher is not None:
                with torch.no_grad(), arithmetic.on(inputs.device.type):
                    taught = teacher.module(some)
                loss = loss.lerp(teacher.loss(outputs, taught), teacher.weight)
            loss = loss * (len(some) / len(inputs))
            scaler.scale(loss).backward()
        main = outputs[0] if isinstance(outputs, tuple) else outputs
        total += loss.detach()
        right += (main.detach().argmax(1) == (wanted if wanted.ndim == 1 else wanted.argmax(1))).sum()
    return total, right


def alone(forward: nn.Module) -> AbstractContextManager[object]:
    """The block in which gradients are not yet exchanged with other processes."""
    return forward.no_sync() if isinstance(forward, nn.parallel.DistributedDataParallel) else nullcontext()


def update(module: nn.Module, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler, clip: float) -> Tensor:
    """Clip and apply the gradients; their norm. Nothing here waits for the device."""
    scaler.unscale_(optimiser)
    found = [parameter for parameter in module.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in found if parameter.grad is not None])
    if clip:
        nn.utils.clip_grads_with_norm_(found, clip, norm)
    scaler.step(optimiser)
    scaler.update()
    return norm
