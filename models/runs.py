"""The run folder: what training and pruning write, and what every other command takes as a model source.

weights.safetensors   the weights
run.json              what the model is, how it was made, what it reached
metrics.jsonl         one line per epoch
curves.png            loss, accuracy and learning rate
confusion.png         of the validation images
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import atomic
from ..config import from_mapping, read_json, to_json
from ..errors import IntegrityError, UsageError
from .spec import ModelSpec

FORMAT = 1
REPLACED = ".replaced"
RUN, WEIGHTS, METRICS, CHECKPOINT = "run.json", "weights.safetensors", "metrics.jsonl", "checkpoint.safetensors"
CURVES, CONFUSION, TENSORBOARD = "curves.png", "confusion.png", "tensorboard"
BEFORE_CHECKPOINT = (METRICS, TENSORBOARD, REPLACED)  # what a training may leave that was killed before its first one


@dataclass(frozen=True)
class Narrowed:
    """What pruning changed of one layer.

    Attributes:
        attributes: numbers of the layer that are smaller now, by their name, such as `in_channels`.
        shapes: of its own parameters and buffers that are smaller now; None for an axis that is as the architecture
            makes it, so that a last layer for other classes still fits.
    """

    attributes: dict[str, int | tuple[int, ...]] = field(default_factory=dict)
    shapes: dict[str, tuple[int | None, ...]] = field(default_factory=dict)


Width = tuple[int, int, int]  # inputs, outputs, groups: all that runs said of a layer before there was `Narrowed`


@dataclass(frozen=True)
class Origin:
    """Enough to build a module again.

    Attributes:
        source: the model source.
        arguments: of its factory.
        widths: of the layers that pruning narrowed, by their name (`widths.py`).
    """

    source: str
    arguments: dict[str, Any] = field(default_factory=dict)
    widths: dict[str, Width | Narrowed] = field(default_factory=dict)


@dataclass(frozen=True)
class Reached:
    """An accuracy, with what it was measured on."""

    data: str
    split: str
    images: int
    accuracy: float


@dataclass(frozen=True)
class Learned:
    """What training with fake quantisation learned beside the weights.

    Attributes:
        target: whose rules were trained by.
        bits: of the weights.
        ranges: of the tensors that were rounded, by their name in the torch.export graph of the module.
        accuracy: of the fake-quantised network, on what `reached` was measured on.
    """

    target: str
    bits: int
    ranges: dict[str, tuple[float, float]]
    accuracy: float

    def __post_init__(self) -> None:
        wrong = [name for name, (low, high) in self.ranges.items() if not -math.inf < low <= 0 <= high < math.inf]
        if wrong or not self.ranges:
            told = f"of {wrong[0]} is {self.ranges[wrong[0]]}" if wrong else "is not there"
            raise ValueError(f"learned.ranges: a finite range with zero in it is expected, that {told}")
        if self.bits not in (7, 8) or not 0 <= self.accuracy <= 1:
            raise ValueError(f"learned: bits 7 or 8 and an accuracy are expected, got {self.bits} and {self.accuracy}")


@dataclass(frozen=True)
class Run:
    """The content of run.json."""

    created: str
    origin: Origin
    spec: ModelSpec
    weights: str
    reached: Reached
    recipe: dict[str, Any] = field(default_factory=dict)
    device: str = ""
    seconds: float = 0.0
    seed: int = 0
    parent: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    learned: Learned | None = None
    freeze: str = ""
    pruned: dict[str, Any] = field(default_factory=dict)
    arithmetic: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT


def is_run(folder: Path) -> bool:
    """Whether a finished run lies in this folder."""
    return (folder / RUN).is_file()


def read_run(folder: Path) -> Run:
    """Read run.json. Raises IntegrityError when it, or the weights beside it, is not whole."""
    try:
        run = from_mapping(Run, read_json(folder / RUN), str(folder / RUN))
    except UsageError as error:
        raise IntegrityError(str(error), fix="train again") from error
    if run.format != FORMAT:
        raise IntegrityError(f"{folder / RUN} has format {run.format}, this zoo reads {FORMAT}", fix="update zoo")
    if not (folder / WEIGHTS).is_file():
        raise IntegrityError(f"{folder}: run.json is there but {WEIGHTS} is not", fix="train again")
    return run


def pruned_name(name: str) -> str:
    """What a model is called once it is pruned, so that its export does not replace that of what it came from.

    >>> pruned_name(pruned_name("resnet18"))
    'resnet18-pruned'
    """
    return f"{name.removesuffix('-pruned')}-pruned"


def write_run(folder: Path, run: Run) -> None:
    """Write run.json, whole or not at all; it is written last and makes the folder a run."""
    atomic.write_file(folder / RUN, to_json(run).encode())


def append_metrics(folder: Path, values: dict[str, Any]) -> None:
    """Add one line to metrics.jsonl; it is on the disk when this returns."""
    path = folder / METRICS
    with atomic.naming(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")
        file.flush()
        os.fsync(file.fileno())


def newest_run(runs: Path, source: str) -> Path | None:
    """The finished run of this model source that was made last, under `runs/`; pruned ones are another model."""
    found: list[tuple[str, Path]] = []
    for path in runs.glob(f"*/{RUN}") if runs.is_dir() else ():
        try:
            run = read_run(path.parent)
        except (UsageError, IntegrityError):
            continue  # a folder that is no whole run is not a candidate; naming it gives its error
        if run.origin.source == source and not run.pruned:
            found.append((run.created, path.parent))
    return max(found)[1] if found else None


def claim(folder: Path, *, resume: bool, overwrite: bool, dry: bool = False) -> None:
    """Make sure that a run may be written here; unless `dry`, set aside the run that is to be overwritten.

    To resume where no checkpoint was written yet is to start: a training that was killed early, and a job that is
    always started with `--resume`, need no other command.

    Raises:
        UsageError: the folder holds something and neither resume nor overwrite was given, it holds no run of zoo, or
            the run that is to be resumed is finished.
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite contradict each other", fix="give one of them")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", fix="give another --out")
    content = list(folder.iterdir()) if folder.is_dir() else []
    if not content:
        return
    ours = {RUN, WEIGHTS, METRICS, CHECKPOINT, CURVES, CONFUSION, TENSORBOARD}
    names = {path.name for path in content}
    if not (resume or overwrite):
        raise UsageError(f"{folder} is not empty", fix="give --resume, --overwrite, or another --out")
    if not {RUN, CHECKPOINT} & names and not all(name in BEFORE_CHECKPOINT or _stale(name) for name in names):
        raise UsageError(f"{folder} is not empty and holds no run", fix="give another --out")
    if resume and is_run(folder) and not (folder / CHECKPOINT).is_file():
        raise UsageError(
            f"{folder} has no checkpoint to resume (the run is finished)", fix="give --overwrite to train again"
        )
    if overwrite and not dry:
        _set_aside(folder, ours)


