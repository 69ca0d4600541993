"""The number format of a training whose recipe leaves it open.

A GPU says what it computes in hardware. A CPU's flags do not say what is faster: on machines with AMX, networks of thin
layers train more slowly in bf16 than in fp32 (docs/benchmarks/training.md). So a few steps of each are timed, on a copy
of the model, and bf16 is taken where it is clearly faster.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...errors import one_line
from ..copies import copy_of
from .recipe import Recipe
from .step import Arithmetic, Teacher, arithmetic_of, gpu_arithmetic, gradients
from .world import World

SECONDS = 5.0  # that the timing takes at most, about
PROBE = 2  # images of the first look; a batch norm makes no statistics of one
ROUNDS = 3  # timed steps of each
HOPELESS = 2.0  # a probe in bf16 that takes so many times as long settles it
NO_KERNELS = 20.0  # and the first one, which makes its kernels, where it takes so many times as long
CLEARLY = 1.1  # bf16 rounds more, so it has to be worth it

Step = Callable[[str, int], None]
NAMES = ("fp32", "bf16", "fp16")  # as numbers, which is what processes tell each other


def choose_arithmetic(
    recipe: Recipe,
    device: torch.device,
    world: World,
    trial: Callable[[], Step],
    images: int,
    began: str = "",
    clock: Callable[[], float] = time.perf_counter,
) -> Arithmetic:
    """Decide the number format of the forward pass.

    Args:
        recipe: its precision; a name is never timed and never replaced.
        device: of the training.
        world: the processes, for all of which the first one decides.
        trial: makes a function that computes a step in a named format, of so many images, and leaves no trace.
        images: in the part of a batch that is computed at once.
        began: what a training that is resumed began with; "" for one that begins.
        clock: another one in tests.

    Raises:
        UnavailableError: fp16 that was asked for on a CPU.
    """
    if recipe.precision != "auto":
        return arithmetic_of(recipe.precision, device.type, "asked for")
    if began and (began != "fp16" or device.type == "cuda"):
        return arithmetic_of(began, device.type, "what this training began with")
    if device.type == "cuda":
        return gpu_arithmetic(torch.cuda.is_bf16_supported(including_emulation=False))
    found = timed_arithmetic(trial, images, clock) if world.first else None
    name = NAMES[world.of_first(NAMES.index(found.name) if found is not None else 0)]
    return found or arithmetic_of(name, device.type, "what the first process found faster")


def timed_arithmetic(
    trial: Callable[[], Step], images: int, clock: Callable[[], float] = time.perf_counter
) -> Arithmetic:
    """Time steps in fp32 and bf16 by turns, and return the one to train with.

    Where one of them fails, the training begins in fp32, whose own error is then the right one to see.
    """
    try:
        step = trial()
        ratio = _ratio(step, images, clock)
    except Exception as error:  # noqa: BLE001 - whatever a model's own code or a missing kernel raises
        return arithmetic_of("fp32", "cpu", f"bf16 could not be timed ({one_line(error)})")
    if ratio >= CLEARLY:
        name, how = "bf16", f"timed steps are {ratio:.2f} times as fast as in fp32"
    else:
        name, how = "fp32", f"timed steps in bf16 are {ratio:.2f} times as fast"
    return Arithmetic(name, arithmetic_of(name, "cpu", "").dtype, how, round(ratio, 3))


def _ratio(step: Step, images: int, clock: Callable[[], float]) -> float:
    """Return how many times as fast as in fp32 a step in bf16 is."""

    def seconds(name: str, count: int) -> float:
        begun = clock()
        step(name, count)
        return clock() - begun

    few = min(PROBE, images)
    seconds("fp32", few)  # the first one makes kernels and takes memory
    probe = seconds("fp32", few)
    for longest in (NO_KERNELS, HOPELESS):
        half = seconds("bf16", few)
        if half > longest * probe:
            return probe / half
    most = SECONDS / (2 * (1 + ROUNDS)) / max(probe, 1e-9) * few  # images in a step, as slow as the few were
    count = max(few, min(images, int(most)))
    for name in ("fp32", "bf16"):
        seconds(name, count)
    rounds = [(seconds("fp32", count), seconds("bf16", count)) for _ in range(ROUNDS)]
    full, half = (statistics.median(times) for times in zip(*rounds, strict=True))
    return full / half


def trial_of(
    module: nn.Module,
    frozen: tuple[nn.Module, ...],
    recipe: Recipe,
    shape: tuple[int, int, int],
    classes: int,
    teacher: Teacher | None,
) -> Step:
    """Return a function that computes the forward and backward pass of a training step on a copy of a module.

    The copy keeps weights, running statistics and whatever a module counts by itself out of it, and torch's random
    state, which dropout draws from, is put back. The update is left out: it is the same in every format.

    Args:
        module: on the CPU, as it will be trained.
        frozen: parts of it that stay in evaluation mode.
        recipe: label smoothing.
        shape: C, H, W.
        classes: of the targets.
        teacher: whose answers a step needs too.
    """
    copied = copy_of(module).train()
    for name, part in module.named_modules():
        if any(part is one for one in frozen):
            copied.get_submodule(name).eval()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    generator = torch.Generator().manual_seed(0)
    made: dict[int, tuple[Tensor, Tensor]] = {}

    def step(name: str, count: int) -> None:
        if count not in made:
            inputs = torch.randn((count, *shape), generator=generator)
            made[count] = inputs, torch.randint(classes, (count,), generator=generator)
        copied.zero_grad(set_to_none=True)
        with torch.random.fork_rng(devices=[]):
            gradients(copied, scaler, arithmetic_of(name, "cpu", ""), recipe, *made[count], teacher=teacher)

    return step
