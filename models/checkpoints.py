"""Weights that a user brings: a .safetensors file, or a checkpoint of torch with whatever a training keeps beside them.

Training scripts wrap a state dict in many ways: under a key, with an average of the weights beside it, with the prefix
that DataParallel, torch.compile or Lightning leave on every name. Instead of believing one of these habits, every state
dict of the file is held against the model, and the one that fits best is taken. What was taken is always noted.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import types
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..errors import IntegrityError, UsageError, one_line
from .weights import State, mismatch

# Where training scripts put the weights that they train, best known first.
USUAL = ("state_dict", "model_state_dict", "model", "net")
AVERAGE = re.compile(r"(^|[._])(ema|swa|shadow|averaged?)([._]|$)", re.IGNORECASE)
DEEPEST = 3  # mappings below each other: {"ema": {"module": {"conv.weight": ...}}}
TRIED_PREFIXES = 4
COUNTER = "n_averaged"  # what AveragedModel keeps beside its prefixed names
LONGEST = 300  # characters of another library's message


@dataclass(frozen=True)
class Loaded:
    """A state dict, and what was done to get at it."""

    state: State
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """One way to read a state dict out of a file.

    Attributes:
        place: the keys that lead to it, joined by dots; "" for the file itself.
        state: names as the model has them.
        cut: a prefix that was cut off every name.
        added: a prefix that was put before every name.
        left: names of the same mapping that do not have the prefix.
    """

    place: str
    state: State
    cut: str = ""
    added: str = ""
    left: tuple[str, ...] = ()

    @property
    def average(self) -> bool:
        """Whether this is an average of the weights, by its key or its prefix."""
        return bool(AVERAGE.search(self.place) or AVERAGE.search(self.cut))

    def problems(self, wanted: Mapping[str, Tensor]) -> int:
        """How many names keep it from fitting. Names without the prefix are another module's where the rest fits."""
        count = mismatch(wanted, self.state).count
        return count + len(self.left) if count else 0


def read_for(module: nn.Module, path: Path) -> Loaded:
    """Read from a user's file the state dict that fits `module` best.

    Of several that fit equally well, an average of the weights (EMA) comes first: it is what a training evaluates with.

    Raises:
        UsageError: no such file, or nothing in it that is a state dict.
        IntegrityError: the file is corrupt, or holds objects that zoo does not load.
    """
    content = _load(path)
    found = list(_state_dicts(content))
    if not found:
        held = ", ".join(map(str, list(content)[:8])) if isinstance(content, Mapping) else type(content).__name__
        raise UsageError(f"{path}: no state dict in it, only {held or 'nothing'}", fix="save it as model.state_dict()")
    wanted = module.state_dict()
    ways = [way for candidate in found for way in _ways(candidate, wanted)]
    usual = {key: rank for rank, key in enumerate(USUAL)}
    ranked = sorted(
        ways,
        key=lambda way: (way.problems(wanted), not way.average, len(way.left), usual.get(way.place, len(usual))),
    )
    return Loaded(ranked[0].state, tuple(_notes(path, ranked, wanted, content)))


def _notes(path: Path, ranked: list[Candidate], wanted: Mapping[str, Tensor], content: Any) -> Iterator[str]:
    taken = ranked[0]
    as_good = [way for way in ranked[1:] if way.problems(wanted) == taken.problems(wanted)]
    others = [_key(way) for way in as_good if not way.average and (way.place, way.cut) != (taken.place, taken.cut)]
    if taken.average:
        yield f"{path.name}: took the averaged weights `{_key(taken)}`{f' instead of `{others[0]}`' if others else ''}"
    elif taken.place:
        yield f"{path.name}: took `{taken.place}` out of the checkpoint"
    if taken.cut:
        rest = [name for name in taken.left if name != COUNTER]
        more = f", and left out {_few(rest)}" if rest else ""
        yield f"{path.name}: cut the prefix `{taken.cut}` off every name{more}"
    if taken.added:
        yield f"{path.name}: put the prefix `{taken.added}` before every name"
    averages = [key for key in content if AVERAGE.search(str(key))] if isinstance(content, Mapping) else []
    passed = [str(key) for key in averages if isinstance(content[key], Mapping)]
    if passed and not taken.average:
        yield f"{path.name}: the averaged weights `{passed[0]}` were not taken, they are no state dict of this model"


def _key(way: Candidate) -> str:
    return way.place or way.cut.rstrip(".") or "the file itself"


def _state_dicts(content: Any, place: str = "", depth: int = 0) -> Iterator[Candidate]:
    """Every mapping of names to tensors in a checkpoint."""
    if not isinstance(content, Mapping) or depth > DEEPEST:
        return
    state = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if state:
        yield Candidate(place, state)
    for key, value in content.items():
        if isinstance(key, str):
            yield from _state_dicts(value, f"{place}.{key}" if place else key, depth + 1)


