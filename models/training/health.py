"""Whether the loss is still a number, known without a wait for the device in every step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...errors import UsageError

CHECK_EVERY = 100  # steps: a wait for the device that a hundred steps share
NEVER = 2**62


class Health:
    """Remembers on the device the first step of an epoch whose loss was no number."""

    def __init__(self, device: torch.device) -> None:
        self._first = torch.full((), NEVER, dtype=torch.int64, device=device)

    def see(self, step: int, loss: Tensor) -> None:
        """Note a step's loss; nothing waits."""
        self._first = torch.where(torch.isfinite(loss), self._first, self._first.clamp(max=step))

    def first_bad(self) -> int | None:
        """The first step whose loss was no number; waits for the device."""
        found = int(self._first)
        return None if found == NEVER else found


def gradient_norm(module: nn.Module) -> float:
    """Of all gradients together, as they are; waits for the device."""
    norms = [p.grad.detach().float().norm() for p in module.parameters() if p.grad is not None]
    return float(torch.stack(norms).norm()) if norms else 0.0


def not_finite(epoch: int, step: int, lr: float, norm: float, arithmetic: str) -> UsageError:
    """The error for a loss that is no number any more, with what probably made it so.

    Args:
        epoch: from 0.
        step: of the epoch, from 0.
        lr: of that step.
        norm: of the gradients when it was noticed.
        arithmetic: fp32, bf16 or fp16.
    """
    causes = ["a learning rate that is too high", "images or labels that are no numbers"]
    causes.insert(1, "an overflow in fp16" if arithmetic == "fp16" else "gradients that explode without clipping")
    size = f"{norm:.3g}" if math.isfinite(norm) else "not finite either"
    kept = "; the last checkpoint, from before, is kept" if epoch else ""
    precision = ", --set precision=fp32" if arithmetic != "fp32" else ""
    return UsageError(
        f"the loss is no number from step {step + 1} of epoch {epoch + 1} on (lr {lr:.3g}, gradient norm {size}, "
        f"{arithmetic}): most likely {', '.join(causes[:2])}, or {causes[2]}{kept}",
        fix=f"--set lr={lr / 10:.2g}, --set clip=1.0{precision}, or look at the data",
    )
