"""How much each channel of a group matters; what matters least goes first.

Each criterion scores the channels of one group, over all layers that have them, in parts of the group's mean, so that
groups can be compared with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UsageError
from .groups import Group
from .members import Member

Criterion = Literal["magnitude", "bn-scale", "taylor", "fpgm", "random"]
CRITERIA: tuple[str, ...] = get_args(Criterion)
Scores = npt.NDArray[np.float64]


def score(group: Group, module: nn.Module, criterion: Criterion, random: np.random.Generator | None = None) -> Scores:
    """One number a channel of the group, 1 in the mean.

    - magnitude: the Euclidean norm of a channel's weights, the mean over the layers that have it, where every layer is
      seen in parts of its own mean (Fang et al. 2023, arXiv 2301.12900, section 3.3, group norms).
    - bn-scale: the size of its batch norms' factors (Liu et al. 2017, Network Slimming, arXiv 1708.06519).
    - taylor: the square of the sum of weight times gradient, what the loss changes by to first order when it goes
      (Molchanov et al. 2019, arXiv 1906.10771, eq. 8); the module's gradients are to be there.
    - fpgm: the sum of distances to the other filters, so that what can be replaced goes (He et al. 2019, arXiv
      1811.00250).
    - random: the control that the others have to beat.

    Raises:
        UsageError: bn-scale of a group without a batch norm, taylor without gradients.
    """
    if criterion == "random":
        drawn = (random or np.random.default_rng(0)).random(group.channels)
        return drawn / max(drawn.mean(), 1e-12)
    found: list[Scores] = []
    for member in group.members:
        if member.parameter:
            continue
        part = module.get_submodule(member.layer)
        values = _of_member(part, member, criterion)
        if values is not None:
            found.append(_by_channel(values, member, group.channels))
    if not found:
        raise UsageError(
            f"{group.root}: no layer of its channels has what {criterion} judges by", fix="use --criterion magnitude"
        )
    return np.mean([one / max(one.mean(), 1e-12) for one in found], axis=0)


def _of_member(part: nn.Module, member: Member, criterion: str) -> Tensor | None:
    """One number for each of the member's places; None where the criterion says nothing of such a layer."""
    norm = isinstance(part, nn.modules.batchnorm._BatchNorm)
    if criterion == "bn-scale":
        return part.weight.detach().abs()[list(member.places)] if norm and part.weight is not None else None
    if norm or not isinstance(part, nn.modules.conv._ConvNd | nn.Linear):
        return None
    rows = _rows(part.weight.detach(), part, member)
    if criterion == "magnitude":
        return rows.norm(dim=1)
    if criterion == "fpgm":
        return torch.cdist(rows, rows).sum(1) if member.output else None
    if part.weight.grad is None:
        raise UsageError("taylor judges by gradients, and there are none", fix="give --data with labels")
    return (rows * _rows(part.weight.grad.detach(), part, member)).sum(1) ** 2


def _rows(weight: Tensor, part: nn.Module, member: Member) -> Tensor:
    """The weights of each place, as rows: by outputs, or by inputs."""
    grouped = isinstance(part, nn.modules.conv._ConvNd) and part.groups > 1
    by_output = member.output or grouped  # of a depthwise layer an input is an output
    if isinstance(part, nn.modules.conv._ConvTransposeNd) and not grouped:
        by_output = not by_output  # its weights are inputs x outputs
    picked = weight[list(member.places)] if by_output else weight.transpose(0, 1)[list(member.places)]
    return picked.flatten(1).double()


def _by_channel(values: Tensor, member: Member, channels: int) -> Scores:
    """Places of a flattened input belong to one channel together: their mean."""
    total, count = np.zeros(channels), np.zeros(channels)
    np.add.at(total, list(member.of), values.double().cpu().numpy())
    np.add.at(count, list(member.of), 1)
    return total / np.maximum(count, 1)


def gather_gradients(
    module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], progress: Callable[[int], None] = lambda _done: None
) -> None:
    """The mean gradient of the cross entropy over batches of inputs and labels, left in the parameters."""
    module.eval()
    module.zero_grad(set_to_none=True)
    count = 0
    for inputs, labels in batches:
        F.cross_entropy(module(inputs), labels, reduction="sum").backward()
        count += len(labels)
        progress(count)
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.grad /= max(count, 1)


def score_all(groups: Iterable[Group], module: nn.Module, criterion: Criterion, seed: int = 0) -> Mapping[str, Scores]:
    """The scores of every group, by its root."""
    random = np.random.default_rng(seed)
    return {group.root: score(group, module, criterion, random) for group in groups}
