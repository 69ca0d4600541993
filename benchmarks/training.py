"""How fast the training loop is beside what others would write: the input path, the loop, image folders, arithmetic.

    .venv/bin/python benchmarks/training.py input       beside a DataLoader with torchvision's transforms
    .venv/bin/python benchmarks/training.py loop        beside a bare loop, and one as torchvision's references have it
    .venv/bin/python benchmarks/training.py folder      photographs from files, beside a DataLoader
    .venv/bin/python benchmarks/training.py arithmetic  bf16 beside fp32

Each pair is timed in turn, in an order drawn anew each round; the figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import copy
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import zoo
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2 as tv
from zoo.models.data.folder import open_folder
from zoo.models.fresh import new_model
from zoo.models.sources import SourceOptions
from zoo.models.training.epoch import Running
from zoo.models.training.feed import Batch
from zoo.models.training.recipe import Recipe, load_recipe
from zoo.models.training.setup import spec_for_training, stem_arguments
from zoo.models.training.start import Asked, begin
from zoo.models.training.world import ALONE

CPU = torch.device("cpu")
WORKERS = 2
NETWORKS = (
    ("resnet18", 128), ("mobilenet_v2", 32), ("mobilenet_v2", 128), ("efficientnet_b0", 128),
    ("mobilenet_v3_large", 32), ("mobilenet_v3_large", 128),
)  # fmt: skip


def main(what: str) -> None:
    """Print the figures of one part."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    {"input": input_path, "loop": loop, "folder": folder, "arithmetic": arithmetic}[what]()


def rounds(pairs: dict[str, Callable[[], float]], count: int) -> None:
    """Time each in turn, in a drawn order, and print rates and ratios to the first."""
    found: dict[str, list[float]] = {name: [] for name in pairs}
    order = list(pairs)
    for turn in range(count + 1):
        random.shuffle(order)
        for name in order:
            rate = pairs[name]()
            if turn:  # the first round warms up
                found[name].append(rate)
    first = next(iter(pairs))
    for name, rates in found.items():
        ratios = sorted(one / other for one, other in zip(found[first], rates, strict=True))
        told = f"{statistics.median(rates):,.0f} images/s"
        print(f"{name:32} {told:>18}   {first} is {statistics.median(ratios):.3f} of it "
              f"({ratios[0]:.3f} to {ratios[-1]:.3f})")  # fmt: skip


class Pictures(Dataset):
    """What a torchvision user would write for images in memory."""

    def __init__(self, split, transform) -> None:
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int):
        return self.transform(self.split.image(index)), int(self.split.labels[index])


def made(name: str, recipe: Recipe, **arguments: object) -> Running:
    """A training of a network on Fashion-MNIST, ready to step."""
    data = zoo.open_data("fashion-mnist")
    spec = spec_for_training(name, data, None)
    options = SourceOptions(arguments={**stem_arguments(name, None, spec), **arguments})
    model = new_model(name, spec, options)
    return begin(Asked(model, data, recipe, CPU), ALONE, lambda text: print(text, file=sys.stderr))[0]


def dataloader(recipe: Recipe) -> DataLoader:
    """The same images and the same augmentation by torchvision's transforms in two workers."""
    data = zoo.open_data("fashion-mnist")
    preprocess = data.preprocess
    transform = tv.Compose([
        tv.Grayscale(3), tv.Pad(2), tv.RandomCrop(32, padding=recipe.shift), tv.RandomHorizontalFlip(),
        tv.ToImage(), tv.ToDtype(torch.float32, scale=True), tv.Normalize(preprocess.mean, preprocess.std),
    ])  # fmt: skip
    return DataLoader(
        Pictures(data.train, transform), recipe.batch_size, shuffle=True, num_workers=WORKERS, drop_last=True,
        persistent_workers=True,
    )  # fmt: skip


def input_path() -> None:
    """Batches augmented and normalised, without a network."""
    recipe = load_recipe("small")
    now, loader = made("resnet18", recipe, width=0.25), dataloader(recipe)
    rounds({"zoo": preparing(now), "DataLoader, 2 workers": loading(loader, 60)}, 5)


