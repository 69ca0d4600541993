from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TINY
from zoo.errors import UnavailableError
from zoo.models.fresh import new_model
from zoo.models.sources import SourceOptions
from zoo.models.training.loop import Watcher, train
from zoo.models.training.memory import Parts
from zoo.models.training.recipe import Recipe

RECIPE = Recipe(epochs=1, batch_size=30, lr=0.05, precision="fp32", shift=0, mirror="never")


def small_memory(model, most: int) -> list[int]:
    """Let the model's last layer fail as a full device does, for more than so many images."""
    seen: list[int] = []

    def fill(_module, inputs) -> None:
        seen.append(len(inputs[0]))
        if len(inputs[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    model.module.fc.register_forward_pre_hook(fill)
    return seen


def fresh(tiny_spec):
    return new_model("resnet18", tiny_spec, SourceOptions(arguments={**TINY, "width": 0.125}))


def test_a_batch_is_halved_until_it_fits_and_stays_the_batch(tiny_spec, few_digits, tmp_path: Path) -> None:
    model, told = fresh(tiny_spec), []
    seen = small_memory(model, 8)
    train(model, few_digits, RECIPE, tmp_path / "run", watcher=Watcher(start=told.append))
    assert seen[:6] == [30, 15, 8, 8, 7, 7], "30, 15, then quarters, which are what each further step takes"
    assert max(seen[6:40]) == 8
    assert [text for text in told if "out of memory" in text] == [
        "out of memory: batches of 30 images are computed in 2 parts from here on, and batch norms see a part "
        "(--set accumulate=2 begins so)",
        "out of memory: batches of 30 images are computed in 4 parts from here on, and batch norms see a part "
        "(--set accumulate=4 begins so)",
    ]
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1


def test_what_is_left_of_a_failed_try_does_not_count(tiny_spec, few_digits, tmp_path: Path) -> None:
    """The gradients of the parts that passed before the failure are forgotten: norms in evaluation show it."""
    weights: list[bytes] = []
    for parts, most in ((1, 8), (4, 1000)):
        torch.manual_seed(0)
        model = fresh(tiny_spec)
        for part in model.module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.train = lambda _mode=True, part=part: part  # statistics stand still, in any number of parts
                part.training = False
        small_memory(model, most)
        train(model, few_digits, replace(RECIPE, accumulate=parts), tmp_path / str(parts))
        weights.append((tmp_path / str(parts) / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_when_nothing_fits_it_says_so() -> None:
    def never(_parts: int) -> None:
        raise torch.OutOfMemoryError("no")

    with pytest.raises(UnavailableError, match="out of memory with 8 images in 4 parts"):
        Parts(1).run(8, never)
    with pytest.raises(UnavailableError, match="one of several processes"):
        Parts(1, alone=False).run(8, never)


def test_other_errors_are_not_of_memory() -> None:
    def wrong(_parts: int) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        Parts(1).run(8, wrong)
    tries = iter([RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), None])

    def once(parts: int) -> int:
        error = next(tries)
        if error is not None:
            raise error
        return parts

    assert Parts(1).run(8, once) == 2