def _ways(found: Candidate, wanted: Mapping[str, Tensor]) -> Iterator[Candidate]:
    """The state dict as it is, with a prefix cut off its names, and with the prefix that the model's names have."""
    yield found
    for prefix in _prefixes(found.state, wanted):
        state = {name.removeprefix(prefix): tensor for name, tensor in found.state.items() if name.startswith(prefix)}
        left = tuple(name for name in found.state if not name.startswith(prefix))
        yield Candidate(found.place, state, cut=prefix, left=left)
    for prefix in _prefixes(wanted, found.state):
        state = {prefix + name: tensor for name, tensor in found.state.items()}
        yield Candidate(found.place, state, added=prefix)


def _prefixes(longer: Iterable[str], shorter: Mapping[str, Tensor]) -> list[str]:
    """The prefixes that turn most of the shorter names into longer ones."""
    counts: Counter[str] = Counter()
    for name in longer:
        for dot in (index + 1 for index, letter in enumerate(name) if letter == "."):
            if name[dot:] in shorter:
                counts[name[:dot]] += 1
    return [prefix for prefix, _ in counts.most_common(TRIED_PREFIXES)]


def _load(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"{path}: no such weights file", fix="give a .safetensors or .pth file, or a run folder")
    if path.suffix.lower() == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (SafetensorError, OSError) as error:
            raise IntegrityError(f"{path}: not a whole safetensors file ({one_line(error)})") from error
    try:
        with torch.serialization.safe_globals(_plain_values()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip, runtime and key errors here
        raise _refusal(path, error) from error


def _plain_values() -> list[Any]:
    """Classes of plain values which trainings keep beside the weights; to make one runs no code of the file.

    torchvision's references and timm keep their arguments (argparse.Namespace), many others numpy's numbers, the states
    of random generators, and paths. Older versions of numpy are known by their older module names.
    """
    numbers = [type(np.dtype(code)) for code in "?bhilqBHILQefdSU"]
    made_by = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(1).__reduce__()[0]}
    arrays = [
        (value, f"numpy.{core}.multiarray.{name}") for name, value in made_by.items() for core in ("core", "_core")
    ]
    paths = [  # of another system's paths only the pure kind can be made here
        (kind, f"{module}.{prefix}{name}")
        for kind, name in ((pathlib.PurePosixPath, "PosixPath"), (pathlib.PureWindowsPath, "WindowsPath"))
        for module in ("pathlib", "pathlib._local")
        for prefix in ("", "Pure")
    ]
    return [argparse.Namespace, types.SimpleNamespace, np.ndarray, np.dtype, *numbers, *arrays, *paths]


def _refusal(path: Path, error: Exception) -> IntegrityError:
    if not _begins_as_a_checkpoint(path):
        return IntegrityError(
            f"{path} is no file of weights: it is neither a zip archive nor a pickle, as torch.save writes them",
            fix="give a .pth or .safetensors file, or a run folder",
        )
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # torch colours this message for a terminal
    in_the_way = re.search(r"(?:GLOBAL|global:?) ([\w.]+\.\w+) was not an allowed global", text)
    if in_the_way:
        whole = in_the_way[1].startswith("torch.nn.")
        weights = ".state_dict()" if whole else '["state_dict"]'
        return IntegrityError(
            f"{path}: it holds {'a whole module' if whole else 'an object'} of {in_the_way[1]}, "
            "which zoo does not load, since that could run code",
            fix="where you trust the file, save its weights alone: "
            f'torch.save(torch.load("{path.name}", weights_only=False){weights}, "weights.pth")'
            + ("" if whole else ", with the key that your training uses"),
        )
    if "TorchScript" in text:
        return IntegrityError(
            f"{path} is a TorchScript archive, not a state dict",
            fix=f'torch.save(torch.jit.load("{path.name}").state_dict(), "weights.pth")',
        )
    # torch's first line advises to load the file without its check, which would run whatever code is in it
    told = re.search(r"WeightsUnpickler error:\s*(\S.*)", text) or re.match(r"\s*(?!Weights only)(\S.*)", text)
    why = told[1] if told else type(error).__name__
    why = why if len(why) <= LONGEST else f"{why[:LONGEST]}…"
    return IntegrityError(
        f"{path}: cannot be read as a state dict ({why})",
        fix="zoo reads tensors and plain values only; save it again with torch.save(model.state_dict(), ...)",
    )


def _begins_as_a_checkpoint(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4).startswith((b"PK\x03\x04", b"\x80"))


def _few(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
