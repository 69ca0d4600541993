"""Whether the loss is still a number, known without a wait for the device in every step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import UsageError

CHECK_EVERY = 100  # steps: a wait for the device that a hundred steps share
NEVER = 2**62


@dataclass(frozen=True)
class Bad:
    """A step that went wrong: its number in the epoch, its loss and the norm of its gradients."""

    step: int
    loss: float
    norm: float


class Health:
    """Remembers on the device the first step of an epoch whose loss or gradient was no number."""

    def __init__(self, device: torch.device) -> None:
        self._first = torch.full((), NEVER, dtype=torch.int64, device=device)
        self._seen = torch.zeros(2, device=device)

    def see(self, step: int, loss: Tensor, norm: Tensor | None = None) -> None:
        """Note a step; nothing waits.

        Args:
            step: of the epoch, from 0.
            loss: of that step.
            norm: of its gradients; None where they may overflow, as those of fp16 do, whose scaler leaves the step out.
        """
        both = torch.stack([loss.float(), (loss if norm is None else norm).float()])
        begins = ~torch.isfinite(both).all() & (self._first == NEVER)
        self._first = torch.where(begins, step, self._first)
        self._seen = torch.where(begins, both, self._seen)

    def first(self) -> int:
        """The first bad step, `NEVER` where there is none; waits for the device."""
        return int(self._first)

    def bad(self, step: int) -> Bad:
        """What was seen of the first bad step, if it was this one; waits for the device."""
        loss, norm = self._seen.tolist()
        return Bad(step, loss, norm)


def not_finite(epoch: int, bad: Bad, lr: float, arithmetic: str) -> UsageError:
    """The error for a loss or a gradient that is no number any more, with what probably made it so.

    Args:
        epoch: from 0.
        bad: the first step that was so.
        lr: of that step.
        arithmetic: fp32, bf16 or fp16.
    """
    causes = ["a learning rate that is too high", "images or labels that are no numbers"]
    causes.insert(1, "an overflow in fp16" if arithmetic == "fp16" else "gradients that explode without clipping")
    size = f"{bad.norm:.3g}" if math.isfinite(bad.norm) else "not finite either"
    what = f"the loss is no number (lr {lr:.3g}, gradient norm {size}, {arithmetic})"
    if math.isfinite(bad.loss):
        what = f"the gradient is no number, of a loss of {bad.loss:.3g} (lr {lr:.3g}, {arithmetic})"
    kept = "; the last checkpoint, from before, is kept" if epoch else ""
    precision = ", --set precision=fp32" if arithmetic != "fp32" else ""
    return UsageError(
        f"step {bad.step + 1} of epoch {epoch + 1}: {what}: most likely {', '.join(causes[:2])}, or {causes[2]}{kept}",
        fix=f"--set lr={lr / 10:.2g}, --set clip=1.0{precision}, or look at the data",
    )