def loop() -> None:
    """Steps of resnet18 (small stem) in fp32: zoo's with its input path, a bare one, one as the references have it."""
    steps = 8
    recipe = load_recipe("small", ["precision=fp32"])
    now, loader = made("resnet18", recipe), dataloader(recipe)
    theirs = copy.deepcopy(now.module).to(memory_format=torch.contiguous_format)
    their_optimiser = torch.optim.SGD(theirs.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    module, optimiser = now.module, now.optimiser
    batches = epoch_after_epoch(now)
    endless = forever(loader)

    def ours() -> float:
        now.train()
        begun = time.perf_counter()
        for number, (epoch, batch) in enumerate(islice(batches, steps)):
            now.step(epoch, number, batch)
        return steps * recipe.batch_size / (time.perf_counter() - begun)

    ready = [now.prepare(batch, 0, 0) for _, batch in islice(batches, steps)]
    ready = [(inputs.to(memory_format=torch.channels_last), targets) for inputs, targets in ready]

    def bare() -> float:
        module.train()
        begun = time.perf_counter()
        for inputs, targets in ready:
            optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(module(inputs), targets, label_smoothing=recipe.label_smoothing).backward()
            optimiser.step()
        return steps * recipe.batch_size / (time.perf_counter() - begun)

    def references() -> float:
        """The step of references/classification/train.py: images as they come, accuracies read after every step."""
        theirs.train()
        begun = time.perf_counter()
        for images, targets in islice(endless, steps):
            outputs = theirs(images)
            loss = nn.functional.cross_entropy(outputs, targets, label_smoothing=recipe.label_smoothing)
            their_optimiser.zero_grad()
            loss.backward()
            their_optimiser.step()
            _, answers = outputs.topk(5, 1)
            right = answers.t().eq(targets[None])
            _ = loss.item(), right[:1].sum().item(), right.flatten().sum().item()
        return steps * recipe.batch_size / (time.perf_counter() - begun)

    rounds({"zoo": ours, "bare loop, tensors ready": bare, "torchvision-references-style": references}, 5)


def folder() -> None:
    """JPEG files of 500 x 375 from scikit-learn's two photographs, cropped at random to 224 pixels."""
    with tempfile.TemporaryDirectory() as where:
        root = Path(where)
        photographs(root, 192)
        data = open_folder(root, 0)
        recipe = load_recipe("resnet", ["batch_size=32"])
        spec = spec_for_training("resnet18", data, None)
        model = new_model("resnet18", spec, SourceOptions(arguments={"width": 0.25}))
        now, _ = begin(Asked(model, data, recipe, CPU, threads=WORKERS), ALONE, lambda _text: None)
        transform = tv.Compose([
            tv.RandomResizedCrop(224), tv.RandomHorizontalFlip(), tv.PILToTensor(),
            tv.ToDtype(torch.float32, scale=True), tv.Normalize(spec.preprocess.mean, spec.preprocess.std),
        ])  # fmt: skip
        loader = DataLoader(
            Pictures(data.train, transform), 32, shuffle=True, num_workers=WORKERS, drop_last=True,
            persistent_workers=True,
        )  # fmt: skip
        rounds({"zoo, 2 threads": preparing(now), "DataLoader, 2 workers": loading(loader)}, 7)


def arithmetic() -> None:
    """Steps in bf16 beside fp32, by network and batch."""
    for name, batch in NETWORKS:
        pairs: dict[str, Callable[[], float]] = {}
        for precision in ("fp32", "bf16"):
            recipe = load_recipe("small", [f"precision={precision}", f"batch_size={batch}"])
            now = made(name, recipe)
            pairs[f"{name} {batch} {precision}"] = stepping(now, recipe)
        rounds(pairs, 3)


def preparing(now: Running) -> Callable[[], float]:
    """The rate of an epoch's batches, augmented and normalised."""
    epochs = iter(range(10**6))

    def run() -> float:
        begun, seen, epoch = time.perf_counter(), 0, next(epochs)
        for step, batch in enumerate(now.feed.epoch(epoch)):
            seen += len(now.prepare(batch, epoch, step)[0])
        return seen / (time.perf_counter() - begun)

    return run


def loading(loader: DataLoader, most: int | None = None) -> Callable[[], float]:
    """The rate of a DataLoader's batches, or of the first so many of an epoch."""

    def run() -> float:
        begun, seen = time.perf_counter(), 0
        for images, _ in islice(loader, most):
            seen += len(images)
        return seen / (time.perf_counter() - begun)

    return run


def stepping(now: Running, recipe: Recipe, steps: int = 4) -> Callable[[], float]:
    """The rate of a few steps."""
    batches = epoch_after_epoch(now)

    def run() -> float:
        now.train()
        begun = time.perf_counter()
        for number, (epoch, batch) in enumerate(islice(batches, steps)):
            now.step(epoch, number, batch)
        return steps * recipe.batch_size / (time.perf_counter() - begun)

    return run


def epoch_after_epoch(now: Running) -> Iterator[tuple[int, Batch]]:
    """Batches without an end."""
    for epoch in range(10**6):
        for batch in now.feed.epoch(epoch):
            yield epoch, batch


def forever(loader: DataLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """A DataLoader without an end."""
    while True:
        yield from loader


def photographs(root: Path, count: int) -> None:
    """Crops of two photographs as JPEG files, in two classes."""
    from sklearn.datasets import load_sample_images

    drawn = np.random.default_rng(0)
    for split, many in (("train", count), ("val", 4)):
        for label, picture in enumerate(load_sample_images().images):
            (root / split / f"class{label}").mkdir(parents=True)
            for index in range(many):
                top, left = drawn.integers(0, 427 - 375), drawn.integers(0, 640 - 500)
                image = Image.fromarray(picture[top : top + 375, left : left + 500])
                image.save(root / split / f"class{label}" / f"{index}.jpg", quality=92)


if __name__ == "__main__":
    main(sys.argv[1])