def forget_replaced(folder: Path) -> None:
    """The new run is whole: remove the one it replaces."""
    shutil.rmtree(folder / REPLACED, ignore_errors=True)


def restore_replaced(folder: Path) -> None:
    """The new run came to nothing: bring back the one it was to replace."""
    aside = folder / REPLACED
    if aside.is_dir() and not (folder / CHECKPOINT).exists():
        for name in (METRICS, TENSORBOARD):
            _remove(folder / name)
        for path in aside.iterdir():
            path.rename(folder / path.name)
        aside.rmdir()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]


def settle_metrics(folder: Path, epochs: int, last: dict[str, Any] | None = None) -> None:
    """Make metrics.jsonl fit a checkpoint after so many epochs.

    A line is written after its checkpoint, so a kill between the two leaves out the line of the last epoch, or half of
    it; a checkpoint that was lost leaves lines too many.

    Args:
        folder: of the run.
        epochs: that the checkpoint has behind it.
        last: the line of the last of them, which the checkpoint holds too.
    """
    path = folder / METRICS
    before = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) if path.exists() else []
    lines = [line for line in before if line.endswith("\n")][:epochs]
    if last is not None and len(lines) == epochs - 1:
        lines.append(json.dumps(last) + "\n")
    if lines != before:
        atomic.write_file(path, "".join(lines).encode())


def _stale(name: str) -> bool:
    """Return whether a file is what a kill left of one that was being written (`atomic.write_file`)."""
    return re.fullmatch(r"\..+\.[0-9a-f]{8}\.tmp", name) is not None


def _set_aside(folder: Path, names: set[str]) -> None:
    aside = folder / REPLACED
    if is_run(aside) and not is_run(folder):  # an overwriting that was interrupted: the last whole run is that one
        for name in names:
            _remove(folder / name)
        return
    if aside.exists():  # left by a kill: the run in it is older than the one here
        shutil.rmtree(aside)
    aside.mkdir()
    for name in names:
        if (folder / name).exists():
            (folder / name).rename(aside / name)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
