"""What pruning looks at images for: gradients, norms' statistics, accuracy, and whether the accuracy gate holds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from ...calibration.pruning.recovery import reestimate_norms
from ...errors import UsageError
from ...models.data.dataset import Dataset, Split, batches
from ...models.data.labels import Unmatched, match_classes
from ...models.preprocess import normalise
from ...models.sources import Model
from ...models.training.evaluate import accuracy, confusion
from ...models.training.setup import data_in_order
from ...models.training.step import Arithmetic
from ..checks.accuracy import judge_accuracy, measure_accuracy
from ..checks.gate import Gate

BATCH = 64
FP32 = Arithmetic("fp32", None, "")


def suitable_data(model: Model, data: Dataset) -> Dataset:
    """Return the data with its classes, found by name, in the order of the model's outputs.

    Raises:
        UsageError: weights or data by which nothing could be judged.
    """
    if not model.meaningful:
        raise UsageError("the weights are random: there is nothing to keep of them", fix="give a run, or --weights")
    matched = match_classes(model.spec, data.classes)
    have, whole = len(data.classes), len(model.spec.labels)
    if isinstance(matched, Unmatched) or have < whole:  # of classes without images recovery would forget all
        why = matched.reason if isinstance(matched, Unmatched) else f"only {have} of its {whole}"
        raise UsageError(
            f"{data.name} does not have the classes of {model.spec.name}: {why}", fix="give the data it was trained on"
        )
    if len(data.train) < 2 or not len(data.val):
        raise UsageError(
            f"{data.name} has {len(data.train)} images to recover with and {len(data.val)} to judge by",
            fix="give train/ and val/ folders",
        )
    return data_in_order(data, model.spec.labels)


def prepared(split: Split, model: Model) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised images and labels, in batches."""
    for pixels, labels in batches(split, model.spec.preprocess, BATCH):
        yield torch.from_numpy(normalise(pixels, model.spec.preprocess)), torch.from_numpy(labels)


def settle(module: nn.Module, split: Split, model: Model) -> None:
    """Take the norms' statistics anew, of these images."""
    reestimate_norms(module, (inputs for inputs, _ in prepared(split, model)))


def measured_accuracy(model: Model, module: nn.Module, split: Split, device: torch.device) -> float:
    """Top-1 in fp32; the module is on the CPU afterwards."""
    module = module.to(device)
    counted = confusion(module, split, model.spec.preprocess, device, FP32, len(model.spec.labels))
    module.to("cpu")
    return accuracy(counted)


class DropGate:
    """The gate `accuracy` of a narrower module against the model it came from, on the validation images.

    Args:
        model: as it was.
        data: whose validation images judge.
        max_drop: points of top-1.
        device: where both run.
    """

    def __init__(self, model: Model, data: Dataset, max_drop: float, device: torch.device) -> None:
        self._model, self._split, self._limit, self._device = model, data.val, max_drop / 100, device
        self._reference: np.ndarray | None = None

    def judge(self, module: nn.Module) -> Gate:
        """Of what the module answers now; it is left in evaluation mode."""
        if self._reference is None:
            self._reference = self._answers(self._model.module.to(self._device))[0]
            self._model.module.to("cpu")  # where it is exported from, to be timed
        got, labels = self._answers(module)
        paired = measure_accuracy(self._reference, got, labels)
        return judge_accuracy(paired, "fp32", numerics_passed=True, limit=self._limit)

    @torch.inference_mode()
    def _answers(self, module: nn.Module) -> tuple[np.ndarray, np.ndarray]:
        module.eval()
        logits: list[Tensor] = []
        labels: list[Tensor] = []
        for inputs, wanted in prepared(self._split, self._model):
            logits.append(module(inputs.to(self._device)).float())
            labels.append(wanted)
        return torch.cat(logits).cpu().numpy(), torch.cat(labels).numpy()
