"""The number format of a training: by name, by what a GPU has, or by timing steps with a clock that is played."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import TINY
from torch import nn
from zoo.errors import UnavailableError
from zoo.models.fresh import new_model
from zoo.models.runs import read_run
from zoo.models.sources import SourceOptions
from zoo.models.training.loop import Watcher, train
from zoo.models.training.precision import SECONDS, choose_arithmetic, timed_arithmetic, trial_of
from zoo.models.training.recipe import Recipe
from zoo.models.training.step import gpu_arithmetic
from zoo.models.training.world import ALONE, World

CPU, GPU = torch.device("cpu"), torch.device("cuda")
AUTO = Recipe(epochs=2, batch_size=30, lr=0.05, shift=1)


class Played:
    """A machine on which an image takes so many milliseconds in each format, and a first step ten times as long."""

    def __init__(self, **milliseconds: float) -> None:
        self.now, self.milliseconds, self.steps = 0.0, milliseconds, []

    def clock(self) -> float:
        return self.now

    def trial(self) -> Callable[[str, int], None]:
        def step(name: str, images: int) -> None:
            first = (name, images) not in self.steps
            self.steps.append((name, images))
            self.now += self.milliseconds[name] / 1000 * images * (10 if first else 1)

        return step


def never() -> Callable[[str, int], None]:
    raise AssertionError("nothing is timed")


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_what_is_asked_for_by_name_is_never_timed(name: str) -> None:
    chosen = choose_arithmetic(Recipe(precision=name), CPU, ALONE, never, 32)
    assert (chosen.name, chosen.reason, chosen.ratio) == (name, "asked for", None)


def test_fp16_on_a_cpu_is_refused_not_replaced() -> None:
    with pytest.raises(UnavailableError, match="CUDA"):
        choose_arithmetic(Recipe(precision="fp16"), CPU, ALONE, never, 32)
    assert choose_arithmetic(Recipe(precision="fp16"), GPU, ALONE, never, 32).dtype is torch.float16


def test_a_gpu_says_what_it_has() -> None:
    assert [gpu_arithmetic(bf16).name for bf16 in (True, False)] == ["bf16", "fp16"]


@pytest.mark.parametrize(
    ("bf16", "expected", "ratio"),
    [(0.5, "bf16", 2.0), (0.9, "bf16", 1.111), (0.95, "fp32", 1.053), (1.25, "fp32", 0.8)],
)
def test_a_cpu_is_timed(bf16: float, expected: str, ratio: float) -> None:
    machine = Played(fp32=1.0, bf16=bf16)
    chosen = choose_arithmetic(AUTO, CPU, ALONE, machine.trial, 32, clock=machine.clock)
    assert (chosen.name, chosen.ratio) == (expected, pytest.approx(ratio, abs=0.01))
    assert f"{ratio:.2f} times as fast" in chosen.reason
    assert machine.steps[-6:] == [("fp32", 32), ("bf16", 32)] * 3, "by turns"


@pytest.mark.parametrize("bf16", [3.0, 40.0])
def test_what_is_hopeless_is_not_timed_for_long(bf16: float) -> None:
    machine = Played(fp32=1.0, bf16=bf16)
    assert timed_arithmetic(machine.trial, 128, machine.clock).name == "fp32"
    assert {images for _, images in machine.steps} == {2}


def test_steps_that_take_seconds_are_timed_with_fewer_images() -> None:
    machine = Played(fp32=300.0, bf16=200.0)
    assert timed_arithmetic(machine.trial, 256, machine.clock).name == "bf16"
    assert machine.now < 6 * SECONDS, "first steps, which take ten times as long here, included"
    assert max(images for _, images in machine.steps) == 2


def test_a_format_that_fails_is_not_taken() -> None:
    def trial() -> Callable[[str, int], None]:
        def step(name: str, _images: int) -> None:
            if name == "bf16":
                raise RuntimeError("no kernel for bf16")

        return step

    chosen = timed_arithmetic(trial, 32)
    assert chosen.name == "fp32"
    assert "no kernel for bf16" in chosen.reason


def test_the_first_process_decides_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, told = Played(fp32=1.0, bf16=0.5), []
    monkeypatch.setattr(World, "of_first", lambda _world, value: told.append(value) or 1)
    first = choose_arithmetic(AUTO, CPU, World(0, 2, 0, 2), machine.trial, 16, clock=machine.clock)
    second = choose_arithmetic(AUTO, CPU, World(1, 2, 1, 2), never, 16)
    assert told == [1, 0]
    assert (first.name, second.name) == ("bf16", "bf16")


def test_what_is_resumed_keeps_what_it_began_with() -> None:
    assert choose_arithmetic(AUTO, CPU, ALONE, never, 32, began="bf16").name == "bf16"
    machine = Played(fp32=1.0, bf16=2.0)
    moved = choose_arithmetic(AUTO, CPU, ALONE, machine.trial, 32, began="fp16", clock=machine.clock)
    assert moved.name == "fp32", "a CPU has no fp16, which a GPU began with"


class Counting(nn.Module):
    """Something that dropout, statistics and a count of its own could give away."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 5)
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.body(inputs)


def test_timing_leaves_no_trace() -> None:
    module = Counting().train()
    frozen = module.body[1]
    frozen.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    torch.manual_seed(3)
    random = torch.get_rng_state()
    step = trial_of(module, (frozen,), AUTO, (3, 8, 8), 5, None)
    for name in ("fp32", "bf16"):
        step(name, 4)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert (module.calls, frozen.training, module.training) == (0, False, True)


def test_a_run_remembers_what_it_was_trained_in(
    tiny_spec, few_digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timed or asked for, the same format gives the same weights; a resumed training times nothing."""

    def fresh():
        return new_model("resnet18", tiny_spec, SourceOptions(arguments={**TINY, "width": 0.125}))

    def stop(epoch: int, _epochs: int, step: int, _steps: int) -> None:
        if (epoch, step) == (1, 2):
            raise KeyboardInterrupt

    machine, said = Played(fp32=1.0, bf16=1.25), []
    monkeypatch.setattr("zoo.models.training.start.trial_of", lambda *_given: machine.trial())
    monkeypatch.setattr("zoo.models.training.start.choose_arithmetic", partial(choose_arithmetic, clock=machine.clock))
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), few_digits, AUTO, tmp_path / "auto", watcher=Watcher(start=said.append, step=stop))
    assert said == ["fp32 on cpu: timed steps in bf16 are 0.80 times as fast"]
    timed = len(machine.steps)
    machine.milliseconds["bf16"] = 0.5  # on the machine that goes on it would be faster
    train(fresh(), few_digits, AUTO, tmp_path / "auto", resume=True, watcher=Watcher(start=said.append))
    assert len(machine.steps) == timed
    assert said[-1] == "fp32 on cpu: what this training began with"
    run = read_run(tmp_path / "auto")
    assert run.arithmetic == {
        "name": "fp32", "reason": "timed steps in bf16 are 0.80 times as fast", "bf16_times_as_fast": 0.8,
    }  # fmt: skip
    assert (run.recipe["precision"], run.device) == ("auto", "cpu, fp32")

    train(fresh(), few_digits, replace(AUTO, precision="fp32"), tmp_path / "asked")
    one, other = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("auto", "asked"))
    assert one == other
    assert read_run(tmp_path / "asked").arithmetic == {"name": "fp32", "reason": "asked for"}
