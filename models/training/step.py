"""One step of training, and what it needs to know about the device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UnavailableError
from ..googlenet import AUXILIARY_WEIGHT, GoogLeNetOutputs
from .recipe import Recipe


@dataclass(frozen=True)
class Arithmetic:
    """The number format of the forward pass, and why it was chosen. `dtype` None is plain float32."""

    name: str
    dtype: torch.dtype | None
    reason: str

    def on(self, device: str) -> AbstractContextManager[object]:
        """The block in which a forward pass has this format."""
        return nullcontext() if self.dtype is None else torch.autocast(device, self.dtype)


@dataclass(frozen=True)
class Hardware:
    """What the choice of arithmetic depends on."""

    device: str
    bf16: bool


def hardware(device: torch.device) -> Hardware:
    """Read it from this machine."""
    if device.type == "cuda":
        return Hardware("cuda", torch.cuda.is_bf16_supported(including_emulation=False))
    return Hardware(device.type, torch.cpu.get_capabilities().get("avx512_bf16", False))


def choose_arithmetic(asked: str, here: Hardware) -> Arithmetic:
    """Decide the arithmetic; what was asked for by name is never replaced by something else.

    Raises:
        UnavailableError: fp16 on a CPU, which has no kernels worth the name for it.
    """
    if asked == "fp32":
        return Arithmetic("fp32", None, "asked for")
    if asked == "bf16":
        return Arithmetic("bf16", torch.bfloat16, "asked for")
    if asked == "fp16":
        if here.device != "cuda":
            raise UnavailableError("training in fp16 needs a CUDA device", fix="use precision=bf16 or fp32")
        return Arithmetic("fp16", torch.float16, "asked for")
    if here.bf16:
        return Arithmetic("bf16", torch.bfloat16, f"this {here.device} computes bf16 in hardware")
    if here.device == "cuda":
        return Arithmetic("fp16", torch.float16, "this GPU has no bf16")
    return Arithmetic("fp32", None, f"this {here.device} has no bf16 in hardware")


def loss_of(outputs: Tensor | GoogLeNetOutputs, targets: Tensor, smoothing: float) -> Tensor:
    """Cross entropy with label smoothing, of labels or of probabilities; auxiliary heads count 0.3 each."""
    heads = outputs if isinstance(outputs, tuple) else (outputs,)
    main, *auxiliary = [F.cross_entropy(head.float(), targets, label_smoothing=smoothing) for head in heads]
    return main + AUXILIARY_WEIGHT * sum(auxiliary) if auxiliary else main


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights decay; biases and the two vectors of a norm do not (they have one dimension)."""
    weights = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def make_optimiser(module: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """The recipe's optimiser over the module's parameters, fused on a GPU where torch has that."""
    groups = parameter_groups(module, recipe.weight_decay)
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


def train_step(
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    arithmetic: Arithmetic,
    recipe: Recipe,
    inputs: Tensor,
    targets: Tensor,
) -> Tensor:
    """Forward, backward, update. Nothing here waits for the device; the loss stays on it, detached.

    Args:
        module: in training mode.
        optimiser: over the module's parameters.
        scaler: does nothing unless the arithmetic is fp16.
        arithmetic: of the forward pass.
        recipe: label smoothing, the norm that gradients are clipped to, the parts that a batch is computed in.
        inputs: float32 N x C x H x W on the device, augmented and normalised.
        targets: int64 N, or float32 N x K of mixed images.
    """
    optimiser.zero_grad(set_to_none=True)
    total = torch.zeros((), device=inputs.device)
    # tensor_split, not chunk: whose last part may be a single image, of which a batch norm makes no statistics
    parts = zip(inputs.tensor_split(recipe.accumulate), targets.tensor_split(recipe.accumulate), strict=True)
    for some, wanted in parts:
        with arithmetic.on(inputs.device.type):
            outputs = module(some.to(memory_format=torch.channels_last))
        loss = loss_of(outputs, wanted, recipe.label_smoothing) * (len(some) / len(inputs))
        scaler.scale(loss).backward()
        total += loss.detach()
    if recipe.clip:
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(module.parameters(), recipe.clip)  # with error_if_nonfinite it would wait
    scaler.step(optimiser)
    scaler.update()
    return total
