"""A module traced by torch.jit.trace, and the trace tried against the module.

A trace keeps what was computed for one example. Whether that holds for other images is decided by trying, not by
torch's warnings: torch warns of every check of a shape, as GroupNorm has one, and does not warn of a batch size that
went through numpy. The warnings serve to name the line of the user's code when trace and module do differ.
"""

from __future__ import annotations

import contextlib
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....errors import UsageError
from ....models.spec import ModelSpec
from ....models.user_code import INSTALLED, OURS, STANDARD, described, shown

if TYPE_CHECKING:
    from torch import Tensor, nn

# Trace and module call the same kernels on the same numbers, so that they mostly agree to the last bit; what a trace
# lost is a branch, a shape or a constant, and moves the logits by far more.
AGREES = 1e-4
# (images, factor, shift) of the noise that is given: sizes beside the example's 2, and values that turn a condition.
_SIZES = ((1, 1.0, 0.0), (3, 4.0, 0.0))
_VALUES = ((2, 0.0, 0.0), (1, 1.0, -3.0), (5, 16.0, 3.0))
_ADVICE = "write it with torch's operators there, such as torch.where in place of if, or try --to onnx"


@dataclass(frozen=True)
class TraceWarning:
    """What torch warns of while it traces, and where in the user's code, "" where no line of theirs led to it."""

    text: str
    place: str


def trace(module: nn.Module, spec: ModelSpec, pixels: bool = False, tried: bool = True) -> Any:
    """Return a module as torch.jit.trace records it.

    Args:
        module: in eval mode on the CPU.
        spec: its input.
        pixels: it reads uint8 N x H x W x C.
        tried: compare the trace with the module on images of other number and values.

    Raises:
        UsageError: it cannot be traced, or the trace answers otherwise than the module.
    """
    import torch

    with torch.inference_mode(), _collected() as found:
        try:
            traced: Any = torch.jit.trace(module, example(spec, pixels), check_trace=False)
        except Exception as error:  # of the user's forward, or of torch for an output that it cannot record
            raise UsageError(f"{spec.name} cannot be traced: {described(error)}", fix="try --to onnx") from error
    if tried:
        # a warning in code of theirs is a place where a value may have been frozen: only then the costlier inputs are
        # of use; torch's own modules check shapes, and the scales of quantised ones are constants
        theirs = any(warning.place for warning in found)
        for trial in (*_SIZES, *(_VALUES if theirs else ())):
            _compare(module, traced, spec, pixels, trial, found)
    return traced


def _compare(
    module: nn.Module, traced: Any, spec: ModelSpec, pixels: bool, trial: tuple[int, float, float],
    found: list[TraceWarning],
) -> None:  # fmt: skip
    """Raise UsageError where the trace answers otherwise than the module does."""
    count, factor, shift = trial
    images = _images(spec, pixels, count, factor, shift, seed=count)
    try:
        expected = _answers(module, images)
    except Exception:  # noqa: BLE001 - the module itself does not take such a batch: nothing to compare
        return
    what = f"{spec.name} depends on its input in a way that a trace cannot hold"
    try:
        got = _answers(traced, images)
    except Exception as error:
        raise UsageError(f"{what}: {_places(found)}the trace fails on {_told(count)}", fix=_ADVICE) from error
    apart = _distance(expected, got)
    if apart <= AGREES:
        return
    difference = (
        f"gives logits of shape {tuple(got.shape)}, the module {tuple(expected.shape)}"
        if got.shape != expected.shape
        else f"is {apart:.2g} from the module's logits (relative distance; {AGREES:g} is allowed)"
    )
    if _distance(expected, _answers(module, images)) > AGREES:
        raise UsageError(
            f"{spec.name} does not answer the same images alike when it runs again: nothing can be compared",
            fix="take out what is random or counts its calls, such as dropout that is on in eval mode",
        )
    raise UsageError(
        f"{what}: {_places(found)}on {_told(count)} the trace {difference}",
        fix=_ADVICE,
    )


def _answers(module: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    import torch

    with torch.inference_mode(), warnings.catch_warnings(), torch.jit.optimized_execution(False):
        warnings.simplefilter("ignore")
        return module(images.clone()).double()  # a copy: some modules work in place on what they are given


def _distance(expected: Tensor, got: Tensor) -> float:
    """The relative L2 distance; infinite for another shape, or NaN and infinity at other places."""
    import torch

    if expected.shape != got.shape or not torch.equal(expected.isfinite(), got.isfinite()):
        return float("inf")
    both = expected.isfinite()
    expected, got = expected[both], got[both]
    return float((got - expected).norm() / expected.norm().clamp_min(1e-30))


def example(spec: ModelSpec, pixels: bool = False) -> Tensor:
    """The two images that a trace is made of."""
    return _images(spec, pixels, 2, 1.0, 0.0, seed=0)


def _images(spec: ModelSpec, pixels: bool, count: int, factor: float, shift: float, seed: int) -> Tensor:
    """Noise as the module reads it: for pixels the same as bytes about their middle."""
    import torch

    drawn = torch.Generator().manual_seed(seed)
    channels, height, width = spec.input
    if not pixels:
        return torch.randn(count, *spec.input, generator=drawn) * factor + shift
    if (factor, shift) == (1.0, 0.0):
        return torch.randint(0, 256, (count, height, width, channels), dtype=torch.uint8, generator=drawn)
    noise = torch.randn(count, height, width, channels, generator=drawn) * factor + shift
    return (noise * 40 + 128).clamp(0, 255).to(torch.uint8)


@contextlib.contextmanager
def _collected() -> Iterator[list[TraceWarning]]:
    """For the block, the tracer's warnings, each with its place; other warnings of torch are not for our user."""
    import torch

    found: dict[TraceWarning, None] = {}
    made: list[TraceWarning] = []

    def see(message: Warning | str, category: type[Warning], *_: Any) -> None:
        if issubclass(category, torch.jit.TracerWarning):
            # torch's code is often where it warns, and the user's line is further up the stack
            place = _users_line()
            found[TraceWarning(str(message).split(". ")[0].strip(), place)] = None
            made[:] = found

    with warnings.catch_warnings():
        # never "error": torch's C code calls on with the error set, which ends in a SystemError
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", torch.jit.TracerWarning)
        warnings.showwarning = see
        yield made


def _users_line() -> str:
    """The innermost line of the running code that is the user's, else that of a package which is not torch, or ""."""
    frames = [(str(frame.f_globals.get("__name__")), frame.f_code.co_filename, line)
              for frame, line in traceback.walk_stack(None)]  # fmt: skip
    theirs = [
        (file, line) for name, file, line in frames
        if name.partition(".")[0] not in (OURS, "torch") and not file.startswith(("<", STANDARD[0], STANDARD[-1]))
    ]  # fmt: skip
    own = [place for place in theirs if not any(part in INSTALLED for part in Path(place[0]).parts)]
    return next((f"{shown(Path(file))}, line {line}" for file, line in [*own[:1], *theirs]), "")


def _places(found: list[TraceWarning]) -> str:
    """The first warning that the user's own code led to, and how many there are, as the start of a clause."""
    theirs = [one for one in found if one.place] or found
    if not theirs:
        return ""
    more = f" (and {len(theirs) - 1} more)" if len(theirs) > 1 else ""
    where = f"{theirs[0].place}: " if theirs[0].place else ""
    return f"{where}{theirs[0].text}{more}; "


def _told(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
