"""What the backends that run in torch share: typed copies of a module, a runner, a count of compute layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from ....errors import UsageError
from ....models.copies import copy_of
from ....models.spec import ModelSpec, Preprocess
from ....models.user_code import described
from ...artifact.manifest import Precision

DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Typed(nn.Module):
    """A module in another precision with float32 input and output: the precision is in the graph by construction."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module
        self.dtype = dtype

    def forward(self, images: Tensor) -> Tensor:
        """Float32 N x C x H x W -> float32 logits N x K."""
        return self.module(images.to(self.dtype)).to(torch.float32)


class FromPixels(nn.Module):
    """A module that reads uint8 N x H x W x C in a decoded image's order, and normalises as `normalise` does.

    Anything else is refused, also by a trace of it: a float image would otherwise be scaled a second time in silence.
    """

    def __init__(self, module: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.module = module
        self.crop, self.depth = preprocess.crop, preprocess.depth
        self.scale = float(np.float32(preprocess.scale))
        self.swapped = preprocess.channels == "BGR"
        self.mean = nn.Buffer(torch.tensor(preprocess.mean, dtype=torch.float32).reshape(1, -1, 1, 1))
        self.std = nn.Buffer(torch.tensor(preprocess.std, dtype=torch.float32).reshape(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 N x H x W x C -> float32 logits N x K."""
        made = _scripted_check()(images, *self.crop, self.depth).permute(0, 3, 1, 2)
        made = made.flip(1) if self.swapped else made
        # contiguous: the layers then see what they see without this, and give the same to the last bit
        made = made.to(torch.float32, memory_format=torch.contiguous_format)
        return self.module((made * self.scale - self.mean) / self.std)


def _require(images: Tensor, height: int, width: int, depth: int) -> Tensor:
    fits = images.dim() == 4 and images.size(1) == height and images.size(2) == width and images.size(3) == depth
    if images.dtype != torch.uint8 or not fits:
        wanted = "images must be uint8 N x " + str(height) + " x " + str(width) + " x " + str(depth)
        kind = "" if images.dtype == torch.uint8 else ", and not uint8"
        raise ValueError(wanted + ", got " + str(images.size()) + kind)
    return images


@cache
def _scripted_check() -> Callable[..., Tensor]:
    """`_require` as a script: a trace keeps its condition, where of Python's it would keep what came of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated and stays: docs/decisions/0004
        return torch.jit.script(_require)


def in_precision(module: nn.Module, precision: Precision) -> nn.Module:
    """An eval copy of the module in this precision; the module itself for fp32."""
    if precision == "fp32":
        return module.eval()
    dtype = DTYPES[precision]
    return Typed(copy_of(module).to(dtype), dtype).eval()


def run_once(module: nn.Module, spec: ModelSpec, precision: Precision) -> None:
    """Run a module of `in_precision` on one image.

    Raises:
        UsageError: it cannot compute in this precision, such as one with tensors that `.to(dtype)` does not reach.
    """
    image = torch.randn(1, *spec.input, generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            module(image)
    except Exception as error:  # whatever a forward raises
        raise UsageError(
            f"{spec.name} cannot run in {precision}: {described(error)}",
            fix="keep its tensors as parameters or buffers, which module.to(dtype) converts, or export fp32",
        ) from error
